"""
One look at a cluster: what it has of a run, and how the run stands by that.

A look costs five requests, however large the run, and a few more while pods
cannot be made or their logs are wanted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from grace.cluster.client import ClusterClient, Manifest, id_of, labels_of, parts, text
from grace.cluster.executor.decide import (
    Decision,
    JobStanding,
    Judged,
    SeenServer,
    SeenStep,
    ServerStanding,
    StepState,
    decide,
)
from grace.cluster.executor.desired import OURS, RUN_LABEL, STEP_LABEL, Desired, WantedServer
from grace.cluster.executor.judging import (
    ServerRules,
    has_ended,
    job_outcome,
    judge_job,
    judge_server,
    pods_by_owner,
    uid_of,
)
from grace.cluster.executor.outcome import Outcome
from grace.cluster.executor.progress import progress_of_pods, progress_together
from grace.cluster.executor.reasons import making_trouble
from grace.cluster.executor.records import RunRecord, StepEnd, collection_of, read_record
from grace.cluster.executor.status import Progress, RunStatus, ServerStatus, StepStatus
from grace.cluster.steps import StepKind, StepName
from grace.cluster.stored_run import stored_run_name

_ASKING = frozenset({StepKind.RESPOND, StepKind.EXTRACT, StepKind.SCORE, StepKind.RECHECK})


@dataclass(frozen=True, slots=True)
class Look:
    """
    What a cluster has of a run.

    Attributes:
        jobs: The Jobs of steps.

        controllers: What keeps servers running, ours or another run's.

        pods: By the UID of what made them.

        record: What is kept of Jobs that may be gone.

        stored: The run as it is stored; None if it is not.

        events: About controllers and Jobs that made no pods, by their UID.

        at: When, by the cluster's clock.
    """

    jobs: Mapping[StepName, Manifest]
    controllers: Mapping[str, Manifest]
    pods: Mapping[str, Sequence[Manifest]]
    record: RunRecord
    stored: Manifest | None
    at: datetime
    events: Mapping[str, Sequence[Manifest]] = field(default_factory=dict)

    def pods_of(self, owner: Manifest | None) -> Sequence[Manifest]:
        """Return the pods that an object made."""
        return () if owner is None else self.pods.get(uid_of(owner), ())

    def events_about(self, owner: Manifest | None) -> Sequence[Manifest]:
        """Return the events about an object that made no pods."""
        return () if owner is None else self.events.get(uid_of(owner), ())


@dataclass(frozen=True, slots=True)
class Standing:
    """
    How a run stands, and what is to be done next.

    Attributes:
        look: What the cluster has.

        steps: What it comes to.

        servers: The same of servers.

        decision: What to do next.
    """

    look: Look
    steps: Mapping[StepName, SeenStep]
    servers: Mapping[str, SeenServer]
    decision: Decision


async def look_at(client: ClusterClient, desired: Desired, gone: Sequence[Manifest] = ()) -> Look:
    """
    Return what a cluster has of a run.

    Args:
        client: The cluster.

        desired: What the run wants of it.

        gone: Jobs that were seen to be finished, and may have been removed since.

    Raises:
        ClusterError: It cannot be seen.
    """
    run = desired.run
    namespace = run.namespace
    listed = [
        *gone,
        *await client.list("Job", namespace, labels=OURS),
        *await client.list("StatefulSet", namespace, labels=OURS),
    ]
    by_id = {id_of(item): item for item in listed}
    named = {
        labels_of(item)[STEP_LABEL]: item
        for item in listed
        if STEP_LABEL in labels_of(item) and labels_of(item).get(RUN_LABEL) == run.run_id
    }
    # Not by run: a server's pods carry none. They are told apart by what made them.
    pods = pods_by_owner(await client.list("Pod", namespace, labels=OURS))
    controllers = {
        key: by_id[server.controller]
        for key, server in desired.servers.items()
        if server.controller in by_id
    }
    jobs = {name: named[step.label] for name, step in desired.steps.items() if step.label in named}
    events = {
        uid_of(owner): await _events_about(client, owner)
        for owner in (*controllers.values(), *jobs.values())
        if not pods.get(uid_of(owner)) and not has_ended(owner)
    }
    return Look(
        jobs=jobs,
        controllers=controllers,
        pods=pods,
        record=await read_record(client, namespace, run.run_id),
        stored=await client.get("ConfigMap", stored_run_name(run.run_id), namespace),
        at=client.now(),
        events=events,
    )


async def _events_about(client: ClusterClient, owner: Manifest) -> Sequence[Manifest]:
    fields = {"involvedObject.uid": uid_of(owner)}
    found = await client.list_if_permitted("Event", id_of(owner).namespace, fields=fields)
    return found or ()


def stand(desired: Desired, look: Look) -> Standing:
    """Return what a look comes to; pure."""
    profile = desired.run.profile
    gpu_resources = profile.gpus.resources
    rules = ServerRules.of(profile.model_servers, gpu_resources)
    steps: dict[StepName, SeenStep] = {}
    for name in desired.steps:
        job, end = look.jobs.get(name), look.record.steps.get(name)
        if end is not None:
            standing = JobStanding.FAILED if end.failure else JobStanding.DONE
            steps[name] = SeenStep(standing, end.failure)
        else:
            trouble = making_trouble(look.events_about(job))
            steps[name] = judge_job(job, look.pods_of(job), gpu_resources, trouble)
    servers = {
        key: _server(desired, look, key, server, rules) for key, server in desired.servers.items()
    }
    order = [wanted.step for wanted in desired.steps.values()]
    decision = decide(order, desired.gpus, desired.bounds, steps, servers)
    return Standing(look, steps, servers, decision)


def _server(
    desired: Desired, look: Look, key: str, server: WantedServer, rules: ServerRules
) -> SeenServer:
    controller = look.controllers.get(key)
    seen = judge_server(
        controller,
        look.pods_of(controller),
        desired.run.run_id,
        rules,
        look.at,
        making_trouble(look.events_about(controller)),
    )
    given_up = look.record.servers.get(key)
    if given_up is None:
        return seen
    return replace(seen, failure=given_up)


def unrecorded_ends(desired: Desired, standing: Standing) -> Mapping[StepName, StepEnd]:
    """Return how steps ended whose end is not recorded yet."""
    ends: dict[StepName, StepEnd] = {}
    for name, seen in standing.steps.items():
        if name in standing.look.record.steps:
            continue
        if seen.standing in {JobStanding.DONE, JobStanding.FAILED}:
            job = standing.look.jobs.get(name)
            at = "" if job is None else _ended_at(job)
            outcome = job_outcome(standing.look.pods_of(job))
            failure = seen.reason if seen.standing is JobStanding.FAILED else ""
            if seen.standing is JobStanding.FAILED and not failure:
                failure = "its Job failed"
            ends[name] = StepEnd(failure, outcome, at)
    return ends


def _ended_at(job: Manifest) -> str:
    return text(job, "status", "completionTime") or max(
        (
            text(condition, "lastTransitionTime")
            for condition in parts(job, "status", "conditions")
            if text(condition, "type") in {"Complete", "Failed"}
        ),
        default="",
    )


async def progress_of(
    client: ClusterClient, desired: Desired, standing: Standing
) -> Mapping[StepName, Progress]:
    """Return how far the steps at work are, as their pods last said."""
    asking = {
        name: [pod for pod in standing.look.pods_of(job) if _runs(pod)]
        for name, job in standing.look.jobs.items()
        if desired.steps[name].step.kind in _ASKING
        and standing.steps[name].standing is JobStanding.ACTIVE
    }
    pods = [pod for found in asking.values() for pod in found]
    said = await progress_of_pods(client, desired.run.namespace, pods) if pods else {}
    together = {
        name: progress_together(
            [said[key] for pod in found if (key := text(pod, "metadata", "name")) in said]
        )
        for name, found in asking.items()
    }
    return {name: progress for name, progress in together.items() if progress is not None}


def status_of(
    desired: Desired, standing: Standing, progress: Mapping[StepName, Progress]
) -> RunStatus:
    """Return how a run stands; pure."""
    look = standing.look
    going = {StepState.WAITING, StepState.RUNNING}
    needed = {
        desired.steps[name].step.server
        for name, judged in standing.decision.steps.items()
        if judged.state in going
    }
    return RunStatus(
        run_id=desired.run.run_id,
        namespace=desired.run.namespace,
        steps=tuple(
            _step_status(desired, standing, name, judged, progress.get(name))
            for name, judged in standing.decision.steps.items()
        ),
        servers=tuple(
            _server_status(look, server, standing.servers[key], needed=key in needed)
            for key, server in desired.servers.items()
        ),
        finished=standing.decision.finished,
        collection=None if look.stored is None else collection_of(look.stored),
    )


def _step_status(
    desired: Desired,
    standing: Standing,
    name: StepName,
    judged: Judged,
    progress: Progress | None,
) -> StepStatus:
    job = standing.look.jobs.get(name)
    end = standing.look.record.steps.get(name)
    working = [pod for pod in standing.look.pods_of(job) if _runs(pod)]
    since = "" if job is None else text(job, "metadata", "creationTimestamp")
    outcome: Outcome | None = None
    if judged.state in {StepState.DONE, StepState.FAILED}:
        outcome = end.outcome if end is not None else job_outcome(standing.look.pods_of(job))
        since = (end.at if end is not None else "") or (_ended_at(job) if job is not None else "")
    return StepStatus(
        step=desired.steps[name].step,
        state=judged.state,
        reason=judged.reason,
        since=since,
        nodes=_nodes(working),
        pods=len(working),
        progress=progress,
        outcome=outcome,
    )


def _server_status(
    look: Look, server: WantedServer, seen: SeenServer, *, needed: bool
) -> ServerStatus:
    if seen.standing is ServerStanding.ELSEWHERE and not needed:
        # What another run does with it is no news of a run that is done with it.
        return ServerStatus(server.key, ServerStanding.ABSENT, failure=seen.failure)
    ours = seen.standing not in {ServerStanding.ABSENT, ServerStanding.ELSEWHERE}
    controller = look.controllers.get(server.key) if ours else None
    return ServerStatus(
        key=server.key,
        standing=seen.standing,
        reason=seen.reason,
        failure=seen.failure,
        since="" if controller is None else text(controller, "metadata", "creationTimestamp"),
        nodes=_nodes(look.pods_of(controller)),
        gpus=server.gpus if ours else 0,
    )


def _runs(pod: Manifest) -> bool:
    return text(pod, "status", "phase") == "Running"


def _nodes(pods: Sequence[Manifest]) -> tuple[str, ...]:
    names = (text(pod, "spec", "nodeName") for pod in pods)
    return tuple(sorted({name for name in names if name}))


async def run_status(
    client: ClusterClient, desired: Desired, *, with_progress: bool = True
) -> RunStatus:
    """
    Return how a run stands.

    Args:
        client: The cluster.

        desired: The run, with what makes its objects.

        with_progress: Whether to ask pods at work how far they are.

    Raises:
        ClusterError: It cannot be seen.
    """
    standing = stand(desired, await look_at(client, desired))
    progress = await progress_of(client, desired, standing) if with_progress else {}
    return status_of(desired, standing, progress)
