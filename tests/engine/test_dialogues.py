"""The plan of Experiment 1, which keeps numbers, against one that keeps everything."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue
from test_plan import ROWS, miniature

from grace.engine.plan import Dialogue, QueryKey, ResponseQuery, plan_responses
from grace.engine.queries import derive_seed, digest, turn_texts
from grace.studies.trials import TrialSet


def simply_planned(
    trials: TrialSet, seed: int, replicates: int, *, deterministic: bool
) -> tuple[list[Dialogue], list[Dialogue]]:
    """Return the dialogues of all rows, and the distinct ones in order."""
    study = trials.study
    seen: Counter[tuple[int, str]] = Counter()
    rows = []
    for replicate in range(1, replicates + 1):
        for trial in trials.trials:
            turns = [probe.turn.fill(trial.variables) for probe in study.dialogue]
            queries = []
            for index, (probe, turn) in enumerate(zip(study.dialogue, turns, strict=True)):
                asked: list[JsonValue] = [turn_texts(earlier) for earlier in turns[: index + 1]]
                counted = (replicate, digest([probe.name, *asked]))
                sample = (1, 0) if deterministic else (replicate, seen[counted])
                seen[counted] += 1
                identity: list[JsonValue] = [study.key, probe.name, *asked, *sample]
                key = QueryKey(digest(["response", *identity]))
                queries.append(ResponseQuery(key, probe, turn, derive_seed(seed, identity)))
            rows.append(Dialogue(tuple(queries)))
    distinct = {dialogue.queries[-1].key: dialogue for dialogue in rows}

    def order(dialogue: Dialogue) -> tuple[str, str]:
        texts = [turn_texts(query.turn) for query in dialogue.queries]
        return repr(texts), dialogue.queries[-1].key

    return rows, sorted(distinct.values(), key=order)


@pytest.mark.parametrize("deterministic", [False, True])
@given(
    rows=st.lists(st.tuples(st.sampled_from("AB"), st.sampled_from(["one", "two"])), min_size=1),
    replicates=st.integers(min_value=1, max_value=3),
    seed=st.integers(min_value=0, max_value=2**32),
)
def test_keys_seeds_and_order_are_those_of_the_plain_way(
    rows: list[tuple[str, str]], replicates: int, seed: int, *, deterministic: bool
) -> None:
    trials = miniature(*rows)
    plan = plan_responses(trials, seed=seed, replicates=replicates, deterministic=deterministic)
    every, distinct = simply_planned(trials, seed, replicates, deterministic=deterministic)
    assert [row.dialogue for row in plan.rows] == every
    assert list(plan.dialogues) == distinct
    assert [plan.dialogues[place] for place in range(len(distinct))] == distinct
    keys = [query.key for dialogue in distinct for query in dialogue.queries]
    assert list(plan.query_keys) == list(dict.fromkeys(keys))
    assert len(plan.query_keys) == len(set(keys))


def test_the_keys_of_a_turn_are_those_of_its_queries() -> None:
    for deterministic in (False, True):
        plan = plan_responses(miniature(*ROWS), seed=1, replicates=2, deterministic=deterministic)
        for turn in range(2):
            keys = {dialogue.queries[turn].key for dialogue in plan.dialogues}
            assert set(plan.turn_keys(turn)) == keys
            assert len(plan.turn_keys(turn)) == len(keys)
