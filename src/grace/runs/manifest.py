"""
The RunManifest: what lets anyone repeat a run and check its files.

It is written last. Its presence means that the run is closed: every planned
query is accounted for.
"""

import hashlib
import importlib.metadata
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, JsonValue, StringConstraints

from grace.engine.events import StageCounts
from grace.errors import RunFolderError
from grace.runs.csvfile import write_bytes
from grace.runs.folder import RunFolder, read_json
from grace.runs.identity import ExtractorIdentity, RunIdentity

# Both become paths: a file name that is none must not be looked for.
_StudyKey = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,40}$")]
_FileName = Annotated[
    str, StringConstraints(pattern=r"^((audit|journal)/)?[A-Za-z0-9][\w.-]{0,200}$")
]

_RECORDED_PACKAGES = ("grace", "aiohttp", "numpy", "pandas", "pydantic", "scipy", "xllamacpp")


class QueryCounts(BaseModel):
    """Accounting of a stage's queries; they reconcile."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    planned: int
    answered: int
    failed: int
    not_asked: int

    @classmethod
    def of(cls, counts: StageCounts) -> "QueryCounts":
        """Take over a stage's counts."""
        return cls(
            planned=counts.planned,
            answered=counts.answered,
            failed=counts.failed,
            not_asked=counts.not_asked,
        )


class RecheckReport(BaseModel):
    """
    Distributions that were scored again, in another order; the counts reconcile.

    Attributes:
        percent: The share that was asked for.

        planned, answered, failed, not_asked: Distributions to be scored again, and
            how they ended.

        largest_change: The largest difference of an answer's two
            log-probabilities, in nats; null if there is none to compare.

        probe, candidate: Where it was.

        limit: Above this, the manifest warns.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    percent: float
    planned: int
    answered: int
    failed: int
    not_asked: int
    largest_change: float | None
    probe: str
    candidate: str
    limit: float


class StudyReport(BaseModel):
    """
    What came out of one study.

    Attributes:
        rows: Rows of the response or probability table.

        stimuli: Distinct stimuli behind them.

        complete_rows: Rows with every answer.

        queries: Accounting by probe.

        extraction: Rows by extraction outcome (Experiment 1).

        extraction_queries: Accounting of the responses that a model was to read;
            null if the rules worked alone.

        coverage: Lowest, median and highest coverage by probe (Experiment 2).

        recheck: What a second measurement gave (`--recheck`).

        prompts_sha256: Hash of the sorted hashes of all prompts that were
            answered: two runs with the same one read the same texts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rows: int
    stimuli: int
    complete_rows: int
    queries: Mapping[str, QueryCounts]
    extraction: Mapping[str, int] = {}
    extraction_queries: QueryCounts | None = None
    coverage: Mapping[str, tuple[float, float, float]] = {}
    recheck: RecheckReport | None = None
    prompts_sha256: str

    @property
    def complete(self) -> bool:
        """Whether every row has every answer, and every query was answered."""
        return self.complete_rows == self.rows and all(
            counts.answered == counts.planned for counts in self.queries.values()
        )


class StageForecast(BaseModel):
    """What a stage was estimated to cost before it began; see `engine.forecast.Forecast`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    prompts: int
    prompt_tokens: int
    computed_tokens: int
    generated_tokens: int
    requests: int | None


class StageCost(BaseModel):
    """
    What a stage cost, as far as it was counted; None is not known.

    Attributes:
        queries: Queries that ended in these processes.

        retries: How many times one was sent again.

        seconds: Wall time.

        requests: HTTP requests.

        prompts: Prompts that the model read, and `prompt_tokens` their tokens.

        computed_tokens: Prompt tokens that the server computed; the others came
            from its prefix cache.

        computed_from: `replies`, or `server`: its own counters, which count the
            work of its other users as well.

        generated_tokens: Tokens of the responses; one for each scored prompt.

        requests_at_once, queries_per_request: The pace at the stage's end; of
            several processes, the highest.

        forecast: What was expected of the same queries.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    queries: int
    retries: int
    seconds: float
    requests: int | None = None
    prompts: int | None = None
    prompt_tokens: int | None = None
    computed_tokens: int | None = None
    computed_from: Literal["replies", "server"] | None = None
    generated_tokens: int | None = None
    requests_at_once: int
    queries_per_request: int
    forecast: StageForecast | None = None


class FileEntry(BaseModel):
    """One file of the run: size and hash."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    bytes: int
    sha256: str


class RunManifest(BaseModel):
    """
    A closed run.

    Attributes:
        format: Version of this file's layout.

        started, finished: UTC, ISO 8601; the first process's start and the
            last one's end.

        seconds: Wall time by stage, of the process that closed the run, and of
            those that ran single stages before it to their end, added up.

        costs: By study and stage, of the same processes.

        complete: Whether every row has every answer, and every query was answered.

        warnings: What a reader should know before trusting the numbers.

        identity: See `RunIdentity`.

        extractor: See `ExtractorIdentity`; null if no model extracted.

        request: The settings given.

        studies: By study key.

        versions: Python, platform and packages.

        files: Tables, logs, audit copy and journal, by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal[1] = 1
    started: str
    finished: str
    seconds: Mapping[str, float]
    costs: Mapping[str, StageCost] = {}
    complete: bool
    warnings: tuple[str, ...]
    identity: RunIdentity
    extractor: ExtractorIdentity | None = None
    request: Mapping[str, JsonValue]
    studies: Mapping[_StudyKey, StudyReport]
    versions: Mapping[str, str]
    files: Mapping[_FileName, FileEntry]


def software_versions() -> dict[str, str]:
    """Return the versions of Python, the platform and the packages that matter."""
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for name in _RECORDED_PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def file_entry(path: Path) -> FileEntry:
    """
    Return a file's size and hash.

    Raises:
        RunFolderError: It cannot be read.
    """
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256")
            return FileEntry(bytes=stream.tell(), sha256=digest.hexdigest())
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be read: {error.strerror}") from error


def file_fault(path: Path, entry: FileEntry) -> str | None:
    """Return what is wrong with a file of the manifest, or None."""
    if not path.is_file():
        return f"{path}: is in the manifest but missing"
    if file_entry(path) != entry:
        return f"{path}: differs from the manifest's hash; it was changed after the run"
    return None


def check_files(folder: RunFolder, manifest: RunManifest, names: Iterable[str]) -> None:
    """
    Check that files of a closed run are what they were when it was closed.

    Raises:
        RunFolderError: One is not; the first is named.
    """
    for name in sorted(names):
        if fault := file_fault(folder.path / name, manifest.files[name]):
            raise RunFolderError(f"{fault}. `grace validate {folder.path}` says what is wrong")


def write_manifest(folder: RunFolder, manifest: RunManifest) -> None:
    """Write `manifest.json`, whole or not at all."""
    write_bytes(folder.manifest_path, (manifest.model_dump_json(indent=2) + "\n").encode())


def read_manifest(folder: RunFolder) -> RunManifest:
    """
    Read `manifest.json`.

    Raises:
        RunFolderError: The run is not closed, or the file is not a manifest.
    """
    try:
        return read_json(folder.manifest_path, RunManifest)
    except FileNotFoundError as error:
        raise RunFolderError(
            f"{folder.path}: the run is not finished (no manifest.json); `grace status` "
            "says how it goes on"
        ) from error
