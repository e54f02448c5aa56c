"""Whatever Grace accepts, its tokens are those of prompt and answer as one text."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conventions.conftest import got
from conventions.families import FAMILIES, Family
from grace.engine.score import Scorer, ScoringMethod
from grace.errors import ScoringError
from grace.studies.probes import Answer, CandidateProbe, Turn
from grace.studies.prompts import Convention, PromptMode, build_prompt

pytestmark = pytest.mark.tokenizers

AWKWARD = (
    *("no", "No", ":no", " no", "  no", "no ", "yes", "0%", "10", "10%", "100", "100%", "$10"),
    *("It wasn't good", "It wasn\u2019t good", "'t", "\nno", "\n\nno", "...", "3.", ".", "é", "🙂"),
    *("<b>", "<|end|>", "</think>", "\t", "a\u0301", "\u017f", "\uff11"),
)
answers = st.lists(
    st.one_of(st.sampled_from(AWKWARD), st.text(min_size=1, max_size=6)),
    min_size=1,
    max_size=4,
    unique=True,
)
questions = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["Is it so?", "So:", "Answer:", "1", "It was", "don", "x <", "\n", "100"]),
)
separators = st.sampled_from(["", " "])


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@settings(max_examples=60)
@given(questions=st.lists(questions, min_size=1, max_size=3), forms=answers, separator=separators)
def test_accepted_answers_have_the_tokens_of_the_whole_text(
    family: Family, questions: list[str], forms: list[str], separator: str
) -> None:
    got(family)
    asyncio.run(_check(family, questions, forms, separator))


async def _check(family: Family, questions: list[str], forms: list[str], separator: str) -> None:
    convention = Convention(family.convention.answer_prefix, separator)
    client = family.client()
    # One scorer for all prompts, so that what it remembers of the first serves the others.
    scorer = Scorer(client, family.mode, ScoringMethod.TRIE, convention)
    probe = CandidateProbe("asked", Turn("?"), tuple(Answer(form, (form,)) for form in forms))
    for question in questions:
        prompt = build_prompt([Turn(question)], [], family.mode, convention)
        rendered = await client.render(prompt)
        try:
            candidates = await scorer.encode_candidates(probe, prompt, rendered)
        except ScoringError:
            continue
        for form in candidates.forms:
            whole = await client.encode(rendered.text + form.text)
            assert whole == (*rendered.token_ids, *form.token_ids)
            assert form.text.endswith(form.label)
        starts = [form.token_ids for form in candidates.forms]
        assert not any(
            one != other and other[: len(one)] == one for one in starts for other in starts
        )


def test_both_modes_are_among_the_families() -> None:
    assert {family.mode for family in FAMILIES} == set(PromptMode)
