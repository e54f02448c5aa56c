"""Finding a run's inputs again from its folder, to check or summarise it."""

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

from grace.errors import RunFolderError
from grace.pipeline.inputs import load_input, resolve_study
from grace.runs.csvfile import csv_lines, stream_table
from grace.runs.folder import RunFolder, RunRecord
from grace.studies.study import Study
from grace.studies.trials import TrialSet, parse_trials


@dataclass(frozen=True, slots=True)
class Reopened:
    """
    A run's inputs, found again.

    Attributes:
        inputs: The trials of each study.

        notes: What could not be compared with the original files.
    """

    inputs: tuple[TrialSet, ...]
    notes: tuple[str, ...]


def reopen(folder: RunFolder, record: RunRecord) -> Reopened:
    """
    Load the inputs that a run was made from, and check that they are the same.

    An input file that is gone, as after a move to another machine, is looked for
    among the copies beside the results, and else read back from the run's own table.

    Raises:
        RunFolderError: An input or a study was changed since.

        UsageError: A study's own file is gone.
    """
    inputs, notes = [], []
    for name in record.request.study:
        study = resolve_study(str(_found(Path(name), folder)) if _is_file_name(name) else name)
        recorded = record.identity.studies.get(study.key)
        if recorded is None:
            raise RunFolderError(f"{folder.path}: run.json does not name {study.key}")
        if study.definition_sha256() != recorded.definition_sha256:
            raise RunFolderError(
                f"{folder.path}: the definition of {study.key} has changed since the run; use "
                "the version of Grace, or of the study's file, that made it"
            )
        source = record.request.input.get(study.key)
        if source is not None:
            source = _found(source, folder)
        if source is not None and not _exists(source):
            inputs.append(_from_table(folder, study, recorded.rows, recorded.input_sha256))
            notes.append(f"{source} is gone; its rows are taken from the run's own tables")
            continue
        places = {} if source is None else {study.key: source}
        trials = load_input(study, record.request.model_copy(update={"input": places}))
        if trials.sha256 != recorded.input_sha256:
            raise RunFolderError(
                f"{folder.path}: {trials.source} has changed since the run; put back the file "
                f"whose SHA-256 is {recorded.input_sha256}"
            )
        inputs.append(trials)
    return Reopened(tuple(inputs), tuple(notes))


def input_copies(out: Path, timestamp: str) -> Path:
    """
    Return where the inputs of runs lie that came from another machine.

    Args:
        out: The folder with all run folders.

        timestamp: The runs' name.
    """
    return out / "inputs" / timestamp


def _is_file_name(study: str) -> bool:
    return study.lower().endswith((".yaml", ".yml"))


def _found(path: Path, folder: RunFolder) -> Path:
    """Return a file's path, or that of its copy beside the results if it is gone."""
    if _exists(path) or len(folder.path.parents) < 3:
        return path
    copy = input_copies(folder.path.parents[2], folder.timestamp) / path.name
    return copy if _exists(copy) else path


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # The name is too long to be one, or the way there is closed.
        return False


def _from_table(folder: RunFolder, study: Study, rows: int, sha256: str) -> TrialSet:
    kind = "raw_responses" if folder.experiment == "exp1" else "probabilities"
    path = folder.table(study.key, kind)
    table = stream_table(path)
    width = len(study.columns)
    kept = (row[:width] for row in itertools.islice(table.rows, rows))
    lines = csv_lines(table.header[:width], kept)
    return replace(parse_trials(study, (line.encode() for line in lines), str(path)), sha256=sha256)
