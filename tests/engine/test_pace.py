import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.engine.pace import Pace


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def run(pace: Pace, clock: Clock, capacity: float, answers: int) -> list[tuple[int, int]]:
    """Let a server answer that works on *capacity* queries at a time, one second each."""
    seen = []
    for _ in range(answers):
        clock.seconds += 1 / min(pace.limit * pace.size, capacity)
        pace.answered()
        seen.append((pace.limit, pace.size))
    return seen


@given(most=st.integers(1, 64), largest=st.integers(1, 16))
def test_while_throughput_grows_all_of_what_is_allowed_is_used(most: int, largest: int) -> None:
    clock = Clock()
    pace = Pace(most, largest, clock=clock)
    run(pace, clock, 1e9, 40 * most * largest + 100)
    assert (pace.limit, pace.size) == (most, largest)


@given(capacity=st.integers(1, 64))
def test_a_full_server_is_sent_little_more_than_it_can_work_on(capacity: int) -> None:
    clock = Clock()
    pace = Pace(512, clock=clock)
    run(pace, clock, capacity, 1000)
    seen = run(pace, clock, capacity, 4000)
    usual = sorted(limit for limit, _ in seen)[len(seen) // 2]
    assert min(capacity, 4) <= usual <= max(4, 2 * capacity)


_EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("answered"), st.floats(0, 5)),
        st.tuples(st.just("refused"), st.floats(0, 5)),
        st.tuples(st.just("asked to wait"), st.floats(-5, 500)),
        st.tuples(st.just("too large"), st.just(0.0)),
    ),
    max_size=200,
)


@given(most=st.integers(1, 50), largest=st.integers(1, 16), events=_EVENTS)
def test_whatever_happens_the_bounds_hold(
    most: int, largest: int, events: list[tuple[str, float]]
) -> None:
    clock = Clock()
    changes = list[tuple[int, int]]()
    pace = Pace(
        most,
        largest,
        clock=clock,
        on_change=lambda *changed: changes.append((changed[0], changed[1])),
    )
    for kind, number in events:
        sent_at = pace.now()
        clock.seconds += abs(number) / 100
        before = (pace.limit, pace.size)
        match kind:
            case "answered":
                pace.answered()
            case "refused":
                pace.refused(sent_at)
                assert (pace.limit, pace.size) <= before
            case "asked to wait":
                pace.refused(sent_at, number)
                assert pace.wait_seconds() >= min(number, 120) - 1e-6
            case _:
                pace.too_large(before[1])
                assert pace.size <= max(1, before[1] // 2)
        assert 1 <= pace.limit <= most
        assert 1 <= pace.size <= largest
        assert 0 <= pace.wait_seconds() <= 120 + 1e-6
        assert before == (pace.limit, pace.size) or changes[-1] == (pace.limit, pace.size)


def test_each_refusal_halves_and_one_request_of_one_query_is_always_left() -> None:
    clock = Clock()
    pace = Pace(32, 4, clock=clock)
    run(pace, clock, 1e9, 2000)
    steps = []
    while (pace.limit, pace.size) != (1, 1):
        clock.seconds += 1
        sent_at = pace.now()
        clock.seconds += 1
        pace.refused(sent_at)
        steps.append((pace.limit, pace.size))
    assert steps == [(16, 4), (8, 4), (4, 4), (2, 4), (1, 4), (1, 2), (1, 1)]


def test_requests_that_were_in_flight_together_are_one_refusal() -> None:
    clock = Clock()
    pace = Pace(32, clock=clock)
    run(pace, clock, 1e9, 1000)
    sent_at = pace.now()
    clock.seconds += 1
    for _ in range(32):
        pace.refused(sent_at)
    assert pace.limit == 16


def test_after_a_refusal_growth_is_slow() -> None:
    clock = Clock()
    pace = Pace(64, clock=clock)
    run(pace, clock, 1e9, 2000)
    clock.seconds += 1
    pace.refused(pace.now())
    seen = [limit for limit, _ in run(pace, clock, 1e9, 4000)]
    steps = [later - earlier for earlier, later in itertools.pairwise(seen) if later != earlier]
    assert max(steps) <= 16
    assert seen[-1] == 64


def test_nothing_is_sent_until_the_server_wants_more() -> None:
    clock = Clock()
    pace = Pace(8, clock=clock)
    pace.refused(0.0, 30)
    clock.seconds = 12
    assert pace.wait_seconds() == 18
    pace.refused(11.0, 5)
    assert pace.wait_seconds() == 18
    clock.seconds = 31
    assert pace.wait_seconds() == 0


def test_a_fixed_pace_stays() -> None:
    pace = Pace(3, 2, adaptive=False)
    pace.refused(pace.now(), 0)
    assert (pace.limit, pace.size) == (3, 2)


@pytest.mark.parametrize(("most", "largest"), [(0, 1), (1, 0)])
def test_less_than_one_is_refused(most: int, largest: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Pace(most, largest)
