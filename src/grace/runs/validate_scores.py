"""
Checks of the tables of Experiment 2.

The long table is held against the laws of probability, the wide table against
the long one: every number of it is computed again. Rows repeat stimuli: what was
checked once is not checked again where the same cells come back.
"""

import itertools
import math
from collections.abc import Iterator, Sequence

from grace.runs.csvfile import Table, stream_table
from grace.runs.folder import RunFolder
from grace.runs.score_table import SCORE_HEADER
from grace.runs.scored import ANSWERED, FAILED, NOT_ASKED
from grace.runs.validate_measures import Line, measure_faults
from grace.runs.validate_table import (
    MOST_FAULTS,
    RowFaults,
    header_fault,
    number,
    row_faults,
    whole,
)
from grace.studies.probes import CandidateProbe
from grace.studies.study import Measure, ProbabilityColumn, Study
from grace.studies.trials import TrialSet

# Tables hold 9 significant digits.
_TOLERANCE = 1e-6
_RELATIVE = 1e-5

_JOINT = ("logprob", "probability", "coverage")
_STATUS = SCORE_HEADER.index("status")
_MEASURED = SCORE_HEADER[SCORE_HEADER.index("n_tokens") : _STATUS]

# Of each probe; distributions of an input without repeated stimuli are forgotten again.
_MOST_KNOWN = 512

_Lines = Sequence[tuple[str, ...]]
_Found = tuple[str, ...]


def score_faults(folder: RunFolder, trials: TrialSet) -> Iterator[str]:
    """
    Yield the faults of a study's probability and score tables.

    Raises:
        RunFolderError: A table is missing or cannot be read.
    """
    study = trials.study
    wide_path = folder.table(study.key, "probabilities")
    wide = stream_table(wide_path)
    path = folder.table(study.key, "scores")
    scores = stream_table(path)
    columns = (*trials.header, *(column.name for column in study.probability_columns))
    faults = [header_fault(wide_path, wide, columns), header_fault(path, scores, SCORE_HEADER)]
    if any(faults):
        # A table that cannot be read is the greater fault: both are gone through.
        _ = len(wide.rows), len(scores.rows)
        yield from (fault for fault in faults if fault)
        return
    moved = list(row_faults(wide_path, wide, (trial.cells for trial in trials.trials)))
    found: list[str] = []
    lines = RowFaults(path, SCORE_HEADER)
    if not moved:
        for fault in _content_faults(folder, trials, (wide, scores), lines):
            if len(found) < MOST_FAULTS:
                found.append(fault)
    if moved or lines.any:
        found = [*moved, *row_faults(path, scores, _expected_lines(trials))]
    yield from found


def _content_faults(
    folder: RunFolder, trials: TrialSet, tables: tuple[Table, Table], lines: RowFaults
) -> Iterator[str]:
    """
    Yield the faults of the cells that were not known beforehand.

    Args:
        folder: The run's folder.

        trials: The trials.

        tables: The wide and the long table.

        lines: Compares the lines of the long table with those expected. Where
            one is wrong, all is: what follows is not looked at.
    """
    study = trials.study
    wide, scores = tables
    wide_path, path = folder.table(study.key, "probabilities"), folder.table(study.key, "scores")
    probes = [_CheckedProbe(study, probe, len(trials.header)) for probe in study.candidate_probes]
    left = iter(scores.rows)
    for trial, row in zip(trials.trials, wide.rows, strict=True):
        for one in probes:
            group = list(itertools.islice(left, len(one.labels)))
            for line, label in itertools.zip_longest(group, one.labels):
                lines.compare(line, (str(trial.row), trial.stimulus_id, one.name, label))
            if lines.any:
                return
            of_scores, of_cells = one.faults(group, row)
            yield from (f"{path}, row {trial.row}, {one.name}: {fault}" for fault in of_scores)
            yield from (f"{wide_path}, row {trial.row}: {fault}" for fault in of_cells)
    for line in left:
        lines.compare(line, None)


class _CheckedProbe:
    """
    Checks the distributions of one probe, each distinct one once.

    Args:
        study: The study.

        probe: The probe.

        before: How many columns of the wide table come before those of the probes.
    """

    def __init__(self, study: Study, probe: CandidateProbe, before: int) -> None:
        self.name = probe.name
        self.labels = probe.labels
        self._probe = probe
        columns = enumerate(study.probability_columns, start=before)
        self._columns = {place: one for place, one in columns if one.probe == probe.name}
        self._known: dict[tuple[tuple[str, ...], ...], tuple[_Found, _Found]] = {}

    def faults(self, lines: _Lines, row: Sequence[str]) -> tuple[_Found, _Found]:
        """Return the faults of a distribution's lines, or those of its cells in the wide table."""
        cells = tuple([row[place] for place in self._columns])
        content = (*[line[2:] for line in lines], cells)
        found = self._known.get(content)
        if found is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            found = self._known[content] = self._check(lines, cells)
        return found

    def _check(self, lines: _Lines, cells: Sequence[str]) -> tuple[_Found, _Found]:
        named = [dict(zip(SCORE_HEADER, line, strict=True)) for line in lines]
        found = tuple(_group_faults(self._probe, named))
        if found:
            return found, ()
        wrong = (
            (column, _cell_fault(column, self._probe, cell, lines))
            for column, cell in zip(self._columns.values(), cells, strict=True)
        )
        return (), tuple(f"{column.name} {fault}" for column, fault in wrong if fault)


def _expected_lines(trials: TrialSet) -> Iterator[tuple[str, ...]]:
    for trial in trials.trials:
        for probe in trials.study.candidate_probes:
            for label in probe.labels:
                yield str(trial.row), trial.stimulus_id, probe.name, label


def _group_faults(probe: CandidateProbe, lines: Sequence[Line]) -> Iterator[str]:
    """Yield the faults of one distribution."""
    statuses = {line["status"] for line in lines}
    if len(statuses) != 1 or not statuses <= {ANSWERED, FAILED, NOT_ASKED}:
        yield f"statuses are {sorted(statuses)}; expected answered, failed or not_asked alike"
        return
    if statuses != {ANSWERED}:
        if any(line[name] for line in lines for name in _MEASURED):
            yield "not answered, but a number is filled in"
        if not all(line["error"] for line in lines):
            yield "not answered, without a reason in error"
        return
    if any(line["error"] for line in lines):
        yield "answered, but with a reason in error"
    counts = [line["n_tokens"] for line in lines]
    if not all(whole(count) for count in counts):
        yield f"n_tokens are {counts}; expected numbers from 1"
        return
    try:
        numbers = [[number(line[name]) for name in _JOINT] for line in lines]
    except ValueError:
        yield "answered, but a number is missing or is none"
        return
    found = list(_number_faults(*zip(*numbers, strict=True)))
    yield from found
    if not found:
        yield from measure_faults(probe, lines)


def _number_faults(
    logprobs: Sequence[float], probabilities: Sequence[float], coverages: Sequence[float]
) -> Iterator[str]:
    for logprob in logprobs:
        if not -math.inf < logprob <= 0:
            yield f"logprob is {logprob}; expected a finite number, at most 0"
            return
    # Far below the smallest float, coverage is 0, and shares are still what they are.
    highest = max(logprobs)
    shares = [math.exp(logprob - highest) for logprob in logprobs]
    total = math.fsum(shares)
    for probability, share in zip(probabilities, shares, strict=True):
        if not abs(probability - share / total) <= _RELATIVE:
            yield f"probability is {probability}; the logprobs give {share / total:.9g}"
    if not abs(math.fsum(probabilities) - 1) <= _TOLERANCE:
        yield f"probabilities sum to {math.fsum(probabilities):.9g}, not 1"
    expected = min(1.0, math.exp(highest) * total)
    for coverage in set(coverages):
        if not math.isclose(coverage, expected, rel_tol=_RELATIVE, abs_tol=1e-300):
            yield f"coverage is {coverage}; the logprobs give {expected:.9g}"


def _cell_fault(
    column: ProbabilityColumn, probe: CandidateProbe, text: str, lines: _Lines
) -> str | None:
    answered = lines[0][_STATUS] == ANSWERED
    if not text:
        return "is empty, although the scores are answered" if answered else None
    if not answered:
        return f"is {text!r}, although the scores are not answered"
    try:
        value = number(text)
    except ValueError:
        return f"is {text!r}; expected a number"
    probabilities = {line[3]: number(line[6]) for line in lines}
    expected = _measured(column, probe, probabilities)
    values = [answer.value or 0.0 for answer in probe.answers]
    span = max(1.0, max(values) - min(values))
    if column.measure is Measure.STD:
        # Near 0 the root magnifies rounding; variances are compared instead.
        fits = abs(value**2 - expected**2) <= _TOLERANCE * span**2 and value >= 0
    else:
        fits = abs(value - expected) <= _TOLERANCE * span
    return None if fits else f"is {text}; the scores give {expected:.9g}"


def _measured(
    column: ProbabilityColumn, probe: CandidateProbe, probabilities: dict[str, float]
) -> float:
    valued = [(answer.value or 0.0, probabilities[answer.label]) for answer in probe.answers]
    mean = math.fsum(value * p for value, p in valued)
    match column.measure:
        case Measure.PROBABILITY:
            return math.fsum(probabilities[label] for label in column.answers)
        case Measure.MEAN:
            return mean
        case Measure.STD:
            return math.sqrt(math.fsum((value - mean) ** 2 * p for value, p in valued))
        case Measure.ENTROPY:
            groups = column.partition or tuple((label,) for label in probe.labels)
            shares = [math.fsum(probabilities[label] for label in group) for group in groups]
            return -math.fsum(share * math.log2(share) for share in shares if share > 0)
