import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.errors import QueryRejected
from grace.inference.client import GenerationRequest, NextTokenQuestion, Sampling
from grace.inference.toy import MERGES, VOCABULARY, ToyClient
from grace.studies.prompts import Message, Prompt

CHAT = Prompt(messages=(Message("user", "How many?"),))
ascii_text = st.text(st.sampled_from([chr(code) for code in (10, *range(32, 127))]))
prefixes = st.lists(st.integers(min_value=0, max_value=len(VOCABULARY) - 1), max_size=5)


def request(seed: int = 1, temperature: float = 0.7) -> GenerationRequest:
    return GenerationRequest(CHAT, Sampling(temperature=temperature), max_tokens=9, seed=seed)


@given(ascii_text)
async def test_encoding_loses_nothing(text: str) -> None:
    ids = await ToyClient().encode(text)
    assert "".join(VOCABULARY[token] for token in ids) == text


@pytest.mark.parametrize("merge", MERGES)
async def test_seams_can_fall_inside_its_tokens(merge: str) -> None:
    toy = ToyClient()
    before, joined = await toy.encode(merge[0]), await toy.encode(merge)
    assert joined[: len(before)] != before


@given(prefixes.map(tuple))
async def test_its_distributions_sum_to_one(prefix: tuple[int, ...]) -> None:
    everything = NextTokenQuestion(prefix, tuple(range(len(VOCABULARY))))
    (values,) = await ToyClient().next_token_logprobs([everything])
    assert math.fsum(map(math.exp, values.values())) == pytest.approx(1)


async def test_its_numbers_never_change() -> None:
    # Dry runs of two versions can be compared.
    (values,) = await ToyClient().sequence_logprobs((1, 2), [(3, 4)])
    assert values == pytest.approx((-6.755719332775317, -7.435015803411206))


async def test_a_response_depends_on_prompt_and_seed_only() -> None:
    texts = {seed: (await ToyClient().generate(request(seed))).text for seed in range(20)}
    assert len(set(texts.values())) > 1
    for seed, text in texts.items():
        assert (await ToyClient().generate(request(seed))).text == text
    greedy = {(await ToyClient().generate(request(seed, 0))).text for seed in range(20)}
    assert len(greedy) == 1


async def test_the_template_marks_turns_and_ends_where_the_answer_begins() -> None:
    messages = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    rendered = await ToyClient().render(Prompt(messages=messages, answer_prefix="="))
    assert rendered.text == "<|user|>a<|end|><|assistant|>b<|end|><|user|>c<|end|><|assistant|>="


async def test_a_prompt_beyond_its_context_is_refused() -> None:
    toy = ToyClient(max_tokens=5)
    with pytest.raises(QueryRejected, match="exceed the context of 5"):
        await toy.generate(request())
    with pytest.raises(QueryRejected):
        await toy.sequence_logprobs((1, 2, 3), [(4, 5, 6)])


async def test_everything_it_says_of_itself_is_labelled_toy() -> None:
    identity = await ToyClient().connect()
    assert (identity.dialect, identity.model) == ("toy", "toy")
    await ToyClient().aclose()
