"""
A run on a cluster, as it is driven: drawn in place on a terminal, and lines in a log.

See `cluster_view` for what is drawn.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType

from rich.live import Live

from grace.cli.cluster_view import SERVER_WORDS, counts, run_view, short, step_title
from grace.cli.screen import duration, err, visible
from grace.cluster.executor.decide import ServerStanding, StepState
from grace.cluster.executor.status import Progress, RunStatus, ServerStatus, StepStatus

_SECONDS_BETWEEN_LINES = 30.0


class ClusterScreen:
    """
    Shows a run while it is driven; use it in a `with` block.

    Args:
        now: The clock.

        monotonic: The clock for pauses between lines of a log.
    """

    def __init__(
        self,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._monotonic = monotonic
        self._live = Live(console=err, auto_refresh=False, vertical_overflow="crop")
        self._spoken: dict[str, float] = {}

    def __enter__(self) -> "ClusterScreen":
        """Begin to draw, on a terminal."""
        if err.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop drawing; the last state stays on the screen."""
        if err.is_terminal:
            self._live.stop()

    def message(self, text: str) -> None:
        """Print a line."""
        err.print(visible(text), style="dim", markup=False)

    def phase_began(self, number: int, title: str) -> None:
        """Say so, in a log."""
        if not err.is_terminal:
            err.print(f"phase {number} of 6: {title}", markup=False)

    def step_changed(self, step: StepStatus) -> None:
        """Say so, in a log."""
        if err.is_terminal or step.state is StepState.WAITING:
            return
        reason = f": {short(step.reason)}" if step.reason else ""
        counted = counts(step) if step.state is StepState.DONE else None
        done = "" if counted is None else f", {counted.done:,} of {counted.planned:,}"
        failed = f", {counted.failed:,} failed" if counted is not None and counted.failed else ""
        err.print(f"{step_title(step)}: {step.state}{done}{failed}{reason}", markup=False)

    def server_changed(self, server: ServerStatus) -> None:
        """Say so, in a log."""
        if err.is_terminal or (server.standing is ServerStanding.ABSENT and not server.failure):
            return
        words = (
            f"given up: {server.failure}" if server.failure else SERVER_WORDS[server.standing][0]
        )
        reason = f": {server.reason}" if server.reason and not server.failure else ""
        err.print(short(f"server of {server.key}: {words}{reason}"), markup=False)

    def looked(self, status: RunStatus) -> None:
        """Draw it anew, or print now and then how far steps are."""
        if err.is_terminal:
            self._live.update(run_view(status, self._now()), refresh=True)
            return
        for one in status.steps:
            if one.state is StepState.RUNNING and one.progress is not None:
                self._speak(step_title(one), one.progress)

    def _speak(self, title: str, progress: Progress) -> None:
        now = self._monotonic()
        if now - self._spoken.get(title, float("-inf")) < _SECONDS_BETWEEN_LINES:
            return
        self._spoken[title] = now
        failed = f", {progress.failed:,} failed" if progress.failed else ""
        rate = progress.per_second
        left = (progress.planned - progress.done) / rate if rate else None
        pace = "" if left is None else f", {rate:.1f} a second, {duration(left)} left"
        err.print(f"{title}: {progress.done:,} of {progress.planned:,}{failed}{pace}", markup=False)
