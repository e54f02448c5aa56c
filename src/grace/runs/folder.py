"""
Run folders: `{out}/{experiment}/{model}/{timestamp}/` and what lies in them.

`run.json` (identity and request) is written before the first query, and
`manifest.json` last: a folder that has both is closed.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from grace.engine.disk import make_folder
from grace.errors import RunFolderError, UsageError
from grace.runs.csvfile import write_bytes, write_once
from grace.runs.identity import ExtractorIdentity, RunIdentity
from grace.runs.lock import locked
from grace.settings import RunSettings
from grace.strict_json import parse_json

_M = TypeVar("_M", bound=BaseModel)

TIMESTAMP_FORMAT = "%Y%m%dT%H%M%SZ"
_TIMESTAMP = re.compile(r"\d{8}T\d{6}Z")
_PUBLISHED = (".csv", ".jsonl")
_LAST_MOMENT = datetime.max.replace(tzinfo=UTC) - timedelta(seconds=1)


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
    def audit(self) -> Path:
        """The folder of the audit copy, if one was asked for."""
        return self.path / "audit"

    @property
    def record_path(self) -> Path:
        """`run.json`."""
        return self.path / "run.json"

    @property
    def extractor_path(self) -> Path:
        """`extractor.json`."""
        return self.path / "extractor.json"

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

    def published(self) -> list[str]:
        """
        Return the names of tables and logs, in order, then those of audit copy and journal.

        Raises:
            RunFolderError: The folder cannot be read.
        """
        try:
            names = sorted(path.name for path in self.path.iterdir())
            inner = [
                f"{folder.name}/{name}"
                for folder in (self.audit, self.journal)
                for name in sorted(path.name for path in folder.glob("*.jsonl"))
            ]
        except OSError as error:
            raise RunFolderError(f"{self.path}: cannot be read: {error.strerror}") from error
        return [
            *(name for name in names if name.endswith(_PUBLISHED) and not name.startswith(".")),
            *inner,
        ]

    def make(self) -> None:
        """
        Make the folder.

        Raises:
            RunFolderError: It cannot be made.
        """
        try:
            make_folder(self.path)
        except OSError as error:
            raise RunFolderError(
                f"{self.path}: cannot be made: {error.strerror}; choose another --out"
            ) from error

    def reopen(self) -> None:
        """
        Take away the manifest, if there is one: the run is no longer finished.

        Raises:
            RunFolderError: It cannot be removed.
        """
        try:
            self.manifest_path.unlink(missing_ok=True)
        except OSError as error:
            raise RunFolderError(
                f"{self.manifest_path}: cannot be removed: {error.strerror}"
            ) from error

    def write_record(self, record: RunRecord, writer: str = "") -> None:
        """
        Write `run.json`.

        Args:
            record: What was asked for.

            writer: Sets this process apart from others that may do the same now,
                of which the first one's stays; "" if there are none.
        """
        _write_json(self.record_path, record, writer)

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

    def write_extractor(self, identity: ExtractorIdentity, writer: str = "") -> None:
        """Write `extractor.json`; *writer* as in `write_record`."""
        _write_json(self.extractor_path, identity, writer)

    def read_extractor(self) -> ExtractorIdentity | None:
        """
        Read `extractor.json`; None if no model has extracted yet.

        Raises:
            RunFolderError: It is not what Grace wrote.
        """
        try:
            return read_json(self.extractor_path, ExtractorIdentity)
        except FileNotFoundError:
            return None

    def sweep(self) -> None:
        """Remove what killed processes that shared the work were writing; nobody may work here."""
        with contextlib.suppress(OSError):
            for path in self.path.glob(".*.json.*.part"):
                path.unlink()

    @contextmanager
    def lock(self, span: tuple[int, int] | None = None) -> Iterator[None]:
        """
        Keep other processes out; a kill frees the lock.

        Args:
            span: The part of the work that is done here, for processes that share
                it (see `grace.engine.shards`); None is all of it.

        Raises:
            RunLocked: Another process works on this run, or on this part of it.

            RunFolderError: It cannot be locked here.
        """
        with locked(self.path / "run.lock", span):
            yield


def is_timestamp(text: str) -> bool:
    """Whether *text* is a timestamp such as 20260131T235959Z."""
    return _TIMESTAMP.fullmatch(text) is not None


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
        parse_json(content)
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


def _write_json(path: Path, content: BaseModel, writer: str) -> None:
    encoded = (content.model_dump_json(indent=2) + "\n").encode()
    if writer:
        write_once(path, encoded, writer)
    else:
        write_bytes(path, encoded)


def check_timestamp(text: str) -> str:
    """
    Return *text* if it is a timestamp such as 20260131T235959Z.

    Raises:
        UsageError: It is not.
    """
    if not is_timestamp(text):
        raise UsageError(f"--timestamp is {text!r}; expected UTC as 20260131T235959Z")
    return text


def new_timestamp(now: datetime | None = None) -> str:
    """Return the timestamp of now, in UTC."""
    return (now or datetime.now(UTC)).strftime(TIMESTAMP_FORMAT)


def timestamp_after(taken: Iterable[str], now: datetime | None = None) -> str:
    """
    Return the timestamp of now, or one after all that are taken.

    The run that was begun last is the one that goes on, and names say the order:
    also within a second, and after a clock was set back.
    """
    moment = now or datetime.now(UTC)
    known = sorted(filter(None, map(_moment, taken)))
    # Beyond the calendar's end there is no later name: such a folder is left out.
    while known and known[-1] >= _LAST_MOMENT:
        known.pop()
    if known and new_timestamp(known[-1]) >= new_timestamp(moment):
        moment = known[-1] + timedelta(seconds=1)
    return new_timestamp(moment)


def _moment(timestamp: str) -> datetime | None:
    try:
        return datetime.strptime(timestamp, TIMESTAMP_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None


def runs_of_cell(out: Path, experiment: str, model: str) -> list[RunFolder]:
    """Return a cell's run folders that were begun, oldest first."""
    parent = out / experiment / model
    if not parent.is_dir():
        return []
    found = (RunFolder(path) for path in sorted(parent.iterdir()) if is_timestamp(path.name))
    return [folder for folder in found if folder.begun]


def find_runs(path: Path) -> list[RunFolder]:
    """
    Return the run folders at or below *path*, in order.

    Raises:
        RunFolderError: There are none.
    """
    if RunFolder(path).begun:
        return [_named(path)]
    found = [_named(record.parent) for record in sorted(path.glob("*/*/*/run.json"))]
    found += [_named(record.parent) for record in sorted(path.glob("*/*/run.json"))]
    found += [_named(record.parent) for record in sorted(path.glob("*/run.json"))]
    if not found:
        raise RunFolderError(
            f"{path}: holds no run; expected a folder that was given as --out, or a run folder "
            "OUT/EXPERIMENT/MODEL/TIMESTAMP"
        )
    return found


def _named(path: Path) -> RunFolder:
    """Return the run of a folder by a path that has its model and experiment in it."""
    return RunFolder(path if len(path.parents) > 2 else path.resolve())
