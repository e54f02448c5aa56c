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
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from grace.cli.exits import EXIT_INCOMPLETE
from grace.cli.screen import err
from grace.engine.events import StopFlag
from grace.errors import RunInterrupted

_T = TypeVar("_T")

LEAVING_SECONDS = 10.0
"""After draining: for connections to close and the embedded server to stop, before the end."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_KEPT = "everything finished is kept: the same command continues"


@contextmanager
def interruptible(said: str = f"stopped at once; {_KEPT}") -> Iterator[None]:
    """
    Let SIGTERM interrupt what runs outside an event loop, as Ctrl-C does.

    Without a handler of its own, the first process of a container ignores it.

    Args:
        said: What is then said.

    Raises:
        RunInterrupted: One of the two came.
    """
    with _handled(_interrupt):
        try:
            yield
        except KeyboardInterrupt as error:
            raise RunInterrupted(said) from error


def say_on_screen(text: str) -> None:
    """Print what a signal does."""
    err.print(text, style="yellow", markup=False, highlight=False)


def say_at_the_end(text: str) -> None:
    """Print why the process ends this moment, past everything that could hold it up."""
    os.write(2, f"error: {text}\n".encode())


def run_until_stopped(
    work: Callable[[], Coroutine[Any, Any, _T]],
    stop: StopFlag,
    drain_seconds: float,
    say: Callable[[str], None] = say_on_screen,
    leave: Callable[[str], None] = say_at_the_end,
) -> _T:
    """
    Run a loop for *work*, return what it returns, and let signals stop it.

    Args:
        work: It looks at the flag and can be cancelled at any moment.

        stop: Set by the first signal.

        drain_seconds: How long queries in flight may take after SIGTERM.

        say: Hears what a signal does.

        leave: Hears why the process ends in the next moment, whatever it is doing,
            because SIGTERM came too long ago; it must be quick.

    Raises:
        RunInterrupted: It was cancelled: by a second signal, or after draining
            for long enough.
    """
    signals = _Signals(stop, drain_seconds, say, leave)
    # Before there is a loop: an exception would tear it apart while it is made.
    with _handled(signals.hear):
        try:
            return asyncio.run(signals.stopping(work()))
        except asyncio.CancelledError as error:
            raise RunInterrupted(f"stopped at once; {_KEPT}") from error
        finally:
            signals.forget_deadline()


class _Signals:
    """Hears signals at any moment, and acts on them in the loop."""

    def __init__(
        self,
        stop: StopFlag,
        drain_seconds: float,
        say: Callable[[str], None],
        leave: Callable[[str], None],
    ) -> None:
        self._stop = stop
        self._drain_seconds = drain_seconds
        self._say = say
        self._leave = leave
        self._heard: list[int] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._deadline: threading.Timer | None = None

    def hear(self, number: int, _frame: FrameType | None) -> None:
        # Tables are written without a look at the event loop: the deadline is kept beside it.
        if number == signal.SIGTERM and self._deadline is None:
            self._deadline = _deadline(self._drain_seconds + LEAVING_SECONDS, self._leave)
        self._heard.append(number)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._act)

    def forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline.join()

    async def stopping(self, work: Coroutine[Any, Any, _T]) -> _T:
        loop = asyncio.get_running_loop()
        task = loop.create_task(work)
        self._task = task
        self._loop = loop
        self._act()
        try:
            return await task
        finally:
            self._loop = None

    def _act(self) -> None:
        loop, task = self._loop, self._task
        while self._heard and loop is not None and task is not None:
            number = self._heard.pop(0)
            if self._stop.requested:
                task.cancel()
                continue
            self._stop.request()
            patience = "once more to stop at once"
            if number == signal.SIGTERM:
                loop.call_later(self._drain_seconds, task.cancel)
                patience = f"for {self._drain_seconds:g} s at most"
            self._say(f"stopping: what is in flight is finished first, {patience}")


def _deadline(seconds: float, leave: Callable[[str], None]) -> threading.Timer:
    def end() -> None:
        # What a kill would do a moment later, with a word and an exit code. It is as safe: see
        # `grace.engine.journal`.
        try:
            leave(f"still busy {seconds:g} s after SIGTERM; {_KEPT}")
        finally:
            os._exit(EXIT_INCOMPLETE)

    timer = threading.Timer(seconds, end)
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
