"""
Comparing the two experiments on one model, when both are finished.

The table belongs to two runs, so it lies in neither of their folders but in
`{out}/agreement/{model}/{timestamp}`, and is made again from their tables.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from grace.analysis.agreement import agreement_table
from grace.errors import RunFolderError
from grace.runs.csvfile import stream_table, write_table
from grace.runs.folder import RunFolder
from grace.runs.identity import identity_differences
from grace.studies.trials import TrialSet


@dataclass(frozen=True, slots=True)
class Agreements:
    """
    What was compared.

    Attributes:
        paths: The tables that were written.

        notes: How the models or servers of the two runs differ.
    """

    paths: tuple[Path, ...]
    notes: tuple[str, ...]


def other_experiment(folder: RunFolder) -> RunFolder | None:
    """Return the finished run of the other experiment, of the same model and timestamp."""
    other = "exp2" if folder.experiment == "exp1" else "exp1"
    found = RunFolder(folder.path.parents[2] / other / folder.model / folder.timestamp)
    return found if found.begun and found.closed else None


def write_agreements(
    responses: RunFolder, probabilities: RunFolder, inputs: Sequence[TrialSet]
) -> Agreements:
    """
    Write the agreement table of every study that both runs have.

    Args:
        responses: A finished run of Experiment 1.

        probabilities: One of Experiment 2.

        inputs: The trials of the first.

    Raises:
        RunFolderError: A table cannot be read or written.
    """
    first, second = responses.read_record().identity, probabilities.read_record().identity
    alike = second.model_copy(
        update={name: getattr(first, name) for name in ("experiment", "studies", "asking")}
    )
    place = responses.path.parents[2] / "agreement" / responses.model / responses.timestamp
    written = []
    for trials in inputs:
        key = trials.study.key
        if not trials.study.agreements or key not in second.studies:
            continue
        table = agreement_table(
            trials,
            stream_table(responses.table(key, "structured")),
            stream_table(probabilities.table(key, "scores")),
        )
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(f"{place}: cannot be made: {error.strerror}") from error
        path = place / f"{responses.model}_{key}_agreement.csv"
        write_table(path, table)
        written.append(path)
    return Agreements(tuple(written), tuple(identity_differences(first, alike)))
