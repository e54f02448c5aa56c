"""
What signals do to a run: it drains, or leaves at once, and never stays for long.

Ctrl-C lets everything in flight finish, however long that takes; a second one
leaves at once. SIGTERM comes from machines, which kill what does not end:
queries may finish for a while, then they are given up. Whatever is given up is
asked again by the same command.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from grace.cli.screen import err
from grace.engine.events import StopFlag
from grace.errors import RunInterrupted

_T = TypeVar("_T")

LEAVING_SECONDS = 10.0
"""After draining: for connections to close and the embedded server to stop, before the end."""

_EXIT_INCOMPLETE = 3
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_KEPT = "everything finished is kept: the same command continues"


@contextmanager
def interruptible() -> Iterator[None]:
    """
    Let SIGTERM interrupt what runs outside an event loop, as Ctrl-C does.

    Without a handler of its own, the first process of a container ignores it.

    Raises:
        RunInterrupted: One of the two came.
    """
    with _handled(_interrupt):
        try:
            yield
        except KeyboardInterrupt as error:
            raise RunInterrupted(f"stopped at once; {_KEPT}") from error


async def until_stopped(work: Awaitable[_T], stop: StopFlag, drain_seconds: float) -> _T:
    """
    Return what *work* returns, and let signals stop it.

    Args:
        work: It looks at the flag and can be cancelled at any moment.

        stop: Set by the first signal.

        drain_seconds: How long queries in flight may take after SIGTERM.

    Raises:
        RunInterrupted: It was cancelled: by a second signal, or after draining
            for long enough.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    deadlines: list[threading.Timer] = []

    def on_signal(number: int) -> None:
        if stop.requested:
            task.cancel()
            return
        stop.request()
        patience = "once more to stop at once"
        if number == signal.SIGTERM:
            loop.call_later(drain_seconds, task.cancel)
            patience = f"for {drain_seconds:g} s at most"
        err.print(
            f"stopping: what is in flight is finished first, {patience}",
            style="yellow",
            markup=False,
            highlight=False,
        )

    def handle(number: int, _frame: FrameType | None) -> None:
        # Tables are written without a look at the event loop: the deadline is kept beside it.
        if number == signal.SIGTERM and not deadlines:
            deadlines.append(_deadline(drain_seconds + LEAVING_SECONDS))
        loop.call_soon_threadsafe(on_signal, number)

    try:
        with _handled(handle):
            return await task
    except asyncio.CancelledError as error:
        raise RunInterrupted(f"stopped at once; {_KEPT}") from error
    finally:
        for deadline in deadlines:
            deadline.cancel()


def _deadline(seconds: float) -> threading.Timer:
    def leave() -> None:
        # What a kill would do a moment later, with a word and an exit code. It is as safe: see
        # `grace.engine.journal`.
        os.write(2, f"error: still busy {seconds:g} s after SIGTERM; {_KEPT}\n".encode())
        os._exit(_EXIT_INCOMPLETE)

    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    timer.start()
    return timer


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
