"""What a command says at its end: where the tables are and what they hold."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table

from grace.cli.costs import print_costs
from grace.cli.screen import out
from grace.pipeline.outcomes import CellOutcome, CellStatus, RunOutcome
from grace.pipeline.overview import PlanLine
from grace.pipeline.standing import retry_command
from grace.runs.csvfile import Table as Summary
from grace.runs.csvfile import read_table
from grace.runs.folder import RunFolder
from grace.runs.manifest import RecheckReport, RunManifest
from grace.settings import RunSettings
from grace.studies.study import Study

_EXPERIMENTS = {"exp1": "Experiment 1: responses", "exp2": "Experiment 2: probabilities"}
_COLOURS = {
    CellStatus.COMPLETE: "green",
    CellStatus.INCOMPLETE: "red",
    CellStatus.STOPPED: "yellow",
    CellStatus.OPEN: "yellow",
}
_SHOWN_WARNINGS = 8


def print_plan(
    inputs: Sequence[str],
    lines: Sequence[PlanLine],
    extras: Iterable[str],
    settings: RunSettings,
) -> None:
    """Print what a run would ask of each of its models."""
    for line in inputs:
        out.print(line, markup=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("study", "experiment", "probe"):
        table.add_column(name)
    for name in ("rows", "distinct", "queries", "answers"):
        table.add_column(name, justify="right")
    for one in lines:
        table.add_row(
            one.study,
            one.experiment,
            one.probe,
            f"{one.rows:,}",
            f"{one.distinct:,}",
            f"{one.queries:,}",
            str(one.answers) if one.answers else "text",
        )
    out.print(table)
    total = sum(one.queries for one in lines)
    needed = sum(one.rows for one in lines)
    out.print(
        f"{total:,} queries for each model answer {needed:,} cells of rows and probes", markup=False
    )
    for extra in extras:
        out.print(extra, markup=False)
    out.print(f"models: {', '.join(settings.model)}", markup=False)


def print_outcome(outcome: RunOutcome) -> None:
    """Print how each run ended and where its files are."""
    for cell in outcome.cells:
        _print_cell(cell)
    if outcome.stopped:
        out.print(
            "[yellow]stopped on request; everything finished is kept. The same command "
            "continues.[/yellow]"
        )


def print_manifest(folder: RunFolder, manifest: RunManifest, *, files: bool = True) -> None:
    """Print what a closed run holds, and where its files are."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("study")
    for name in ("rows", "stimuli", "complete\nrows", "queries\nanswered", "failed", "not\nasked"):
        table.add_column(name, justify="right")
    table.add_column(
        "extraction" if folder.experiment == "exp1" else "median\ncoverage", no_wrap=True
    )
    for study, report in manifest.studies.items():
        counts = report.queries.values()
        beside = (
            "\n".join(f"{n:,} {outcome}" for outcome, n in report.extraction.items())
            if folder.experiment == "exp1"
            else "\n".join(f"{probe} {value[1]:.2g}" for probe, value in report.coverage.items())
        )
        table.add_row(
            study,
            f"{report.rows:,}",
            f"{report.stimuli:,}",
            f"{report.complete_rows:,}",
            f"{sum(c.answered for c in counts):,}",
            f"{sum(c.failed for c in counts):,}",
            f"{sum(c.not_asked for c in counts):,}",
            beside,
        )
    out.print(table)
    print_costs(manifest)
    for study, report in manifest.studies.items():
        if report.recheck is not None:
            out.print(_recheck_text(study, report.recheck), markup=False)
    print_notes(manifest)
    # The journal is not for reading.
    shown = [name for name in manifest.files if not name.startswith("journal/")]
    for name in shown if files else ():
        out.print(f"  {folder.path / name}", markup=False)


def print_notes(manifest: RunManifest) -> None:
    """Print what a reader should know before trusting the numbers."""
    for warning in manifest.warnings[:_SHOWN_WARNINGS]:
        out.print(f"note: {warning}", markup=False, style="yellow")
    if len(manifest.warnings) > _SHOWN_WARNINGS:
        out.print(f"and {len(manifest.warnings) - _SHOWN_WARNINGS} more notes in manifest.json")


def print_summary(folder: RunFolder, study: Study) -> None:
    """Print a study's headline means by condition, from its summary table."""
    summary = read_table(folder.table(study.key, "summary"))
    width = len(study.conditions)
    measures = {name: index for index, name in enumerate(summary.header)}
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    used: dict[str, int] = {}
    for row in summary.rows:
        measure, mean = row[measures["measure"]], row[measures["mean"]]
        if row[measures["rows"]] != "all" or measure not in study.headlines:
            continue
        cells.setdefault(row[:width], {})[measure] = _short(mean)
        used[measure] = used.get(measure, 0) + int(row[measures["n_used"]])
    if not cells:
        return
    table = Table(
        title=f"{study.title}, means by condition ({_EXPERIMENTS[folder.experiment]})",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for name in study.conditions:
        table.add_column(name, no_wrap=True)
    for measure in used:
        table.add_column(study.headlines[measure].replace(" ", "\n"), justify="right")
    for cell, means in cells.items():
        table.add_row(*cell, *(means.get(measure, "") for measure in used))
    table.add_section()
    table.add_row("n", *([""] * (width - 1)), *(str(n) for n in used.values()), style="dim")
    out.print(table)


def _recheck_text(study: str, again: RecheckReport) -> str:
    text = f"{study}: {again.answered:,} distributions were scored again, in another order"
    if again.largest_change is None:
        return text
    return (
        f"{text}; largest change of a log-probability: {again.largest_change:.2g} nats "
        f"({again.probe}, {again.candidate})"
    )


def print_agreement(agreement: Summary) -> None:
    """Print how often the text is the most probable answer, by condition."""
    table = Table(
        title="Agreement of the text with the most probable answer",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    names = [name for name in agreement.header if name.startswith("condition_")]
    shown = [*names, "comparison", "n_rows", "n_used", "agreement", "expected_agreement"]
    for name in shown:
        words = name.removeprefix("condition_").replace("_", "\n")
        table.add_column(words, justify="left" if name in (*names, "comparison") else "right")
    for row in agreement.rows:
        cells = dict(zip(agreement.header, row, strict=True))
        for name in ("agreement", "expected_agreement"):
            cells[name] = _short(cells[name])
        table.add_row(*(cells[name] for name in shown))
    out.print(table)


def _short(mean: str) -> str:
    if not mean:
        return "-"
    number = float(mean)
    return f"{number:.1f}" if abs(number) >= 2 else f"{number:.2f}"


def _print_cell(cell: CellOutcome) -> None:
    folder = cell.folder
    before = ", finished before" if cell.already else ""
    out.print()
    out.print(
        f"[bold]{_EXPERIMENTS[folder.experiment]}[/bold], {folder.model}: "
        f"[{_COLOURS[cell.status]}]{cell.status.value}[/{_COLOURS[cell.status]}]{before}"
    )
    out.print(str(folder.path), markup=False)
    if cell.manifest is not None:
        print_manifest(folder, cell.manifest)
    if cell.status is CellStatus.INCOMPLETE:
        out.print("next: when the cause is removed, this asks what failed again:", style="bold")
        out.print(f"  {retry_command(folder)}", markup=False)
