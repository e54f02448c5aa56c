"""
Trials: the rows of an input file, checked all at once and kept byte for byte.

Reading reports every fault of a file in one error, before anything is sent.
Nothing is repaired: cells, spelling of headers and row order stay as they are.

Rows are not kept in memory. They are read again from a private copy of the file
each time they are gone through; what many rows share is made once.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from grace.errors import InputFaults, UsageError
from grace.studies.copies import InputCopy, blocks_from, blocks_of
from grace.studies.document import shown
from grace.studies.input_rows import (
    MAX_CELL_CHARACTERS,
    InputRows,
    StimulusId,
    Trial,
    cells_up_to,
)
from grace.studies.streamed import Streamed
from grace.studies.study import Study

__all__ = ["MAX_FAULTS_SHOWN", "StimulusId", "Trial", "TrialSet", "load_trials", "parse_trials"]

MAX_FAULTS_SHOWN = 100


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

    def replicates(self) -> Iterator[Trial]:
        """Go through the trials over and over, once for each replicate, without an end."""
        while True:
            yield from self.trials

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
    with cells_up_to(MAX_CELL_CHARACTERS):
        try:
            header = tuple(next(lines, ()))
            if not header:
                raise InputFaults(source, [f"{source}: is empty; expected a header line and rows"])
            names, unfit = _canonical_names(study, header, source)
            rows = InputRows(study, header, names, copy)
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
        found.add(unfit)
        raise InputFaults(source, found.shown())
    if not number:
        raise InputFaults(source, ["has a header but no rows; expected at least one trial"])
    if found.count:
        raise InputFaults(source, found.shown())
    return TrialSet(study, source, header, Streamed(rows.trials, number), copy.sha256)


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
    return names, faults
