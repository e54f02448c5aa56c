import math

import pytest

from grace.errors import ScoringError
from grace.scoring.measures import (
    MeasuredForm,
    first_tokens,
    largest_change,
    per_character,
    per_token,
    pmi_dc,
    with_end,
)


def log(*shares: float) -> tuple[float, ...]:
    return tuple(math.log(share) for share in shares)


def test_answers_that_begin_alike_share_their_first_token() -> None:
    forms = [
        MeasuredForm("10%", (1, 3), log(0.3, 0.5)),
        MeasuredForm("100%", (1, 2, 3), log(0.3, 0.4, 0.9)),
        MeasuredForm("20%", (2, 3), log(0.1, 0.9)),
    ]
    scores = first_tokens(forms)
    assert [scores[label].shared for label in ("10%", "100%", "20%")] == [2, 2, 1]
    assert scores["10%"] == scores["100%"]
    assert math.exp(scores["10%"].logprob) == pytest.approx(0.3)
    # The set begins with one of two tokens: 0.3 and 0.1.
    assert scores["10%"].probability == pytest.approx(0.75)
    assert scores["20%"].probability == pytest.approx(0.25)


def test_the_first_tokens_of_an_answers_forms_are_summed_and_counted_once() -> None:
    forms = [
        MeasuredForm("yes", (1,), log(0.2)),
        MeasuredForm("yes", (2,), log(0.1)),
        MeasuredForm("yes", (2, 5), log(0.1, 0.5)),
        MeasuredForm("no", (3,), log(0.1)),
    ]
    scores = first_tokens(forms)
    assert math.exp(scores["yes"].logprob) == pytest.approx(0.3)
    assert scores["yes"].probability == pytest.approx(0.75)
    assert math.fsum(score.probability for score in scores.values()) == pytest.approx(1)


def test_a_first_token_far_below_the_smallest_float_still_has_a_share() -> None:
    forms = [MeasuredForm("a", (1,), (-900.0,)), MeasuredForm("b", (2,), (-901.0,))]
    shares = [score.probability for score in first_tokens(forms).values()]
    assert shares == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.e)])


@pytest.mark.parametrize("bad", [0.1, math.nan, -math.inf])
def test_what_is_no_logprob_is_refused(bad: float) -> None:
    with pytest.raises(ScoringError, match="not a log-probability"):
        first_tokens([MeasuredForm("a", (1,), (bad,))])
    with pytest.raises(ScoringError, match="not a log-probability"):
        with_end(["a"], [MeasuredForm("a", (1,), (-1.0,), (bad,))])


def test_an_answer_that_ends_has_the_joint_probability_of_form_and_end() -> None:
    forms = [
        MeasuredForm("yes", (1,), log(0.5), log(0.1, 0.3)),
        MeasuredForm("yes", (2,), log(0.2), log(0.05, 0.05)),
        MeasuredForm("no", (3,), log(0.1), log(0.9, 0.1)),
    ]
    made = with_end(["yes", "no"], forms)
    assert [math.exp(value) for value in made.logprobs] == pytest.approx([0.22, 0.1])
    assert made.coverage == pytest.approx(0.32)
    assert made.probabilities[0] == pytest.approx(0.22 / 0.32)


def test_without_an_end_that_was_measured_there_is_no_number() -> None:
    with pytest.raises(ScoringError, match="no log-probability that the answer 'a' ends"):
        with_end(["a"], [MeasuredForm("a", (1,), (-1.0,))])


def test_lengths_and_premises_are_simple_arithmetic() -> None:
    assert per_token(-6.0, 3) == -2
    # Code points, not bytes.
    assert per_character(-6.0, "né%") == -2
    assert pmi_dc(-2.0, -5.0) == 3


def test_the_largest_change_is_that_of_any_answer() -> None:
    before = {"a": -1.0, "b": -20.0, "c": -3.0}
    assert largest_change(before, {**before, "b": -20.25}) == ("b", 0.25)
    assert largest_change(before, before)[1] == 0
