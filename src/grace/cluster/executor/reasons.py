"""
Why a pod does not run, in words, each with what to do about it.

Everything here is read from the pod itself, or from the events about what
should have made it.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from grace.cluster.client import Manifest, at, number, parts, text
from grace.cluster.client.faults import shown
from grace.cluster.executor.outcome import outcome_of_pod

_MOST_RESTARTS = 5
_SIGNALS = {137: "killed (SIGKILL)", 139: "crashed (SIGSEGV)", 143: "stopped (SIGTERM)"}


@dataclass(frozen=True, slots=True)
class Trouble:
    """
    Why a pod does not run.

    Attributes:
        words: The reason and the remedy.

        lasting: Whether waiting cannot help.
    """

    words: str
    lasting: bool = False


_IMAGE = (
    "the image {image} cannot be pulled ({why}); check its name and tag in the profile, the pull "
    "secret, or load it onto the nodes by hand"
)
_WAITING = {
    "ErrImagePull": _IMAGE,
    "ImagePullBackOff": _IMAGE,
    "ErrImageNeverPull": "the image {image} is not on the node, and pull_policy is Never; load it",
    "InvalidImageName": "{image} is no image's name; correct images in the profile",
    "CreateContainerConfigError": "its container cannot be set up ({why}); a Secret or ConfigMap "
    "that it refers to is missing: make it, or correct secrets in the profile",
    "CreateContainerError": "its container cannot be made ({why})",
    "RunContainerError": "its container cannot be started ({why})",
}


def pod_trouble(pod: Manifest, gpu_resources: Collection[str]) -> Trouble | None:
    """
    Return why a pod does not run; None if nothing is wrong with it.

    Args:
        pod: As the cluster has it.

        gpu_resources: The resources that GPUs are asked for as.
    """
    if text(pod, "status", "reason") in {"Evicted", "Preempting", "NodeLost", "Shutdown"}:
        return Trouble(f"evicted: {shown(text(pod, 'status', 'message'))}")
    for condition in parts(pod, "status", "conditions"):
        if text(condition, "type") == "PodScheduled" and text(condition, "status") == "False":
            return _unscheduled(shown(text(condition, "message")), gpu_resources)
    for status in _statuses(pod):
        if (trouble := _container_trouble(status, pod)) is not None:
            return trouble
    return None


def _container_trouble(status: Manifest, pod: Manifest) -> Trouble | None:
    name = text(status, "name")
    restarts = number(status, "restartCount")
    waiting = text(status, "state", "waiting", "reason")
    if waiting in _WAITING:
        why = shown(text(status, "state", "waiting", "message")) or waiting
        return Trouble(_WAITING[waiting].format(image=text(status, "image"), why=why))
    for state in ("state", "lastState"):
        if text(status, state, "terminated", "reason") == "OOMKilled":
            words = f"its container {name} ran out of memory (OOMKilled), {restarts + 1} times; "
            limit = _limit(pod, name)
            had = f"it had {limit}: " if limit else ""
            return Trouble(
                f"{words}{had}raise its memory in the profile or the model's memory_gb",
                lasting=restarts + 1 >= _MOST_RESTARTS,
            )
    if waiting == "CrashLoopBackOff" or restarts >= _MOST_RESTARTS:
        code = number(status, "lastState", "terminated", "exitCode")
        said = _said(text(status, "lastState", "terminated", "message"))
        return Trouble(
            f"its container {name} ended {restarts} times ({_exit(code)}{said}); read why with "
            f"`kubectl logs {text(pod, 'metadata', 'name')} -c {name} --previous`",
            lasting=restarts >= _MOST_RESTARTS,
        )
    return None


def _unscheduled(message: str, gpu_resources: Collection[str]) -> Trouble:
    if any(f"Insufficient {resource}" in message for resource in gpu_resources):
        remedy = (
            "no fitting GPU is free; it waits for one: take another product or fewer GPUs if long"
        )
    elif "Insufficient" in message:
        short = ", ".join(dict.fromkeys(re.findall(r"Insufficient ([\w./-]*\w)", message)))
        remedy = f"no node has enough {short} free; lower the profile's figures, or free some"
    elif "node affinity" in message or "node selector" in message:
        remedy = (
            "no node has the labels asked for; compare gpus in the profile with the nodes' labels"
        )
    elif "untolerated taint" in message:
        remedy = (
            "the nodes that fit have taints; add tolerations to the profile if you may use them"
        )
    elif "is being deleted" in message:
        remedy = (
            "its volume is still being deleted, and goes when no pod has it any more; `kubectl get "
            "pods` shows those, and deleting their Jobs lets it go"
        )
    elif "persistentvolumeclaim" in message.lower():
        remedy = (
            "its volume is not there; look at `kubectl get pvc` and the profile's storage classes"
        )
    else:
        remedy = "no node takes it"
    return Trouble(f"Pending: {remedy} ({message})")


def making_trouble(events: Iterable[Manifest]) -> str:
    """Return why a controller makes no pods, from the events about it; empty if it is not known."""
    latest = ""
    said = ""
    for event in events:
        when = text(event, "lastTimestamp") or text(event, "eventTime")
        if text(event, "type") == "Warning" and when >= latest:
            latest, said = when, text(event, "message")
    if "exceeded quota" in said:
        return (
            f"no pod can be made: the namespace's quota is used up ({shown(said)}); free something, "
            "ask for more, or lower the profile's figures"
        )
    if "PodSecurity" in said:
        return f"no pod can be made: the namespace's Pod Security forbids it ({shown(said)})"
    return f"no pod can be made: {shown(said)}" if said else ""


def pod_failure(pod: Manifest) -> str:
    """Return why a pod failed: its own word, or how its containers ended."""
    outcome = outcome_of_pod(pod)
    if outcome is not None and outcome.error:
        return outcome.error
    reason = text(pod, "status", "reason")
    if reason:
        return f"{reason}: {shown(text(pod, 'status', 'message'))}"
    for status in _statuses(pod):
        terminated = at(status, "state", "terminated")
        code = number(terminated, "exitCode")
        if terminated is None or code == 0:
            continue
        name = text(status, "name")
        if text(terminated, "reason") == "OOMKilled":
            limit = _limit(pod, name)
            had = f" of {limit}" if limit else ""
            return f"out of memory{had} (OOMKilled); raise jobs' memory_gb in the profile"
        return f"{_exit(code)}{_said(text(terminated, 'message'))}"
    return ""


def disrupted(pod: Manifest) -> bool:
    """Tell whether the cluster took a pod away: drained, preempted, evicted."""
    return any(
        text(condition, "type") == "DisruptionTarget" and text(condition, "status") == "True"
        for condition in parts(pod, "status", "conditions")
    )


def _exit(code: int) -> str:
    return _SIGNALS.get(code, f"exit code {code}")


def _said(message: str) -> str:
    return f": {shown(message)}" if message else ""


def _statuses(pod: Manifest) -> Iterator[Manifest]:
    yield from parts(pod, "status", "initContainerStatuses")
    yield from parts(pod, "status", "containerStatuses")


def _limit(pod: Manifest, container: str) -> str:
    for field in ("containers", "initContainers"):
        for part in parts(pod, "spec", field):
            if text(part, "name") == container:
                return text(part, "resources", "limits", "memory")
    return ""
