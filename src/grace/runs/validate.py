"""
Checks of a run's tables against their contract; loud, and all faults at once.

Only the files are looked at, not the process that wrote them: row counts and
order, the user's own cells, ranges, sums, schemas, and counts that reconcile
between tables and manifest.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from grace.errors import RunFolderError
from grace.extraction.result import Outcome
from grace.runs.csvfile import Table, read_table
from grace.runs.folder import RunFolder
from grace.runs.manifest import RunManifest, file_entry, read_manifest
from grace.runs.tables import (
    ANSWERED,
    FAILED,
    NOT_ASKED,
    SCORE_HEADER,
    response_header,
    structured_header,
)
from grace.studies.study import AnswerField, Measure, ProbabilityColumn, Study
from grace.studies.trials import TrialSet

_TOLERANCE = 1e-6
_MOST_FAULTS = 100


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
        check = _responses if folder.experiment == "exp1" else _probabilities
        try:
            found = itertools.islice(check(folder, trials, replicates), _MOST_FAULTS)
            faults += found
        except RunFolderError as error:
            faults.append(str(error))
    return faults


def validate_manifest(folder: RunFolder) -> list[str]:
    """
    Return the faults of a closed run's manifest against its files.

    Raises:
        RunFolderError: The run is not closed.
    """
    manifest = read_manifest(folder)
    return [*_file_faults(folder, manifest), *_count_faults(folder, manifest)]


def _file_faults(folder: RunFolder, manifest: RunManifest) -> Iterator[str]:
    for name, entry in manifest.files.items():
        path = folder.path / name
        if not path.is_file():
            yield f"{path}: is in the manifest but missing"
        elif file_entry(path) != entry:
            yield f"{path}: differs from the manifest's hash; it was changed after the run"


def _count_faults(folder: RunFolder, manifest: RunManifest) -> Iterator[str]:
    complete = True
    for study, report in manifest.studies.items():
        for probe, counts in report.queries.items():
            if counts.planned != counts.answered + counts.failed + counts.not_asked:
                yield f"{folder.manifest_path}: {study} {probe}: counts do not reconcile: {counts}"
        complete = complete and report.complete_rows == report.rows
        kind = "raw_responses" if folder.experiment == "exp1" else "probabilities"
        path = folder.table(study, kind)
        if not path.is_file():
            continue
        table = read_table(path)
        if len(table.rows) != report.rows:
            yield f"{path}: has {len(table.rows)} rows; the manifest says {report.rows}"
        if folder.experiment == "exp1" and "status" in table.header:
            answered = table.column("status").count(ANSWERED)
            if answered != report.complete_rows:
                yield (
                    f"{path}: {answered} rows are answered; the manifest says "
                    f"{report.complete_rows}"
                )
    if manifest.complete != complete:
        yield f"{folder.manifest_path}: 'complete' does not fit the counts"


def _responses(folder: RunFolder, trials: TrialSet, replicates: int) -> Iterator[str]:
    study = trials.study
    raw_path = folder.table(study.key, "raw_responses")
    raw = read_table(raw_path)
    yield from _header(str(raw_path), raw, response_header(study, trials.header))
    yield from _inputs(str(raw_path), raw, trials, replicates)
    columns = {name: index for index, name in enumerate(raw.header)}
    if "status" not in columns or "error" not in columns:
        return
    probes = [study.response_column(probe) for probe in study.dialogue]
    for number, row in enumerate(raw.rows, start=1):
        status, error = row[columns["status"]], row[columns["error"]]
        where = f"{raw_path}, row {number}"
        if status not in {ANSWERED, FAILED, NOT_ASKED}:
            yield f"{where}: status is {status!r}; expected answered, failed or not_asked"
        elif status != ANSWERED and not error:
            yield f"{where}: status is {status} without a reason in error"
        elif status != ANSWERED and all(row[columns[name]] for name in probes):
            yield f"{where}: status is {status}, but every response is there"
    path = folder.table(study.key, "structured")
    structured = read_table(path)
    yield from _header(str(path), structured, structured_header(study, trials.header))
    if len(structured.rows) != len(raw.rows):
        yield f"{path}: has {len(structured.rows)} rows; {raw_path.name} has {len(raw.rows)}"
        return
    for number, (row, before) in enumerate(zip(structured.rows, raw.rows, strict=True), start=1):
        if row[: len(before)] != before:
            yield f"{path}, row {number}: differs from the raw responses"
        cells = dict(zip(structured.header, row, strict=True))
        yield from (f"{path}, row {number}: {fault}" for fault in _answer_faults(study, cells))


def _answer_faults(study: Study, cells: Mapping[str, str]) -> Iterator[str]:
    try:
        outcome = Outcome(cells["extraction_status"].partition(":")[0])
    except (KeyError, ValueError):
        yield f"extraction_status is {cells.get('extraction_status')!r}"
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
        and sum(int(values[name]) for name in constraint.fields) != constraint.total
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
        if value.isdecimal() and answer_field.minimum <= int(value) <= answer_field.maximum:
            return None
        bounds = f"{answer_field.minimum} to {answer_field.maximum}"
        return f"{answer_field.name} is {value!r}; expected an integer from {bounds}"
    if answer_field.kind == "choice":
        allowed = (*answer_field.choices, *(("uncertain",) if answer_field.uncertain else ()))
        if value not in allowed:
            return f"{answer_field.name} is {value!r}; expected {' or '.join(allowed)}"
    return None


def _probabilities(folder: RunFolder, trials: TrialSet, _replicates: int) -> Iterator[str]:
    study = trials.study
    path = folder.table(study.key, "probabilities")
    wide = read_table(path)
    expected = (*trials.header, *(column.name for column in study.probability_columns))
    yield from _header(str(path), wide, expected)
    yield from _inputs(str(path), wide, trials, 1)
    scores_path = folder.table(study.key, "scores")
    scores = read_table(scores_path)
    yield from _header(str(scores_path), scores, SCORE_HEADER)
    if wide.header != expected or scores.header != SCORE_HEADER:
        return
    per_row = sum(len(probe.answers) for probe in study.candidate_probes)
    if len(scores.rows) != per_row * len(trials.trials):
        yield (
            f"{scores_path}: has {len(scores.rows)} rows; expected {per_row * len(trials.trials)}"
        )
        return
    scored = _score_groups(study, trials, scores)
    for (row, probe), group in scored.items():
        yield from (f"{scores_path}, row {row}, {probe}: {f}" for f in _score_faults(group))
    for number, cells in enumerate(wide.rows, start=1):
        values = dict(zip(wide.header, cells, strict=True))
        for column in study.probability_columns:
            group = scored[number, column.probe]
            fault = _measure_fault(study, column, values[column.name], group)
            if fault:
                yield f"{path}, row {number}: {column.name} {fault}"


def _score_groups(
    study: Study, trials: TrialSet, scores: Table
) -> dict[tuple[int, str], list[tuple[str, ...]]]:
    groups: dict[tuple[int, str], list[tuple[str, ...]]] = {}
    lines = iter(scores.rows)
    for trial in trials.trials:
        for probe in study.candidate_probes:
            groups[trial.row, probe.name] = list(itertools.islice(lines, len(probe.answers)))
    return groups


def _score_faults(group: Sequence[tuple[str, ...]]) -> Iterator[str]:
    statuses = {line[8] for line in group}
    if len(statuses) != 1:
        yield f"mixed statuses {sorted(statuses)}"
        return
    if statuses != {ANSWERED}:
        if any(line[4] or line[5] or line[6] or line[7] for line in group):
            yield "not answered, but a number is filled in"
        if not all(line[9] for line in group):
            yield "not answered, without a reason in error"
        return
    try:
        numbers = [[float(text) for text in line[5:8]] for line in group]
    except ValueError:
        yield "answered, but a number is missing"
        return
    yield from _number_faults(numbers)


def _number_faults(numbers: Sequence[Sequence[float]]) -> Iterator[str]:
    coverage = numbers[0][2]
    if not 0 < coverage <= 1:
        yield f"coverage is {coverage}; expected a probability"
    total = math.fsum(probability for _, probability, _ in numbers)
    if abs(total - 1) > _TOLERANCE:
        yield f"probabilities sum to {total:.9g}, not 1"
    for logprob, probability, _ in numbers:
        if logprob > 0 or not math.isfinite(logprob):
            yield f"logprob is {logprob}; expected a finite number, at most 0"
        elif abs(math.exp(logprob) / coverage - probability) > 1e-5:
            yield f"probability {probability} does not fit logprob {logprob} and coverage"


def _measure_fault(
    study: Study, column: ProbabilityColumn, text: str, group: Sequence[tuple[str, ...]]
) -> str | None:
    answered = group[0][8] == ANSWERED
    if not text:
        return "is empty, although the scores are answered" if answered else None
    if not answered:
        return f"is {text!r}, although the scores are not answered"
    try:
        value = float(text)
    except ValueError:
        return f"is {text!r}; expected a number"
    probe = study.candidate_probe(column.probe)
    answer_values = [answer.value or 0.0 for answer in probe.answers]
    low, high = 0.0, 1.0
    match column.measure:
        case Measure.PROBABILITY:
            expected = math.fsum(float(line[6]) for line in group if line[3] in column.answers)
            if abs(expected - value) > _TOLERANCE:
                return f"is {text}; the scores give {expected:.9g}"
        case Measure.MEAN:
            low, high = min(answer_values), max(answer_values)
        case Measure.STD:
            high = (max(answer_values) - min(answer_values)) / 2
        case Measure.ENTROPY:
            high = math.log2(len(column.partition) or len(probe.answers))
    if not low - _TOLERANCE <= value <= high + _TOLERANCE:
        return f"is {text}; expected {low:g} to {high:.6g}"
    return None


def _header(source: str, table: Table, expected: Sequence[str]) -> Iterator[str]:
    if table.header != tuple(expected):
        missing = [name for name in expected if name not in table.header]
        extra = [name for name in table.header if name not in expected]
        yield (
            f"{source}: columns differ: missing {missing}, not expected {extra}"
            if (missing or extra)
            else f"{source}: columns are in another order than expected"
        )


def _inputs(source: str, table: Table, trials: TrialSet, replicates: int) -> Iterator[str]:
    width = len(trials.header)
    expected = len(trials.trials) * replicates
    if len(table.rows) != expected:
        yield f"{source}: has {len(table.rows)} rows; expected {expected}"
        return
    for number, (row, trial) in enumerate(
        zip(table.rows, itertools.cycle(trials.trials), strict=False), start=1
    ):
        if row[:width] != trial.cells:
            yield f"{source}, row {number}: the input's cells were changed or reordered"
