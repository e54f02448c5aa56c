import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.errors import ScoringError, TokenBoundaryError
from grace.scoring.candidates import CandidateSet, SurfaceForm, continuation_tokens
from strategies import prefix_free, token_ids


def candidates(*sequences: tuple[int, ...]) -> CandidateSet:
    forms = tuple(SurfaceForm(str(n), f"text {n}", ids) for n, ids in enumerate(sequences))
    return CandidateSet(tuple(form.label for form in forms), forms)


@given(st.lists(st.lists(token_ids, min_size=1, max_size=3).map(tuple), min_size=1, max_size=8))
def test_a_set_is_refused_exactly_when_one_answer_begins_another(
    sequences: list[tuple[int, ...]],
) -> None:
    overlap = any(
        longer[: len(shorter)] == shorter
        for shorter, longer in itertools.permutations(sequences, 2)
    )
    if overlap:
        with pytest.raises(ScoringError, match="do not exclude each other"):
            candidates(*sequences)
    else:
        assert len(candidates(*sequences).forms) == len(sequences)


@given(prefix_free())
def test_answers_that_exclude_each_other_are_accepted(sequences: list[tuple[int, ...]]) -> None:
    assert candidates(*sequences).canonical("0").token_ids == sequences[0]


def test_ten_begins_a_hundred() -> None:
    with pytest.raises(ScoringError, match=r"'text 0' begin those of 'text 1'.*such as %"):
        candidates((1, 0), (1, 0, 0))


def test_two_forms_with_the_same_tokens_are_refused() -> None:
    forms = (SurfaceForm("a", "x", (1,)), SurfaceForm("a", "y", (1,)))
    with pytest.raises(ScoringError, match="do not exclude"):
        CandidateSet(("a",), forms)


def test_an_answer_without_tokens_is_refused() -> None:
    with pytest.raises(TokenBoundaryError, match="adds no token"):
        candidates((1,), ())


def test_an_answer_without_forms_is_refused() -> None:
    with pytest.raises(ScoringError, match="without a surface form: no"):
        CandidateSet(("yes", "no"), (SurfaceForm("yes", "yes", (1,)),))


@given(st.lists(token_ids), st.lists(token_ids, min_size=1))
def test_a_continuation_is_what_follows_the_prompt(prompt: list[int], tail: list[int]) -> None:
    assert continuation_tokens(prompt, prompt + tail) == tuple(tail)


@given(st.lists(token_ids, min_size=1), st.lists(token_ids))
def test_a_seam_inside_a_token_is_refused(prompt: list[int], tail: list[int]) -> None:
    merged = [*prompt[:-1], 99, *tail]
    with pytest.raises(TokenBoundaryError, match="the seam falls inside a token"):
        continuation_tokens(prompt, merged)


@given(st.lists(token_ids))
def test_an_empty_continuation_is_refused(prompt: list[int]) -> None:
    with pytest.raises(TokenBoundaryError, match="adds no token"):
        continuation_tokens(prompt, prompt)


@given(st.lists(token_ids, min_size=1))
def test_a_text_that_lost_tokens_is_refused(prompt: list[int]) -> None:
    with pytest.raises(TokenBoundaryError):
        continuation_tokens(prompt, prompt[:-1])
