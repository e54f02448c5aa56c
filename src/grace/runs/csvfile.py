"""
CSV files as Grace writes them: UTF-8, LF, minimal quoting, whole or not at all.

A file appears under its name only when it is complete and on the disk.
"""

import contextlib
import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from grace.engine.disk import sync_folder
from grace.errors import RunFolderError

_QUOTED = frozenset(',"\r\n')


@dataclass(frozen=True, slots=True)
class Table:
    """A header and rows of text cells."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def column(self, name: str) -> tuple[str, ...]:
        """
        Return a column's cells.

        Raises:
            ValueError: There is no such column.
        """
        position = self.header.index(name)
        return tuple(row[position] for row in self.rows)


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """
    Return a table as the bytes of a CSV file.

    Cells keep their characters, line breaks included. A half of a surrogate
    pair, which no UTF-8 file can hold, is written as its escape.
    """
    # Python 3.11's csv module leaves a lone carriage return unquoted when lines
    # end in LF, and then refuses to read its own file.
    # A line without any character is no row to a reader: a lone empty cell is quoted.
    lines = [",".join(_cell(cell) for cell in row) or '""' for row in (header, *rows)]
    return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")


def write_bytes(path: Path, content: bytes) -> None:
    """
    Write a file whole or not at all.

    Raises:
        RunFolderError: The disk is full, or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        # Where nothing can be written, nothing can be removed.
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise RunFolderError(f"{path}: cannot be written: {error.strerror}") from error


def read_table(path: Path) -> Table:
    """
    Read a table that Grace wrote.

    Raises:
        RunFolderError: The file is missing or is not a rectangular CSV table.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        raise RunFolderError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{path}: cannot be read: {error}") from error
    csv.field_size_limit(max(csv.field_size_limit(), 16_000_000))
    try:
        rows = [tuple(row) for row in csv.reader(io.StringIO(text, newline=""), strict=True)]
    except csv.Error as error:
        raise RunFolderError(f"{path}: is not CSV: {error}") from error
    if not rows:
        raise RunFolderError(f"{path}: is empty")
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(rows[0]):
            raise RunFolderError(
                f"{path}, row {number}: has {len(row)} cells; the header has {len(rows[0])}"
            )
    return Table(rows[0], tuple(rows[1:]))


def number_text(value: float) -> str:
    """
    Return a measured number as table text: 9 significant digits.

    >>> number_text(0.1), number_text(1 / 3)
    ('0.1', '0.333333333')
    """
    return f"{value:.9g}"


def _cell(text: str) -> str:
    if _QUOTED.isdisjoint(text):
        return text
    return '"' + text.replace('"', '""') + '"'
