"""How the Python interface may be used: type-checked, never run."""

from pathlib import Path

import pandas as pd

import grace
from grace.engine.events import QuietHook, RunHook
from grace.pipeline.overview import PlanLine
from grace.runs.manifest import RunManifest


def runs() -> grace.RunResults:
    """Settings are given by name, whatever their type."""
    return grace.run(study="study1", limit=12, out="results", input={"study1": Path("a.csv")})


def results(outcome: grace.RunResults) -> None:
    """A run has a folder, and a manifest if it was not interrupted."""
    complete: bool = outcome.complete
    cell: grace.RunResult = outcome.cells[0]
    folder: Path = cell.folder
    manifest: RunManifest | None = cell.manifest
    table: pd.DataFrame = cell.table("study1", "structured")
    also: pd.DataFrame = grace.read_dataframe(folder / "table.csv")
    _ = (complete, manifest, table, also)


def plans() -> list[int]:
    """A plan is lines to count."""
    lines: tuple[PlanLine, ...] = grace.plan(study=["study1", "study2"])
    return [line.queries for line in lines]


def examination() -> bool:
    """A report is data, with a verdict."""
    report: grace.DoctorReport = grace.doctor(study="study1", model="smollm2-135m", prompts=2)
    covered = [probe.coverage for probe in report.probes]
    return report.verdict == "sound" and all(one is not None for one in covered)


class Bar(QuietHook):
    """A hook may listen to one event only."""

    def message(self, text: str) -> None:
        """Show it."""


def hooks() -> grace.RunResults:
    """Any hook will do."""
    hook: RunHook = Bar()
    return grace.run(hook, dry_run=True)
