"""Which queries are scored: a few stimuli of both studies, with all their probes."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from grace.engine.plan import ScoreQuery, plan_scores
from grace.studies.builtin import BUILTIN_STUDIES
from grace.studies.make import make_rows
from grace.studies.trials import TrialSet, load_trials, parse_trials

SEED = 1
STIMULI: Mapping[str, int] = {"study1": 4, "study2": 12}
INPUT_STIMULI: Mapping[str, int] = {"study1": 1, "study2": 4}
"""How many are taken from a file of the user's, beside the shipped ones."""


def shipped_queries(study: str, stimuli: int) -> list[ScoreQuery]:
    """Return all queries of a study's first shipped stimuli, neighbours sharing most."""
    rows = make_rows(study, stimuli, SEED)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    trials = parse_trials(BUILTIN_STUDIES[study], text.getvalue().encode(), f"shipped {study}")
    return list(plan_scores(trials).queries)


def input_queries(inputs: Mapping[str, Path]) -> list[ScoreQuery]:
    """Return the queries of the first few stimuli of each input file."""
    queries: list[ScoreQuery] = []
    for study, path in inputs.items():
        trials = load_trials(BUILTIN_STUDIES[study], path)
        queries += plan_scores(_first_stimuli(trials, INPUT_STIMULI[study])).queries
    return queries


def one_of_each_probe(queries: Sequence[ScoreQuery], names: Sequence[str]) -> list[ScoreQuery]:
    """Return one query for each name of a probe, each about another stimulus where possible."""
    chosen = []
    for position, name in enumerate(names):
        of_probe = [query for query in queries if query.probe.name == name]
        chosen.append(of_probe[position % len(of_probe)])
    return chosen


def _first_stimuli(trials: TrialSet, count: int) -> TrialSet:
    first = {trial.stimulus_id: trial for trial in reversed(trials.trials)}
    kept = sorted(first.values(), key=lambda trial: trial.row)[:count]
    return TrialSet(trials.study, trials.source, trials.header, tuple(kept), trials.sha256)
