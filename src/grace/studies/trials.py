"""
Trials: the rows of an input file, checked all at once and kept byte for byte.

Reading reports every fault of a file in one error, before anything is sent.
Nothing is repaired: cells, spelling of headers and row order stay as they are.
"""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NewType

from grace.errors import InputFaults, UsageError
from grace.studies.document import shown
from grace.studies.study import Column, Study, VariableFault

StimulusId = NewType("StimulusId", str)

MAX_FAULTS_SHOWN = 100
_MAX_CELL_CHARACTERS = 1_000_000


@dataclass(frozen=True, slots=True)
class Trial:
    """
    One row of the input.

    Attributes:
        row: Position in the input, from 1; the header is not counted.

        cells: The row's cells as they stand in the input, in its order.

        variables: Values by canonical column name, and what the study derives
            from them: what templates, conditions and exclusions see.

        stimulus_id: The same for all rows that put the same material before a
            model.
    """

    row: int
    cells: tuple[str, ...]
    variables: Mapping[str, str]
    stimulus_id: StimulusId


@dataclass(frozen=True, slots=True)
class TrialSet:
    """
    All trials of one study's input.

    Attributes:
        study: The study.

        source: File name as given, for messages.

        header: Column names as spelled in the input.

        trials: In input order.

        sha256: Hash of the file's bytes.
    """

    study: Study
    source: str
    header: tuple[str, ...]
    trials: tuple[Trial, ...]
    sha256: str

    def limited(self, limit: int | None) -> "TrialSet":
        """Return the first *limit* trials, or all of them for None."""
        if limit is None or limit >= len(self.trials):
            return self
        return TrialSet(self.study, self.source, self.header, self.trials[:limit], self.sha256)

    def stimuli(self) -> int:
        """Count distinct stimuli."""
        return len({trial.stimulus_id for trial in self.trials})


def load_trials(study: Study, path: Path) -> TrialSet:
    """
    Read and check a study's input file.

    Args:
        study: Whose columns the file must have.

        path: A CSV file in UTF-8 with a header line.

    Raises:
        UsageError: The file cannot be read.

        InputFaults: The file has faults; all of them are named.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise UsageError(
            f"{path}: no such file; give the CSV of {study.key} as --input {study.key}=PATH"
        ) from error
    except IsADirectoryError as error:
        raise UsageError(f"{path}: is a folder; expected a CSV file") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    return parse_trials(study, content, str(path))


def parse_trials(study: Study, content: bytes, source: str) -> TrialSet:
    """
    Check the bytes of a CSV file and return its trials.

    Raises:
        InputFaults: The content has faults; all of them are named.
    """
    table = _read_table(content, source)
    header, rows = tuple(table[0]), table[1:]
    names = _canonical_names(study, header, source)
    if not rows:
        raise InputFaults(source, ["has a header but no rows; expected at least one trial"])
    faults: list[str] = []
    trials: list[Trial] = []
    for number, cells in enumerate(rows, start=1):
        if len(cells) != len(header):
            faults.append(
                f"{source}, row {number}: has {len(cells)} cells; expected {len(header)}, as in "
                "the header (is a comma or a quotation mark missing?)"
            )
            continue
        values = dict(zip(names, cells, strict=True))
        spelled = dict(zip(names, header, strict=True))
        problems = _row_problems(study.columns, values)
        derived: Mapping[str, str] = {}
        if not problems:
            try:
                derived = study.derive(values)
            except VariableFault as fault:
                problems = [(fault.column, fault.problem)]
        faults += [
            f"{source}, row {number}: {spelled[column]} {problem}" for column, problem in problems
        ]
        trials.append(
            Trial(
                row=number,
                cells=tuple(cells),
                variables={**values, **derived},
                stimulus_id=_stimulus_id(study, values),
            )
        )
    if faults:
        raise InputFaults(source, _shortened(faults))
    return TrialSet(study, source, header, tuple(trials), hashlib.sha256(content).hexdigest())


def _read_table(content: bytes, source: str) -> list[list[str]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputFaults(
            source,
            [
                f"{source}, line {line}: byte {content[error.start]:#04x} is not UTF-8; "
                "save the file as 'CSV UTF-8'"
            ],
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputFaults(
            source, [f"{source}, line {line}: holds a NUL character; expected text (is it UTF-16?)"]
        )
    # The limit is global to the csv module and its default, 128 KiB, is below ours.
    csv.field_size_limit(_MAX_CELL_CHARACTERS)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    table: list[list[str]] = []
    try:
        # csv returns [] for a blank line; it holds no cell, so it is not a row.
        table += [row for row in reader if row]
    except csv.Error as error:
        raise InputFaults(
            source, [f"{source}, line {reader.line_num}: not valid CSV: {error}"]
        ) from error
    if not table:
        raise InputFaults(source, [f"{source}: is empty; expected a header line and rows"])
    return table


def _canonical_names(study: Study, header: tuple[str, ...], source: str) -> tuple[str, ...]:
    known = {
        spelling: column.name
        for column in study.columns
        for spelling in (column.name, *column.aliases)
    }
    expected = ", ".join(column.name for column in study.columns)
    faults = [
        f"{source}, header: unknown column {shown(name)}; {study.key} has the columns {expected}: "
        "remove or rename it"
        for name in header
        if name not in known
    ]
    names = tuple(known.get(name, name) for name in header)
    counts = Counter(names)
    faults += [
        f"{source}, header: column {name!r} appears {count} times; expected once"
        for name, count in counts.items()
        if count > 1
    ]
    for column in study.columns:
        if column.name not in counts:
            also = f" (or {', '.join(column.aliases)})" if column.aliases else ""
            faults.append(
                f"{source}, header: column {column.name!r}{also} is missing; add it: "
                f"{column.description}"
            )
    if faults:
        raise InputFaults(source, _shortened(faults))
    return names


def _row_problems(columns: Iterable[Column], values: Mapping[str, str]) -> list[tuple[str, str]]:
    problems = ((column.name, column.fault(values[column.name])) for column in columns)
    return [(name, problem) for name, problem in problems if problem is not None]


def _stimulus_id(study: Study, values: Mapping[str, str]) -> StimulusId:
    content = [values[name] for name in study.stimulus_columns]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    # The leading letter keeps spreadsheets from reading an id such as 12e4 as a number.
    return StimulusId(f"s{digest[:12]}")


def _shortened(faults: list[str]) -> list[str]:
    if len(faults) <= MAX_FAULTS_SHOWN:
        return faults
    hidden = len(faults) - MAX_FAULTS_SHOWN
    return [*faults[:MAX_FAULTS_SHOWN], f"... and {hidden} more faults"]
