"""`grace status` on the screen: all runs in a table, and the unfinished ones in detail."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich import box
from rich.table import Table

from grace.cli.outcome import print_manifest, print_notes
from grace.cli.screen import duration, err, out, visible
from grace.pipeline.standing import Line, Pace, RunState, Standing, resume_command
from grace.runs.folder import RunFolder
from grace.runs.stop import StopNote

MOST_DETAILS = 6
_UNWATCHED = "it was collected from a cluster before it was over; whatever is new there is not here"
MOST_RUNS = 40
_COLOURS = {
    RunState.COMPLETE: "green",
    RunState.INCOMPLETE: "red",
    RunState.RUNNING: "cyan",
    RunState.UNFINISHED: "yellow",
}


def print_standings(found: Sequence[Standing], now: datetime | None = None) -> None:
    """
    Print how runs stand.

    Args:
        found: The runs.

        now: The moment to count from; None for the clock.
    """
    moment = now or datetime.now(UTC)
    if len(found) == 1:
        _print_one(found[0], moment)
        return
    out.print(_overview(found))
    if len(found) > MOST_RUNS:
        out.print(f"and {len(found) - MOST_RUNS:,} more runs; name a folder to see it")
    open_ones = [one for one in found if one.state is not RunState.COMPLETE]
    for one in open_ones[:MOST_DETAILS]:
        out.print()
        _print_one(one, moment)
    if len(open_ones) > MOST_DETAILS:
        out.print()
        out.print(
            f"and {len(open_ones) - MOST_DETAILS:,} more with something missing; "
            "grace status FOLDER shows one",
            markup=False,
        )


def print_unbegun(missing: Mapping[Path, RunFolder]) -> None:
    """
    Print which cells were asked for and not begun.

    Args:
        missing: For each such cell's folder, a run of the same command.
    """
    for path, run in list(missing.items())[:MOST_RUNS]:
        cell = RunFolder(path)
        out.print()
        out.print(str(path), style="bold", markup=False, end="  ")
        out.print("not begun", style="yellow")
        out.print(
            f"{cell.experiment} of {cell.model} was asked for together with {run.experiment} of "
            f"{run.model}, and follows it",
            markup=False,
        )
        out.print("next:", style="bold", end=" ")
        out.print(resume_command(run), markup=False)


def _overview(found: Sequence[Standing]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("experiment", "model", "run"):
        table.add_column(name, no_wrap=True)
    table.add_column("state")
    for name in ("planned", "answered", "failed", "not\nasked"):
        table.add_column(name, justify="right")
    for one in found[:MOST_RUNS]:
        total = one.total()
        table.add_row(
            one.folder.experiment,
            one.folder.model,
            one.folder.timestamp,
            f"[{_COLOURS[one.state]}]{one.state.value}[/]",
            f"{total.planned:,}",
            f"{total.answered:,}",
            _failed(total.failed),
            f"{total.not_asked:,}",
        )
    return table


def _print_one(one: Standing, now: datetime) -> None:
    out.print(str(one.folder.path), style="bold", markup=False, end="  ")
    out.print(one.state.value, style=_COLOURS[one.state])
    for note in one.notes:
        err.print(f"note: {note}", style="yellow", markup=False)
    if one.manifest is not None and one.state is RunState.COMPLETE:
        print_manifest(one.folder, one.manifest, files=False)
    else:
        out.print(_details(one.lines))
        if one.manifest is not None:
            print_notes(one.manifest)
    _print_reasons(one)
    if one.holder is not None:
        out.print(f"{one.holder} is working on it", style="cyan", markup=False)
    elif one.state is RunState.UNFINISHED:
        out.print(_UNWATCHED if one.collected else "nobody is working on it", markup=False)
        _print_stop(one.stop, now)
    total = one.total()
    if one.manifest is None:
        out.print(_pace_text(one.pace, one.left, now), markup=False)
        if not one.left and all(line.counts is not None for line in one.lines):
            out.print("everything was asked; tables and checks are still to be made", markup=False)
    if one.command:
        out.print("next:", style="bold", end=" ")
        out.print(one.command, markup=False)
    if one.state is RunState.UNFINISHED and total.failed and not one.collected:
        out.print("      (with --retry-failed, what failed is asked again as well)", style="dim")


def _print_stop(stop: StopNote | None, now: datetime) -> None:
    if stop is None:
        return
    ago = duration(max(0.0, (now - stop.moment).total_seconds()))
    first, *rest = visible(stop.reason).splitlines() or [""]
    out.print(f"an error stopped it {ago} ago:", style="red", end=" ")
    out.print(first, markup=False)
    for line in rest:
        out.print(f"  {line}", markup=False)


def _details(lines: Sequence[Line]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("study", "stage", "question"):
        table.add_column(name, no_wrap=True)
    for name in ("planned", "answered", "failed", "not\nasked"):
        table.add_column(name, justify="right")
    table.add_column("", no_wrap=True)
    before = ("", "")
    for line in lines:
        study = line.study if line.study != before[0] else ""
        stage = line.stage if (line.study, line.stage) != before else ""
        before = (line.study, line.stage)
        if line.counts is None:
            table.add_row(study, stage, line.question, "", "", "", "", "[dim]comes later[/dim]")
            continue
        counts = line.counts
        table.add_row(
            study,
            stage,
            line.question,
            f"{counts.planned:,}",
            f"{counts.answered:,}",
            _failed(counts.failed),
            f"{counts.not_asked:,}",
            _bar(counts.answered, counts.failed, counts.planned),
        )
    return table


def _bar(answered: int, failed: int, planned: int, width: int = 20) -> str:
    if not planned:
        return ""
    red = -(-failed * width // planned) if failed else 0
    green = min(answered * width // planned, width - red)
    rest = width - green - red
    return f"[green]{'━' * green}[/green][red]{'x' * red}[/red][dim]{'─' * rest}[/dim]"


def _failed(count: int) -> str:
    return f"[red]{count:,}[/red]" if count else "0"


def _print_reasons(one: Standing) -> None:
    if not one.reasons:
        return
    out.print("why queries failed:", markup=False)
    for reason in one.reasons:
        out.print(f"{reason.count:>8,}", style="red", end="  ")
        out.print(reason.text, markup=False)
    if one.other_reasons:
        out.print(f"{one.other_reasons:>8,}  for other reasons; see the journal", markup=False)


def _pace_text(pace: Pace, left: int, now: datetime) -> str:
    if pace.last is None:
        return "nothing was answered yet"
    ago = duration(max(0.0, (now - pace.last).total_seconds()))
    text = f"the last query ended {ago} ago"
    if pace.per_minute is None:
        return text
    text += (
        f"; {pace.per_minute:,.0f} ended a minute"
        if pace.per_minute >= 1
        else (f"; {60 * pace.per_minute:,.1f} ended an hour")
    )
    if left:
        text += f", and at that pace the {left:,} left take {duration(60 * left / pace.per_minute)}"
    return text
