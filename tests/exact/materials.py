"""Which queries are scored: a few stimuli of both studies, with all their probes."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from grace.engine.plan import ScoreQuery, plan_scores
from grace.studies.builtin import BUILTIN_STUDIES
from grace.studies.make import make_rows
from grace.studies.prompts import PromptMode
from grace.studies.trials import TrialSet, load_trials, parse_trials

CHAT, COMPLETION = PromptMode.CHAT, PromptMode.COMPLETION

SEED = 1
STIMULI: Mapping[str, int] = {"study1": 3, "study2": 12}
FILE_STIMULI: Mapping[str, int] = {"study1": 1, "study2": 4}
"""How many are taken from each file that the caller names, beside the shipped ones."""


@dataclass(frozen=True, slots=True)
class Material:
    """
    The queries, by what is done with them.

    Attributes:
        chat: Scored through the chat template.

        completion: Scored after plain text too.

        repeated: Scored with nothing cached, and again with everything cached.

        together: Scored again side by side.
    """

    chat: tuple[ScoreQuery, ...]
    completion: tuple[ScoreQuery, ...]
    repeated: tuple[ScoreQuery, ...]
    together: tuple[ScoreQuery, ...]


def default_material(files: Mapping[str, Path], stimuli: Mapping[str, int] = STIMULI) -> Material:
    """Return so many stimuli of the shipped material, and the beginning of each file, by study."""
    knowledge, politeness = (_shipped(study, stimuli[study]) for study in STIMULI)
    own = [query for study, path in files.items() for query in _from_file(study, path)]
    return Material(
        chat=(*knowledge, *politeness, *own),
        completion=(*_one_each(knowledge, ["state1", "knowledge", "direct"]), politeness[0]),
        repeated=(*_one_each(knowledge, ["state0", "knowledge", "direct"]), politeness[-1]),
        together=tuple(politeness[:6]),
    )


def _shipped(study: str, stimuli: int) -> Sequence[ScoreQuery]:
    # The rows of one participant are all different stimuli.
    rows = make_rows(study, stimuli, SEED)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    trials = parse_trials(BUILTIN_STUDIES[study], text.getvalue().encode(), f"shipped {study}")
    return plan_scores(trials).queries


def _from_file(study: str, path: Path) -> Sequence[ScoreQuery]:
    trials = load_trials(BUILTIN_STUDIES[study], path)
    first = {trial.stimulus_id: trial for trial in reversed(trials.trials)}
    kept = sorted(first.values(), key=lambda trial: trial.row)[: FILE_STIMULI[study]]
    return plan_scores(
        TrialSet(trials.study, trials.source, trials.header, tuple(kept), trials.sha256)
    ).queries


def _one_each(queries: Sequence[ScoreQuery], names: Sequence[str]) -> list[ScoreQuery]:
    """Return one query of each named probe, each about another stimulus where possible."""
    chosen = []
    for position, name in enumerate(names):
        of_probe = [query for query in queries if query.probe.name == name]
        chosen.append(of_probe[position % len(of_probe)])
    return chosen
