from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.studies.streamed import Streamed

numbers = st.lists(st.integers(), max_size=6).map(tuple)
bounds = st.none() | st.integers(min_value=-8, max_value=8)


def streamed(items: Sequence[int], *, counted: bool = True) -> Streamed[int]:
    return Streamed(lambda: iter(items), len(items) if counted else None)


@pytest.mark.parametrize("counted", [False, True])
@given(items=numbers, part=st.builds(slice, bounds, bounds, bounds.filter(lambda step: step != 0)))
def test_it_is_read_like_a_tuple(items: tuple[int, ...], part: slice, *, counted: bool) -> None:
    sequence = streamed(items, counted=counted)
    assert tuple(sequence) == items
    assert len(sequence) == len(items)
    assert tuple(sequence[part]) == items[part]
    assert len(sequence[part]) == len(items[part])
    assert tuple(reversed(sequence)) == items[::-1]
    assert [sequence[n] for n in range(-len(items), len(items))] == [*items, *items]
    for outside in (len(items), -len(items) - 1):
        with pytest.raises(IndexError):
            sequence[outside]


@given(numbers, numbers)
def test_it_equals_any_sequence_of_the_same_items(
    one: tuple[int, ...], other: tuple[int, ...]
) -> None:
    assert (streamed(one) == other) is (one == other)
    assert (other == streamed(one)) is (one == other)
    assert (streamed(one) == streamed(other)) is (one == other)
    assert streamed(one) != 3


def test_a_pass_makes_no_more_than_is_looked_at() -> None:
    made: list[int] = []

    def produce() -> Iterator[int]:
        for number in range(1_000_000):
            made.append(number)
            yield number

    sequence = Streamed(produce, 1_000_000)
    assert sequence[2] == 2
    assert list(sequence[1:3]) == [1, 2]
    assert made == [0, 1, 2, 0, 1, 2]
