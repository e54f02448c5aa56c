"""Shards: every query in exactly one, whatever their number, and the same in every process."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.engine.plan import QueryKey, digest, plan_responses, plan_scores
from grace.engine.shards import MOST_SHARDS, Shard
from grace.errors import UsageError
from grace.pipeline.inputs import load_inputs
from grace.settings import RunSettings
from inputs import write_inputs

counts = st.integers(1, MOST_SHARDS)


def all_of(count: int) -> list[Shard]:
    return [Shard(index, count) for index in range(count)]


@given(st.integers(1, 60), st.integers(1, 400))
def test_each_place_belongs_to_one_shard_and_parts_are_equal(count: int, places: int) -> None:
    parts = [
        [place for place in range(places) if one.takes(place, places)] for one in all_of(count)
    ]
    assert [*itertools.chain(*parts)] == [*range(places)]
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


@given(st.text(), st.integers(1, 60))
def test_each_key_belongs_to_one_shard(text: str, count: int) -> None:
    key = QueryKey(digest([text]))
    assert sum(one.takes_key(key) for one in all_of(count)) == 1


@given(counts, counts, st.data())
def test_two_shards_share_a_place_only_if_their_locks_meet(
    one: int, other: int, data: st.DataObject
) -> None:
    first = Shard(data.draw(st.integers(0, one - 1)), one)
    second = Shard(data.draw(st.integers(0, other - 1)), other)
    (begin, length), (start, long) = first.span, second.span
    meet = begin < start + long and start < begin + length
    left = max(first.index * other, second.index * one)
    right = min((first.index + 1) * other, (second.index + 1) * one)
    assert meet == (left < right)
    assert length > 0


@given(counts)
def test_the_locks_of_all_shards_lie_side_by_side(count: int) -> None:
    spans = [one.span for one in all_of(count)]
    assert spans[0][0] == 0
    assert all(begin + length == after for (begin, length), (after, _) in itertools.pairwise(spans))


@pytest.mark.parametrize(
    "text", ["", "1", "4/4", "-1/4", "0/0", "a/b", "1/4 ", "0/1001", "\u0661/4"]
)
def test_what_is_no_shard_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="such as 0/4"):
        Shard.parse(text)


def test_a_shard_is_written_as_it_is_read() -> None:
    assert str(Shard.parse("3/8")) == "3/8"
    assert Shard.parse("0/1000").name == "0of1000"


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_the_plans_of_all_shards_are_the_whole_plan(
    tmp_path: Path, temperature: float, count: int
) -> None:
    settings = RunSettings(input=write_inputs(tmp_path), replicates=2, pmi=True)
    for trials in load_inputs(settings):
        whole = plan_responses(trials, seed=1, replicates=2, deterministic=temperature == 0)
        parts = [one.of_responses(whole) for one in all_of(count)]
        assert [*itertools.chain(*(part.dialogues for part in parts))] == [*whole.dialogues]
        keys = [set(part.query_keys) for part in parts]
        assert sum(map(len, keys)) == len(set(whole.query_keys))
        assert [len(part.query_keys) for part in parts] == [*map(len, keys)]
        scores = plan_scores(trials, pmi=True)
        cut = [one.of_scores(scores) for one in all_of(count)]
        assert [*itertools.chain(*(part.queries for part in cut))] == [*scores.queries]


def test_greedy_dialogues_that_begin_alike_stay_together() -> None:
    # With greedy decoding, two dialogues may share a turn: two processes would ask it twice.
    settings = RunSettings(study=("study1",), limit=48)
    (trials,) = load_inputs(settings)
    plan = plan_responses(trials, seed=1, replicates=1, deterministic=True)
    firsts = [one.queries[0].key for one in plan.dialogues]
    assert len(set(firsts)) < len(firsts)
    for count in range(2, 9):
        held = [
            {one.queries[0].key for one in part.of_responses(plan).dialogues}
            for part in all_of(count)
        ]
        assert sum(map(len, held)) == len(set(firsts))
