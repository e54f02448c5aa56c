"""Finding studies and their trials: built in, the user's own, or shipped items."""

from collections.abc import Sequence
from pathlib import Path

from grace.errors import UsageError
from grace.runs.csvfile import csv_bytes
from grace.settings import RunSettings
from grace.studies.builtin import BUILTIN_STUDIES
from grace.studies.document import shown
from grace.studies.loader import load_study
from grace.studies.make import make_rows
from grace.studies.study import Study
from grace.studies.trials import TrialSet, load_trials, parse_trials

SHIPPED_ROWS = {"study1": 48, "study2": 192}
"""Rows made of the shipped items where no input is given."""

SHIPPED_SEED = 1


def resolve_study(name: str) -> Study:
    """
    Return a study by its key, or from a YAML file.

    Raises:
        UsageError: There is no such study or file.

        StudyDefinitionError: The file does not define a study.
    """
    if name in BUILTIN_STUDIES:
        return BUILTIN_STUDIES[name]
    if name.lower().endswith((".yaml", ".yml")):
        return load_study(Path(name))
    raise UsageError(
        f"there is no study {shown(name)}; built in are {', '.join(BUILTIN_STUDIES)}, and a YAML file "
        "defines your own (`grace studies list`)"
    )


def load_inputs(settings: RunSettings) -> tuple[TrialSet, ...]:
    """
    Load and check the trials of all studies of a run.

    Raises:
        UsageError: A study, a file or a combination of flags is wrong. Faults of
            several files are reported together.
    """
    studies = [resolve_study(name) for name in settings.study]
    keys = [study.key for study in studies]
    if len(set(keys)) != len(keys):
        raise UsageError(f"a study is given twice: {', '.join(keys)}")
    unused = [name for name in settings.input if name not in keys]
    if unused:
        raise UsageError(
            f"--input names {', '.join(unused)}, which is not among the studies of this run "
            f"({', '.join(keys)}); write it as STUDY=CSV"
        )
    problems: list[UsageError] = []
    loaded: list[TrialSet] = []
    for study in studies:
        try:
            loaded.append(load_input(study, settings))
        except UsageError as error:
            problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise UsageError("\n".join(str(problem) for problem in problems))
    return tuple(loaded)


def describe_inputs(inputs: Sequence[TrialSet]) -> list[str]:
    """Return one line for each study: rows, stimuli and where they come from."""
    return [
        f"{trials.study.key}: {counted(len(trials.trials), 'row')}, "
        f"{counted(trials.stimuli(), 'stimulus', 'stimuli')} ({trials.source})"
        for trials in inputs
    ]


def counted(number: int, noun: str, plural: str = "") -> str:
    """
    Return a number with its noun.

    >>> counted(1, "row"), counted(2424, "row")
    ('1 row', '2,424 rows')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def load_input(study: Study, settings: RunSettings) -> TrialSet:
    """
    Load the trials of one study, as far as the run's limit.

    Raises:
        UsageError: There is no input, or it has faults.
    """
    return _load(study, settings).limited(settings.limit)


def _load(study: Study, settings: RunSettings) -> TrialSet:
    if study.key in settings.input:
        return load_trials(study, settings.input[study.key])
    if study.key not in SHIPPED_ROWS:
        raise UsageError(
            f"the study {study.key} needs its trials: give --input {study.key}=FILE.csv"
        )
    rows = make_rows(study.key, SHIPPED_ROWS[study.key], SHIPPED_SEED)
    content = csv_bytes(tuple(rows[0]), [tuple(row.values()) for row in rows])
    return parse_trials(study, content, "items shipped with Grace")
