"""What the engine reports while it works, so that progress and metrics stay outside."""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Protocol

from grace.engine.journal import Record


@dataclass(frozen=True, slots=True)
class StageCounts:
    """
    The accounting of a stage: planned = answered + failed + not_asked.

    Attributes:
        planned: Queries in the plan.

        answered: With an answer.

        failed: Without, and it is known why.

        not_asked: Never sent: stopped before, or an earlier turn failed.
    """

    planned: int
    answered: int
    failed: int

    @property
    def not_asked(self) -> int:
        """What is neither answered nor failed."""
        return self.planned - self.answered - self.failed


class RunHook(Protocol):
    """Receives a run's events; see `QuietHook` for an implementation that ignores them."""

    def message(self, text: str) -> None:
        """Take something worth a line."""
        ...

    def stage_started(self, name: str, planned: int, done: int) -> None:
        """Note that a stage begins; *done* of its queries were finished before."""
        ...

    def query_finished(self, name: str, record: Record) -> None:
        """Note that one query of the stage ended."""
        ...

    def query_retried(self, name: str, reason: str, attempt: int) -> None:
        """Note that a query will be sent again."""
        ...

    def pace_changed(self, name: str, requests: int, queries: int) -> None:
        """Note how many requests are sent at a time from now on, and how many queries each holds."""
        ...

    def stage_finished(self, name: str, counts: StageCounts) -> None:
        """Note that the stage ended."""
        ...


class QuietHook:
    """Ignores all events."""

    def message(self, text: str) -> None:
        """Ignore it."""

    def stage_started(self, name: str, planned: int, done: int) -> None:
        """Ignore it."""

    def query_finished(self, name: str, record: Record) -> None:
        """Ignore it."""

    def query_retried(self, name: str, reason: str, attempt: int) -> None:
        """Ignore it."""

    def pace_changed(self, name: str, requests: int, queries: int) -> None:
        """Ignore it."""

    def stage_finished(self, name: str, counts: StageCounts) -> None:
        """Ignore it."""


class StopFlag:
    """
    A request to stop: workers finish what is in flight and draw nothing new.

    It may be set from a signal handler of the running loop.
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def request(self) -> None:
        """Ask for a stop."""
        self._event.set()

    @property
    def requested(self) -> bool:
        """Whether a stop was asked for."""
        return self._event.is_set()

    async def wait(self, seconds: float) -> bool:
        """Wait until a stop is asked for, but no longer than so many seconds; return whether it is."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds)
        return self.requested
