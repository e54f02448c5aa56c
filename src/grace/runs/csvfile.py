"""
CSV files as Grace writes them: UTF-8, LF, minimal quoting, whole or not at all.

A file appears under its name only when it is complete and on the disk. Tables
with a line for each row of an input may be larger than memory: they are written
and read row by row.
"""

import contextlib
import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO

from grace.engine.disk import sync_folder
from grace.errors import RunFolderError
from grace.studies.streamed import Streamed

_QUOTED = frozenset(',"\r\n')
_MOST_CHARACTERS = 16_000_000
_LINES_TOGETHER = 256


@dataclass(frozen=True, slots=True)
class Table:
    """
    A header and rows of text cells.

    Attributes:
        header: Names of the columns.

        rows: Cells of each row; in a large table, made or read again in each pass.
    """

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

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
    return _encoded("".join(csv_lines(header, rows)))


def csv_lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a CSV file, each with its end."""
    # Python 3.11's csv module leaves a lone carriage return unquoted when lines
    # end in LF, and then refuses to read its own file.
    # A line without any character is no row to a reader: a lone empty cell is quoted.
    return ((csv_cells(row) or '""') + "\n" for row in chain((header,), rows))


def csv_cells(cells: Iterable[str]) -> str:
    """Return cells as they stand in a line."""
    return ",".join([_cell(cell) for cell in cells])


def write_bytes(path: Path, content: bytes) -> None:
    """
    Write a file whole or not at all.

    Raises:
        RunFolderError: The disk is full, or the folder cannot be written.
    """
    with written_whole(path) as stream:
        stream.write(content)


def write_once(path: Path, content: bytes, writer: str) -> None:
    """
    Write a file whole, unless it is there: of several processes, the first one's stays.

    Args:
        path: The file.

        content: What it is to hold.

        writer: Sets this process apart from others that may write the same file now.

    Raises:
        RunFolderError: The disk is full, or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{writer}.part")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        # Unlike a rename, a link never takes the place of what is there.
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(temporary)
        sync_folder(path.parent)
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_table(path: Path, table: Table) -> None:
    """
    Write a table row by row, whole or not at all.

    Raises:
        RunFolderError: The disk is full, or the folder cannot be written.
    """
    write_lines(path, csv_lines(table.header, table.rows))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """
    Write lines, each with its end, whole or not at all.

    Raises:
        RunFolderError: The disk is full, or the folder cannot be written.
    """
    left = iter(lines)
    with written_whole(path) as stream:
        while some := "".join(islice(left, _LINES_TOGETHER)):
            stream.write(_encoded(some))


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """
    Open a file that takes its name when the block ends, and vanishes if it fails.

    Raises:
        RunFolderError: The disk is full, or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        # Where nothing can be written, nothing can be removed.
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise RunFolderError(f"{path}: cannot be written: {error.strerror}") from error
        raise


def read_table(path: Path) -> Table:
    """
    Read a table that Grace wrote.

    Raises:
        RunFolderError: The file is missing or is not a rectangular CSV table.
    """
    table = stream_table(path)
    return Table(table.header, tuple(table.rows))


def stream_table(path: Path) -> Table:
    """
    Open a table that Grace wrote; its rows are read anew in each pass.

    Raises:
        RunFolderError: The file is missing or has no header. A pass raises it
            where the file is not a rectangular CSV table.
    """

    def rows() -> Iterator[tuple[str, ...]]:
        return islice(_read_rows(path), 1, None)

    return Table(next(_read_rows(path)), Streamed(rows))


def _read_rows(path: Path) -> Iterator[tuple[str, ...]]:
    """Yield the header and then the rows of a table."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            csv.field_size_limit(max(csv.field_size_limit(), _MOST_CHARACTERS))
            reader = csv.reader(stream, strict=True)
            header = next(reader, None)
            if header is None:
                raise RunFolderError(f"{path}: is empty")
            yield tuple(header)
            for number, row in enumerate(reader, start=1):
                if len(row) != len(header):
                    raise RunFolderError(
                        f"{path}, row {number}: has {len(row)} cells; the header has {len(header)}"
                    )
                yield tuple(row)
    except FileNotFoundError as error:
        raise RunFolderError(f"{path}: no such file") from error
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        # Its position would be that in a block of the file.
        raise RunFolderError(f"{path}: cannot be read: not UTF-8, {error.reason}") from error
    except csv.Error as error:
        raise RunFolderError(f"{path}: is not CSV: {error}") from error


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


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
