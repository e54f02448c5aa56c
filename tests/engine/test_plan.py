import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.engine.plan import ResponsePlan, derive_seed, plan_responses, plan_scores
from grace.studies.builtin import BUILTIN_STUDIES
from grace.studies.probes import Answer, CandidateProbe, ResponseProbe, Turn
from grace.studies.study import Column, Study
from grace.studies.trials import TrialSet, load_trials, parse_trials

SHARED = Path(__file__).parents[3] / "shared" / "data"

MINIATURE = Study(
    key="miniature",
    title="Miniature",
    description="Two turns and one probe.",
    columns=(Column("who", "Shown later."), Column("story", "Shown."), Column("said", "Shown.")),
    stimulus_columns=("story", "said"),
    conditions=("said",),
    dialogue=(
        ResponseProbe("first", Turn(context="{story}", question="How many?"), max_tokens=4),
        ResponseProbe("second", Turn(question="{said} And now?"), max_tokens=4),
    ),
    candidate_probes=(
        CandidateProbe(
            "sure",
            Turn(context="{story}", question="{said} Sure?"),
            (Answer("yes", ("yes", "Yes")), Answer("no", ("no",))),
        ),
    ),
)


def miniature(*rows: tuple[str, str]) -> TrialSet:
    lines = ["who,story,said", *(f"{n},{story},{said}" for n, (story, said) in enumerate(rows))]
    return parse_trials(MINIATURE, "\n".join(lines).encode(), "miniature.csv")


ROWS = (("A", "one"), ("A", "one"), ("A", "two"), ("B", "one"), ("A", "one"))


def sampled(trials: TrialSet, seed: int = 1, replicates: int = 1) -> ResponsePlan:
    return plan_responses(trials, seed=seed, replicates=replicates, deterministic=False)


def given_trials(key: str) -> TrialSet:
    path = SHARED / f"{key}.csv"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return load_trials(BUILTIN_STUDIES[key], path)


def test_study_1_asks_every_row_three_times_and_every_stimulus_once() -> None:
    trials = given_trials("study1")
    assert (len(trials.trials), trials.stimuli()) == (300, 36)
    plan = sampled(trials)
    assert len(set(plan.query_keys)) == len(plan.query_keys) == 900
    assert len({query.seed for row in plan.rows for query in row.dialogue.queries}) == 900
    greedy = plan_responses(trials, seed=1, replicates=3, deterministic=True)
    assert (len(greedy.dialogues), len(greedy.rows)) == (36, 900)
    scores = plan_scores(trials)
    probes = Counter(query.probe.name for query in scores.queries)
    assert probes == {
        **{f"state{state}": 36 for state in range(4)},
        "knowledge": 36,
        "direct": 36,
    }
    assert len(scores.rows) == 300


def test_study_2_asks_every_row_once_and_every_stimulus_once() -> None:
    trials = given_trials("study2")
    plan = sampled(trials)
    assert len(set(plan.query_keys)) == len(plan.query_keys) == 2424
    scores = plan_scores(trials)
    assert (len(scores.queries), len(scores.rows), trials.stimuli()) == (2046, 2424, 2046)


def test_every_sampled_row_has_its_own_key_and_seed_in_every_turn() -> None:
    plan = sampled(miniature(*ROWS), replicates=2)
    for turn in range(2):
        queries = [row.dialogue.queries[turn] for row in plan.rows]
        assert len({query.key for query in queries}) == 10
        assert len({query.seed for query in queries}) == 10


@given(
    st.lists(st.tuples(st.sampled_from("AB"), st.sampled_from(["one", "two"])), min_size=1),
    st.integers(min_value=1, max_value=3),
)
def test_no_two_samples_of_any_input_share_a_turn(
    rows: list[tuple[str, str]], replicates: int
) -> None:
    plan = sampled(miniature(*rows), replicates=replicates)
    assert len(plan.rows) == len(plan.dialogues) == len(rows) * replicates
    assert len(set(plan.query_keys)) == 2 * len(plan.rows)
    seeds = [query.seed for row in plan.rows for query in row.dialogue.queries]
    assert len(set(seeds)) == len(seeds)


def test_rows_stay_in_input_order_by_replicate() -> None:
    plan = sampled(miniature(*ROWS), replicates=2)
    assert [(row.replicate, row.trial.row) for row in plan.rows] == [
        (replicate, row) for replicate in (1, 2) for row in range(1, 6)
    ]


def test_replicates_differ_in_all_keys_and_seeds_and_the_first_stays_as_it_was() -> None:
    one, two = sampled(miniature(*ROWS)), sampled(miniature(*ROWS), replicates=2)
    assert one.rows == two.rows[:5]
    assert not {q.key for row in two.rows[5:] for q in row.dialogue.queries} & set(one.query_keys)


def test_at_temperature_zero_equal_prompts_are_one_dialogue_in_all_replicates() -> None:
    plan = plan_responses(miniature(*ROWS), seed=1, replicates=2, deterministic=True)
    assert len(plan.rows) == 10
    assert len(plan.dialogues) == 3
    first, again, other = (plan.rows[n].dialogue for n in (0, 1, 2))
    assert first is again is plan.rows[5].dialogue
    # The first turn of both is the same query; only the second differs.
    assert first.queries[0].key == other.queries[0].key
    assert first.queries[1].key != other.queries[1].key


def test_a_changed_seed_changes_all_seeds_and_no_key() -> None:
    one, two = sampled(miniature(*ROWS), seed=1), sampled(miniature(*ROWS), seed=2)
    assert one.query_keys == two.query_keys
    for before, after in zip(one.dialogues, two.dialogues, strict=True):
        for query, changed in zip(before.queries, after.queries, strict=True):
            assert query.seed != changed.seed


def test_more_rows_leave_the_samples_of_the_first_ones_as_they_were() -> None:
    short, long = miniature(*ROWS[:3]), miniature(*ROWS)
    assert sampled(short).rows == sampled(long).rows[:3]
    assert sampled(long.limited(3)).rows == sampled(short).rows


def test_what_is_not_shown_to_the_model_does_not_change_the_plan() -> None:
    one = sampled(miniature(*ROWS))
    text = b"who,story,said\n9,A,one\n9,A,one\n9,A,two\n9,B,one\n9,A,one\n"
    assert sampled(parse_trials(MINIATURE, text, "m.csv")).query_keys == one.query_keys


def test_neighbours_in_the_plan_share_their_beginnings() -> None:
    contexts = [query.turn.context for query in plan_scores(miniature(*ROWS)).queries]
    assert contexts == sorted(contexts)
    turns = [dialogue.queries[0].turn.context for dialogue in sampled(miniature(*ROWS)).dialogues]
    assert turns == sorted(turns)


def test_an_answer_set_is_part_of_a_score_query() -> None:
    (probe,) = MINIATURE.candidate_probes
    wider = replace(probe, answers=(*probe.answers, Answer("maybe", ("maybe",))))
    trials = miniature(*ROWS)
    other = replace(trials, study=replace(MINIATURE, candidate_probes=(wider,)))
    assert not set(plan_scores(trials).query_keys) & set(plan_scores(other).query_keys)


@given(st.integers(min_value=0, max_value=2**63 - 1), st.text())
def test_seeds_are_what_every_server_takes(seed: int, text: str) -> None:
    assert 0 <= derive_seed(seed, [text]) < 2**32 - 1


def fingerprint() -> str:
    """A hash of all keys and seeds of a fixed plan."""
    trials = miniature(*ROWS)
    content = [
        [[query.key, query.seed] for dialogue in plan.dialogues for query in dialogue.queries]
        for plan in (
            sampled(trials, seed=7, replicates=2),
            plan_responses(trials, seed=7, replicates=1, deterministic=True),
        )
    ]
    content.append([[key] for key in plan_scores(trials).query_keys])
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def test_keys_and_seeds_never_change_between_versions() -> None:
    # A run that was interrupted under one version of Grace is continued under another.
    # If this fails, every unfinished run asks all its queries again.
    assert fingerprint() == "ec6868eba8965675"


def test_the_plan_does_not_depend_on_the_process() -> None:
    code = "import test_plan; print(test_plan.fingerprint())"
    environment = {**os.environ, "PYTHONHASHSEED": "42", "PYTHONPATH": str(Path(__file__).parent)}
    printed = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)  # noqa: S603
    assert printed.strip() == fingerprint()
