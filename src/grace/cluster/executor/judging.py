"""
What the state of Jobs, controllers and pods means for a run: pure.

Whether a server may still become ready, whether it was long enough in coming,
and why a Job failed, in words.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from grace.cluster.client import Manifest, at, labels_of, parts, text
from grace.cluster.client.faults import shown
from grace.cluster.executor.decide import JobStanding, SeenServer, SeenStep, ServerStanding
from grace.cluster.executor.desired import RUN_LABEL
from grace.cluster.executor.outcome import Outcome, outcome_of_pod, together
from grace.cluster.executor.reasons import Trouble, disrupted, pod_failure, pod_trouble
from grace.cluster.profile import ModelServerSettings

_SHORTEST_LIFE = timedelta(minutes=1)
_REASONS = {
    "DeadlineExceeded": "took longer than jobs.deadline_hours of the profile",
    "BackoffLimitExceeded": "failed as often as the profile allows",
    "FailedIndexes": "some of its shards failed",
    "MaxFailedIndexesExceeded": "too many of its shards failed",
    "PodFailurePolicy": "failed in a way that trying again cannot help",
}


@dataclass(frozen=True, slots=True)
class ServerRules:
    """
    How long a server may take.

    Attributes:
        startup: From its pod's start on a node to its first answer.

        deadline: From its making to its end, whatever waits for it.

        gpu_resources: The resources that GPUs are asked for as.
    """

    startup: timedelta
    deadline: timedelta
    gpu_resources: Collection[str]

    @classmethod
    def of(cls, settings: ModelServerSettings, gpu_resources: Collection[str]) -> "ServerRules":
        """Return the rules of a profile."""
        return cls(
            timedelta(minutes=settings.startup_minutes),
            timedelta(hours=settings.deadline_hours),
            gpu_resources,
        )


def pods_by_owner(pods: Sequence[Manifest]) -> Mapping[str, list[Manifest]]:
    """Return pods by the UID of what made them."""
    found: dict[str, list[Manifest]] = {}
    for pod in pods:
        for owner in parts(pod, "metadata", "ownerReferences"):
            if at(owner, "controller") is True:
                found.setdefault(text(owner, "uid"), []).append(pod)
    return found


def uid_of(manifest: Manifest) -> str:
    """Return an object's UID."""
    return text(manifest, "metadata", "uid")


def is_leaving(manifest: Manifest) -> bool:
    """Tell whether an object is being deleted."""
    return bool(text(manifest, "metadata", "deletionTimestamp"))


def has_ended(job: Manifest) -> bool:
    """Tell whether a Job is complete or failed."""
    return _condition(job, "Complete") is not None or _condition(job, "Failed") is not None


def is_ready(pod: Manifest) -> bool:
    """Tell whether a pod answers."""
    return not is_leaving(pod) and _condition(pod, "Ready") is not None


def judge_job(
    job: Manifest | None,
    pods: Sequence[Manifest],
    gpu_resources: Collection[str],
    making_trouble: str = "",
) -> SeenStep:
    """
    Return what a step's Job and its pods come to.

    Args:
        job: None if there is none.

        pods: Those that it made.

        gpu_resources: The resources that GPUs are asked for as.

        making_trouble: Why it made no pods, if that is known.
    """
    if job is None:
        return SeenStep()
    if _condition(job, "Complete") is not None:
        return SeenStep(JobStanding.DONE)
    if is_leaving(job):
        return SeenStep(JobStanding.STOPPING, "its Job is being deleted")
    failed = _condition(job, "Failed")
    if failed is not None:
        return SeenStep(JobStanding.FAILED, job_failure(failed, pods))
    trouble = _trouble(pods, gpu_resources)
    if trouble is not None:
        return SeenStep(JobStanding.ACTIVE, trouble.words)
    if any(map(disrupted, pods)) and not any(map(is_ready, pods)):
        return SeenStep(JobStanding.ACTIVE, "the cluster took its pod away; another one follows")
    return SeenStep(JobStanding.ACTIVE, "" if pods else making_trouble)


def job_failure(condition: Manifest, pods: Sequence[Manifest]) -> str:
    """Return why a Job failed, as its pods tell it, and as the Job does."""
    reason = text(condition, "reason")
    told = _REASONS.get(reason) or shown(text(condition, "message")) or reason
    ended = sorted(
        (pod for pod in pods if text(pod, "status", "phase") == "Failed"),
        key=_ended_at,
        reverse=True,
    )
    # What the cluster took away says nothing about what went wrong.
    own = [pod for pod in ended if not disrupted(pod)] or ended
    whys = (pod_failure(pod) for pod in own)
    why = next((why for why in whys if why), "")
    return f"{why} ({told})" if why else told


def job_outcome(pods: Sequence[Manifest]) -> Outcome | None:
    """Return what the pods of a finished Job said together; None if none said anything."""
    done = (pod for pod in pods if text(pod, "status", "phase") == "Succeeded")
    return together(outcome for pod in done if (outcome := outcome_of_pod(pod)) is not None)


def judge_server(
    controller: Manifest | None,
    pods: Sequence[Manifest],
    run_id: str,
    rules: ServerRules,
    now: datetime,
    making_trouble: str = "",
) -> SeenServer:
    """
    Return what a server's controller and its pods come to.

    Args:
        controller: A StatefulSet or a Job; None if there is none.

        pods: Those that it made.

        run_id: The run that asks.

        rules: How long a server may take.

        now: By the cluster's clock.

        making_trouble: Why it made no pods, if that is known.
    """
    if controller is None:
        return SeenServer()
    holder = labels_of(controller).get(RUN_LABEL, "")
    if holder != run_id:
        whose = f"run {holder.upper()}" if holder else "somebody without a run's label"
        return SeenServer(
            ServerStanding.ELSEWHERE,
            f"{whose} holds it; wait until that is done, or stop it with `grace cluster down`",
        )
    if is_leaving(controller):
        return SeenServer(ServerStanding.STOPPING, "it is being stopped")
    failure = _given_up(controller, pods, rules, now)
    if _condition(controller, "Complete") is not None:
        # A server that is told to stop, as when its node is drained, ends without an error;
        # its Job then takes that for success.
        return SeenServer(
            ServerStanding.STARTING, "it ended, and is made again", failure, ended=True
        )
    if any(map(is_ready, pods)):
        return SeenServer(ServerStanding.READY, failure=failure)
    trouble = _trouble(pods, rules.gpu_resources)
    reason = trouble.words if trouble is not None else making_trouble or _coming(pods)
    return SeenServer(ServerStanding.STARTING, reason, failure)


def _given_up(
    controller: Manifest, pods: Sequence[Manifest], rules: ServerRules, now: datetime
) -> str:
    made = time_of(text(controller, "metadata", "creationTimestamp"))
    if made is not None and now - made > rules.deadline:
        hours = rules.deadline.total_seconds() / 3600
        return (
            f"stopped after {hours:g} hours: model_servers.deadline_hours of the profile; raise it, "
            "or use more shards"
        )
    failed = _condition(controller, "Failed")
    if failed is not None:
        return job_failure(failed, pods)
    if any(map(is_ready, pods)):
        return ""
    if _condition(controller, "Complete") is not None and _ended_at_once(controller):
        return "it ended by itself as soon as it had started; see `grace cluster logs`"
    trouble = _trouble(pods, rules.gpu_resources)
    if trouble is not None and trouble.lasting:
        return trouble.words
    started = [when for pod in pods if (when := time_of(text(pod, "status", "startTime")))]
    if started and all(now - when > rules.startup for when in started):
        minutes = rules.startup.total_seconds() / 60
        why = f" ({trouble.words})" if trouble is not None else ""
        return (
            f"was not ready within {minutes:g} minutes{why}: model_servers.startup_minutes of the "
            "profile; see `grace cluster logs`, or raise it"
        )
    return ""


def _ended_at_once(job: Manifest) -> bool:
    began = time_of(text(job, "status", "startTime"))
    ended = time_of(text(job, "status", "completionTime"))
    return began is not None and ended is not None and ended - began < _SHORTEST_LIFE


def _trouble(pods: Sequence[Manifest], gpu_resources: Collection[str]) -> Trouble | None:
    # One that ended says nothing about its successor.
    going = [pod for pod in pods if text(pod, "status", "phase") in {"Pending", "Running"}]
    found = [trouble for pod in going or pods if (trouble := pod_trouble(pod, gpu_resources))]
    found.sort(key=lambda trouble: not trouble.lasting)
    return found[0] if found else None


def _coming(pods: Sequence[Manifest]) -> str:
    if not pods:
        return "its pod is being made"
    if any(at(pod, "status", "startTime") is not None for pod in pods):
        return "it is loading the model"
    return "its pod waits for a node"


def _condition(manifest: Manifest, kind: str) -> Manifest | None:
    for condition in parts(manifest, "status", "conditions"):
        if text(condition, "type") == kind and text(condition, "status") == "True":
            return condition
    return None


def _ended_at(pod: Manifest) -> str:
    ends = (
        text(status, "state", "terminated", "finishedAt")
        for status in parts(pod, "status", "containerStatuses")
    )
    return max(ends, default="") or text(pod, "metadata", "creationTimestamp")


def time_of(stamp: str) -> datetime | None:
    """Return the time that an object names; None if it names none."""
    try:
        time = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return time if time.tzinfo is not None else None
