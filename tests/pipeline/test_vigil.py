import asyncio
from dataclasses import dataclass, field, replace

import pytest

from grace.engine.execute import RetryPolicy
from grace.errors import BadReply, GraceError, IdentityMismatch, QueryRejected, ServerUnavailable
from grace.inference.client import ServerIdentity
from grace.pipeline.vigil import Vigil

FIRST = ServerIdentity("vllm", "0.32.0", "tiny", {"max_model_len": 512, "logprobs_mode": "raw"})
QUICK = RetryPolicy(attempts=3, timeout_seconds=20, wait_seconds=0.001, wait_max_seconds=0.002)


@dataclass
class Server:
    """Says who it is, or raises what it is told to first."""

    now: ServerIdentity = FIRST
    trouble: list[GraceError] = field(default_factory=list)
    doubts: int = 5
    asked: int = 0

    async def identify(self) -> ServerIdentity:
        self.asked += 1
        await asyncio.sleep(0)
        if self.trouble:
            raise self.trouble.pop(0)
        return self.now

    def vigil(self) -> Vigil:
        return Vigil(FIRST, self.identify, lambda: self.doubts, QUICK)


async def test_without_doubt_nothing_is_asked() -> None:
    server = Server()
    await server.vigil().confirm()
    assert server.asked == 0


async def test_one_question_settles_all_doubts_that_were_there_before() -> None:
    server = Server()
    vigil = server.vigil()
    server.doubts += 3
    await asyncio.gather(*(vigil.confirm() for _ in range(10)))
    assert server.asked == 1
    server.doubts += 1
    await vigil.confirm()
    assert server.asked == 2


async def test_a_doubt_that_arises_while_the_server_is_asked_is_not_settled_by_it() -> None:
    server = Server()
    vigil = server.vigil()
    server.doubts += 1
    asking = asyncio.create_task(vigil.confirm())
    await asyncio.sleep(0)
    server.doubts += 1
    await asking
    await vigil.confirm()
    assert server.asked == 2


async def test_what_the_server_does_not_tell_again_is_not_compared() -> None:
    server = Server(now=replace(FIRST, details={"max_model_len": 512}))
    vigil = server.vigil()
    server.doubts += 1
    await vigil.confirm()


@pytest.mark.parametrize(
    ("now", "difference"),
    [
        (replace(FIRST, version="0.33.0"), "version: '0.32.0' before, '0.33.0' now"),
        (replace(FIRST, model="huge"), "model: 'tiny' before, 'huge' now"),
        (replace(FIRST, details={"max_model_len": 8}), "max_model_len: 512 before, 8 now"),
    ],
    ids=["version", "model", "details"],
)
async def test_another_server_is_named_by_what_differs(
    now: ServerIdentity, difference: str
) -> None:
    server = Server(now=now)
    vigil = server.vigil()
    server.doubts += 1
    for _ in range(2):
        with pytest.raises(IdentityMismatch) as caught:
            await vigil.confirm()
        assert caught.value.differences == (difference,)


async def test_a_server_that_is_busy_is_asked_again() -> None:
    server = Server(trouble=[ServerUnavailable("busy"), QueryRejected("404", 404)])
    vigil = server.vigil()
    server.doubts += 1
    await vigil.confirm()
    assert server.asked == 3


async def test_a_server_that_never_says_who_it_is_counts_as_unavailable() -> None:
    server = Server(trouble=[BadReply("odd")] * 3)
    vigil = server.vigil()
    server.doubts += 1
    with pytest.raises(ServerUnavailable, match="does not say who it is: odd"):
        await vigil.confirm()
