"""
Waiting for what others do first: a server that starts, a process that still works.

On a cluster, a pod may start before its server, or while the pod that it replaces
is still at work on a node that nobody reaches. Both end by themselves; failing at
once would only use up the attempts of a Job. The wait is bounded, and told.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from grace.engine.events import RunHook, StopFlag
from grace.errors import GraceError, RunInterrupted

_T = TypeVar("_T")

_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 5.0
_TOLD_EVERY_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """
    How long to wait.

    Attributes:
        seconds: For each thing that is waited for; 0 fails at once.

        stop: Ends the wait.

        hook: Hears of it, now and then.

        clock: Seconds, from any fixed moment.
    """

    seconds: float
    stop: StopFlag
    hook: RunHook
    clock: Callable[[], float] = time.monotonic

    async def until(
        self, attempt: Callable[[], Awaitable[_T]], unless: type[GraceError], what: str
    ) -> _T:
        """
        Return what an attempt returns, trying again while it is too early.

        Args:
            attempt: It is made at least once.

            unless: The error that says that it is too early.

            what: What is waited for, for people.

        Raises:
            GraceError: It is still too early at the end, or something else is
                wrong.

            RunInterrupted: A stop was asked for meanwhile.
        """
        deadline = self.clock() + self.seconds
        pause, tell_at = _FIRST_PAUSE_SECONDS, self.clock()
        while True:
            try:
                return await attempt()
            except unless as error:
                now = self.clock()
                left = deadline - now
                if left <= 0:
                    raise
                if now >= tell_at:
                    tell_at = now + _TOLD_EVERY_SECONDS
                    reason = str(error).splitlines()[0]
                    self.hook.message(f"{what}: waiting, {left:.0f} s at most: {reason}")
            if await self.stop.wait(min(pause, left)):
                raise RunInterrupted(
                    f"{what}: stopped while waiting; everything finished is kept: the same "
                    "command continues"
                )
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
