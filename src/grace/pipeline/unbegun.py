"""
Cells that a command asked for and never began.

A command for several experiments and models begins one cell after another. When
it is interrupted, those that would have come later have no run folder yet, and
nothing but the request of the first one tells of them.
"""

from grace.pipeline.connection import TOY
from grace.runs.folder import RunFolder, RunRecord
from grace.settings import RunSettings


def unbegun_cells(folder: RunFolder, record: RunRecord) -> tuple[RunFolder, ...]:
    """
    Return the folders of cells of the same command that were never begun.

    Args:
        folder: A run that was begun.

        record: Its `run.json`. If the run was moved since, nobody knows where
            the others are, and none is returned.
    """
    request = record.request
    out = folder.path.resolve().parents[2]
    if out != request.out.resolve():
        return ()
    # As the path was given, where it is long enough.
    shown = folder.path.parents[2] if len(folder.path.parents) > 2 else out
    models = (TOY.key,) if request.dry_run else request.model
    cells = (
        RunFolder(shown / experiment / model / folder.timestamp)
        for model in models
        for experiment in request.experiment
    )
    return tuple(cell for cell in cells if not cell.begun)


def continued(folder: RunFolder, record: RunRecord) -> dict[str, object]:
    """Return the settings of a run and of what its command would have begun after it."""
    request = record.request
    missing = {(cell.experiment, cell.model) for cell in unbegun_cells(folder, record)}
    experiments = tuple(
        experiment
        for experiment in request.experiment
        if experiment == folder.experiment or (experiment, folder.model) in missing
    )
    return {
        "experiment": experiments or (folder.experiment,),
        "model": _models(folder, request, missing),
    }


def _models(
    folder: RunFolder, request: RunSettings, missing: set[tuple[str, str]]
) -> tuple[str, ...]:
    if request.dry_run:
        return request.model
    # Every experiment is asked of every model: one of which something was begun goes on by itself.
    return tuple(
        model
        for model in request.model
        if model == folder.model or all((one, model) in missing for one in request.experiment)
    ) or (folder.model,)
