"""
Agreement of the two experiments: what a model writes against what it finds most probable.

A row of Experiment 1 states an answer; Experiment 2 has a distribution over the
same answers for the same stimulus. They agree if the stated answer is the most
probable one. Texts are samples, so full agreement is not to be expected: drawn
from the distribution p, an answer is the most probable one with probability
max p. The mean of it stands beside the agreement. Wang et al. (2024) and Hu and
Levy (2023) compare text and probabilities.
"""

import operator
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from grace.analysis.estimate import Tally
from grace.runs.csvfile import Table, number_text
from grace.studies.study import Agreement, Study
from grace.studies.trials import TrialSet

AGREEMENT_COLUMNS = (
    "comparison",
    "probe",
    "n_rows",
    "n_stimuli",
    "n_used",
    "n_unstated",
    "n_tied",
    "n_unscored",
    "agreement",
    "se",
    "ci_low",
    "ci_high",
    "expected_agreement",
)

_UNSTATED, _TIED, _UNSCORED = "n_unstated", "n_tied", "n_unscored"


@dataclass(frozen=True, slots=True)
class _Compared:
    """
    One row: whether the answers agree, and how probable the best one is.

    Or `why_not`: why they cannot be compared.
    """

    stimulus: str
    agrees: bool = False
    highest: float = 0.0
    why_not: str = ""


def agreement_header(study: Study) -> tuple[str, ...]:
    """Return the columns of a study's agreement table."""
    return (*(f"condition_{name}" for name in study.conditions), *AGREEMENT_COLUMNS)


def agreement_table(trials: TrialSet, structured: Table, scores: Table) -> Table:
    """
    Compare the structured answers of Experiment 1 with the distributions of Experiment 2.

    Args:
        trials: The trials behind the structured table, in input order.

        structured: A structured table; its rows are the trials, by replicate.

        scores: A score table of the same study and model.
    """
    study = trials.study
    shares = _probabilities(scores)
    cells: dict[tuple[str, ...], dict[str, _Counted]] = {}
    for trial, row in zip(trials.replicates(), structured.rows, strict=False):
        values = dict(zip(structured.header, row, strict=True))
        cell = tuple(trial.variables[name] for name in study.conditions)
        for one in study.agreements:
            known = shares.get((trial.stimulus_id, one.probe), {})
            compared = _compare(trial.stimulus_id, _stated(one, values), known)
            cells.setdefault(cell, {}).setdefault(one.name, _Counted()).add(compared)
    probes = {one.name: one.probe for one in study.agreements}
    lines = [
        (*cell, name, probes[name], *counted.cells())
        for cell in sorted(cells)
        for name, counted in cells[cell].items()
    ]
    return Table(agreement_header(study), tuple(lines))


def _probabilities(scores: Table) -> dict[tuple[str, str], dict[str, float]]:
    names = ("stimulus_id", "probe", "candidate", "probability")
    cells = operator.itemgetter(*(scores.header.index(name) for name in names))
    shares: dict[tuple[str, str], dict[str, float]] = {}
    for stimulus, probe, candidate, probability in map(cells, scores.rows):
        if probability:
            shares.setdefault((stimulus, probe), {})[candidate] = float(probability)
    return shares


def _stated(one: Agreement, values: Mapping[str, str]) -> str | None:
    """Return the label that a row states; "" if it states none, None if there are several."""
    texts = [values[name] for name in one.fields]
    if not all(texts):
        return ""
    match one.rule:
        case "joined":
            return " ".join(texts)
        case "largest":
            amounts = dict(zip(one.fields, map(float, texts), strict=True))
            highest = [name for name, value in amounts.items() if value == max(amounts.values())]
            return highest[0] if len(highest) == 1 else None


def _compare(stimulus: str, stated: str | None, shares: Mapping[str, float]) -> _Compared:
    if stated == "":
        return _Compared(stimulus, why_not=_UNSTATED)
    if stated is None:
        return _Compared(stimulus, why_not=_TIED)
    if not shares:
        return _Compared(stimulus, why_not=_UNSCORED)
    if stated not in shares:
        # `uncertain` is an answer in text, and none that is scored.
        return _Compared(stimulus, why_not=_UNSTATED)
    best = [label for label, share in shares.items() if share == max(shares.values())]
    if len(best) > 1:
        return _Compared(stimulus, why_not=_TIED)
    return _Compared(stimulus, agrees=stated == best[0], highest=shares[best[0]])


class _Counted:
    """What the rows of one cell of the design and one comparison say together."""

    def __init__(self) -> None:
        self._rows = 0
        self._stimuli: set[str] = set()
        self._reasons: Counter[str] = Counter()
        self._agrees = Tally()
        self._highest = Tally()

    def add(self, row: _Compared) -> None:
        self._rows += 1
        self._stimuli.add(row.stimulus)
        if row.why_not:
            self._reasons[row.why_not] += 1
            return
        self._agrees.add(row.stimulus, float(row.agrees))
        self._highest.add(row.stimulus, row.highest)

    def cells(self) -> Iterator[str]:
        yield str(self._rows)
        yield str(len(self._stimuli))
        yield str(self._agrees.n)
        for reason in (_UNSTATED, _TIED, _UNSCORED):
            yield str(self._reasons[reason])
        estimate, expected = self._agrees.estimate(), self._highest.estimate()
        if estimate is None or expected is None:
            yield from ("",) * 5
            return
        for value in (estimate.mean, estimate.se, estimate.ci_low, estimate.ci_high, expected.mean):
            yield "" if value is None else number_text(value)
