import pytest

from grace.engine.plan import plan_scores
from grace.pipeline.cover import sample_rows, spread
from grace.pipeline.inputs import load_inputs
from grace.settings import RunSettings


@pytest.mark.parametrize(("study", "column"), [("study1", "story_setup"), ("study2", "Domain")])
def test_a_sample_shows_another_story_each_time(study: str, column: str) -> None:
    (trials,) = load_inputs(RunSettings(study=(study,)))
    rows = sample_rows(plan_scores(trials), 6)
    assert len({row.trial.variables[column] for row in rows}) == 6
    for condition in trials.study.conditions:
        levels = {trial.variables[condition] for trial in trials.trials}
        assert {row.trial.variables[condition] for row in rows} == levels


def test_a_sample_is_no_larger_than_the_design() -> None:
    (trials,) = load_inputs(RunSettings(study=("study2",), limit=3))
    plan = plan_scores(trials)
    assert len(sample_rows(plan, 50)) == trials.stimuli()


def test_spread_begins_with_the_longest_prompt_and_repeats_none() -> None:
    (trials,) = load_inputs(RunSettings(study=("study1",)))
    queries = plan_scores(trials).queries
    for most in (1, 2, 7, len(queries), 1000):
        chosen = spread(queries, most)
        assert len({query.key for query in chosen}) == len(chosen) == min(most, len(queries))
        texts = [len(query.turn.context + query.turn.question) for query in queries]
        assert len(chosen[0].turn.context + chosen[0].turn.question) >= max(texts) - 80
