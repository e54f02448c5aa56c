"""
Trials: the rows of an input file, checked all at once and kept byte for byte.

Reading reports every fault of a file in one error, before anything is sent.
Nothing is repaired: cells, spelling of headers and row order stay as they are.

Rows are not kept in memory. They are read again from a private copy of the file
each time they are gone through; what many rows share is made once.
"""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NewType

from grace.errors import InputFaults, UsageError
from grace.studies.copies import InputCopy, blocks_from, blocks_of
from grace.studies.streamed import Streamed
from grace.studies.study import Column, Study, VariableFault

StimulusId = NewType("StimulusId", str)

MAX_FAULTS_SHOWN = 100
_MAX_CELL_CHARACTERS = 1_000_000
_MOST_MATERIALS = 4096


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


@dataclass(frozen=True)
class TrialSet:
    """
    All trials of one study's input.

    Attributes:
        study: The study.

        source: File name as given, for messages.

        header: Column names as spelled in the input.

        trials: In input order. Those of a file are read again in each pass.

        sha256: Hash of the file's bytes.
    """

    study: Study
    source: str
    header: tuple[str, ...]
    trials: Sequence[Trial]
    sha256: str

    def limited(self, limit: int | None) -> "TrialSet":
        """Return the first *limit* trials, or all of them for None."""
        if limit is None or limit >= len(self.trials):
            return self
        return TrialSet(self.study, self.source, self.header, self.trials[:limit], self.sha256)

    def stimuli(self) -> int:
        """Count distinct stimuli."""
        return self._stimuli

    @cached_property
    def _stimuli(self) -> int:
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
        with path.open("rb") as stream:
            return parse_trials(study, blocks_from(stream), str(path))
    except FileNotFoundError as error:
        raise UsageError(
            f"{path}: no such file; give the CSV of {study.key} as --input {study.key}=PATH"
        ) from error
    except IsADirectoryError as error:
        raise UsageError(f"{path}: is a folder; expected a CSV file") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def parse_trials(study: Study, content: bytes | Iterable[bytes], source: str) -> TrialSet:
    """
    Check the bytes of a CSV file, whole or in portions, and return its trials.

    Raises:
        InputFaults: The content has faults; all of them are named.

        UsageError: There is no room for a copy of it.
    """
    blocks = blocks_of(content) if isinstance(content, bytes) else content
    copy = InputCopy(blocks, source)
    reader = csv.reader(copy.text(), strict=True)
    # csv returns [] for a blank line; it holds no cell, so it is not a row.
    lines = (row for row in reader if row)
    with _cells_up_to(_MAX_CELL_CHARACTERS):
        try:
            header = tuple(next(lines, ()))
            if not header:
                raise InputFaults(source, [f"{source}: is empty; expected a header line and rows"])
            names, unfit = _canonical_names(study, header, source)
            rows = _Rows(study, header, names, copy)
            found = _Faults()
            number = 0
            for number, cells in enumerate(lines, start=1):
                if not unfit:
                    found.add(f"{source}, row {number}: {fault}" for fault in rows.faults(cells))
        except csv.Error as error:
            raise InputFaults(
                source, [f"{source}, line {reader.line_num}: not valid CSV: {error}"]
            ) from error
    if unfit:
        raise InputFaults(source, unfit)
    if not number:
        raise InputFaults(source, ["has a header but no rows; expected at least one trial"])
    if found.count:
        raise InputFaults(source, found.shown())
    return TrialSet(study, source, header, Streamed(rows.trials, number), copy.sha256)


@dataclass(frozen=True, slots=True)
class _Material:
    """What rows that agree in all that derivation may look at have in common."""

    stimulus_id: StimulusId
    derived: Mapping[str, str]


class _Rows:
    """Makes trials of a copy's rows, in pass after pass."""

    def __init__(
        self, study: Study, header: tuple[str, ...], names: tuple[str, ...], copy: InputCopy
    ) -> None:
        self._study = study
        self._header = header
        self._names = names
        self._copy = copy
        self._shared = tuple(
            column.name for column in study.columns if column.name in study.material_columns
        )
        self._others = tuple(column for column in study.columns if column.name not in self._shared)
        self._materials: dict[tuple[str, ...], _Material] = {}

    def faults(self, cells: Sequence[str]) -> Iterator[str]:
        """Yield what is wrong with a row."""
        if len(cells) != len(self._header):
            yield (
                f"has {len(cells)} cells; expected {len(self._header)}, as in the header (is a "
                "comma or a quotation mark missing?)"
            )
            return
        values = dict(zip(self._names, cells, strict=True))
        # Material that is known has been checked.
        known = self._key(values) in self._materials
        problems = _row_problems(self._others if known else self._study.columns, values)
        if not problems and not known:
            try:
                self._material(values)
            except VariableFault as fault:
                problems = [(fault.column, fault.problem)]
        if problems:
            spelled = dict(zip(self._names, self._header, strict=True))
            yield from (f"{spelled[column]} {problem}" for column, problem in problems)

    def trials(self) -> Iterator[Trial]:
        """Begin a pass."""
        with _cells_up_to(_MAX_CELL_CHARACTERS):
            # The reader takes the limit at each row: it only ever grows, see `_cells_up_to`.
            reader = csv.reader(self._copy.text(), strict=True)
        lines = (row for row in reader if row)
        next(lines)
        for number, cells in enumerate(lines, start=1):
            values = dict(zip(self._names, cells, strict=True))
            material = self._material(values)
            yield Trial(
                row=number,
                cells=tuple(cells),
                variables={**values, **material.derived},
                stimulus_id=material.stimulus_id,
            )

    def _key(self, values: Mapping[str, str]) -> tuple[str, ...]:
        return tuple([values[name] for name in self._shared])

    def _material(self, values: Mapping[str, str]) -> _Material:
        key = self._key(values)
        found = self._materials.get(key)
        if found is None:
            shared = dict(zip(self._shared, key, strict=True))
            found = _Material(_stimulus_id(self._study, shared), self._study.derive(shared))
            if len(self._materials) >= _MOST_MATERIALS:
                # Rarely: an input of which hardly any two rows are alike.
                self._materials.clear()
            self._materials[key] = found
        return found


class _Faults:
    """The first faults of a file, and how many there are."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[str] = []

    def add(self, faults: Iterable[str]) -> None:
        for fault in faults:
            self.count += 1
            if self.count <= MAX_FAULTS_SHOWN:
                self._first.append(fault)

    def shown(self) -> list[str]:
        hidden = self.count - len(self._first)
        return [*self._first, f"... and {hidden} more faults"] if hidden else self._first


@contextmanager
def _cells_up_to(characters: int) -> Iterator[None]:
    """
    Let cells be so long, and no longer; afterwards at least so long.

    The limit is global to the csv module and its default, 128 KiB, is below ours.
    """
    before = csv.field_size_limit(characters)
    try:
        yield
    finally:
        csv.field_size_limit(max(before, characters))


def _canonical_names(
    study: Study, header: tuple[str, ...], source: str
) -> tuple[tuple[str, ...], list[str]]:
    """Return the columns' names in Grace, and what is wrong with the header."""
    known = {
        spelling: column.name
        for column in study.columns
        for spelling in (column.name, *column.aliases)
    }
    expected = ", ".join(column.name for column in study.columns)
    faults = [
        f"{source}, header: unknown column {name!r}; {study.key} has the columns {expected}: "
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
    return names, faults


def _row_problems(columns: Iterable[Column], values: Mapping[str, str]) -> list[tuple[str, str]]:
    problems = ((column.name, column.fault(values[column.name])) for column in columns)
    return [(name, problem) for name, problem in problems if problem is not None]


def _stimulus_id(study: Study, values: Mapping[str, str]) -> StimulusId:
    content = [values[name] for name in study.stimulus_columns]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    # The leading letter keeps spreadsheets from reading an id such as 12e4 as a number.
    return StimulusId(f"s{digest[:12]}")

