"""How much the gateway takes on: bytes, requests at a time, seconds. Knows nothing of HTTP."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from grace.serving.gateway.problems import RETRY_SECONDS, Kind, RefusedRequest, refuse


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """
    The bounds of a gateway.

    Attributes:
        max_body_bytes: Largest body of a request.

        concurrency: Distributions that are asked for at a time.

        waiting: Requests that may wait beside those; more are refused.

        deadline_seconds: Most time from a request's arrival to its answer.

        body_seconds: Most time for a body to arrive.
    """

    max_body_bytes: int = 1024 * 1024
    concurrency: int = 4
    waiting: int = 32
    deadline_seconds: float = 120.0
    body_seconds: float = 15.0


class Gate:
    """
    Lets in as many requests as the limits allow.

    Args:
        limits: The bounds.
    """

    def __init__(self, limits: GatewayLimits) -> None:
        self._limits = limits
        self._turns = asyncio.Semaphore(limits.concurrency)
        self.inside = 0
        self.asking = 0

    @contextmanager
    def arrival(self) -> Iterator[None]:
        """
        Count a request for as long as it is here.

        Raises:
            RefusedRequest: There are too many already.
        """
        most = self._limits.concurrency + self._limits.waiting
        if self.inside >= most:
            raise RefusedRequest(
                refuse(
                    Kind.TOO_BUSY,
                    f"{self.inside} requests are being answered or waiting; at most {most} may be",
                    remedy="Try again after the seconds in Retry-After, with fewer at a time.",
                    headers={"Retry-After": str(RETRY_SECONDS)},
                )
            )
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """
        Wait for a turn and hold it, within the deadline.

        Raises:
            RefusedRequest: The deadline passed, while waiting or while asking.
        """
        seconds = self._limits.deadline_seconds
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline, self._turns:
                self.asking += 1
                try:
                    yield
                finally:
                    self.asking -= 1
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise RefusedRequest(
                refuse(
                    Kind.TIMEOUT,
                    f"no answer within {seconds:g} s; nothing was measured",
                    remedy="Try again with a shorter prompt, fewer candidates or fewer requests "
                    "at a time.",
                )
            ) from error
