"""How a run on a cluster stands, drawn: phases, models, steps, servers, and why they wait."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from grace.cli.cluster_tables import STEP_WORDS
from grace.cli.screen import duration, visible
from grace.cluster.executor.decide import ServerStanding, StepState
from grace.cluster.executor.status import (
    PHASE_TITLES,
    RunStatus,
    StepStatus,
)
from grace.cluster.steps import StepKind

_BAR = 20
_STEP = 18
_LONGEST_REASON = 160
_LAST_PHASE = 6

_MARKS = {
    StepState.WAITING: ("·", "dim"),
    StepState.RUNNING: ("▶", "cyan"),
    StepState.DONE: ("✓", "green"),
    StepState.FAILED: ("✗", "red"),
    StepState.BLOCKED: ("✗", "yellow"),
}
SERVER_WORDS = {
    ServerStanding.ABSENT: ("not up", "dim"),
    ServerStanding.STARTING: ("starting", "yellow"),
    ServerStanding.READY: ("ready", "green"),
    ServerStanding.STOPPING: ("stopping", "yellow"),
    ServerStanding.ELSEWHERE: ("in use by another run", "yellow"),
}


def run_view(status: RunStatus, now: datetime) -> RenderableType:
    """
    Draw how a run stands.

    Args:
        status: How it stands.

        now: The moment to count from.
    """
    parts: list[RenderableType] = [_heading(status), _phases(status), _models(status, now)]
    if (servers := _servers(status, now)) is not None:
        parts.append(servers)
    parts += [Text(line, "yellow") for line in _reasons(status)]
    return Group(*parts)


def step_title(step: StepStatus) -> str:
    """Return a step's name for people: `gemma-2-2b: responses`."""
    return f"{step.step.model}: {_title(step)}"


def _title(step: StepStatus) -> str:
    title = STEP_WORDS[step.step.kind]
    return f"{title} of {step.step.experiment}" if step.step.kind is StepKind.FINISH else title


def _heading(status: RunStatus) -> Text:
    heading = Text.assemble(
        ("run ", "bold"), (status.run_id.upper(), "bold"), f" in {status.namespace}  "
    )
    match status.exit_code:
        case None:
            heading.append("at work" if _at_work(status) else "waiting", "cyan")
        case 0:
            heading.append("complete", "green")
        case 3:
            heading.append("finished, with answers missing", "yellow")
        case _:
            heading.append("finished, with failures", "red")
    return heading


def _at_work(status: RunStatus) -> bool:
    return any(one.state is StepState.RUNNING for one in status.steps)


def _phases(status: RunStatus) -> Text:
    line = Text()
    for number, title in PHASE_TITLES.items():
        mark, style = _phase_mark(status, number)
        collected = status.collection is not None
        if number == _LAST_PHASE and mark == _MARKS[StepState.DONE][0] and not collected:
            line.append(f"{mark} validate   ", style)
            line.append("{} collect".format(*_MARKS[StepState.WAITING]), "dim")
        else:
            line.append(f"{mark} {title}   ", style)
    line.rstrip()
    line.append("\n")
    return line


def _phase_mark(status: RunStatus, number: int) -> tuple[str, str]:
    states = {one.state for one in status.steps if one.step.phase == number}
    if number == 1:
        # Whatever can be seen of a run has been set up.
        return _MARKS[StepState.DONE]
    if not states:
        return "-", "dim"
    for state in (StepState.RUNNING, StepState.FAILED):
        if state in states:
            return _MARKS[state]
    if states == {StepState.DONE}:
        return _MARKS[StepState.DONE]
    if StepState.WAITING not in states:
        return _MARKS[StepState.BLOCKED]
    return _MARKS[StepState.RUNNING if StepState.DONE in states else StepState.WAITING]


def _models(status: RunStatus, now: datetime) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("step", no_wrap=True, min_width=_STEP)
    table.add_column("", no_wrap=True, min_width=_BAR)
    # Wide enough from the beginning: what is drawn again and again should not move.
    for name, width in (("done", 11), ("failed", 6), ("per s", 5), ("time left", 11)):
        table.add_column(name, justify="right", no_wrap=True, min_width=width)
    for model in dict.fromkeys(one.step.model for one in status.steps):
        steps = [one for one in status.steps if one.step.model == model]
        for number, cells in enumerate(_model_rows(steps, now)):
            table.add_row("" if number else model, *cells)
    return table


def _model_rows(steps: Sequence[StepStatus], now: datetime) -> Iterator[tuple[RenderableType, ...]]:
    """Yield the rows of one model: what is done, waits or cannot run is one row, if all of it is."""
    states = {one.state for one in steps}
    if states == {StepState.DONE}:
        yield _mark(StepState.DONE), Text("all steps", "dim"), *_total_cells(steps)
        return
    if states <= {StepState.WAITING, StepState.DONE} and not any(map(_asked, steps)):
        left = sum(one.state is StepState.WAITING for one in steps)
        yield _mark(StepState.WAITING), Text(f"{left} steps to come", "dim")
        return
    # As the specification goes, whatever the order in which they are done.
    for one in sorted(steps, key=lambda one: one.step.phase):
        if one.state is not StepState.BLOCKED:
            yield _mark(one.state), *_step_cells(one, now)
    if blocked := sum(one.state is StepState.BLOCKED for one in steps):
        noun = "step" if blocked == 1 else "steps"
        yield _mark(StepState.BLOCKED), Text(f"{blocked} {noun} cannot run", "yellow")


def _asked(one: StepStatus) -> bool:
    """Whether a step that is done has asked queries."""
    fetched = one.step.kind is StepKind.WEIGHTS
    return one.state is StepState.DONE and not fetched


def _mark(state: StepState) -> Text:
    return Text(*_MARKS[state])


def _total_cells(steps: Sequence[StepStatus]) -> tuple[RenderableType, ...]:
    """Return the counts of all tables of a model."""
    found = [counts(one) for one in steps if one.step.kind is StepKind.FINISH]
    known = [one for one in found if one is not None]
    if not known:
        return ()
    return _count_cells(
        Counted(
            sum(one.done for one in known),
            sum(one.failed for one in known),
            sum(one.planned for one in known),
        )
    )


def _count_cells(counted: "Counted") -> tuple[RenderableType, ...]:
    return (
        _bar(counted),
        f"{counted.done:,}/{counted.planned:,}",
        Text(f"{counted.failed:,}", "red") if counted.failed else "0",
    )


def _step_cells(one: StepStatus, now: datetime) -> tuple[RenderableType, ...]:
    cells = (Text(_title(one), "" if one.state is StepState.RUNNING else "dim"),)
    counted = counts(one)
    if counted is None:
        return (*cells, Text(_words(one, now), "dim", overflow="ellipsis"))
    rate = counted.per_second
    left = (counted.planned - counted.done) / rate if rate else None
    return (
        *cells,
        *_count_cells(counted),
        f"{rate:.1f}" if rate else "",
        "" if left is None else duration(left),
    )


@dataclass(frozen=True, slots=True)
class Counted:
    """How many queries are done, of these failed, and planned, and how fast it goes."""

    done: int
    failed: int
    planned: int
    per_second: float = 0.0


def counts(one: StepStatus) -> Counted | None:
    """Return how far a step is; None if it asks nothing, or did not say."""
    if one.step.kind is StepKind.SMOKE:
        # What it counts is what the others are going to ask.
        return None
    if one.outcome is not None and one.outcome.cells:
        cells = one.outcome.cells.values()
        failed = sum(cell.failed for cell in cells)
        answered = sum(cell.answered for cell in cells)
        return Counted(answered + failed, failed, sum(cell.planned for cell in cells))
    said = one.progress
    if said is None or one.state is not StepState.RUNNING:
        return None
    return Counted(said.done, said.failed, said.planned, said.per_second)


def _words(one: StepStatus, now: datetime) -> str:
    match one.state:
        case StepState.RUNNING:
            return f"for {_since(one.since, now)}" if one.since else ""
        case StepState.FAILED:
            return "failed"
        case StepState.BLOCKED:
            return "cannot run"
        case _:
            return ""


def _bar(counted: Counted) -> Text:
    if not counted.planned:
        return Text("")
    red = -(-counted.failed * _BAR // counted.planned) if counted.failed else 0
    answered = counted.done - counted.failed
    green = min(answered * _BAR // counted.planned, _BAR - red)
    return Text.assemble(
        ("━" * green, "green"), ("x" * red, "red"), ("─" * (_BAR - green - red), "dim")
    )


def _servers(status: RunStatus, now: datetime) -> Table | None:
    absent = ServerStanding.ABSENT
    shown = [one for one in status.servers if one.standing is not absent or one.failure]
    if not shown:
        return None
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("model server", "", "GPUs", "node", "for"):
        table.add_column(name, no_wrap=True, justify="right" if name == "GPUs" else "left")
    for one in shown:
        words, style = SERVER_WORDS[one.standing]
        if one.failure:
            words, style = "given up", "red"
        table.add_row(
            one.key,
            Text(words, style),
            f"{one.gpus}" if one.gpus else "",
            ", ".join(one.nodes),
            _since(one.since, now),
        )
    if held := status.gpus_held:
        table.caption = f"{held} {'GPU is' if held == 1 else 'GPUs are'} held now"
        table.caption_justify = "left"
    return table


def _reasons(status: RunStatus) -> Iterator[str]:
    """Yield what is waited for and what failed, in words, each once."""
    said: dict[str, list[str]] = {}
    # What waits for others is no news while they are at work.
    quiet = {StepState.DONE, *((StepState.WAITING,) if _at_work(status) else ())}
    for one in status.steps:
        if one.reason and one.state not in quiet:
            said.setdefault(one.reason, []).append(step_title(one))
    for server in status.servers:
        if reason := server.failure or server.reason:
            said.setdefault(reason, []).append(f"server of {server.key}")
    for reason, whose in said.items():
        more = f" and {len(whose) - 1} more" if len(whose) > 1 else ""
        yield f"{whose[0]}{more}: {short(reason)}"


def short(reason: str) -> str:
    """Return a reason in one line of bounded length, as it may be printed."""
    line = " ".join(visible(reason).split())
    return line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 1] + "…"


def _since(stamp: str, now: datetime) -> str:
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return ""
    return duration(max(0.0, (now - moment).total_seconds()))
