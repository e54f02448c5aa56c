"""Rules about what keeps pods running: Jobs, long-running controllers, or nothing."""

from collections.abc import Iterator
from decimal import Decimal

from grace.cluster.names import slug
from grace.cluster.policies.finding import Hit
from grace.cluster.policies.pods import Pod
from grace.cluster.policies.reading import LONG_RUNNING, labels_of, text
from grace.cluster.policies.subject import Subject
from grace.cluster.units import in_gb


def bare_pods(subject: Subject) -> Iterator[Hit]:
    """Yield pods without a controller."""
    for pod in subject.pods:
        if pod.kind == "Pod":
            yield Hit(pod.title, "kind", "Pod")


def large_bare_pods(subject: Subject) -> Iterator[Hit]:
    """Yield pods without a controller that ask for too much."""
    rule = subject.profile.rules.interactive_pods
    if rule is None:
        return
    for pod in subject.pods:
        if pod.kind != "Pod":
            continue
        gpus = subject.gpus_of(pod)
        if gpus > rule.gpus:
            yield Hit(pod.title, "spec.containers", gpus, "GPUs")
        if pod.requested("cpu") > Decimal(str(rule.cpu)):
            yield Hit(pod.title, "spec.containers", str(pod.requested("cpu")), "cores")
        if in_gb(pod.requested("memory")) > rule.memory_gb:
            yield Hit(pod.title, "spec.containers", f"{in_gb(pod.requested('memory')):g}", "GB")


def long_running_gpus(subject: Subject) -> Iterator[Hit]:
    """Yield long-running controllers that hold GPUs without an exception."""
    rule = subject.profile.rules.long_running
    if rule is None or rule.gpus_allowed:
        return
    for pod in subject.pods:
        gpus = subject.gpus_of(pod)
        if pod.kind in LONG_RUNNING and gpus and not _excepted(pod, rule.exceptions):
            yield Hit(pod.title, "kind", pod.kind, f"{gpus} GPUs a pod")


def long_running(subject: Subject) -> Iterator[Hit]:
    """Yield long-running controllers without an exception."""
    rule = subject.profile.rules.long_running
    if rule is None:
        return
    for pod in subject.pods:
        if pod.kind in LONG_RUNNING and not _excepted(pod, rule.exceptions):
            yield Hit(pod.title, "kind", pod.kind)


def _excepted(pod: Pod, exceptions: tuple[str, ...]) -> bool:
    model = text(pod.labels.get("grace/model")) or text(labels_of(pod.owner).get("grace/model"))
    return "*" in exceptions or any(model and model in {key, slug(key)} for key in exceptions)
