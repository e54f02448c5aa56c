"""Waiting for others: bounded, told now and then, and given up when a stop is asked for."""

import asyncio

import pytest

from grace.engine.events import QuietHook, StopFlag
from grace.errors import QueryRejected, RunInterrupted, ServerUnavailable
from grace.pipeline.waiting import Waiting


class Clock:
    """Moves on by some seconds each time it is looked at."""

    def __init__(self, step: float) -> None:
        self.now = 0.0
        self.step = step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


class Heard(QuietHook):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def message(self, text: str) -> None:
        self.texts.append(text)


class Stop(StopFlag):
    """Counts the waits and lets no time pass."""

    def __init__(self, after: int = 10**6) -> None:
        super().__init__()
        self.waits: list[float] = []
        self.after = after

    async def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        if len(self.waits) >= self.after:
            self.request()
        return self.requested


async def tried(waiting: Waiting, fails: int, error: Exception | None = None) -> int:
    made = 0

    async def attempt() -> int:
        nonlocal made
        made += 1
        if made <= fails:
            raise error or ServerUnavailable("refused\nmore")
        return made

    return await waiting.until(attempt, ServerUnavailable, "the server")


async def test_what_is_there_is_not_waited_for() -> None:
    heard, stop = Heard(), Stop()
    assert await tried(Waiting(0, stop, heard, Clock(1)), 0) == 1
    assert not heard.texts
    assert not stop.waits


async def test_without_time_the_first_failure_counts() -> None:
    with pytest.raises(ServerUnavailable, match="refused"):
        await tried(Waiting(0, Stop(), Heard(), Clock(0)), 1)


async def test_it_tries_again_ever_less_often_and_says_so_now_and_then() -> None:
    heard, stop = Heard(), Stop()
    assert await tried(Waiting(600, stop, heard, Clock(4)), 12) == 13
    assert stop.waits[:6] == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0]
    assert max(stop.waits) == 5.0
    assert 2 <= len(heard.texts) <= 5
    assert heard.texts[0] == "the server: waiting, 592 s at most: refused"


async def test_it_ends_when_the_time_is_over() -> None:
    stop = Stop()
    with pytest.raises(ServerUnavailable):
        await tried(Waiting(20, stop, Heard(), Clock(4)), 10**6)
    assert len(stop.waits) < 8


async def test_another_error_is_not_waited_for() -> None:
    with pytest.raises(QueryRejected):
        await tried(Waiting(600, Stop(), Heard(), Clock(1)), 1, QueryRejected("no"))


async def test_a_stop_ends_the_wait() -> None:
    with pytest.raises(RunInterrupted, match="the server: stopped while waiting"):
        await tried(Waiting(600, Stop(after=3), Heard(), Clock(1)), 10**6)


async def test_a_stop_flag_wakes_whoever_waits_for_it() -> None:
    stop = StopFlag()
    waiting = asyncio.ensure_future(stop.wait(60))
    await asyncio.sleep(0)
    stop.request()
    assert await waiting
    assert not await StopFlag().wait(0.001)
