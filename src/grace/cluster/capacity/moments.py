"""
What runs at once, in the order in which the executor goes.

A thought experiment: all steps that can run do, within the profile's bounds, and
end together. Real steps end when they end, so what is held at a moment may be
less, and is never more.
"""

from collections.abc import Iterator, Mapping

from grace.cluster.capacity.demands import server_demand, step_demand
from grace.cluster.capacity.result import Demand, Moment
from grace.cluster.gpus import choose_gpus
from grace.cluster.request import ClusterRun
from grace.cluster.steps import Step, StepName


def moments(run: ClusterRun, hours: Mapping[StepName, float]) -> Iterator[Moment]:
    """
    Yield what runs at once until all is done.

    Args:
        run: The run.

        hours: How long steps take, as far as that is known; steps that share a
            server are each given the time that they would take alone.
    """
    left = list(run.steps)
    done: set[StepName] = set()
    up: list[str] = []
    while left:
        ready = [step for step in left if done.issuperset(step.needs)]
        wanted = list(dict.fromkeys(step.server for step in ready if step.server is not None))
        up = _served(run, [key for key in up if key in wanted], wanted)
        working = [step for step in ready if step.server is None or step.server in up]
        working = working[: run.profile.jobs.at_once]
        if not working:
            # Nothing fits within the bounds; the plan's problems say what does not.
            return
        yield _moment(run, up, working, hours)
        done |= {step.name for step in working}
        left = [step for step in left if step.name not in done]


def _served(run: ClusterRun, up: list[str], wanted: list[str]) -> list[str]:
    """Return which servers are up: those that are still needed, then others while there is room."""
    servers = run.profile.model_servers
    for key in wanted:
        if key in up or len(up) >= servers.at_once:
            continue
        held = sum(_gpus(run, other) for other in (*up, key))
        if servers.gpus_at_once is None or held <= servers.gpus_at_once:
            up.append(key)
    return up


def _gpus(run: ClusterRun, key: str) -> int:
    return server_demand(run.catalogue.get(key), run.profile).gpus


def _moment(
    run: ClusterRun, up: list[str], working: list[Step], hours: Mapping[StepName, float]
) -> Moment:
    demand = Demand()
    for key in up:
        demand += server_demand(run.catalogue.get(key), run.profile)
    for step in working:
        demand += step_demand(step, run.profile)
    return Moment(
        phase=min(step.phase for step in working),
        servers=tuple(up),
        steps=tuple(step.name for step in working),
        demand=demand,
        hours=_longest(working, hours),
    )


def _longest(working: list[Step], hours: Mapping[StepName, float]) -> float | None:
    """Return how long the slowest takes; steps on one server take turns."""
    by_server: dict[str | None, float] = {}
    for step in working:
        if step.server is None:
            continue
        if step.name not in hours:
            return None
        by_server[step.server] = by_server.get(step.server, 0) + hours[step.name]
    return max(by_server.values(), default=0.0)


def fits(run: ClusterRun, key: str) -> bool:
    """Whether a model's server is within the bound of GPUs that the profile sets."""
    most = run.profile.model_servers.gpus_at_once
    refused = choose_gpus(run.catalogue.get(key), run.profile).refused
    return not refused and (most is None or _gpus(run, key) <= most)
