"""
The per-condition summary of a run's tables.

One line for each cell of the design and each measure. In Experiment 1 every
row is a sample; in Experiment 2 a stimulus has one distribution, however many
rows repeat it, so each stimulus counts once. Rows are counted and forgotten.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping

from grace.analysis.coherence import Reader, coherence_measures
from grace.analysis.estimate import Estimate, Tally
from grace.runs.csvfile import Table, number_text
from grace.studies.study import AnswerField, Study
from grace.studies.trials import Trial, TrialSet

SUMMARY_COLUMNS = (
    "rows",
    "measure",
    "n_rows",
    "n_stimuli",
    "n_used",
    "n_excluded",
    "n_missing",
    "mean",
    "se",
    "ci_low",
    "ci_high",
)
"""
`n_rows` counts rows of the table; `n_used`, `n_excluded` and `n_missing` count what is
averaged: rows in Experiment 1, stimuli in Experiment 2.
"""


def summary_header(study: Study) -> tuple[str, ...]:
    """Return the columns of a study's summary."""
    return (*(f"condition_{name}" for name in study.conditions), *SUMMARY_COLUMNS)


def summarise_structured(trials: TrialSet, structured: Table) -> Table:
    """
    Summarise structured answers by condition, with and without exclusions.

    Args:
        trials: The trials behind the table, in input order.

        structured: A structured table; its rows are the trials, by replicate.
    """
    study = trials.study
    measures = dict(_structured_measures(study))
    exclusions: dict[str, Reader] = {
        f"excluded_{exclusion.name}": _flag(exclusion.applies) for exclusion in study.exclusions
    }
    kept = {"all": _Summary({**exclusions, **measures})}
    if study.exclusions:
        kept["included"] = _Summary(measures)
    for trial, cells in zip(trials.replicates(), structured.rows, strict=False):
        values = {**dict(zip(structured.header, cells, strict=True)), **trial.variables}
        excluded = any(exclusion.applies(values) for exclusion in study.exclusions)
        for which, summary in kept.items():
            used = which == "all" or not excluded
            summary.add(_cell(study, trial), trial.stimulus_id, values, used=used)
    return _table(study, kept)


def summarise_probabilities(trials: TrialSet, probabilities: Table, scores: Table) -> Table:
    """
    Summarise distributions by condition; each stimulus counts once.

    Args:
        trials: The trials behind the tables, in input order.

        probabilities: A probability table.

        scores: The score table of the same run; adds coverage, and the probes
            that have no column in the probability table.
    """
    study = trials.study
    # What sets conditions apart need not be shown to the model: the same stimulus may
    # stand in two of them.
    repeats: Counter[tuple[tuple[str, ...], str]] = Counter()
    first: set[str] = set()
    for trial in trials.trials:
        shown = (_cell(study, trial), trial.stimulus_id)
        if shown not in repeats:
            first.add(str(trial.row))
        repeats[shown] += 1
    extra = _from_scores(study, scores, first)
    summary = _Summary(_probability_measures(study))
    for trial, cells in zip(trials.trials, probabilities.rows, strict=True):
        if str(trial.row) in first:
            cell = _cell(study, trial)
            values = {
                **dict(zip(probabilities.header, cells, strict=True)),
                **extra.get(str(trial.row), {}),
            }
            count = repeats[cell, trial.stimulus_id]
            summary.add(cell, trial.stimulus_id, values, table_rows=count)
    return _table(study, {"all": summary})


def _table(study: Study, kept: Mapping[str, "_Summary"]) -> Table:
    lines = [line for which, summary in kept.items() for line in summary.lines(which)]
    width = len(study.conditions)
    return Table(summary_header(study), tuple(sorted(lines, key=lambda line: line[:width])))


def _cell(study: Study, trial: Trial) -> tuple[str, ...]:
    return tuple(trial.variables[name] for name in study.conditions)


def _from_scores(study: Study, scores: Table, rows: Container[str]) -> dict[str, dict[str, str]]:
    """Return, for some rows of the input, what the score table adds to the probability table."""
    in_table = {column.probe for column in study.probability_columns}
    number = scores.header.index("row")
    extra: dict[str, dict[str, str]] = {}
    for cells in scores.rows:
        if cells[number] not in rows:
            continue
        line = dict(zip(scores.header, cells, strict=True))
        held, name = extra.setdefault(line["row"], {}), line["probe"]
        held[f"coverage_{name}"] = line["coverage"]
        # Runs of older versions have no such column.
        held[f"outside_leads_{name}"] = line.get("outside_leads", "")
        if name not in in_table:
            held[f"{name}_prob_{line['candidate']}"] = line["probability"]
    return extra


def _probability_measures(study: Study) -> dict[str, Reader]:
    in_table = {column.probe for column in study.probability_columns}
    measures = {column.name: _number(column.name) for column in study.probability_columns}
    if study.coherence is not None:
        measures |= coherence_measures(study.coherence)
    for probe in study.candidate_probes:
        if probe.name not in in_table:
            shares = {label: f"{probe.name}_prob_{label}" for label in probe.labels}
            measures |= {name: _number(name) for name in shares.values()}
            values = {a.label: a.value for a in probe.answers if a.value is not None}
            if len(values) == len(shares):
                weights = {shares[label]: value for label, value in values.items()}
                measures[f"{probe.name}_mean"] = _weighted(weights)
    for probe in study.candidate_probes:
        measures[f"coverage_{probe.name}"] = _number(f"coverage_{probe.name}")
    for probe in study.candidate_probes:
        measures[f"outside_leads_{probe.name}"] = _yes(f"outside_leads_{probe.name}")
    return measures


def _structured_measures(study: Study) -> Iterator[tuple[str, Reader]]:
    for answer_field in study.fields:
        if answer_field.kind == "integer":
            yield f"{answer_field.name}_mean", _number(answer_field.name)
        elif answer_field.kind == "choice":
            for choice in _choices(answer_field):
                yield f"{answer_field.name}_prop_{choice}", _proportion({answer_field.name: choice})
    for group in study.joint_fields:
        fields = [f for f in study.fields if f.name in group]
        for combination in itertools.product(*(_choices(f) for f in fields)):
            wanted = {f.name: choice for f, choice in zip(fields, combination, strict=True)}
            yield f"prop_{'_'.join(combination)}", _proportion(wanted)


def _choices(answer_field: AnswerField) -> tuple[str, ...]:
    return (*answer_field.choices, *(("uncertain",) if answer_field.uncertain else ()))


def _number(name: str) -> Reader:
    def read(values: Mapping[str, str]) -> float | None:
        text = values.get(name, "")
        return float(text) if text else None

    return read


def _weighted(weights: Mapping[str, float]) -> Reader:
    def read(values: Mapping[str, str]) -> float | None:
        texts = {name: values.get(name, "") for name in weights}
        if "" in texts.values():
            return None
        return math.fsum(float(text) * weights[name] for name, text in texts.items())

    return read


def _yes(name: str) -> Reader:
    def read(values: Mapping[str, str]) -> float | None:
        text = values.get(name, "")
        return float(text == "yes") if text else None

    return read


def _proportion(wanted: Mapping[str, str]) -> Reader:
    def read(values: Mapping[str, str]) -> float | None:
        if any(not values[name] for name in wanted):
            return None
        return float(all(values[name] == value for name, value in wanted.items()))

    return read


def _flag(applies: Callable[[Mapping[str, str]], bool]) -> Reader:
    def read(values: Mapping[str, str]) -> float | None:
        return float(applies(values))

    return read


class _Cell:
    """What is known of the rows of one cell of the design, so far."""

    def __init__(self, measures: Mapping[str, Reader]) -> None:
        self.table_rows = 0
        self.stimuli: set[str] = set()
        self.rows = 0
        self.used = 0
        self.tallies = {name: Tally() for name in measures}


class _Summary:
    """
    Takes rows one by one and keeps what is averaged of them.

    Args:
        measures: What is averaged, by name.
    """

    def __init__(self, measures: Mapping[str, Reader]) -> None:
        self._measures = measures
        self._cells: dict[tuple[str, ...], _Cell] = {}

    def add(
        self,
        cell: tuple[str, ...],
        stimulus: str,
        values: Mapping[str, str],
        *,
        used: bool = True,
        table_rows: int = 1,
    ) -> None:
        """
        Add a row.

        Args:
            cell: The cell of the design.

            stimulus: What it shows.

            values: Its cells, by column.

            used: Whether it is averaged, or only counted.

            table_rows: How many rows of the table it stands for.
        """
        held = self._cells.get(cell)
        if held is None:
            held = self._cells[cell] = _Cell(self._measures)
        held.table_rows += table_rows
        held.stimuli.add(stimulus)
        held.rows += 1
        if not used:
            return
        held.used += 1
        for name, read in self._measures.items():
            value = read(values)
            if value is not None:
                held.tallies[name].add(stimulus, value)

    def lines(self, which: str) -> Iterator[tuple[str, ...]]:
        """Yield the summary's lines, cell by cell."""
        for cell in sorted(self._cells):
            held = self._cells[cell]
            for name, tally in held.tallies.items():
                yield (
                    *(*cell, which, name),
                    *(str(held.table_rows), str(len(held.stimuli)), str(tally.n)),
                    *(str(held.rows - held.used), str(held.used - tally.n)),
                    *_estimate_cells(tally.estimate()),
                )


def _estimate_cells(estimate: Estimate | None) -> tuple[str, ...]:
    if estimate is None:
        return ("", "", "", "")
    values = (estimate.mean, estimate.se, estimate.ci_low, estimate.ci_high)
    return tuple("" if value is None else number_text(value) for value in values)
