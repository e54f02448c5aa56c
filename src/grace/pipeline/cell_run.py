"""
Running the stages of one cell: connected, held to its identity, and closed at the end.

Whoever calls holds the run's lock.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from grace.engine.score import ScoringMethod
from grace.errors import AccessRefused, IdentityMismatch, ServerUnavailable
from grace.pipeline.asking import Stopped, extract, recheck, respond, score
from grace.pipeline.cell import Cell, begin, begin_extraction, scoring_method, server_identity
from grace.pipeline.connecting import Connections
from grace.pipeline.outcomes import CellOutcome, CellStatus
from grace.pipeline.preflight import preflight
from grace.pipeline.smoke import smoke
from grace.pipeline.spent import note_spent
from grace.pipeline.stages import SERVED, SHARED, STAGES, Stage
from grace.pipeline.unfinished import check_all_asked
from grace.pipeline.writing import (
    close,
    write_probability_tables,
    write_response_tables,
    write_structured_tables,
    write_summaries,
    write_tables,
)
from grace.runs.folder import RunFolder
from grace.runs.identity import identity_differences
from grace.runs.stop import stop_noted

_FIRST = frozenset({Stage.SMOKE, Stage.SCORE})


async def run_cell(cell: Cell, connections: Connections, stages: frozenset[Stage]) -> CellOutcome:
    """
    Run some stages of a cell.

    Args:
        cell: The cell.

        connections: Its servers.

        stages: Those of its experiment are run, in their order.

    Raises:
        GraceError: What stopped it; everything finished is kept.
    """
    wanted = [stage for stage in STAGES[cell.experiment] if stage in stages]
    if cell.shard is None:
        cell.folder.sweep()
    method: ScoringMethod | None = None
    if not cell.settings.recheck:
        wanted = [stage for stage in wanted if stage is not Stage.RECHECK]
    if SERVED.intersection(wanted):
        connection = await connections.model(cell.use)
        method = scoring_method(cell, connection)
        if method is not None and _FIRST & set(wanted) and not cell.folder.begun:
            # A run that was begun has passed.
            await preflight(cell, connection, method)
        if Stage.SMOKE in wanted:
            await smoke(cell, connection, method)
        identity = cell.identity(server_identity(connection), method or "")
        record = begin(cell, identity)
    else:
        record = cell.folder.read_record()
        if differences := differences_of(cell, cell.folder, served=False):
            raise IdentityMismatch(
                f"{cell.folder.path}: was begun under another identity; give the options that "
                "began it:",
                differences,
            )
    # A finished run is asked again: only now is it known that it may be.
    cell.folder.reopen()
    with stop_noted(cell.folder, shared=cell.shard is not None):
        try:
            with _explained(cell.use.key):
                for stage in wanted:
                    await _run_stage(cell, stage, connections, method)
        except Stopped:
            return CellOutcome(cell.folder, CellStatus.STOPPED, None)
        if Stage.VALIDATE not in wanted:
            note_spent(cell)
            return CellOutcome(cell.folder, CellStatus.OPEN, None)
        manifest = close(cell, record)
    status = CellStatus.COMPLETE if manifest.complete else CellStatus.INCOMPLETE
    return CellOutcome(cell.folder, status, manifest)


def differences_of(cell: Cell, folder: RunFolder, *, served: bool = True) -> list[str]:
    """
    Return how a recorded run differs from the cell, as far as is known without its server.

    Args:
        cell: The cell.

        folder: The run.

        served: Whether the command needs the model's server, and so says where it is.
    """
    recorded = folder.read_record().identity
    scoring = recorded.asking.get("scoring")
    wanted = cell.settings.scoring
    method = str(scoring) if wanted == "auto" else wanted
    identity = cell.identity(dict(recorded.server), method)
    if not served and cell.settings.endpoint is None:
        unknown = [
            name
            for name in ("revision", "weights")
            if name in identity.model and recorded.model.get(name) is None
        ]
        model = {**identity.model, **dict.fromkeys(unknown)}
        identity = identity.model_copy(update={"model": model})
    return identity_differences(recorded, identity)


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
    cell: Cell, stage: Stage, connections: Connections, method: ScoringMethod | None
) -> None:
    # Smoke tests are over before the run is begun, and closing it validates: see `run_cell`.
    if stage in SHARED:
        await _ask(cell, stage, connections, method)
    if cell.shard is None:
        _write(cell, stage)


async def _ask(
    cell: Cell, stage: Stage, connections: Connections, method: ScoringMethod | None
) -> None:
    if cell.shard is not None and stage in {Stage.EXTRACT, Stage.RECHECK}:
        # Each shard must see the same answers, or queries are left that are asked by none.
        check_all_asked(cell, stage)
    if stage is Stage.RESPOND:
        await respond(cell, await connections.model(cell.use))
    elif stage is Stage.EXTRACT:
        connection = await connections.extractor(cell)
        if connection is not None:
            begin_extraction(cell, connection)
            await extract(cell, connection)
    elif method is not None:
        ask = score if stage is Stage.SCORE else recheck
        await ask(cell, await connections.model(cell.use), method)


def _write(cell: Cell, stage: Stage) -> None:
    match stage:
        case Stage.RESPOND:
            write_response_tables(cell)
        case Stage.EXTRACT:
            write_structured_tables(cell)
        case Stage.SCORE:
            write_probability_tables(cell)
        case Stage.TABULATE:
            check_all_asked(cell, stage)
            write_tables(cell)
        case Stage.SUMMARISE:
            write_summaries(cell.folder, cell.inputs)
        case Stage.SMOKE | Stage.RECHECK | Stage.VALIDATE:
            pass
