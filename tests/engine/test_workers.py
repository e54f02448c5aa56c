import asyncio
from collections.abc import Iterator, Sequence

import pytest

from grace.engine.events import StopFlag
from grace.engine.pace import Pace
from grace.engine.workers import run_workers
from grace.errors import RunFolderError

FIXED = Pace(3, adaptive=False)


async def test_the_bound_on_concurrency_holds_and_all_units_are_worked_off() -> None:
    running, most, done = 0, 0, list[int]()

    async def work(batch: Sequence[int]) -> None:
        (unit,) = batch
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        done.append(unit)

    await run_workers(range(50), work, pace=Pace(7, adaptive=False), stop=StopFlag())
    assert most == 7
    assert sorted(done) == list(range(50))


async def test_a_unit_is_begun_only_when_a_slot_is_free() -> None:
    drawn = 0

    def units() -> Iterator[int]:
        nonlocal drawn
        for number in range(20):
            drawn = number + 1
            yield number

    stop = StopFlag()

    async def work(batch: Sequence[int]) -> None:
        assert drawn <= 3
        stop.request()
        await asyncio.sleep(0)

    await run_workers(units(), work, pace=FIXED, stop=stop)


async def test_a_stop_finishes_what_is_in_flight_and_begins_nothing_new() -> None:
    stop, begun, finished = StopFlag(), list[int](), list[int]()

    async def work(batch: Sequence[int]) -> None:
        (unit,) = batch
        begun.append(unit)
        if unit == 5:
            stop.request()
        await asyncio.sleep(0.01)
        finished.append(unit)

    await run_workers(range(100), work, pace=FIXED, stop=stop)
    assert stop.requested
    assert sorted(begun) == sorted(finished)
    assert 6 <= len(begun) <= 8


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), RunFolderError("the disk is full")])
async def test_what_one_worker_raises_cancels_the_others(error: Exception) -> None:
    cancelled = list[int]()

    async def work(batch: Sequence[int]) -> None:
        (unit,) = batch
        if unit == 2:
            raise error
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.append(unit)
            raise

    with pytest.raises(type(error), match=str(error)) as caught:
        await run_workers(range(10), work, pace=FIXED, stop=StopFlag())
    assert caught.value is error
    assert sorted(cancelled) == [0, 1]


async def test_no_units_are_no_work() -> None:
    async def work(batch: Sequence[int]) -> None:
        (unit,) = batch
        raise AssertionError(unit)

    await run_workers([], work, pace=FIXED, stop=StopFlag())


async def test_the_pace_decides_how_many_units_are_neighbours_in_one_request() -> None:
    batches = list[Sequence[int]]()

    async def work(batch: Sequence[int]) -> None:
        batches.append(batch)

    await run_workers(range(8), work, pace=Pace(1, 3, adaptive=False), stop=StopFlag())
    assert batches == [(0, 1, 2), (3, 4, 5), (6, 7)]


async def test_fewer_requests_are_in_work_after_the_server_refused_some() -> None:
    pace, running = Pace(8), 0
    most_after = 0

    async def work(batch: Sequence[int]) -> None:
        nonlocal running, most_after
        running += 1
        await asyncio.sleep(0)
        if batch[0] == 0:
            pace.refused(pace.now())
        if batch[0] > 8:
            most_after = max(most_after, running)
        running -= 1

    await run_workers(range(16), work, pace=pace, stop=StopFlag())
    assert most_after == pace.limit == 2


async def test_a_stop_does_not_wait_until_the_server_wants_more() -> None:
    pace, stop = Pace(2), StopFlag()
    begun = list[int]()

    async def work(batch: Sequence[int]) -> None:
        begun.append(batch[0])
        pace.refused(pace.now(), 100)
        stop.request()

    await asyncio.wait_for(run_workers(range(9), work, pace=pace, stop=stop), 10)
    assert len(begun) <= 2
