import asyncio
from collections.abc import Sequence

import pytest

from grace.engine.gathering import Gathering
from grace.errors import BadReply, InferenceError, QueryRejected, ServerUnavailable
from grace.inference.client import NextTokenQuestion
from grace.inference.toy import ToyClient


class Server(ToyClient):
    """The toy, which remembers its requests and fails when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[list[int]] = []
        self.fails: dict[int, InferenceError] = {}
        self.longest = 99
        self.lost_for = 0

    async def next_token_logprobs(
        self, questions: Sequence[NextTokenQuestion]
    ) -> list[dict[int, float]]:
        members = [question.prefix[0] for question in questions]
        self.sent.append(members)
        await asyncio.sleep(0)
        if len(self.sent) <= self.lost_for:
            raise ServerUnavailable("away")
        if len(questions) > self.longest:
            raise QueryRejected("too large")
        for member in members:
            if member in self.fails:
                raise self.fails[member]
        return await super().next_token_logprobs(questions)


def question(member: int) -> NextTokenQuestion:
    return NextTokenQuestion((member, 7), (1, 2))


async def alone(member: int) -> list[dict[int, float]]:
    return await ToyClient().next_token_logprobs([question(member)])


async def test_questions_of_all_queries_travel_in_one_request_and_come_back_to_each() -> None:
    server = Server()
    gathering = Gathering(server, 3)
    answers = await asyncio.gather(
        *(gathering.questions_of(member)([question(member)]) for member in range(3))
    )
    assert server.sent == [[0, 1, 2]]
    assert answers == [await alone(member) for member in range(3)]


async def test_nobody_waits_for_a_query_that_left() -> None:
    server = Server()
    gathering = Gathering(server, 3)
    asking = [
        asyncio.ensure_future(gathering.questions_of(member)([question(member)]))
        for member in (0, 2)
    ]
    await asyncio.sleep(0)
    assert server.sent == []
    gathering.leave(1)
    await asyncio.gather(*asking)
    assert server.sent == [[0, 2]]


@pytest.mark.parametrize("error", [QueryRejected("too long"), BadReply("nonsense")])
async def test_a_query_that_is_refused_does_not_fail_its_neighbours(error: InferenceError) -> None:
    server, too_large = Server(), list[int]()
    server.fails[1] = error
    gathering = Gathering(server, 3, too_large.append)
    ended = await asyncio.gather(
        *(gathering.questions_of(member)([question(member)]) for member in range(3)),
        return_exceptions=True,
    )
    assert ended == [await alone(0), error, await alone(2)]
    assert server.sent == [[0, 1, 2], [0], [1], [2]]
    assert too_large == []


async def test_a_request_whose_queries_are_all_answered_alone_was_too_large() -> None:
    server, too_large = Server(), list[int]()
    server.longest = 2
    gathering = Gathering(server, 3, too_large.append)
    ended = await asyncio.gather(
        *(gathering.questions_of(member)([question(member)]) for member in range(3))
    )
    assert ended == [await alone(member) for member in range(3)]
    assert too_large == [3]


async def test_a_query_that_takes_the_server_down_goes_alone_in_the_end() -> None:
    server = Server()
    server.fails[1] = ServerUnavailable("the engine died")
    gathering = Gathering(server, 3)

    async def patient(member: int) -> list[dict[int, float]]:
        for attempt in range(5):
            try:
                return await gathering.questions_of(member)([question(member)])
            except ServerUnavailable:
                if attempt == 4:
                    raise
        raise AssertionError

    ended = await asyncio.gather(*(patient(member) for member in range(3)), return_exceptions=True)
    assert ended[0] == await alone(0)
    assert isinstance(ended[1], ServerUnavailable)
    assert ended[2] == await alone(2)


async def test_those_who_come_back_while_a_request_is_in_work_travel_together() -> None:
    server = Server()
    server.lost_for = 1
    gathering = Gathering(server, 3)

    async def patient(member: int) -> list[dict[int, float]]:
        try:
            return await gathering.questions_of(member)([question(member)])
        except ServerUnavailable:
            return await gathering.questions_of(member)([question(member)])

    ended = await asyncio.gather(*(patient(member) for member in range(3)))
    assert ended == [await alone(member) for member in range(3)]
    assert server.sent[0] == [0, 1, 2]
    assert sorted(member for request in server.sent[1:] for member in request) == [0, 1, 2]
    assert len(server.sent) <= 3
