"""
Checks of a run's tables against their contract; loud, and all faults at once.

Only the files are looked at, not the process that wrote them: row counts and
order, the user's own cells, ranges, sums, schemas, and counts that reconcile
between tables and manifest.
"""

import itertools
import operator
from collections.abc import Iterator, Mapping, Sequence

from grace.errors import RunFolderError
from grace.extraction.result import Outcome
from grace.runs.csvfile import Table, stream_table
from grace.runs.folder import RunFolder
from grace.runs.manifest import RunManifest, StudyReport, file_fault, read_manifest
from grace.runs.scored import ANSWERED, FAILED, NOT_ASKED
from grace.runs.tables import response_header, structured_header
from grace.runs.validate_scores import score_faults
from grace.runs.validate_table import (
    MOST_FAULTS,
    header_fault,
    row_faults,
    shortened,
    whole,
)
from grace.studies.study import AnswerField, Study
from grace.studies.trials import TrialSet

_KINDS = {
    "exp1": ("raw_responses", "structured", "summary"),
    "exp2": ("probabilities", "scores", "summary"),
}


def validate_tables(folder: RunFolder, inputs: Sequence[TrialSet], replicates: int) -> list[str]:
    """
    Return the faults of a run's tables, one line each; empty if all is well.

    Args:
        folder: The run's folder.

        inputs: The trials of each study of the run, as they were read.

        replicates: Samples of every row, in Experiment 1.
    """
    faults: list[str] = []
    for trials in inputs:
        try:
            found = (
                _response_faults(folder, trials, replicates)
                if folder.experiment == "exp1"
                else score_faults(folder, trials)
            )
            faults += itertools.islice(found, MOST_FAULTS)
        except RunFolderError as error:
            faults.append(str(error))
    return [shortened(fault) for fault in faults]


def validate_manifest(folder: RunFolder) -> list[str]:
    """
    Return the faults of a closed run's manifest against its files.

    Raises:
        RunFolderError: The run is not closed.
    """
    manifest = read_manifest(folder)
    faults = [*_file_faults(folder, manifest)]
    complete = True
    for study, report in manifest.studies.items():
        complete = complete and report.complete
        faults += _query_faults(folder, study, report)
        try:
            faults += _row_count_faults(folder, study, report)
        except RunFolderError as error:
            faults.append(str(error))
    if manifest.complete != complete:
        faults.append(f"{folder.manifest_path}: 'complete' does not fit the counts")
    return [shortened(fault) for fault in faults]


def _file_faults(folder: RunFolder, manifest: RunManifest) -> Iterator[str]:
    for name, entry in manifest.files.items():
        path = folder.path / name
        if fault := file_fault(path, entry):
            yield fault
    for study in manifest.studies:
        for kind in _KINDS[folder.experiment]:
            path = folder.table(study, kind)
            if path.name not in manifest.files:
                yield f"{path}: is not in the manifest"


def _query_faults(folder: RunFolder, study: str, report: StudyReport) -> Iterator[str]:
    for probe, counts in report.queries.items():
        if counts.planned != counts.answered + counts.failed + counts.not_asked:
            yield f"{folder.manifest_path}: {study} {probe}: counts do not reconcile: {counts}"
    extracted = report.extraction_queries
    if extracted is not None and extracted.planned != (
        extracted.answered + extracted.failed + extracted.not_asked
    ):
        yield f"{folder.manifest_path}: {study} extraction: counts do not reconcile: {extracted}"
    again = report.recheck
    if again is not None and again.planned != again.answered + again.failed + again.not_asked:
        yield f"{folder.manifest_path}: {study} recheck: counts do not reconcile: {again}"


def _row_count_faults(folder: RunFolder, study: str, report: StudyReport) -> Iterator[str]:
    path = folder.table(study, _KINDS[folder.experiment][0])
    if not path.is_file():
        return
    table = stream_table(path)
    rows = len(table.rows)
    if rows != report.rows:
        yield f"{path}: has {rows} rows; the manifest says {report.rows}"
    if folder.experiment == "exp2":
        path = folder.table(study, "scores")
        if not path.is_file():
            return
        table = stream_table(path)
    if "status" not in table.header or (folder.experiment == "exp2" and "row" not in table.header):
        return
    place = table.header.index("status")
    if folder.experiment == "exp1":
        complete = sum(row[place] == ANSWERED for row in table.rows)
    else:
        complete = _complete_rows(table, table.header.index("row"), place)
    if complete != report.complete_rows:
        yield (
            f"{path}: {complete} rows are complete; the manifest says {report.complete_rows} of "
            f"{report.rows}"
        )


def _complete_rows(table: Table, number: int, status: int) -> int:
    """
    Count the rows of the input whose lines are all answered.

    The lines of a row stand together.

    Args:
        table: A score table.

        number: Where the number of the row stands in a line.

        status: Where its status stands.
    """
    rows = itertools.groupby(table.rows, key=operator.itemgetter(number))
    return sum(all([line[status] == ANSWERED for line in lines]) for _, lines in rows)


def _response_faults(folder: RunFolder, trials: TrialSet, replicates: int) -> Iterator[str]:
    study = trials.study
    path = folder.table(study.key, "raw_responses")
    raw = stream_table(path)
    if fault := header_fault(path, raw, response_header(study, trials.header)):
        # A table that cannot be read is the greater fault: it is gone through.
        _ = len(raw.rows)
        yield fault
        return
    yield from row_faults(path, raw, _expected_rows(folder, trials, replicates))
    for number, row in enumerate(raw.rows, start=1):
        cells = dict(zip(raw.header, row, strict=True))
        yield from (f"{path}, row {number}: {fault}" for fault in _status_faults(study, cells))
    yield from _structured_faults(folder, trials, raw)


def _expected_rows(
    folder: RunFolder, trials: TrialSet, replicates: int
) -> Iterator[tuple[str, ...]]:
    derived = [column.name for column in trials.study.derived_columns]
    for replicate in range(1, replicates + 1):
        for trial in trials.trials:
            yield (
                *trial.cells,
                *(trial.variables[name] for name in derived),
                trial.stimulus_id,
                folder.model,
                str(replicate),
            )


def _status_faults(study: Study, cells: Mapping[str, str]) -> Iterator[str]:
    status, error = cells["status"], cells["error"]
    if status not in {ANSWERED, FAILED, NOT_ASKED}:
        yield f"status is {status!r}; expected answered, failed or not_asked"
    if status == ANSWERED:
        return
    if not error:
        yield f"status is {status!r} without a reason in error"
    names = [probe.name for probe in study.dialogue]
    named = error.partition(":")[0]
    start = names.index(named) if named in names else 0
    for probe in study.dialogue[start:]:
        column = study.response_column(probe)
        if cells[column]:
            yield f"status is {status!r}, but {column} is filled"


def _structured_faults(folder: RunFolder, trials: TrialSet, raw: Table) -> Iterator[str]:
    study = trials.study
    path = folder.table(study.key, "structured")
    structured = stream_table(path)
    # Counted before anything is told: a table that cannot be read is the greater fault.
    rows = len(structured.rows)
    if fault := header_fault(path, structured, structured_header(study, trials.header)):
        yield fault
        return
    if rows != len(raw.rows):
        yield f"{path}: has {rows} rows; the raw responses have {len(raw.rows)}"
        return
    for number, (row, before) in enumerate(zip(structured.rows, raw.rows, strict=True), start=1):
        if row[: len(before)] != before:
            yield f"{path}, row {number}: differs from the raw responses"
        cells = dict(zip(structured.header, row, strict=True))
        yield from (f"{path}, row {number}: {fault}" for fault in _answer_faults(study, cells))


def _answer_faults(study: Study, cells: Mapping[str, str]) -> Iterator[str]:
    try:
        outcome = Outcome(cells["extraction_status"].partition(":")[0])
    except ValueError:
        yield f"extraction_status is {cells['extraction_status']!r}"
        return
    values = {answer_field.name: cells[answer_field.name] for answer_field in study.fields}
    for answer_field in study.fields:
        if fault := _value_fault(answer_field, values[answer_field.name]):
            yield fault
            return
    missing = [name for name, value in values.items() if not value]
    off = [
        constraint
        for constraint in study.sums
        if all(values[name] for name in constraint.fields)
        and sum(whole(values[name]) or 0 for name in constraint.fields) != constraint.total
    ]
    if outcome is Outcome.OK and (missing or off):
        yield "extraction_status is ok, but a field is missing or a sum is not met"
    if outcome is not Outcome.OK and not cells["extraction_error"]:
        yield f"extraction_status is {outcome} without a reason in extraction_error"
    if outcome is Outcome.NOT_ATTEMPTED and len(missing) != len(values):
        yield "extraction was not attempted, but a field is filled"
    if (outcome is Outcome.NOT_ATTEMPTED) == (cells["status"] == ANSWERED):
        yield f"status is {cells['status']}, but extraction_status is {outcome}"


def _value_fault(answer_field: AnswerField, value: str) -> str | None:
    if not value:
        return None
    if answer_field.kind == "integer":
        read = whole(value)
        if read is not None and answer_field.minimum <= read <= answer_field.maximum:
            return None
        bounds = f"{answer_field.minimum} to {answer_field.maximum}"
        return f"{answer_field.name} is {value!r}; expected an integer from {bounds}"
    if answer_field.kind == "choice":
        allowed = (*answer_field.choices, *(("uncertain",) if answer_field.uncertain else ()))
        if value not in allowed:
            return f"{answer_field.name} is {value!r}; expected {' or '.join(allowed)}"
    return None
