"""
Run folders: `{out}/{experiment}/{model}/{timestamp}/` and what lies in them.

`run.json` (identity and request) is written before the first query, and
`manifest.json` last: a folder that has both is closed.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from grace.errors import RunFolderError, RunLocked, UsageError
from grace.runs.csvfile import write_bytes
from grace.runs.identity import RunIdentity
from grace.settings import RunSettings

_M = TypeVar("_M", bound=BaseModel)

TIMESTAMP_FORMAT = "%Y%m%dT%H%M%SZ"
_TIMESTAMP = re.compile(r"\d{8}T\d{6}Z")


class RunRecord(BaseModel):
    """`run.json`: what was asked for, under which identity, and when it began."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    started: str
    request: RunSettings
    identity: RunIdentity


class RunFolder:
    """
    One run's folder.

    Args:
        path: `{out}/{experiment}/{model}/{timestamp}`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def timestamp(self) -> str:
        """The run's timestamp."""
        return self.path.name

    @property
    def model(self) -> str:
        """The model's key."""
        return self.path.parent.name

    @property
    def experiment(self) -> str:
        """`exp1` or `exp2`."""
        return self.path.parent.parent.name

    @property
    def journal(self) -> Path:
        """The folder of the journal files."""
        return self.path / "journal"

    @property
    def record_path(self) -> Path:
        """`run.json`."""
        return self.path / "run.json"

    @property
    def manifest_path(self) -> Path:
        """`manifest.json`."""
        return self.path / "manifest.json"

    @property
    def extraction_log(self) -> Path:
        """The error log of extraction."""
        return self.path / "extraction_errors.jsonl"

    @property
    def begun(self) -> bool:
        """Whether an identity was recorded."""
        return self.record_path.is_file()

    @property
    def closed(self) -> bool:
        """Whether the manifest was written."""
        return self.manifest_path.is_file()

    def table(self, study: str, kind: str) -> Path:
        """Return the path of a table; *kind* as in `raw_responses`."""
        return self.path / f"{self.model}_{study}_{kind}.csv"

    def make(self) -> None:
        """
        Make the folder.

        Raises:
            RunFolderError: It cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(
                f"{self.path}: cannot be made: {error.strerror}; choose another --out"
            ) from error

    def write_record(self, record: RunRecord) -> None:
        """Write `run.json`."""
        write_bytes(self.record_path, (record.model_dump_json(indent=2) + "\n").encode())

    def read_record(self) -> RunRecord:
        """
        Read `run.json`.

        Raises:
            RunFolderError: It is missing or not a record.
        """
        try:
            return read_json(self.record_path, RunRecord)
        except FileNotFoundError as error:
            raise RunFolderError(
                f"{self.path}: is not a run folder (it has no run.json); expected "
                "OUT/EXPERIMENT/MODEL/TIMESTAMP"
            ) from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """
        Keep other processes out; a kill frees the lock.

        Raises:
            RunLocked: Another process works on this run.
        """
        try:
            descriptor = os.open(self.path / "run.lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RunFolderError(f"{self.path}: cannot be locked: {error.strerror}") from error
        try:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RunLocked(
                    f"{self.path}: another process is working on this run; wait for it, or give "
                    "another --out"
                ) from error
            yield
        finally:
            os.close(descriptor)


def read_json(path: Path, kind: type[_M]) -> _M:
    """
    Read a JSON file that Grace wrote.

    Raises:
        FileNotFoundError: There is none.

        RunFolderError: It cannot be read, or is not what Grace writes.
    """
    try:
        content = path.read_bytes()
        # pydantic's parser takes NaN for a number, and the last of two equal keys for both.
        json.loads(content, parse_constant=_refuse, object_pairs_hook=_distinct)
        return kind.model_validate_json(content, strict=True)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RunFolderError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part)[:60] for part in problem["loc"])
        raise RunFolderError(f"{path}: {where}: {problem['msg'][:200]}") from error
    except (ValueError, RecursionError) as error:
        raise RunFolderError(f"{path}: Invalid JSON: {str(error)[:200]}") from error


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key appears twice")
    return made


def check_timestamp(text: str) -> str:
    """
    Return *text* if it is a timestamp such as 20260131T235959Z.

    Raises:
        UsageError: It is not.
    """
    if not _TIMESTAMP.fullmatch(text):
        raise UsageError(f"--timestamp is {text!r}; expected UTC as 20260131T235959Z")
    return text


def new_timestamp(now: datetime | None = None) -> str:
    """Return the timestamp of now, in UTC."""
    return (now or datetime.now(UTC)).strftime(TIMESTAMP_FORMAT)


def runs_of_cell(out: Path, experiment: str, model: str) -> list[RunFolder]:
    """Return a cell's run folders that were begun, oldest first."""
    parent = out / experiment / model
    if not parent.is_dir():
        return []
    found = (
        RunFolder(path) for path in sorted(parent.iterdir()) if _TIMESTAMP.fullmatch(path.name)
    )
    return [folder for folder in found if folder.begun]


def find_runs(path: Path) -> list[RunFolder]:
    """
    Return the run folders at or below *path*, in order.

    Raises:
        RunFolderError: There are none.
    """
    if RunFolder(path).begun:
        return [RunFolder(path)]
    found = [RunFolder(record.parent) for record in sorted(path.glob("*/*/*/run.json"))]
    found += [RunFolder(record.parent) for record in sorted(path.glob("*/*/run.json"))]
    found += [RunFolder(record.parent) for record in sorted(path.glob("*/run.json"))]
    if not found:
        raise RunFolderError(
            f"{path}: holds no run; expected a folder that was given as --out, or a run folder "
            "OUT/EXPERIMENT/MODEL/TIMESTAMP"
        )
    return found
