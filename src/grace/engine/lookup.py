"""
The records of a journal, looked up by key.

Only keys and places are in memory: the answers of a long run would not fit.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from grace.engine.places import Places
from grace.engine.queries import QueryKey
from grace.engine.record import Record, decode
from grace.errors import CorruptJournal, RunFolderError

_LONGEST_FILE = 1 << 40
_LINE_BYTES = 4096


class JournalRecords(Mapping[QueryKey, Record]):
    """
    The last word on each query of a run, read from its line when it is looked at.

    Args:
        paths: The journal's files.

        places: What `place_of` gives for each query.

        answered_only: Whether failures are left out.
    """

    def __init__(
        self, paths: Sequence[Path], places: Places, *, answered_only: bool = False
    ) -> None:
        self._paths = paths
        self._places = places
        self._answered_only = answered_only
        self._lines = _Lines()

    def __getitem__(self, key: QueryKey) -> Record:
        """Read one record."""
        place = self._place(key)
        if place is None:
            raise KeyError(key)
        file, offset = divmod(place >> 1, _LONGEST_FILE)
        path = self._paths[file]
        record = parse_line(self._lines.at(path, offset), path, 0)
        if record.key != key:
            raise CorruptJournal(
                f"{path}: something else wrote to this file while it was in use. Restore it, or "
                "start another run with --new"
            )
        return record

    def __iter__(self) -> Iterator[QueryKey]:
        """Go through the keys, in the order in which the queries first ended."""
        if not self._answered_only:
            return iter(self._places)
        return (key for key in self._places if key in self)

    def __len__(self) -> int:
        """Count the queries."""
        return sum(1 for _ in self) if self._answered_only else len(self._places)

    def __contains__(self, key: object) -> bool:
        """Whether a query ended."""
        return isinstance(key, str) and self._place(QueryKey(key)) is not None

    def is_answered(self, key: QueryKey) -> bool:
        """Whether a query ended with an answer, which needs no reading."""
        place = self._place(key)
        return place is not None and bool(place & 1)

    def answers(self) -> "JournalRecords":
        """Return the same records without failures."""
        return JournalRecords(self._paths, self._places, answered_only=True)

    def _place(self, key: QueryKey) -> int | None:
        place = self._places.get(key)
        return None if place is None or (self._answered_only and not place & 1) else place


def is_answered(records: Mapping[QueryKey, Record], key: QueryKey) -> bool:
    """Whether a query ended with an answer."""
    if isinstance(records, JournalRecords):
        return records.is_answered(key)
    return key in records and records[key].status == "answered"


class _Lines:
    """Reads lines here and there; keeps the last file open."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._descriptor = -1

    def at(self, path: Path, offset: int) -> bytes:
        """Return the line that begins at an offset."""
        try:
            if path != self._path:
                self._close()
                self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                self._path = path
            line = b""
            while not line.endswith(b"\n"):
                block = os.pread(self._descriptor, _LINE_BYTES, offset + len(line))
                if not block:
                    break
                end = block.find(b"\n") + 1
                line += block[:end] if end else block
        except OSError as error:
            raise RunFolderError(f"{path}: cannot be read: {error.strerror}") from error
        return line

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1
        self._path = None

    def __del__(self) -> None:
        self._close()


def place_of(file: int, offset: int, *, answered: bool) -> int:
    """Return as one number in which file a line is, where it begins, and if it is an answer."""
    return (file * _LONGEST_FILE + offset) << 1 | answered


def parse_line(line: bytes, path: Path, number: int) -> Record:
    """
    Read a line of a journal.

    Args:
        line: The line.

        path: Its file, for the message.

        number: Which one it is; 0 if that is not known.

    Raises:
        CorruptJournal: It is not a record.
    """
    try:
        return decode(line)
    except (ValueError, RecursionError) as error:
        where = f"{path}, line {number}" if number else str(path)
        raise CorruptJournal(
            f"{where}: is not a journal line ({error}); something else wrote to "
            "this file. Restore it, or start another run with --new"
        ) from error
