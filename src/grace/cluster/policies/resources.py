"""Rules about what containers ask for: CPU, memory, GPUs."""

from collections.abc import Iterator, Mapping
from decimal import Decimal

from pydantic import JsonValue

from grace.cluster.policies.finding import Hit
from grace.cluster.policies.pods import Pod
from grace.cluster.policies.reading import at, items, mapping, quantity, title
from grace.cluster.policies.subject import Subject
from grace.cluster.units import in_gb, parse_quantity
from grace.errors import UsageError

_COUNTED = ("cpu", "memory", "ephemeral-storage")


def without_resources(subject: Subject) -> Iterator[Hit]:
    """Yield containers without a request or a limit."""
    for pod, container in subject.containers:
        for which in ("requests", "limits"):
            for name in _COUNTED:
                if container.resource(which, name) is None:
                    yield Hit(pod.title, f"{container.path}.resources.{which}.{name}")


def bad_quantities(subject: Subject) -> Iterator[Hit]:
    """Yield quantities that Kubernetes refuses, and limits below requests."""
    for pod, container in subject.containers:
        for which in ("requests", "limits"):
            for name, written in mapping(at(container.spec, f"resources.{which}")).items():
                problem = _problem(written)
                if problem:
                    field = f"{container.path}.resources.{which}.{name}"
                    yield Hit(pod.title, field, written, problem)
        for name in mapping(at(container.spec, "resources.limits")):
            asked = quantity(container.resource("requests", name))
            most = quantity(container.resource("limits", name))
            if asked is not None and most is not None and most < asked:
                yield Hit(
                    pod.title,
                    f"{container.path}.resources.limits.{name}",
                    container.resource("limits", name),
                    f"less than the request, {container.resource('requests', name)}",
                )
    for claim in subject.of_kind("PersistentVolumeClaim"):
        written = at(claim, "spec.resources.requests.storage")
        problem = "a claim needs a size" if written is None else _problem(written)
        if problem:
            yield Hit(title(claim), "spec.resources.requests.storage", written, problem)


def _problem(written: object) -> str:
    try:
        return "less than nothing" if parse_quantity(written) < 0 else ""
    except UsageError as error:
        return str(error).partition("; ")[2]


def outside_limits(subject: Subject) -> Iterator[Hit]:
    """Yield containers and pods that a LimitRange or ResourceQuota of the set would refuse."""
    for limits in subject.of_kind("LimitRange"):
        for one in items(at(limits, "spec.limits")):
            if mapping(one).get("type") == "Container":
                yield from _outside_range(subject, title(limits), mapping(one))
    for quota in subject.of_kind("ResourceQuota"):
        for name, written in mapping(at(quota, "spec.hard")).items():
            most = quantity(written)
            for pod in subject.pods:
                asked = pod.requested(name.removeprefix("requests."))
                if most is not None and name.startswith("requests.") and asked > most:
                    detail = f"{title(quota)} allows {written} of {name} to all pods together"
                    yield Hit(pod.title, pod.where("containers"), f"{asked:f}", detail)


def _outside_range(subject: Subject, what: str, limits: Mapping[str, JsonValue]) -> Iterator[Hit]:
    for pod, container in subject.containers:
        for name, written in mapping(limits.get("max")).items():
            most, asked = quantity(written), quantity(container.resource("limits", name))
            if most is not None and asked is not None and asked > most:
                field = f"{container.path}.resources.limits.{name}"
                yield Hit(
                    pod.title, field, container.resource("limits", name), f"{what}: max {written}"
                )
        for name, written in mapping(limits.get("min")).items():
            least, asked = quantity(written), quantity(container.resource("requests", name))
            if least is not None and asked is not None and asked < least:
                field = f"{container.path}.resources.requests.{name}"
                yield Hit(
                    pod.title, field, container.resource("requests", name), f"{what}: min {written}"
                )
        for name, written in mapping(limits.get("maxLimitRequestRatio")).items():
            ratio, most = quantity(written), quantity(container.resource("limits", name))
            asked = quantity(container.resource("requests", name))
            if ratio is not None and most is not None and asked and most > asked * ratio:
                field = f"{container.path}.resources.limits.{name}"
                detail = f"{what}: at most {written} times the request"
                yield Hit(pod.title, field, container.resource("limits", name), detail)


def limits_over_ratio(subject: Subject) -> Iterator[Hit]:
    """Yield limits that are too far above requests."""
    rule = subject.profile.rules.limits_ratio
    if rule is None:
        return
    for pod, container in subject.containers:
        for name in _COUNTED:
            asked = quantity(container.resource("requests", name))
            most = quantity(container.resource("limits", name))
            if asked is None or most is None:
                continue
            if most > asked * Decimal(str(rule.at_most)):
                yield Hit(
                    pod.title,
                    f"{container.path}.resources.limits.{name}",
                    container.resource("limits", name),
                    f"the request is {container.resource('requests', name)}",
                )


def limits_of_many(subject: Subject) -> Iterator[Hit]:
    """Yield limits that are not the requests, where there are many pods or Jobs."""
    rule = subject.profile.rules.many_pods
    if rule is None:
        return
    pods = sum(pod.at_once for pod in subject.pods)
    if max(pods, len(subject.of_kind("Job"))) <= rule.more_than:
        return
    for pod, container in subject.containers:
        for name in _COUNTED:
            asked = quantity(container.resource("requests", name))
            most = quantity(container.resource("limits", name))
            if asked is not None and most is not None and most != asked:
                yield Hit(
                    pod.title,
                    f"{container.path}.resources.limits.{name}",
                    container.resource("limits", name),
                    f"the request is {container.resource('requests', name)}; {pods} pods",
                )


def not_exempt(subject: Subject) -> Iterator[Hit]:
    """Yield objects whose pods must use what they ask for."""
    for pod in subject.pods:
        if _is_large(subject, pod):
            yield Hit(pod.title, pod.where("containers"), _asked(subject, pod))


def many_not_exempt(subject: Subject) -> Iterator[Hit]:
    """Yield objects whose pods wait for a server and ask for more than is exempt."""
    rule = subject.profile.rules.utilisation
    if rule is None:
        return
    for pod in subject.pods:
        waits = pod.kind in {"Job", "CronJob"} and not subject.gpus_of(pod)
        waits = waits and pod.component != "model-server"
        if waits and pod.at_once > rule.violating_pods and _is_large(subject, pod):
            asked = _asked(subject, pod)
            yield Hit(pod.title, "spec.parallelism", pod.at_once, f"pods of {asked} each")


def _is_large(subject: Subject, pod: Pod) -> bool:
    rule = subject.profile.rules.utilisation
    if rule is None:
        return False
    cpu, memory = pod.requested("cpu"), in_gb(pod.requested("memory"))
    return (
        cpu > Decimal(str(rule.exempt_cpu))
        or memory > rule.exempt_memory_gb
        or subject.gpus_of(pod) > 0
    )


def _asked(subject: Subject, pod: Pod) -> str:
    gpus = subject.gpus_of(pod)
    held = f", {gpus} GPU{'' if gpus == 1 else 's'}" if gpus else ""
    memory = float(pod.requested("memory")) / 1e9
    return f"{pod.requested('cpu').normalize():f} CPU, {memory:.3g} GB{held}"
