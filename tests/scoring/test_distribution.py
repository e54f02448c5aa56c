import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.errors import ScoringError
from grace.scoring.distribution import Distribution, distribution
from strategies import exclusive_logprobs

Forms = dict[str, list[float]]


def made(forms: Forms) -> Distribution:
    return distribution(list(forms), forms)


@given(exclusive_logprobs())
def test_probabilities_sum_to_one(forms: Forms) -> None:
    one = made(forms)
    assert math.fsum(one.probabilities) == pytest.approx(1, abs=1e-12)
    assert all(0 <= p <= 1 for p in one.probabilities)


@given(exclusive_logprobs(), st.floats(min_value=-300, max_value=0))
def test_shifting_all_logprobs_changes_coverage_only(forms: Forms, shift: float) -> None:
    before = made(forms)
    after = made({label: [value + shift for value in values] for label, values in forms.items()})
    assert after.probabilities == pytest.approx(before.probabilities, rel=1e-9)
    assert after.entropy_bits() == pytest.approx(before.entropy_bits(), abs=1e-9)
    assert math.log(after.coverage) == pytest.approx(math.log(before.coverage) + shift, rel=1e-9)


@given(exclusive_logprobs())
def test_coverage_is_the_sum_over_all_forms(forms: Forms) -> None:
    one = made(forms)
    assert one.coverage == pytest.approx(
        math.fsum(math.exp(value) for values in forms.values() for value in values)
    )
    for label, logprob in zip(one.labels, one.logprobs, strict=True):
        assert math.exp(logprob) == pytest.approx(math.fsum(map(math.exp, forms[label])))


@given(exclusive_logprobs())
def test_entropy_lies_between_zero_and_that_of_equal_answers(forms: Forms) -> None:
    assert 0 <= made(forms).entropy_bits() <= math.log2(len(forms)) + 1e-12


@given(exclusive_logprobs(), st.randoms(use_true_random=False))
def test_the_groups_of_a_partition_share_out_all_probability(forms: Forms, dice: object) -> None:
    one = made(forms)
    groups: dict[int, list[str]] = {}
    for label in one.labels:
        groups.setdefault(dice.randrange(3), []).append(label)  # type: ignore[attr-defined]
    partition = list(groups.values())
    assert math.fsum(map(one.probability, partition)) == pytest.approx(1)
    # Knowing the group is knowing less than the answer.
    assert one.entropy_bits(partition) <= one.entropy_bits() + 1e-9
    assert one.entropy_bits(partition) <= math.log2(len(partition)) + 1e-9


@given(exclusive_logprobs())
def test_a_partition_into_single_answers_is_the_entropy_of_the_answers(forms: Forms) -> None:
    one = made(forms)
    assert one.entropy_bits([[label] for label in one.labels]) == pytest.approx(one.entropy_bits())


@given(exclusive_logprobs(), st.data())
def test_mean_and_spread_stay_within_the_values(forms: Forms, data: st.DataObject) -> None:
    values = data.draw(
        st.lists(st.floats(-100, 100), min_size=len(forms), max_size=len(forms)), "values"
    )
    one = made(forms)
    assert min(values) - 1e-9 <= one.mean(values) <= max(values) + 1e-9
    assert 0 <= one.std(values) <= (max(values) - min(values)) / 2 + 1e-6


def test_equal_answers_have_the_textbook_numbers() -> None:
    percents = [float(p) for p in range(0, 101, 10)]
    forms = {f"{p:g}%": [math.log(1 / 22)] for p in percents}
    one = made(forms)
    assert one.coverage == pytest.approx(0.5)
    assert one.mean(percents) == pytest.approx(50)
    assert one.std(percents) == pytest.approx(math.sqrt(1000))
    assert one.entropy_bits() == pytest.approx(math.log2(11))


def test_forms_of_one_answer_are_summed() -> None:
    one = made({"yes": [math.log(0.2), math.log(0.1)], "no": [math.log(0.1)]})
    assert one.probability(["yes"]) == pytest.approx(0.75)
    assert one.coverage == pytest.approx(0.4)


@pytest.mark.parametrize("value", [math.nan, -math.inf, math.inf, 1e-9, 3.0])
def test_what_is_not_a_logprob_is_refused(value: float) -> None:
    with pytest.raises(ScoringError, match=r"is not a log-probability \(answer 'b'\)"):
        distribution(["a", "b"], {"a": [-1.0], "b": [-1.0, value]})


def test_an_answer_without_a_number_is_refused() -> None:
    with pytest.raises(ScoringError, match="no log-probability for the answer 'b'"):
        distribution(["a", "b"], {"a": [-1.0]})
    with pytest.raises(ScoringError, match="no log-probability for the answer 'b'"):
        distribution(["a", "b"], {"a": [-1.0], "b": []})


def test_more_than_all_probability_is_refused() -> None:
    with pytest.raises(ScoringError, match=r"sum to 1\.2"):
        distribution(["a", "b"], {"a": [math.log(0.6)], "b": [math.log(0.6)]})


def test_rounding_above_one_is_not_refused() -> None:
    one = distribution(["a", "b"], {"a": [math.log(0.5)], "b": [math.log(0.5 + 1e-7)]})
    assert one.coverage == 1


def test_answers_far_below_the_smallest_float_keep_their_proportions() -> None:
    one = made({"a": [-5000.0], "b": [-5000.0 + math.log(3)]})
    assert one.probabilities == pytest.approx((0.25, 0.75))
    assert one.logprobs == pytest.approx((-5000, -5000 + math.log(3)))
    assert one.coverage == 0
