import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from grace.analysis.estimate import Tally

values = st.floats(min_value=-1e3, max_value=1e3)


def observed(**stimuli: list[float]) -> Tally:
    return counted([(name, value) for name, held in stimuli.items() for value in held])


def counted(rows: list[tuple[str, float]]) -> Tally:
    tally = Tally()
    for stimulus, value in rows:
        tally.add(stimulus, value)
    return tally


def test_one_value_a_stimulus_is_the_ordinary_standard_error() -> None:
    # Mean 4, variance (n-1) 4, standard error 2/sqrt(3); t(0.975, 2) = 4.302653.
    one = observed(a=[2], b=[4], c=[6]).estimate()
    assert one is not None
    assert (one.mean, one.n, one.n_stimuli) == (4, 3, 3)
    assert one.se == pytest.approx(2 / math.sqrt(3))
    assert one.ci_low == pytest.approx(4 - 4.302652729911275 * 2 / math.sqrt(3))
    assert one.ci_high == pytest.approx(4 + 4.302652729911275 * 2 / math.sqrt(3))


def test_rows_of_one_stimulus_count_as_one_cluster() -> None:
    # Residuals sum to -3 for a (two rows of -1.5) and 3 for b; two clusters, four rows.
    one = observed(a=[1, 1], b=[4, 4]).estimate()
    assert one is not None
    assert one.mean == 2.5
    assert one.se == pytest.approx(math.sqrt(2 * (9 + 9)) / 4)
    assert (one.n, one.n_stimuli) == (4, 2)
    # One degree of freedom: t(0.975, 1) = 12.7062.
    assert one.ci_high == pytest.approx(2.5 + 12.706204736174694 * 1.5)


def test_unequal_clusters_by_hand() -> None:
    # Mean 2; residuals a: -1, 0 -> -1; b: 1 -> 1; c: 0 -> 0.
    one = observed(a=[1, 2], b=[3], c=[2]).estimate()
    assert one is not None
    assert one.se == pytest.approx(math.sqrt(3 / 2 * 2) / 4)


def test_repeating_every_row_does_not_make_the_mean_more_certain() -> None:
    once = observed(a=[1], b=[4], c=[9]).estimate()
    often = observed(a=[1] * 8, b=[4] * 8, c=[9] * 8).estimate()
    assert once is not None
    assert often is not None
    assert often.se == pytest.approx(once.se)
    assert often.ci_low == pytest.approx(once.ci_low)


def test_one_stimulus_has_a_mean_and_no_uncertainty() -> None:
    one = observed(a=[1, 2, 6]).estimate()
    assert one is not None
    assert (one.mean, one.se, one.ci_low, one.ci_high) == (3, None, None, None)


def test_nothing_has_no_mean() -> None:
    assert Tally().estimate() is None


@given(st.lists(st.tuples(st.sampled_from("abcde"), values), min_size=2, max_size=20))
def test_the_interval_is_around_the_mean_and_ignores_order(rows: list[tuple[str, float]]) -> None:
    assume(len({name for name, _ in rows}) > 1)
    one, other = counted(rows).estimate(), counted(rows[::-1]).estimate()
    assert one is not None
    assert other is not None
    assert one.mean == pytest.approx(other.mean)
    assert one.se is not None
    assert one.ci_low is not None
    assert one.ci_high is not None
    assert one.se >= 0
    assert one.ci_low <= one.mean <= one.ci_high
    assert one.se == pytest.approx(other.se)
