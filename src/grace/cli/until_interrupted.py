"""Ctrl-C and SIGTERM while something goes on that can be left at any moment."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from grace.errors import RunInterrupted

_T = TypeVar("_T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


async def until_interrupted(work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """
    Do work until it ends or a signal comes, which cancels it.

    Raises:
        RunInterrupted: Ctrl-C or SIGTERM came.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(work())
    heard: list[int] = []

    def stop(number: int) -> None:
        heard.append(number)
        task.cancel()

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not heard:
            raise
        raise RunInterrupted(signal.Signals(heard[0]).name) from None
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
