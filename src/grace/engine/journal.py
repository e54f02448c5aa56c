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

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Literal

from pydantic import ConfigDict, JsonValue, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated

from grace.engine.plan import QueryKey
from grace.errors import CorruptJournal, RunFolderError

# A SIGKILL loses nothing that was written; only a power cut needs fsync. Once a
# second bounds that loss without making every answer wait for the disk.
_SYNC_SECONDS = 1.0


@validated(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Record:
    """
    How one query ended.

    Attributes:
        key: The query.

        stage: `respond`, `extract`, `score` or `recheck`.

        probe: Name of the probe, for people.

        status: `answered` or `failed`.

        value: The answer as JSON; empty if failed.

        error_type, error: Why it failed; empty if answered.

        attempts: How many times it was sent.

        seconds: From the first attempt to the end.

        finished: Moment of the end, UTC, ISO 8601.
    """

    key: QueryKey
    stage: str
    probe: str
    status: Literal["answered", "failed"]
    value: Mapping[str, JsonValue]
    error_type: str
    error: str
    attempts: int
    seconds: float
    finished: str


_RECORD = TypeAdapter(Record)


@dataclass(frozen=True, slots=True)
class JournalState:
    """
    What a run's journal files hold.

    Attributes:
        records: The last word on each query.

        lines: How many complete lines were read.
    """

    records: Mapping[QueryKey, Record]
    lines: int


def read_journal(folder: Path) -> JournalState:
    """
    Read all journal files of a run.

    Args:
        folder: The run's `journal` folder; it may not exist yet.

    Raises:
        CorruptJournal: A line that is not the torn end of a file is not a record.

        RunFolderError: A file cannot be read.
    """
    records: dict[QueryKey, Record] = {}
    lines = 0
    for path in sorted(folder.glob("*.jsonl")):
        try:
            with path.open("rb") as stream:
                for number, line in enumerate(stream, start=1):
                    if not line.endswith(b"\n"):
                        break
                    record = _parse(line, path, number)
                    lines += 1
                    held = records.get(record.key)
                    # An answer outlives a failure, whatever their order.
                    if held is None or held.status == "failed":
                        records[record.key] = record
        except OSError as error:
            raise RunFolderError(f"{path}: cannot be read: {error.strerror}") from error
    return JournalState(records, lines)


def _parse(line: bytes, path: Path, number: int) -> Record:
    try:
        # Not pydantic's JSON parser: it refuses halves of surrogate pairs, which servers do
        # send and which are written here as escapes, and it takes NaN for a number.
        fields = json.loads(line, parse_constant=_refuse_constant)
        if not isinstance(fields, dict):
            raise ValueError("it is not a JSON object")  # noqa: TRY301, TRY004
        return Record(**fields)
    except (ValueError, RecursionError) as error:
        problem = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise CorruptJournal(
            f"{path}, line {number}: is not a journal line ({problem}); something else wrote to "
            "this file. Restore it, or start another run with --new"
        ) from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


class JournalWriter:
    """
    Appends records to a file of its own; use it in a `with` block.

    Args:
        folder: The run's `journal` folder; made if missing.

        stage: Begins the file's name.

    Raises:
        RunFolderError: The file cannot be made or written (a full disk).
    """

    def __init__(self, folder: Path, stage: str) -> None:
        self._folder = folder
        self._stage = stage
        self._file: IO[bytes] | None = None
        self._path = folder
        self._synced = time.monotonic()

    def __enter__(self) -> "JournalWriter":
        """Open the first file name that is not taken."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            number = 1
            while self._file is None:
                self._path = self._folder / f"{self._stage}-{number:04d}.jsonl"
                try:
                    self._file = self._path.open("xb")
                except FileExistsError:
                    number += 1
        except OSError as error:
            raise RunFolderError(f"{self._path}: cannot be made: {error.strerror}") from error
        return self

    def append(self, record: Record) -> None:
        """
        Write one record; it survives a kill once this returns.

        Raises:
            RunFolderError: The disk is full or gone.
        """
        if self._file is None:
            raise RunFolderError(f"{self._path}: the journal is not open")
        line = json.dumps(
            _RECORD.dump_python(record), ensure_ascii=True, allow_nan=False, separators=(",", ":")
        )
        try:
            self._file.write(line.encode() + b"\n")
            self._file.flush()
            if time.monotonic() - self._synced >= _SYNC_SECONDS:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            raise RunFolderError(
                f"{self._path}: cannot be written: {error.strerror}; what was finished is kept: "
                "make room and give the same command again"
            ) from error

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
                empty = self._file.tell() == 0
            if empty:
                self._path.unlink()
        except OSError as failure:
            if error is None:
                raise RunFolderError(
                    f"{self._path}: cannot be written: {failure.strerror}"
                ) from failure
        finally:
            self._file = None
