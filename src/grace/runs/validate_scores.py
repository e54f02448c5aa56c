"""
Checks of the tables of Experiment 2.

The long table is held against the laws of probability, the wide table against
the long one: every number of it is computed again.
"""

import itertools
import math
from collections.abc import Iterator, Sequence

from grace.runs.csvfile import Table, read_table
from grace.runs.folder import RunFolder
from grace.runs.score_table import SCORE_HEADER
from grace.runs.scored import ANSWERED, FAILED, NOT_ASKED
from grace.runs.validate_measures import Line, measure_faults
from grace.runs.validate_table import header_fault, number, row_faults, whole
from grace.studies.probes import CandidateProbe
from grace.studies.study import Measure, ProbabilityColumn
from grace.studies.trials import TrialSet

# Tables hold 9 significant digits.
_TOLERANCE = 1e-6
_RELATIVE = 1e-5

_JOINT = ("logprob", "probability", "coverage")
_STATUS = SCORE_HEADER.index("status")
_MEASURED = SCORE_HEADER[SCORE_HEADER.index("n_tokens") : _STATUS]

_Lines = Sequence[tuple[str, ...]]


def score_faults(folder: RunFolder, trials: TrialSet) -> Iterator[str]:
    """
    Yield the faults of a study's probability and score tables.

    Raises:
        RunFolderError: A table is missing or cannot be read.
    """
    study = trials.study
    wide_path = folder.table(study.key, "probabilities")
    wide = read_table(wide_path)
    path = folder.table(study.key, "scores")
    scores = read_table(path)
    columns = (*trials.header, *(column.name for column in study.probability_columns))
    faults = [header_fault(wide_path, wide, columns), header_fault(path, scores, SCORE_HEADER)]
    yield from (fault for fault in faults if fault)
    if any(faults):
        return
    moved = [
        *row_faults(wide_path, wide, (trial.cells for trial in trials.trials)),
        *row_faults(path, scores, _expected_lines(trials)),
    ]
    yield from moved
    if moved:
        return
    groups = _groups(trials, scores)
    # Rows repeat stimuli: each distinct distribution is checked once.
    known: dict[tuple[tuple[str, ...], ...], list[str]] = {}
    for (row, name), lines in groups.items():
        probe = study.candidate_probe(name)
        content = tuple(line[2:] for line in lines)
        if content not in known:
            named = [dict(zip(SCORE_HEADER, line, strict=True)) for line in lines]
            known[content] = list(_group_faults(probe, named))
        found = known[content]
        yield from (f"{path}, row {row}, {name}: {fault}" for fault in found)
        if found:
            continue
        cells = dict(zip(wide.header, wide.rows[row - 1], strict=True))
        for column in study.probability_columns:
            if column.probe == name:
                fault = _cell_fault(column, probe, cells[column.name], lines)
                if fault:
                    yield f"{wide_path}, row {row}: {column.name} {fault}"


def _expected_lines(trials: TrialSet) -> Iterator[tuple[str, ...]]:
    for trial in trials.trials:
        for probe in trials.study.candidate_probes:
            for label in probe.labels:
                yield str(trial.row), trial.stimulus_id, probe.name, label


def _groups(trials: TrialSet, scores: Table) -> dict[tuple[int, str], _Lines]:
    left = iter(scores.rows)
    return {
        (trial.row, probe.name): list(itertools.islice(left, len(probe.answers)))
        for trial in trials.trials
        for probe in trials.study.candidate_probes
    }


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
