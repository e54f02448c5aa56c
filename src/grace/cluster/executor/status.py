"""How a run stands, as data: for a screen, for `grace cluster status`, for anyone who looks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from grace.cluster.executor.decide import ServerStanding, StepState
from grace.cluster.executor.outcome import Outcome
from grace.cluster.executor.records import Collection
from grace.cluster.steps import Step, StepKind

PHASE_TITLES = {
    1: "set up",
    2: "model servers",
    3: "Experiment 1",
    4: "extraction",
    5: "Experiment 2",
    6: "validate and collect",
}

COMPLETE, FAILED, MISSING = 0, 1, 3


@dataclass(frozen=True, slots=True)
class Progress:
    """
    How far the pods of a step are, as they last said.

    Attributes:
        planned: Queries in their plans.

        done: Of these, finished.

        failed: Of these, without an answer.

        per_second: Queries a second, all pods together.
    """

    planned: int
    done: int
    failed: int
    per_second: float


@dataclass(frozen=True, slots=True)
class StepStatus:
    """
    How a step stands.

    Attributes:
        step: Which.

        state: How.

        reason: What it waits for, or why it failed.

        since: When its Job was made or it ended, in UTC; empty if neither.

        nodes: Where its pods run.

        pods: How many of its pods run.

        progress: How far they are; None if they did not say.

        outcome: How it ended; None if it did not, or did not say.
    """

    step: Step
    state: StepState
    reason: str = ""
    since: str = ""
    nodes: tuple[str, ...] = ()
    pods: int = 0
    progress: Progress | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """
    How a model server stands.

    Attributes:
        key: Of its model.

        standing: What there is of it.

        reason: Why it is not ready.

        failure: Why it was given up; empty if it was not.

        since: When it was made, in UTC; empty if it was not.

        nodes: Where its pods run.

        gpus: How many GPUs it holds now.
    """

    key: str
    standing: ServerStanding
    reason: str = ""
    failure: str = ""
    since: str = ""
    nodes: tuple[str, ...] = ()
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class RunStatus:
    """
    How a run stands.

    Attributes:
        run_id: Its timestamp in lower case.

        namespace: Where it runs.

        steps: In the order of the run.

        servers: In the order in which they are first needed.

        finished: Whether nothing is left to do.

        collection: Proof that its results were collected; None if they were not.
    """

    run_id: str
    namespace: str
    steps: tuple[StepStatus, ...]
    servers: tuple[ServerStatus, ...]
    finished: bool
    collection: Collection | None = None

    @property
    def phase(self) -> int:
        """The first phase that has an unfinished step; the last, if there is none."""
        going = (StepState.WAITING, StepState.RUNNING)
        return min((found.step.phase for found in self.steps if found.state in going), default=6)

    @property
    def gpus_held(self) -> int:
        """How many GPUs its servers hold now."""
        return sum(server.gpus for server in self.servers)

    @property
    def failed(self) -> tuple[StepStatus, ...]:
        """Steps that failed, or never can run for that."""
        bad = (StepState.FAILED, StepState.BLOCKED)
        return tuple(found for found in self.steps if found.state in bad)

    @property
    def missing(self) -> int | None:
        """How many answers are missing in all cells; None if a finished cell did not say."""
        ends = [
            found.outcome
            for found in self.steps
            if found.step.kind is StepKind.FINISH and found.state is StepState.DONE
        ]
        known = [outcome.missing for outcome in ends if outcome is not None]
        return sum(known) if len(known) == len(ends) else None

    @property
    def exit_code(self) -> int | None:
        """0 complete, 1 something failed, 3 answers are missing or not counted; None: it goes on."""
        if not self.finished:
            return None
        if self.failed:
            return FAILED
        return COMPLETE if self.missing == 0 else MISSING


class ClusterHook(Protocol):
    """Receives what happens to a run; see `QuietHook` for one that ignores it."""

    def message(self, text: str) -> None:
        """Take something worth a line."""
        ...

    def phase_began(self, number: int, title: str) -> None:
        """Note that a phase of the specification begins."""
        ...

    def step_changed(self, step: StepStatus) -> None:
        """Note that a step has another state or reason."""
        ...

    def server_changed(self, server: ServerStatus) -> None:
        """Note that a server has another standing or reason."""
        ...

    def looked(self, status: RunStatus) -> None:
        """Take how everything stands; comes with every look at the cluster."""
        ...


class QuietHook:
    """Ignores everything."""

    def message(self, text: str) -> None:
        """Ignore it."""

    def phase_began(self, number: int, title: str) -> None:
        """Ignore it."""

    def step_changed(self, step: StepStatus) -> None:
        """Ignore it."""

    def server_changed(self, server: ServerStatus) -> None:
        """Ignore it."""

    def looked(self, status: RunStatus) -> None:
        """Ignore it."""


def tell(hook: ClusterHook, before: RunStatus | None, now: RunStatus) -> None:
    """Tell a hook what changed between two looks."""
    if before is None or before.phase != now.phase:
        hook.phase_began(now.phase, PHASE_TITLES[now.phase])
    old_steps: Sequence[StepStatus | None] = (
        before.steps if before is not None else [None] * len(now.steps)
    )
    for old_step, step in zip(old_steps, now.steps, strict=True):
        if old_step is None or (old_step.state, old_step.reason) != (step.state, step.reason):
            hook.step_changed(step)
    old_servers: Sequence[ServerStatus | None] = (
        before.servers if before is not None else [None] * len(now.servers)
    )
    for old, server in zip(old_servers, now.servers, strict=True):
        if old is None or (old.standing, old.reason, old.failure) != (
            server.standing,
            server.reason,
            server.failure,
        ):
            hook.server_changed(server)
    hook.looked(now)
