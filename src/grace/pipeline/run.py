"""
The local executor: all cells of a run, one model after the other.

Everything that can be wrong is checked before the first query: flags, inputs,
models, extractor, folders. A run that was interrupted is found again and
continued; one that is complete is not asked twice.
"""

from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from grace.catalogue.progress import ProgressHook, SilentProgress
from grace.catalogue.spec import Catalogue, load_catalogue
from grace.catalogue.store import default_store
from grace.catalogue.weights import ensure_weights
from grace.engine.events import RunHook, StopFlag
from grace.engine.score import ScoringMethod
from grace.errors import AccessRefused, IdentityMismatch, ServerUnavailable, UsageError
from grace.extraction.result import Outcome
from grace.inference.transport import check_url
from grace.pipeline.asking import Stopped, extract, recheck, respond, score
from grace.pipeline.cell import Cell, begin, begin_extraction, scoring_method, server_identity
from grace.pipeline.connection import Connection, ModelUse, connect_model, models_of
from grace.pipeline.extractor import choose_extractor
from grace.pipeline.inputs import describe_inputs, load_inputs
from grace.pipeline.preflight import preflight
from grace.pipeline.stages import STAGES, Stage
from grace.pipeline.writing import (
    close,
    write_probability_tables,
    write_response_tables,
    write_structured_tables,
    write_summaries,
)
from grace.runs.folder import RunFolder, check_timestamp, runs_of_cell, timestamp_after
from grace.runs.identity import identity_differences
from grace.runs.manifest import RunManifest, read_manifest
from grace.runs.stop import stop_noted
from grace.settings import RunSettings

_ASKING = frozenset({Stage.RESPOND, Stage.SCORE, Stage.RECHECK})


class CellStatus(StrEnum):
    """How a cell stands when a command ends."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    STOPPED = "stopped"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class CellOutcome:
    """
    What became of a cell.

    Attributes:
        folder: Its run folder.

        status: `incomplete` is closed with missing answers, `stopped` was
            interrupted, `open` had only some of its stages run.

        manifest: Present if the run is closed.

        already: Whether it was closed before this command.
    """

    folder: RunFolder
    status: CellStatus
    manifest: RunManifest | None
    already: bool = False


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What became of a run's cells."""

    cells: tuple[CellOutcome, ...]

    @property
    def complete(self) -> bool:
        """Whether every cell has every answer."""
        return all(cell.status is CellStatus.COMPLETE for cell in self.cells)

    @property
    def stopped(self) -> bool:
        """Whether the run was interrupted on request."""
        return any(cell.status is CellStatus.STOPPED for cell in self.cells)


def prepare(
    settings: RunSettings,
    hook: RunHook,
    stop: StopFlag,
    progress: ProgressHook | None = None,
    stages: frozenset[Stage] = frozenset(Stage),
) -> "PreparedRun":
    """
    Check a run and lay out its cells; nothing is sent.

    Args:
        settings: The run's settings.

        hook: Hears of progress.

        stop: Stops the run when it is set.

        progress: Hears of downloads.

        stages: The stages to run.

    Raises:
        GraceError: Whatever is wrong with it.
    """
    _check(settings)
    catalogue = load_catalogue(settings.catalogue)
    uses = models_of(settings, catalogue, asked=bool(stages & _ASKING))
    extractor = choose_extractor(settings, catalogue)
    inputs = load_inputs(settings)
    for line in describe_inputs(inputs):
        hook.message(line)
    cells = [
        Cell(
            experiment=experiment,
            use=use,
            inputs=inputs,
            settings=settings,
            folder=RunFolder(settings.out / experiment / use.key / "unnamed"),
            extractor=extractor,
            hook=hook,
            stop=stop,
        )
        for use in uses
        for experiment in settings.experiment
    ]
    timestamp = _timestamp(settings, cells)
    for cell in cells:
        cell.folder = RunFolder(cell.folder.path.with_name(timestamp))
    return PreparedRun(
        settings, catalogue, tuple(cells), stages, hook, progress or SilentProgress()
    )


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """A checked run, ready to be executed."""

    settings: RunSettings
    catalogue: Catalogue
    cells: tuple[Cell, ...]
    stages: frozenset[Stage]
    hook: RunHook
    progress: ProgressHook

    def fetch_weights(self) -> None:
        """
        Fetch what embedded servers need, before anything is started.

        Raises:
            WeightsError: Weights cannot be had or verified.
        """
        if self.settings.dry_run:
            return
        keys: dict[str, None] = {}
        if self.settings.endpoint is None and self.stages & _ASKING:
            keys |= dict.fromkeys(cell.use.key for cell in self.cells)
        choice = self.cells[0].extractor
        served = self.settings.endpoint is not None and choice.name in self.settings.model
        elsewhere = served or self.settings.extractor_endpoint is not None
        if choice.use is not None and Stage.EXTRACT in self.stages and not elsewhere:
            keys[choice.name] = None
        for key in keys:
            spec = self.catalogue.get(key)
            if not spec.hosted and spec.server == "llamacpp":
                ensure_weights(spec, default_store(), self.progress)

    async def execute(self) -> RunOutcome:
        """
        Run the cells, a model at a time.

        Raises:
            GraceError: What stopped the run; everything finished is kept.
        """
        outcomes: list[CellOutcome] = []
        for use in dict.fromkeys(cell.use.key for cell in self.cells):
            cells = [cell for cell in self.cells if cell.use.key == use]
            outcomes += await self._model(cells)
            if any(outcome.status is CellStatus.STOPPED for outcome in outcomes):
                break
        return RunOutcome(tuple(outcomes))

    async def _model(self, cells: list[Cell]) -> list[CellOutcome]:
        outcomes = []
        open_cells = []
        for cell in cells:
            done = _closed_outcome(cell)
            if done is not None and not _is_asked_again(cell, done):
                outcomes.append(done)
            else:
                cell.folder.make()
                open_cells.append(cell)
        if not open_cells:
            return outcomes
        async with AsyncExitStack() as stack:
            connections = _Connections(self, stack)
            for cell in open_cells:
                with cell.folder.lock():
                    outcome = await _run_cell(cell, connections, self.stages)
                outcomes.append(outcome)
                if outcome.status is CellStatus.STOPPED:
                    break
        return outcomes


class _Connections:
    """Connects to models when they are first needed, and once."""

    def __init__(self, run: PreparedRun, stack: AsyncExitStack) -> None:
        self._run = run
        self._stack = stack
        self._open: dict[tuple[str, str | None], Connection] = {}

    async def model(self, use: ModelUse) -> Connection:
        return await self._connect(use, self._run.settings.endpoint)

    async def extractor(self, cell: Cell) -> Connection | None:
        use = cell.extractor.use
        if use is None:
            return None
        settings = self._run.settings
        endpoint = settings.extractor_endpoint
        if endpoint is None and use.key in settings.model:
            endpoint = settings.endpoint
        return await self._connect(use, endpoint)

    async def _connect(self, use: ModelUse, endpoint: str | None) -> Connection:
        key = (use.key, endpoint)
        if key not in self._open:
            run = self._run
            run.hook.message(f"{use.key}: connecting")
            self._open[key] = await self._stack.enter_async_context(
                connect_model(
                    use, run.settings, run.catalogue, default_store(), run.progress, endpoint
                )
            )
            server = self._open[key].server
            # The wheel's version stands for llama.cpp's own, which its build does not tell.
            version = server.details.get("xllamacpp") or server.version
            run.hook.message(f"{use.key}: answered by {server.dialect} {version}".rstrip())
        return self._open[key]


async def _run_cell(cell: Cell, connections: _Connections, stages: frozenset[Stage]) -> CellOutcome:
    wanted = [stage for stage in STAGES[cell.experiment] if stage in stages]
    method: ScoringMethod | None = None
    if not cell.settings.recheck:
        wanted = [stage for stage in wanted if stage is not Stage.RECHECK]
    if _ASKING.intersection(wanted):
        connection = await connections.model(cell.use)
        method = scoring_method(cell, connection)
        if method is not None and Stage.SCORE in wanted and not cell.folder.begun:
            # A run that was begun has passed.
            await preflight(cell, connection, method)
        identity = cell.identity(server_identity(connection), method or "")
        record = begin(cell, identity)
    else:
        record = cell.folder.read_record()
        if differences := _differences(cell, cell.folder):
            raise IdentityMismatch(
                f"{cell.folder.path}: was begun under another identity; give the options that "
                "began it:",
                differences,
            )
    # A finished run is asked again: only now is it known that it may be.
    cell.folder.reopen()
    with stop_noted(cell.folder):
        try:
            with _explained(cell.use.key):
                for stage in wanted:
                    await _run_stage(cell, stage, connections, method)
        except Stopped:
            return CellOutcome(cell.folder, CellStatus.STOPPED, None)
        if Stage.VALIDATE not in wanted:
            return CellOutcome(cell.folder, CellStatus.OPEN, None)
        manifest = close(cell, record)
    status = CellStatus.COMPLETE if manifest.complete else CellStatus.INCOMPLETE
    return CellOutcome(cell.folder, status, manifest)


@contextmanager
def _explained(model: str) -> Iterator[None]:
    """Say of what a server does in mid-run what it means for the run."""
    try:
        yield
    except ServerUnavailable as error:
        raise ServerUnavailable(
            f"the server of {model} is lost: {error}\neverything finished is kept; when it "
            "is back, the same command continues"
        ) from error
    except AccessRefused as error:
        raise AccessRefused(
            f"{model}: the server refuses whatever it is asked: {error}\neverything "
            "finished is kept; when that is mended, the same command continues"
        ) from error
    except IdentityMismatch as error:
        reason = str(error).splitlines()[0]
        raise IdentityMismatch(
            f"{model}: {reason}; everything finished before is kept: bring the first one "
            "back and give the same command, or start another run with --new:",
            error.differences,
        ) from error


async def _run_stage(
    cell: Cell, stage: Stage, connections: _Connections, method: ScoringMethod | None
) -> None:
    match stage:
        case Stage.RESPOND:
            await respond(cell, await connections.model(cell.use))
            write_response_tables(cell)
        case Stage.EXTRACT:
            connection = await connections.extractor(cell)
            if connection is not None:
                begin_extraction(cell, connection)
                await extract(cell, connection)
            write_structured_tables(cell)
        case Stage.SCORE:
            if method is not None:
                await score(cell, await connections.model(cell.use), method)
            write_probability_tables(cell)
        case Stage.RECHECK:
            if method is not None:
                await recheck(cell, await connections.model(cell.use), method)
        case Stage.SUMMARISE:
            write_summaries(cell.folder, cell.inputs)
        case Stage.SMOKE | Stage.TABULATE:
            pass
        case Stage.VALIDATE:
            # Closing the run validates: see `close`.
            pass


def _check(settings: RunSettings) -> None:
    if settings.timestamp is not None:
        check_timestamp(settings.timestamp)
    if not settings.study or not settings.experiment or not settings.model:
        raise UsageError("give at least one study, one experiment and one model")
    if settings.new and settings.timestamp is not None:
        raise UsageError("--new makes a timestamp of its own; leave out --timestamp")
    if len(set(settings.experiment)) != len(settings.experiment):
        raise UsageError(f"an experiment is given twice: {', '.join(settings.experiment)}")
    for address in (settings.endpoint, settings.extractor_endpoint):
        if address is not None:
            check_url(address)
    if settings.out.exists() and not settings.out.is_dir():
        raise UsageError(f"--out is {settings.out}, which is a file; expected a folder")


def _timestamp(settings: RunSettings, cells: list[Cell]) -> str:
    """Return the timestamp of the run to continue, or of a new one."""
    if settings.timestamp is not None:
        return settings.timestamp
    existing = [_runs(settings.out, cell) for cell in cells]
    stamps = [folder.timestamp for folders in existing for folder in folders]
    if settings.new or not stamps:
        return timestamp_after(stamps)
    latest = max(stamps)
    here = [
        (cell, folder)
        for cell, folders in zip(cells, existing, strict=True)
        for folder in folders
        if folder.timestamp == latest
    ]
    unfinished = any(not folder.closed for _, folder in here)
    if unfinished or not any(_differences(cell, folder) for cell, folder in here):
        return latest
    return timestamp_after(stamps)


def _runs(out: Path, cell: Cell) -> list[RunFolder]:
    return runs_of_cell(out, cell.experiment, cell.use.key)


def _differences(cell: Cell, folder: RunFolder) -> list[str]:
    """Return how a recorded run differs from the cell, as far as is known without its server."""
    recorded = folder.read_record().identity
    scoring = recorded.asking.get("scoring")
    wanted = cell.settings.scoring
    method = str(scoring) if wanted == "auto" else wanted
    return identity_differences(recorded, cell.identity(dict(recorded.server), method))


def _closed_outcome(cell: Cell) -> CellOutcome | None:
    if not (cell.folder.begun and cell.folder.closed):
        return None
    if _differences(cell, cell.folder):
        raise IdentityMismatch(
            f"{cell.folder.path}: is a finished run under another identity; give another "
            "--timestamp, or none:",
            _differences(cell, cell.folder),
        )
    manifest = read_manifest(cell.folder)
    status = CellStatus.COMPLETE if manifest.complete else CellStatus.INCOMPLETE
    return CellOutcome(cell.folder, status, manifest, already=True)


def _is_asked_again(cell: Cell, done: CellOutcome) -> bool:
    if done.manifest is None:
        return False
    reports = done.manifest.studies.values()
    unread = cell.extractor.use is not None and any(
        set(report.extraction) - {Outcome.OK} for report in reports
    )
    doubted = any(report.recheck is not None and report.recheck.failed for report in reports)
    missing = done.status is not CellStatus.COMPLETE or unread or doubted
    unchecked = cell.experiment == "exp2" and any(
        (report.recheck.percent if report.recheck else 0.0) < cell.settings.recheck
        for report in reports
    )
    return (cell.settings.retry_failed and missing) or unchecked
