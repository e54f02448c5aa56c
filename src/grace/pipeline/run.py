"""
The local executor: all cells of a run, one model after the other.

Everything that can be wrong is checked before the first query: flags, inputs,
models, extractor, folders. A run that was interrupted is found again and
continued; one that is complete is not asked twice.
"""

from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path

from grace.catalogue.progress import ProgressHook, SilentProgress
from grace.catalogue.spec import Catalogue, load_catalogue
from grace.catalogue.store import default_store
from grace.catalogue.weights import ensure_weights
from grace.engine.events import RunHook, StopFlag
from grace.engine.shards import Shard
from grace.errors import IdentityMismatch, RunLocked, UsageError
from grace.extraction.result import Outcome
from grace.inference.transport import check_url
from grace.pipeline.cell import Cell
from grace.pipeline.cell_run import differences_of, run_cell
from grace.pipeline.connecting import Connections
from grace.pipeline.connection import models_of
from grace.pipeline.extractor import choose_extractor
from grace.pipeline.inputs import describe_inputs, load_inputs
from grace.pipeline.outcomes import CellOutcome, CellStatus, RunOutcome
from grace.pipeline.stages import SERVED, SHARED, STAGES, USUAL, Stage
from grace.pipeline.waiting import Waiting
from grace.runs.folder import RunFolder, check_timestamp, runs_of_cell, timestamp_after
from grace.runs.manifest import read_manifest
from grace.settings import RunSettings


def prepare(
    settings: RunSettings,
    hook: RunHook,
    stop: StopFlag,
    progress: ProgressHook | None = None,
    stages: frozenset[Stage] = USUAL,
    shard: Shard | None = None,
    wait_seconds: float = 0.0,
) -> "PreparedRun":
    """
    Check a run and lay out its cells; nothing is sent.

    Args:
        settings: The run's settings.

        hook: Hears of progress.

        stop: Stops the run when it is set.

        progress: Hears of downloads.

        stages: The stages to run.

        shard: The part of the queries that this process asks; None is all of them.
            Shards write no tables.

        wait_seconds: How long a server may take to be ready, and another process
            to let go of the run.

    Raises:
        GraceError: Whatever is wrong with it.
    """
    _check(settings)
    if shard is not None and not stages <= SHARED:
        others = ", ".join(stage for stage in Stage if stage in stages - SHARED)
        raise UsageError(
            f"--shard {shard}: {others} cannot be shared; run it alone when all shards are over"
        )
    for experiment in settings.experiment:
        if not stages.intersection(STAGES[experiment]):
            raise UsageError(
                f"{experiment} has no stage {', '.join(sorted(stages))}; it has "
                f"{', '.join(STAGES[experiment])}"
            )
    catalogue = load_catalogue(settings.catalogue)
    uses = models_of(settings, catalogue, asked=bool(stages & SERVED))
    extractor = choose_extractor(settings, catalogue, asked=Stage.EXTRACT in stages)
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
            shard=shard,
        )
        for use in uses
        for experiment in settings.experiment
    ]
    timestamp = _timestamp(settings, cells)
    for cell in cells:
        cell.folder = RunFolder(cell.folder.path.with_name(timestamp))
    waiting = Waiting(wait_seconds, stop, hook)
    return PreparedRun(
        settings, catalogue, tuple(cells), stages, waiting, progress or SilentProgress()
    )


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """A checked run, ready to be executed."""

    settings: RunSettings
    catalogue: Catalogue
    cells: tuple[Cell, ...]
    stages: frozenset[Stage]
    waiting: Waiting
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
        if self.settings.endpoint is None and self.stages & SERVED:
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
            done = self._closed(cell)
            if done is not None and not _is_asked_again(cell, done):
                outcomes.append(done)
            else:
                cell.folder.make()
                open_cells.append(cell)
        if not open_cells:
            return outcomes
        async with AsyncExitStack() as stack:
            connections = Connections(
                self.settings, self.catalogue, self.progress, self.waiting, stack
            )
            for cell in open_cells:
                with ExitStack() as held:
                    await self._lock(cell, held)
                    # Whoever was waited for may have closed it.
                    outcome = self._closed(cell)
                    if outcome is None or _is_asked_again(cell, outcome):
                        outcome = await run_cell(cell, connections, self.stages)
                outcomes.append(outcome)
                if outcome.status is CellStatus.STOPPED:
                    break
        return outcomes

    def _closed(self, cell: Cell) -> CellOutcome | None:
        return _closed_outcome(cell, served=bool(self.stages & SERVED))

    async def _lock(self, cell: Cell, held: ExitStack) -> None:
        async def attempt() -> None:
            held.enter_context(cell.lock())

        await self.waiting.until(attempt, RunLocked, "another process")


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
    if unfinished or not any(differences_of(cell, folder) for cell, folder in here):
        return latest
    return timestamp_after(stamps)


def _runs(out: Path, cell: Cell) -> list[RunFolder]:
    return runs_of_cell(out, cell.experiment, cell.use.key)


def _closed_outcome(cell: Cell, *, served: bool) -> CellOutcome | None:
    if not (cell.folder.begun and cell.folder.closed):
        return None
    if differences := differences_of(cell, cell.folder, served=served):
        raise IdentityMismatch(
            f"{cell.folder.path}: is a finished run under another identity; give another "
            "--timestamp, or none:",
            differences,
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
