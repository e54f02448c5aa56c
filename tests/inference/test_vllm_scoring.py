import math
from collections.abc import Callable
from typing import Any

import pytest
from fake_server import FakeVllm, vllm_client

from grace.errors import BadReply
from grace.inference.client import NextTokenQuestion
from grace.studies.prompts import Message, Prompt

CHAT = Prompt(messages=(Message("user", "Is it so? yes or no"),))


async def test_next_tokens_have_the_models_own_distribution_in_one_request() -> None:
    server = FakeVllm()
    questions = [
        NextTokenQuestion((1, 5, 9), (20, 21)),
        NextTokenQuestion((1, 5, 9, 20), (22,)),
        NextTokenQuestion((7,), (20, 40, 60)),
    ]
    async with vllm_client(server) as client:
        answers = await client.next_token_logprobs(questions)
    assert len(server.requests) == 1
    for question, answer in zip(questions, answers, strict=True):
        truth = server.model.logprobs(question.prefix)
        assert answer == pytest.approx({token: truth[token] for token in question.tokens})


async def test_the_best_other_token_is_told_where_it_is_the_best_of_all() -> None:
    server = FakeVllm()
    truth = server.model.logprobs((1, 5, 9))
    best = truth.index(max(truth))
    wide = tuple(token for token in range(30, 80) if token != best)
    questions = [
        NextTokenQuestion((1, 5, 9), (20, 21), best_other=True),
        # What other questions list is not the best of the others.
        NextTokenQuestion((1, 5, 9), (best, 22), best_other=True),
        NextTokenQuestion((1, 5, 9), wide, best_other=True),
        NextTokenQuestion((1, 5, 9), (20, 23)),
    ]
    async with vllm_client(FakeVllm(most_listed=20)) as client:
        assert client.capabilities.most_probable
        answers = await client.next_token_logprobs(questions)
        assert await client.decode([best]) == server.model.vocabulary[best]
    assert answers[0] == pytest.approx({token: truth[token] for token in (20, 21, best)})
    assert set(answers[1]) == {best, 22}
    assert set(answers[2]) == {*wide, best}
    assert set(answers[3]) == {20, 23}


async def test_no_question_is_no_request() -> None:
    server = FakeVllm()
    async with vllm_client(server) as client:
        assert await client.next_token_logprobs([]) == []
        assert await client.sequence_logprobs((1,), []) == []
    assert not server.requests


async def test_questions_wider_than_the_servers_limit_are_split_and_joined() -> None:
    server = FakeVllm(most_listed=20)
    wide = NextTokenQuestion((3, 4), tuple(range(100, 150)))
    narrow = NextTokenQuestion((3, 4, 5), (101, 102))
    async with vllm_client(server) as client:
        answers = await client.next_token_logprobs([wide, narrow])
    asked = server.asked("/v1/completions")
    assert [len(payload["logprob_token_ids"]) for payload in asked] == [20, 20, 10]
    # The narrow question travels with a part of the wide one.
    assert [len(payload["prompt"]) for payload in asked] == [2, 1, 1]
    truth = server.model.logprobs(wide.prefix)
    assert answers[0] == pytest.approx({token: truth[token] for token in wide.tokens})
    assert set(answers[1]) == {101, 102}


@pytest.mark.parametrize(
    ("options", "requests"),
    [({"prompts_per_request": 4}, 3), ({"tokens_per_request": 6}, 5), ({}, 1)],
)
async def test_requests_are_bounded(options: dict[str, int], requests: int) -> None:
    server = FakeVllm()
    async with vllm_client(server, **options) as client:
        await client.next_token_logprobs([NextTokenQuestion((1, 2, n), (9,)) for n in range(10)])
        assert len(server.requests) == requests


async def test_sequences_have_the_models_own_distribution() -> None:
    server = FakeVllm()
    prompt, continuations = (1, 5, 9), [(20,), (20, 21), (30, 31, 32)]
    async with vllm_client(server, prompts_per_request=2) as client:
        scores = await client.sequence_logprobs(prompt, continuations)
    assert len(server.requests) == 2
    for ids, values in zip(continuations, scores, strict=True):
        assert values == pytest.approx(server.model.sequence(prompt, ids))


async def test_both_ways_give_the_same_number() -> None:
    async with vllm_client(FakeVllm()) as client:
        prompt = (await client.render(CHAT)).token_ids
        (whole,) = await client.sequence_logprobs(prompt, [(20, 21, 22)])
        steps = await client.next_token_logprobs(
            [
                NextTokenQuestion(prompt, (20,)),
                NextTokenQuestion((*prompt, 20), (21,)),
                NextTokenQuestion((*prompt, 20, 21), (22,)),
            ]
        )
        assert math.fsum(whole) == pytest.approx(steps[0][20] + steps[1][21] + steps[2][22])


async def test_choices_out_of_order_find_their_questions() -> None:
    server = FakeVllm()
    async with vllm_client(server) as client:
        server.mangle = lambda reply: {"choices": reply["choices"][::-1]}
        answers = await client.next_token_logprobs(
            [NextTokenQuestion((n,), (50,)) for n in range(5)]
        )
    assert [answer[50] for answer in answers] == pytest.approx(
        [server.model.logprobs((n,))[50] for n in range(5)]
    )


def listed(change: Callable[[dict[str, Any]], None]) -> Callable[[Any], Any]:
    def mangle(reply: Any) -> Any:
        change(reply["choices"][1]["logprobs"]["top_logprobs"][0])
        return reply

    return mangle


@pytest.mark.parametrize(
    ("mangle", "message"),
    [
        (lambda reply: {"choices": reply["choices"][:1]}, r"answered were \[0\]"),
        (lambda reply: {"choices": [reply["choices"][0]] * 2}, r"answered were \[0, 0\]"),
        (lambda reply: {"choices": []}, "answered were"),
        (lambda reply: {"object": "error"}, "choices: Field required"),
        (lambda reply: [reply], "valid dictionary"),
        (listed(lambda table: table.update({"token_id:9": math.nan})), "for a number"),
        (listed(lambda table: table.update({"token_id:9": None})), "valid number"),
        (listed(lambda table: table.update({"token_id:9": "-1.5"})), "valid number"),
        (listed(lambda table: table.update({"token_id:9": 0.5})), "a probability of"),
        (listed(lambda table: table.update({"token_id:9": -9999.0})), "it was not measured"),
        (listed(lambda table: table.update({"token_id:9": 1e999})), "for a number"),
        (listed(lambda table: table.pop("token_id:9")), "lacks 'token_id:9' of 1 tokens asked"),
        (lambda reply: {"choices": [{**c, "logprobs": None} for c in reply["choices"]]}, "no log"),
    ],
    ids=[
        "missing",
        "twice",
        "none",
        "error",
        "list",
        "nan",
        "null",
        "text",
        "positive",
        "floor",
        "huge",
        "other",
        "empty",
    ],
)
async def test_a_next_token_reply_that_is_not_a_measurement_is_refused(
    mangle: Callable[[Any], Any], message: str
) -> None:
    server = FakeVllm()
    async with vllm_client(server) as client:
        server.mangle = mangle
        with pytest.raises(BadReply, match=message):
            await client.next_token_logprobs([NextTokenQuestion((n, 7), (9,)) for n in (1, 2)])


def at_the_end(change: Callable[[list[Any]], Any]) -> Callable[[Any], Any]:
    def mangle(reply: Any) -> Any:
        change(reply["choices"][0]["prompt_logprobs"])
        return reply

    return mangle


@pytest.mark.parametrize(
    ("mangle", "message"),
    [
        (at_the_end(lambda places: places.pop()), "of 3 tokens; sent 4"),
        (at_the_end(lambda places: places.insert(3, None)), "of 5 tokens; sent 4"),
        (at_the_end(lambda places: places.__setitem__(3, None)), "lacks token 31"),
        (at_the_end(lambda places: places[3].update({"31": {"logprob": None}})), "not a log"),
        (at_the_end(lambda places: places[3].update({"31": {"logprob": 0.2}})), "not a log"),
        (at_the_end(lambda places: places[3].update({"31": {"logprob": -9999.0}})), "not measured"),
        (at_the_end(lambda places: places.__setitem__(3, {"99": {"logprob": -1.0}})), "token 31"),
        (
            lambda reply: {"choices": [{**c, "prompt_logprobs": None} for c in reply["choices"]]},
            "of none tokens",
        ),
    ],
    ids=["shorter", "longer", "absent", "null", "positive", "floor", "other", "none"],
)
async def test_a_sequence_reply_that_is_not_a_measurement_is_refused(
    mangle: Callable[[Any], Any], message: str
) -> None:
    server = FakeVllm()
    async with vllm_client(server) as client:
        server.mangle = mangle
        with pytest.raises(BadReply, match=message):
            await client.sequence_logprobs((1, 2), [(30, 31)])


async def test_rounding_above_a_sure_token_is_taken_as_sure() -> None:
    server = FakeVllm()
    async with vllm_client(server) as client:
        server.mangle = at_the_end(lambda places: places[3].update({"31": {"logprob": 3e-7}}))
        assert (await client.sequence_logprobs((1, 2), [(30, 31)]))[0][1] == 0.0


async def test_scoring_nothing_is_a_bug_here_and_no_certainty() -> None:
    async with vllm_client(FakeVllm()) as client:
        with pytest.raises(ValueError, match="at least one token"):
            await client.sequence_logprobs((1,), [(2,), ()])
        with pytest.raises(ValueError, match="at least one token"):
            await client.sequence_logprobs((), [(2,)])
        with pytest.raises(ValueError, match="at least one token"):
            await client.next_token_logprobs([NextTokenQuestion((1,), ())])
