"""What holds for every table: its columns, and the cells that were known beforehand."""

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from grace.runs.csvfile import Table

MOST_FAULTS = 100
"""Faults of one table that are told."""

_SHOWN = 60
_MOST_CHARACTERS = 600

# As Grace writes them; Python would also read 1_0, nan, digits of other scripts and spaces around a number.
_NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?(e[-+][0-9]{1,3})?")
_WHOLE = re.compile(r"[0-9]{1,18}")
# What may be summed, squared and raised without overflow.
_LARGEST = 1e100


def whole(text: str) -> int | None:
    """Return the whole number that a cell holds, or None."""
    return int(text) if _WHOLE.fullmatch(text) else None


def number(text: str) -> float:
    """
    Return the number that a cell holds.

    Raises:
        ValueError: It holds none that Grace would write.
    """
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not abs(value) <= _LARGEST:
        raise ValueError(f"{text[:_SHOWN]!r} is not a number")
    return value


def shortened(fault: str) -> str:
    """Return a fault at a length that can be read."""
    hidden = len(fault) - _MOST_CHARACTERS
    return fault if hidden <= 0 else f"{fault[:_MOST_CHARACTERS]}… ({hidden:,} characters more)"


def header_fault(path: Path, table: Table, expected: Sequence[str]) -> str | None:
    """Return what is wrong with a table's columns, or None."""
    if table.header == tuple(expected):
        return None
    missing = [name for name in expected if name not in table.header]
    extra = [name for name in table.header if name not in expected]
    if missing or extra:
        return f"{path}: columns differ: missing {missing}, not expected {extra}"
    return f"{path}: columns are in another order than expected"


def row_faults(path: Path, table: Table, expected: Iterable[Sequence[str]]) -> Iterator[str]:
    """
    Yield a fault for each row that does not begin as expected, and for their number.

    Args:
        path: The table's file.

        table: The table.

        expected: The first cells of every row, in order.
    """
    found = RowFaults(path, table.header)
    for row, cells in itertools.zip_longest(table.rows, expected):
        found.compare(row, cells)
    yield from found.faults()


class RowFaults:
    """
    Compares rows with what they should begin with, one after another.

    Args:
        path: The table's file.

        header: Its columns.
    """

    def __init__(self, path: Path, header: Sequence[str]) -> None:
        self._path = path
        self._header = header
        self._rows = 0
        self._expected = 0
        self._faults: list[str] = []

    def compare(self, row: Sequence[str] | None, cells: Sequence[str] | None) -> None:
        """Look at the next row; None where the table, or what is expected of it, has ended."""
        self._rows += row is not None
        self._expected += cells is not None
        if row is None or cells is None or len(self._faults) >= MOST_FAULTS:
            return
        if tuple(row[: len(cells)]) == tuple(cells[: len(row)]):
            return
        # One cell tells enough: in a row out of place, all of them differ.
        name, text, right = next(
            (name, text, right)
            for name, text, right in zip(self._header, row, cells, strict=False)
            if text != right
        )
        self._faults.append(
            f"{self._path}, row {self._rows}: {name} is {text[:_SHOWN]!r}; expected "
            f"{right[:_SHOWN]!r} (was the cell changed, or the row moved?)"
        )

    @property
    def any(self) -> bool:
        """Whether a row was wrong so far."""
        return bool(self._faults) or self._rows != self._expected

    def faults(self) -> Iterator[str]:
        """Yield what was found, once all rows were compared: the first of very many."""
        if self._rows != self._expected:
            yield f"{self._path}: has {self._rows} rows; expected {self._expected}"
        yield from self._faults
