"""What people see: consoles, progress on a terminal, plain lines in a log."""

import re
import sys
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from grace.engine.events import StageCounts
from grace.engine.journal import Record
from grace.pipeline.inputs import counted
from grace.studies.document import shown
from grace.studies.spreadsheet import FormulaCells

_SECONDS_BETWEEN_LINES = 10.0

# Away from a terminal, rich would squeeze tables into 80 columns.
_WIDTH = None if sys.stdout.isatty() else 110

out = Console(soft_wrap=True, highlight=False, emoji=False, width=_WIDTH)
"""Results go here."""

err = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
"""Progress, notes and errors go here."""


# Controls but for tab and line feed, and marks that turn the direction of what follows.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    r"""
    Return text from outside as it may be printed: a terminal must not obey it.

    >>> visible("red: \x1b[31m")
    'red: \\x1b[31m'
    """
    return _HIDDEN.sub(lambda found: repr(found[0])[1:-1], text)


def print_formula_note(found: Sequence[FormulaCells]) -> None:
    """Say which cells a spreadsheet would run, if there are any."""
    if not found:
        return
    count, first = sum(one.count for one in found), found[0]
    cells = "1 cell begins" if count == 1 else f"{count:,} cells begin"
    tables = f" in {len(found)} tables" if len(found) > 1 else ""
    err.print(
        f"note: {cells} like a spreadsheet formula{tables}; the first:\n"
        f"      {visible(first.source)}, row {first.row}, {visible(first.column)}: "
        f"{shown(first.value)}\n"
        "      They are kept as they are. Import them as text: a spreadsheet may run them.",
        style="yellow",
        markup=False,
    )


class ScreenHook:
    """
    Shows a run: a bar for each stage on a terminal, lines elsewhere.

    Use it in a `with` block.
    """

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=err,
        )
        self._tasks: dict[str, TaskID] = {}
        self._failed: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._planned: dict[str, int] = {}
        self._spoken: dict[str, float] = {}
        self._started: dict[str, tuple[float, int]] = {}

    def __enter__(self) -> "ScreenHook":
        """Begin to draw, on a terminal."""
        if err.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop drawing; the last state stays on the screen."""
        if err.is_terminal:
            self._progress.stop()

    def message(self, text: str) -> None:
        """Print a line."""
        err.print(text, style="dim", markup=False)

    def stage_started(self, name: str, planned: int, done: int) -> None:
        """Add a bar, or print a line."""
        self._failed[name], self._done[name], self._planned[name] = 0, done, planned
        self._started[name] = (time.monotonic(), done)
        self._spoken[name] = time.monotonic()
        if err.is_terminal:
            self._tasks[name] = self._progress.add_task(
                name, total=planned, completed=done, note=""
            )
        elif done:
            err.print(f"{name}: {done} of {planned} queries were finished before", markup=False)
        else:
            err.print(f"{name}: {counted(planned, 'query', 'queries')}", markup=False)

    def query_finished(self, name: str, record: Record) -> None:
        """Advance the bar, or print a line now and then."""
        self._done[name] += 1
        self._failed[name] += record.status == "failed"
        if err.is_terminal:
            failed = self._failed[name]
            note = f"[red]{failed} failed[/red]" if failed else ""
            self._progress.update(self._tasks[name], advance=1, note=note)
            return
        now = time.monotonic()
        if now - self._spoken[name] >= _SECONDS_BETWEEN_LINES:
            self._spoken[name] = now
            err.print(self._line(name, now), markup=False)

    def query_retried(self, name: str, reason: str, attempt: int) -> None:
        """Say that the server is being waited for."""
        if err.is_terminal:
            self._progress.update(self._tasks[name], note=f"[yellow]attempt {attempt}[/yellow]")
        else:
            err.print(f"{name}: attempt {attempt} after: {reason}", markup=False)

    def pace_changed(self, name: str, requests: int, queries: int) -> None:
        """Show nothing: the manifest has the final figures."""

    def stage_finished(self, name: str, counts: StageCounts) -> None:
        """Print how the stage ended, in a log."""
        if not err.is_terminal:
            err.print(
                f"{name}: {counts.answered} answered, {counts.failed} failed, "
                f"{counts.not_asked} not asked",
                markup=False,
            )

    def _line(self, name: str, now: float) -> str:
        started, before = self._started[name]
        done, planned = self._done[name], self._planned[name]
        rate = (done - before) / max(now - started, 1e-9)
        left = (planned - done) / rate if rate > 0 else 0.0
        failed = f", {self._failed[name]} failed" if self._failed[name] else ""
        return f"{name}: {done}/{planned} ({done / planned:.0%}){failed}, {duration(left)} left"


def duration(seconds: float) -> str:
    """Write a time as people say it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
