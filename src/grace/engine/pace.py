"""
How fast to ask: requests at a time and queries a request, adapted to the server.

Throughput is measured over windows of answered queries. While a step up makes
it grow, the next one follows; one that gains nothing is taken back and tried
again later. A refusal (429, 503, a timeout) halves what is sent, at once, and
a wait that the server asks for is kept. Knows nothing of requests, servers or
event loops; the clock is passed in.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

_FIRST_LIMIT = 4
_FIRST_SIZE = 8
# A window holds at least two rounds of what is in flight, and enough to say something.
_ROUNDS = 2
_FEWEST = 8
# A step up stays if it brings a tenth of what it would on a server with nothing else to do.
_LEAST_GAIN = 0.1
_HOLD_WINDOWS = 4
_LONGEST_HOLD = 64
_LONGEST_WAIT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class _Step:
    """A step up that is being tried: where it began, and the throughput there."""

    limit: int
    size: int
    rate: float


class Pace:
    """
    How many requests may be in work at a time, and how many queries each may hold.

    Args:
        most: Most requests at a time; at least 1.

        largest: Most queries in one request; at least 1.

        adaptive: Whether to start low and adapt; otherwise it stays at the most.

        clock: Seconds, from any fixed moment.

        on_change: Hears the new limit and size after each change.
    """

    def __init__(
        self,
        most: int,
        largest: int = 1,
        *,
        adaptive: bool = True,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[int, int], None] | None = None,
    ) -> None:
        if most < 1 or largest < 1:
            raise ValueError(f"{most} requests of {largest} queries; at least 1 is needed of both")
        self._most, self._largest = most, largest
        self._adaptive = adaptive
        self._clock = clock
        self._on_change = on_change
        self._limit = min(most, _FIRST_LIMIT) if adaptive else most
        self._size = min(largest, _FIRST_SIZE) if adaptive else largest
        self._resume_at = self._stepped_back_at = -math.inf
        self._doubling = True
        self._enlarge = False
        self._step: _Step | None = None
        self._hold = 0
        self._next_hold = _HOLD_WINDOWS
        self._window_began = clock()
        self._window_answers = 0

    @property
    def limit(self) -> int:
        """Requests that may be in work now."""
        return self._limit

    @property
    def size(self) -> int:
        """Queries that the next request may hold."""
        return self._size

    def now(self) -> float:
        """Return the clock's time, to be given back with how the request ended."""
        return self._clock()

    def wait_seconds(self) -> float:
        """Return how long the server has asked not to be sent anything more."""
        return max(0.0, self._resume_at - self._clock())

    def answered(self) -> None:
        """Note that a query was answered."""
        self._window_answers += 1
        if self._window_answers < max(_FEWEST, _ROUNDS * self._limit * self._size):
            return
        seconds = self._clock() - self._window_began
        if seconds <= 0:
            return
        rate = self._window_answers / seconds
        self._begin_window()
        if self._adaptive:
            self._judge(rate)

    def refused(self, sent_at: float, retry_after_seconds: float | None = None) -> None:
        """
        Note that a request met a server that is busy or away, and step back.

        Args:
            sent_at: When it was sent. One from before the last step back tells
                nothing new: requests that were in flight together fail together.

            retry_after_seconds: How long the server asked to wait, if it did.
        """
        now = self._clock()
        if retry_after_seconds is not None and math.isfinite(retry_after_seconds):
            wait = min(max(0.0, retry_after_seconds), _LONGEST_WAIT_SECONDS)
            self._resume_at = max(self._resume_at, now + wait)
        if sent_at <= self._stepped_back_at or not self._adaptive:
            return
        self._stepped_back_at = now
        self._step, self._doubling = None, False
        self._hold = self._next_hold
        self._begin_window()
        if self._limit > 1:
            self._set(self._limit // 2, self._size)
        else:
            self._set(1, max(1, self._size // 2))

    def too_large(self, queries: int) -> None:
        """Note that a request of so many queries was refused for its size; none is made again."""
        self._largest = min(self._largest, max(1, queries // 2))
        self._step = None
        self._begin_window()
        self._set(self._limit, min(self._size, self._largest))

    def _judge(self, rate: float) -> None:
        step, self._step = self._step, None
        if step is not None:
            grown = self._limit * self._size / (step.limit * step.size) - 1
            if rate < step.rate * (1 + _LEAST_GAIN * grown):
                self._hold = self._next_hold
                self._next_hold = min(2 * self._next_hold, _LONGEST_HOLD)
                # More at a time gains nothing here: try more in a request, or the reverse.
                self._enlarge = not self._enlarge
                self._set(step.limit, step.size)
                return
            self._next_hold = _HOLD_WINDOWS
        if self._hold:
            self._hold -= 1
            return
        limit, size = self._raised()
        if (limit, size) != (self._limit, self._size):
            self._step = _Step(self._limit, self._size, rate)
            self._set(limit, size)

    def _raised(self) -> tuple[int, int]:
        limit = min(self._most, self._up(self._limit))
        size = min(self._largest, self._up(self._size))
        if (self._enlarge and size > self._size) or limit == self._limit:
            return self._limit, size
        return limit, self._size

    def _up(self, value: int) -> int:
        return 2 * value if self._doubling else value + max(1, value // 4)

    def _begin_window(self) -> None:
        self._window_began, self._window_answers = self._clock(), 0

    def _set(self, limit: int, size: int) -> None:
        changed = (limit, size) != (self._limit, self._size)
        self._limit, self._size = limit, size
        if changed and self._on_change is not None:
            self._on_change(limit, size)
