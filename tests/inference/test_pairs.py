from itertools import pairwise
from typing import Any

import pytest
from fake_server import FakeVllm, vllm_client
from hypothesis import given
from hypothesis import strategies as st

from grace.errors import BadReply
from grace.inference.client import NextTokenQuestion
from grace.inference.pairs import Pairing, pair_places

PROMPT = (1, 5, 9)
ZERO, PERCENT = 40, 41
DIGITS = tuple(range(50, 59))


def percentages() -> list[NextTokenQuestion]:
    """The inner nodes of the trie over 0%, 10% ... 100%, one token a character."""
    one = DIGITS[0]
    return [
        NextTokenQuestion(PROMPT, (ZERO, *DIGITS), best_other=True),
        NextTokenQuestion((*PROMPT, ZERO), (PERCENT,)),
        *(NextTokenQuestion((*PROMPT, digit), (ZERO,)) for digit in DIGITS),
        *(
            NextTokenQuestion(
                (*PROMPT, digit, ZERO), (PERCENT, ZERO) if digit == one else (PERCENT,)
            )
            for digit in DIGITS
        ),
        NextTokenQuestion((*PROMPT, one, ZERO, ZERO), (PERCENT,)),
    ]


places = st.lists(
    st.lists(st.integers(0, 3), max_size=5).map(tuple), unique=True, min_size=1, max_size=40
)


@given(places=places, data=st.data())
def test_a_pair_is_a_place_and_the_one_that_its_token_leads_to(
    places: list[tuple[int, ...]], data: st.DataObject
) -> None:
    alone = data.draw(st.sets(st.integers(0, len(places) - 1)))
    pairing = pair_places(places, alone)
    for first, second in pairing.seconds.items():
        assert places[second] == (*places[first], pairing.token)
        assert first not in alone
    both = [*pairing.seconds, *pairing.seconds.values()]
    assert len(set(both)) == len(both)


@given(places=places)
def test_the_order_of_places_decides_nothing(places: list[tuple[int, ...]]) -> None:
    def paired(order: list[tuple[int, ...]]) -> tuple[int | None, set[tuple[int, ...]]]:
        pairing = pair_places(order)
        return pairing.token, {order[second] for second in pairing.seconds.values()}

    assert paired(places) == paired(places[::-1])


def test_a_chain_of_one_token_is_cut_into_pairs() -> None:
    chain = [(7,) * length for length in range(1, 10)]
    pairing = pair_places(chain)
    assert pairing.token == 7
    assert dict(pairing.seconds) == {start: start + 1 for start in range(0, 8, 2)}


def test_few_pairs_are_not_worth_a_request() -> None:
    assert pair_places([(1,), (1, 2), (3,), (3, 2), (4,), (4, 2)]) == Pairing()


async def test_paired_questions_have_the_models_own_distribution() -> None:
    server = FakeVllm()
    questions = percentages()
    async with vllm_client(server) as client:
        answers = await client.next_token_logprobs(questions)
    free, forced = server.asked("/v1/completions")
    # 21 places, 12 prompts: 9 answer two questions each.
    assert (len(free["prompt"]), len(forced["prompt"])) == (3, 9)
    assert forced["allowed_token_ids"] == [ZERO]
    truth = server.model.logprobs
    for question, answer in zip(questions, answers, strict=True):
        told = {token: answer[token] for token in question.tokens}
        assert told == pytest.approx(
            {token: truth(question.prefix)[token] for token in question.tokens}
        )
    # The best other token is told only where nothing is forced.
    best = max(range(len(truth(PROMPT))), key=lambda token: truth(PROMPT)[token])
    assert set(answers[0]) == {ZERO, *DIGITS, best}


async def test_bounds_on_requests_hold_for_pairs_too() -> None:
    server = FakeVllm()
    async with vllm_client(server, prompts_per_request=4) as client:
        answers = await client.next_token_logprobs(percentages())
    assert [len(asked["prompt"]) for asked in server.asked("/v1/completions")] == [3, 4, 4, 1]
    assert all(answers)


@pytest.mark.parametrize(
    "server",
    [
        FakeVllm(knows_forcing=False),
        FakeVllm(most_listed=5),
    ],
    ids=["does not force", "lists too few tokens"],
)
async def test_a_server_that_cannot_pair_is_asked_about_each_place(server: FakeVllm) -> None:
    questions = percentages()
    async with vllm_client(server) as client:
        answers = await client.next_token_logprobs(questions)
    assert not any("allowed_token_ids" in asked for asked in server.asked("/v1/completions"))
    for question, answer in zip(questions, answers, strict=True):
        truth = server.model.logprobs(question.prefix)
        assert {token: answer[token] for token in question.tokens} == pytest.approx(
            {token: truth[token] for token in question.tokens}
        )


@pytest.mark.parametrize("fault", ["another token drawn", "one place only", "no tokens named"])
async def test_numbers_behind_another_token_are_refused(fault: str) -> None:
    def mangle(reply: dict[str, Any]) -> dict[str, Any]:
        for choice in reply["choices"]:
            found = choice.get("logprobs")
            if found is None or len(found["top_logprobs"]) < 2:
                continue
            if fault == "another token drawn":
                found["tokens"][0] = f"token_id:{PERCENT}"
            elif fault == "one place only":
                del found["top_logprobs"][1]
            else:
                del found["tokens"]
        return reply

    server = FakeVllm()
    async with vllm_client(server) as client:
        server.mangle = mangle
        with pytest.raises(BadReply, match=r"token|log-probabilities"):
            await client.next_token_logprobs(percentages())


def test_percentages_are_a_trie() -> None:
    prefixes = {question.prefix for question in percentages()}
    assert all(later[:-1] in prefixes or later == PROMPT for later in prefixes)
    assert len(prefixes) == 21
    assert all(one != other for one, other in pairwise(sorted(prefixes)))
