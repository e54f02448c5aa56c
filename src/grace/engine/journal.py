"""
The checkpoint of a run: one JSON line for each finished query.

The journal is the only state that survives a crash. A line is written when a
query is finished and never changed. On resume, the queries that it names are
skipped and all others are asked again. One writer has one file, so processes
never write to the same one.

A process killed while writing leaves a torn last line; it is dropped. A bad
line anywhere else means that something else wrote to the file, and raises
`CorruptJournal`: dropping it would ask finished queries twice.
"""

import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from grace.engine.disk import make_folder, numbered, sync_folder
from grace.engine.lookup import JournalRecords, is_answered, parse_line, place_of
from grace.engine.places import Places
from grace.engine.record import Record, encode
from grace.errors import RunFolderError

__all__ = [
    "JournalReader",
    "JournalRecords",
    "JournalState",
    "JournalWriter",
    "Record",
    "is_answered",
    "read_journal",
]

# A SIGKILL loses nothing that was written; only a power cut needs fsync. Once a
# second bounds that loss without making every answer wait for the disk.
_SYNC_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class JournalState:
    """
    What a run's journal files hold.

    Attributes:
        records: The last word on each query.

        lines: How many complete lines were read.
    """

    records: JournalRecords
    lines: int


class JournalReader:
    """
    Reads a run's journal files, each line once.

    Args:
        folder: The run's `journal` folder; it may not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: list[Path] = []
        self._ends: list[int] = []
        self._lines: list[int] = []
        self._places = Places()

    def read(self) -> JournalState:
        """
        Read what was written since the last call.

        Raises:
            CorruptJournal: A line that is not the torn end of a file is not a record.

            RunFolderError: A file cannot be read.
        """
        for path in sorted(self._folder.glob("*.jsonl")):
            if path not in self._paths:
                self._paths.append(path)
                self._ends.append(0)
                self._lines.append(0)
            self._continue(self._paths.index(path))
        return JournalState(JournalRecords(self._paths, self._places), sum(self._lines))

    def _continue(self, file: int) -> None:
        path = self._paths[file]
        with _opened(path, gone_is_empty=not self._ends[file]) as stream:
            stream.seek(self._ends[file])
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                record = parse_line(line, path, self._lines[file] + 1)
                held = self._places.get(record.key)
                # An answer outlives a failure, whatever their order: the last bit says which.
                if held is None or not held & 1:
                    answered = record.status == "answered"
                    place = place_of(file, self._ends[file], answered=answered)
                    self._places.set(record.key, place)
                self._ends[file] += len(line)
                self._lines[file] += 1


def read_journal(folder: Path) -> JournalState:
    """
    Read all journal files of a run.

    Args:
        folder: The run's `journal` folder; it may not exist yet.

    Raises:
        CorruptJournal: A line that is not the torn end of a file is not a record.

        RunFolderError: A file cannot be read.
    """
    return JournalReader(folder).read()


@contextmanager
def _opened(path: Path, *, gone_is_empty: bool) -> Iterator[IO[bytes]]:
    try:
        try:
            stream: IO[bytes] = path.open("rb")
        except FileNotFoundError:
            if not gone_is_empty:
                raise
            # A process that shares the run removed it when it left: it held nothing.
            stream = io.BytesIO()
        with stream:
            yield stream
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be read: {error.strerror}") from error


class JournalWriter:
    """
    Appends records to a file of its own; use it in a `with` block.

    Args:
        folder: The run's `journal` folder; made if missing.

        stage: Begins the file's name.

        shard: Follows it, where several processes share the stage; else "".

    Raises:
        RunFolderError: The file cannot be made or written (a full disk).
    """

    def __init__(self, folder: Path, stage: str, shard: str = "") -> None:
        self._folder = folder
        self._name = f"{stage}-{shard}" if shard else stage
        self._file: IO[bytes] | None = None
        self._path = folder
        self._synced = time.monotonic()

    def __enter__(self) -> "JournalWriter":
        """Open the first file name that is not taken."""
        try:
            make_folder(self._folder)
            paths = numbered(self._folder, self._name)
            while self._file is None:
                self._path = next(paths)
                with suppress(FileExistsError):
                    self._file = self._path.open("xb")
            # The lines are forced to the disk later, the file's name here.
            sync_folder(self._folder)
        except OSError as error:
            if self._file is not None:
                self._file.close()
            raise RunFolderError(f"{self._path}: cannot be made: {error.strerror}") from error
        return self

    def append(self, record: Record) -> None:
        """
        Write one record; it survives a kill once this returns.

        Raises:
            RunFolderError: The disk is full, or the file is gone.
        """
        if self._file is None:
            raise RunFolderError(f"{self._path}: the journal is not open")
        line = encode(record)
        try:
            self._file.write(line)
            self._file.flush()
            if time.monotonic() - self._synced >= _SYNC_SECONDS:
                self._check_place(self._file)
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            raise RunFolderError(
                f"{self._path}: cannot be written: {error.strerror}; what was finished is kept: "
                "make room and give the same command again"
            ) from error

    def _check_place(self, stream: IO[bytes]) -> None:
        # A file that was deleted can be written on and on, and nobody will ever read it.
        held = os.fstat(stream.fileno())
        try:
            found = self._path.stat()
            # Some file systems number their files anew; only this one grows with each line.
            there = os.path.samestat(found, held) or found.st_size == held.st_size
        except FileNotFoundError:
            there = False
        if not there:
            raise RunFolderError(
                f"{self._path}: is gone: the run folder was deleted or moved while the run wrote "
                "to it. If it was moved, continue it where it is, with: grace resume FOLDER"
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Sync and close; an empty file is removed."""
        if self._file is None:
            return
        try:
            with self._file:
                self._file.flush()
                os.fsync(self._file.fileno())
                if error is None:
                    self._check_place(self._file)
                empty = self._file.tell() == 0
            if empty:
                self._path.unlink(missing_ok=True)
        except OSError as failure:
            if error is None:
                raise RunFolderError(
                    f"{self._path}: cannot be written: {failure.strerror}"
                ) from failure
        finally:
            self._file = None
