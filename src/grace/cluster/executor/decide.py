"""
What to do next, from what a run needs and what the cluster has: one pure function.

The executor keeps nothing of its own. It looks, asks this function, does what it
says, and looks again; so it can be killed at any moment and started elsewhere.

A server is up while a step that can run needs it. What is finished, what cannot
run yet and what never can keeps no server, and so no GPU.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from grace.cluster.steps import Step, StepKind, StepName


class JobStanding(StrEnum):
    """What the cluster has of a step."""

    ABSENT = "absent"
    ACTIVE = "active"
    STOPPING = "stopping"
    DONE = "done"
    FAILED = "failed"


class ServerStanding(StrEnum):
    """What the cluster has of a model server."""

    ABSENT = "absent"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    ELSEWHERE = "elsewhere"
    """Another run has it."""


class StepState(StrEnum):
    """How a step stands in its run."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    BLOCKED = "blocked"
    """It can never run, since something that it needs failed."""


@dataclass(frozen=True, slots=True)
class SeenStep:
    """A step as the cluster shows it, and why."""

    standing: JobStanding = JobStanding.ABSENT
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SeenServer:
    """
    A model server as the cluster shows it.

    Attributes:
        standing: What there is.

        reason: Why it is not ready, in words.

        failure: Why it is given up; empty if it is not.

        ended: Whether it ended by itself, and must be removed to be made again.
    """

    standing: ServerStanding = ServerStanding.ABSENT
    reason: str = ""
    failure: str = ""
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a run may hold at the same time; None: no bound."""

    servers: int = 1
    gpus: int | None = None
    jobs: int | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """How a step stands, and why."""

    state: StepState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """
    What to do next.

    Attributes:
        stop: Servers to stop.

        cancel: Steps whose Jobs to delete, since their server was given up.

        start: Servers to start.

        begin: Steps whose Jobs to make.

        steps: How each step stands, in the order of the run.

        finished: Whether nothing is left to do or to wait for.
    """

    stop: tuple[str, ...] = ()
    cancel: tuple[StepName, ...] = ()
    start: tuple[str, ...] = ()
    begin: tuple[StepName, ...] = ()
    steps: Mapping[StepName, Judged] = field(default_factory=dict)
    finished: bool = False


_OURS = frozenset({ServerStanding.STARTING, ServerStanding.READY, ServerStanding.STOPPING})
_UP = frozenset({ServerStanding.STARTING, ServerStanding.READY})
_AT_WORK = frozenset({JobStanding.ACTIVE, JobStanding.STOPPING})


def decide(
    steps: Sequence[Step],
    gpus: Mapping[str, int],
    bounds: Bounds,
    seen_steps: Mapping[StepName, SeenStep],
    seen_servers: Mapping[str, SeenServer],
) -> Decision:
    """
    Return what to do next.

    Args:
        steps: Of the run; each stands behind those that it needs.

        gpus: How many GPUs each server holds, in the order in which servers
            are to be started.

        bounds: How much may be held at the same time.

        seen_steps: What the cluster has of them; what is missing is absent.

        seen_servers: The same of servers.
    """
    standings = _standings(steps, seen_steps)
    servers = {key: seen_servers.get(key, SeenServer()) for key in gpus}
    failures = {
        key: server.failure or _too_large(key, gpus[key], bounds) for key, server in servers.items()
    }
    judged: dict[StepName, Judged] = {}
    for step in steps:
        seen = seen_steps.get(step.name, SeenStep())
        judged[step.name] = _judge(step, standings[step.name], seen.reason, judged, failures)
    wanted = _wanted(steps, judged)
    stop = tuple(
        key
        for key, server in servers.items()
        if server.standing in _UP and (key not in wanted or server.ended)
    )
    start = _starts(wanted, servers, gpus, bounds)
    begin = _begins(steps, judged, standings, servers, stop, bounds)
    cancel = tuple(
        step.name
        for step in steps
        if standings[step.name] is JobStanding.ACTIVE
        and judged[step.name].state is StepState.BLOCKED
    )
    waiting = {
        step.name: Judged(StepState.WAITING, _waits_for(step, judged, servers, start, bounds))
        for step in steps
        if judged[step.name].state is StepState.WAITING and step.name not in begin
    }
    ended = {StepState.DONE, StepState.FAILED, StepState.BLOCKED}
    finished = (
        all(found.state in ended for found in judged.values())
        and not any(standing in _AT_WORK for standing in standings.values())
        and not any(server.standing in _OURS for server in servers.values())
    )
    return Decision(stop, cancel, start, begin, judged | waiting, finished)


def _standings(
    steps: Sequence[Step], seen: Mapping[StepName, SeenStep]
) -> dict[StepName, JobStanding]:
    standings = {step.name: seen.get(step.name, SeenStep()).standing for step in steps}
    for step in reversed(steps):
        # A Job that is gone was done if another that needs it was begun: finished Jobs are
        # removed after a while, and what was done must not be done again.
        if standings[step.name] is not JobStanding.ABSENT:
            for need in step.needs:
                if standings[need] is JobStanding.ABSENT:
                    standings[need] = JobStanding.DONE
    return standings


def _judge(
    step: Step,
    standing: JobStanding,
    reason: str,
    judged: Mapping[StepName, Judged],
    failures: Mapping[str, str],
) -> Judged:
    if standing is JobStanding.DONE:
        return Judged(StepState.DONE)
    if standing is JobStanding.FAILED:
        return Judged(StepState.FAILED, reason)
    failed = {StepState.FAILED, StepState.BLOCKED}
    for need in step.needs:
        if judged[need].state in failed:
            return Judged(StepState.BLOCKED, f"{need} failed")
    if step.server is not None and failures.get(step.server):
        return Judged(StepState.BLOCKED, f"the server of {step.server}: {failures[step.server]}")
    if standing is JobStanding.ACTIVE:
        return Judged(StepState.RUNNING, reason)
    return Judged(StepState.WAITING, reason)


def _too_large(key: str, gpus: int, bounds: Bounds) -> str:
    if bounds.gpus is None or gpus <= bounds.gpus:
        return ""
    return (
        f"{key} takes {gpus} GPUs, and model_servers.gpus_at_once of the profile is "
        f"{bounds.gpus}; raise it, or leave the model out"
    )


def _can_run(step: Step, judged: Mapping[StepName, Judged]) -> bool:
    match judged[step.name].state:
        case StepState.RUNNING:
            return True
        case StepState.WAITING:
            return all(judged[need].state is StepState.DONE for need in step.needs)
        case _:
            return False


def _wanted(steps: Sequence[Step], judged: Mapping[StepName, Judged]) -> dict[str, bool]:
    """Return the servers that steps need which can run, and whether only extraction does."""
    wanted: dict[str, bool] = {}
    for step in steps:
        if step.server is not None and _can_run(step, judged):
            only_extracts = step.kind is StepKind.EXTRACT
            wanted[step.server] = wanted.get(step.server, True) and only_extracts
    return wanted


def _starts(
    wanted: Mapping[str, bool],
    servers: Mapping[str, SeenServer],
    gpus: Mapping[str, int],
    bounds: Bounds,
) -> tuple[str, ...]:
    # What is being stopped holds its GPUs until it is gone.
    held = [key for key, server in servers.items() if server.standing in _OURS]
    places = bounds.servers - len(held)
    free = None if bounds.gpus is None else bounds.gpus - sum(gpus[key] for key in held)
    started: list[str] = []
    # Extraction comes last: its model is loaded once, when all texts are there, and not
    # again and again between the others.
    for key in sorted(gpus, key=lambda key: wanted.get(key, True)):
        if key not in wanted or servers[key].standing is not ServerStanding.ABSENT:
            continue
        if places > 0 and (free is None or gpus[key] <= free):
            started.append(key)
            places -= 1
            free = None if free is None else free - gpus[key]
    return tuple(started)


def _begins(
    steps: Sequence[Step],
    judged: Mapping[StepName, Judged],
    standings: Mapping[StepName, JobStanding],
    servers: Mapping[str, SeenServer],
    stop: Sequence[str],
    bounds: Bounds,
) -> tuple[StepName, ...]:
    at_work = sum(standing in _AT_WORK for standing in standings.values())
    places = len(steps) if bounds.jobs is None else bounds.jobs - at_work
    ready = {
        key
        for key, server in servers.items()
        if server.standing is ServerStanding.READY and key not in stop
    }
    able = [
        step
        for step in steps
        if standings[step.name] is JobStanding.ABSENT
        and judged[step.name].state is StepState.WAITING
        and _can_run(step, judged)
        and (step.server is None or step.server in ready)
    ]
    # A server that is up waits for nothing that could wait for it.
    able.sort(key=lambda step: step.server is None)
    return tuple(step.name for step in able[: max(places, 0)])


def _waits_for(
    step: Step,
    judged: Mapping[StepName, Judged],
    servers: Mapping[str, SeenServer],
    start: Sequence[str],
    bounds: Bounds,
) -> str:
    for need in step.needs:
        if judged[need].state is not StepState.DONE:
            return f"waits for {need}"
    if judged[step.name].reason:
        return judged[step.name].reason
    if step.server is not None:
        server = servers[step.server]
        why = f": {server.reason}" if server.reason else ""
        match server.standing:
            case ServerStanding.ABSENT if step.server not in start:
                return f"waits until there is room for the server of {step.server}"
            case ServerStanding.READY:
                pass
            case _:
                return f"waits for the server of {step.server}{why}"
    return f"waits for a place: jobs.at_once of the profile is {bounds.jobs}"
