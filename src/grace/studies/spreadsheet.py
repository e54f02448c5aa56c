"""
Cells that a spreadsheet would run as a formula when it opens a CSV file.

They are data and stay as they are; whoever opens the file is told. Knows nothing
of files: rows go in, and where the cells are comes out.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_FIRST = frozenset("=+-@\t\r")
_FORMULA = re.compile(r"[=+\-@\t\r][\s\S]")
_NUMBER = re.compile(r"[-+][0-9]*\.?[0-9]+(e[-+]?[0-9]+)?%?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FormulaCells:
    """
    The cells of one table that a spreadsheet would run.

    Attributes:
        source: The table.

        count: How many there are.

        row, column, value: The first of them; rows are counted from 1, without
            the header.
    """

    source: str
    count: int
    row: int
    column: str
    value: str


def begins_like_a_formula(cell: str) -> bool:
    r"""
    Whether a spreadsheet would take a cell for a formula: `=`, `+`, `-`, `@`, tab or CR.

    A number with a sign is a number there as well, and a sign alone is text.

    >>> [begins_like_a_formula(cell) for cell in ("=1+1", "\t=1", "- 3", "-3.5", "+2%", "-", "a=1")]
    [True, True, True, False, False, False, False]
    """
    return _FORMULA.match(cell) is not None and _NUMBER.fullmatch(cell) is None


def formula_cells(
    source: str, header: Sequence[str], rows: Iterable[Sequence[str]]
) -> FormulaCells | None:
    """
    Find the cells of a table that a spreadsheet would run; None if there are none.

    Args:
        source: What messages call the table.

        header: Its columns.

        rows: Its cells, as text.
    """
    found = (
        (number, name, cell)
        for number, row in enumerate(rows, start=1)
        for name, cell in zip(header, row, strict=True)
        # Most cells are told apart by their first character.
        if cell[:1] in _FIRST and begins_like_a_formula(cell)
    )
    first = next(found, None)
    if first is None:
        return None
    return FormulaCells(source, 1 + sum(1 for _ in found), *first)
