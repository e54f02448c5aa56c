"""Units of work, as many at a time as the pace allows. Knows nothing of queries."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from grace.engine.events import StopFlag
from grace.engine.pace import Pace

_U = TypeVar("_U")

_NAP_SECONDS = 0.2


async def run_workers(
    units: Iterable[_U],
    work: Callable[[Sequence[_U]], Awaitable[None]],
    *,
    pace: Pace,
    stop: StopFlag,
) -> None:
    """
    Work off all units, as many at a time as the pace allows, until done or stopped.

    Args:
        units: What is to be done.

        work: Does some of it: as many neighbours as fit into one request.

        pace: How many requests at a time, and how many units in each.

        stop: Ends it when it is set; what is in work is finished.

    Raises:
        GraceError: What a unit raised; the others are cancelled.
    """
    pending = iter(units)
    ended = asyncio.Event()
    in_work = 0

    async def finish(batch: Sequence[_U]) -> None:
        nonlocal in_work
        try:
            await work(batch)
        finally:
            in_work -= 1
            ended.set()

    try:
        async with asyncio.TaskGroup() as group:
            while not stop.requested:
                if in_work >= pace.limit:
                    ended.clear()
                    await ended.wait()
                elif (pause := pace.wait_seconds()) > 0:
                    # Short naps: a stop need not wait for the server's patience.
                    await asyncio.sleep(min(pause, _NAP_SECONDS))
                else:
                    # Units are begun only when a slot is free.
                    batch = tuple(itertools.islice(pending, pace.size))
                    if not batch:
                        break
                    in_work += 1
                    group.create_task(finish(batch))
    except BaseExceptionGroup as group_error:
        # Siblings fail for the same reason; the first one is the story.
        first: BaseException = group_error
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from group_error
