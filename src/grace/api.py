"""
The Python interface, for notebooks and scripts: the same runs as the command line.

    import grace

    outcome = grace.run(study="study1", limit=12, out="results")
    table = outcome.cells[0].table("study1", "structured")
"""

import asyncio
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from grace.engine.events import QuietHook, RunHook, StopFlag
from grace.pipeline.doctor import DEFAULT_PROMPTS, examine
from grace.pipeline.doctor_report import DoctorReport
from grace.pipeline.outcomes import CellOutcome
from grace.pipeline.overview import PlanLine, plan_overview
from grace.pipeline.run import prepare
from grace.runs.folder import RunFolder
from grace.runs.manifest import RunManifest
from grace.settings import make_settings

__all__ = [
    "DoctorReport",
    "RunResult",
    "RunResults",
    "doctor",
    "plan",
    "read_dataframe",
    "run",
]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class RunResult:
    """
    One closed run: an experiment on a model.

    Attributes:
        folder: Its run folder.

        manifest: Its manifest; None if the run was interrupted.
    """

    folder: Path
    manifest: RunManifest | None

    @property
    def complete(self) -> bool:
        """Whether every row has every answer."""
        return self.manifest is not None and self.manifest.complete

    def table(self, study: str, kind: str) -> pd.DataFrame:
        """
        Return a table of the run; empty cells are missing values.

        Args:
            study: Study key.

            kind: `raw_responses`, `structured`, `probabilities`, `scores` or
                `summary`.
        """
        return read_dataframe(RunFolder(self.folder).table(study, kind))


@dataclass(frozen=True, slots=True)
class RunResults:
    """The runs of one call: one for each experiment and model."""

    cells: tuple[RunResult, ...]

    @property
    def complete(self) -> bool:
        """Whether every row of every run has every answer."""
        return all(cell.complete for cell in self.cells)


def run(hook: RunHook | None = None, **settings: object) -> RunResults:
    """
    Run experiments, or continue runs that were interrupted.

    Args:
        hook: Hears of progress.

        settings: See `grace.settings.RunSettings`; the names of the command
            line's options, with underscores.

    Raises:
        GraceError: Whatever is wrong; everything that was finished is kept.
    """
    checked = make_settings(settings, "grace.run")
    prepared = prepare(checked, hook or QuietHook(), StopFlag())
    prepared.fetch_weights()
    outcome = _complete(prepared.execute())
    return RunResults(tuple(_result(cell) for cell in outcome.cells))


def plan(**settings: object) -> tuple[PlanLine, ...]:
    """
    Return what a run would ask; nothing is sent.

    Args:
        settings: As for `run`.

    Raises:
        GraceError: Whatever is wrong with the run.
    """
    return plan_overview(make_settings(settings, "grace.plan"))


def doctor(
    hook: RunHook | None = None, prompts: int = DEFAULT_PROMPTS, **settings: object
) -> DoctorReport:
    """
    Examine a model for some studies, before anything is spent.

    Args:
        hook: Hears of progress.

        prompts: How many prompts of each probe are scored.

        settings: As for `run`; one model.

    Raises:
        GraceError: Whatever keeps the examination from being made. What is
            wrong with the model or the studies is in the report.
    """
    checked = make_settings(settings, "grace.doctor")
    return _complete(examine(checked, hook or QuietHook(), prompts=prompts))


def read_dataframe(path: Path) -> pd.DataFrame:
    """Read a table of Grace; only empty cells are missing values."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def _result(cell: CellOutcome) -> RunResult:
    return RunResult(cell.folder.path, cell.manifest)


def _complete(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end, also inside a notebook, whose loop is running already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    results: list[_T] = []
    failures: list[BaseException] = []

    def target() -> None:
        try:
            results.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001  handed to the calling thread, whatever it is
            failures.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]
