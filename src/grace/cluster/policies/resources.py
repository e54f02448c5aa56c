"""Rules about what containers ask for: CPU, memory, GPUs."""

from collections.abc import Iterator, Mapping
from decimal import Decimal

from pydantic import JsonValue

from grace.cluster.names import slug
from grace.cluster.policies.finding import Hit
from grace.cluster.policies.subject import (
    LONG_RUNNING,
    Pod,
    Subject,
    at,
    items,
    labels_of,
    mapping,
    name_of,
    quantity,
    text,
    title,
)
from grace.cluster.units import format_gb, in_gb, parse_quantity
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


def bad_gpus(subject: Subject) -> Iterator[Hit]:
    """Yield GPUs that are not asked for in whole numbers, the same as request and limit."""
    for pod, container in subject.containers:
        limits = mapping(at(container.spec, "resources.limits"))
        requests = mapping(at(container.spec, "resources.requests"))
        for name in sorted({*limits, *requests}):
            if not subject.is_gpu(name):
                continue
            field = f"{container.path}.resources.limits.{name}"
            most = quantity(limits.get(name))
            if most is None or most != most.to_integral_value():
                yield Hit(pod.title, field, limits.get(name), "not a whole number")
            elif name in requests and quantity(requests[name]) != most:
                yield Hit(pod.title, field, limits[name], f"the request is {requests[name]}")


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


def gpus_at_once(subject: Subject) -> Iterator[Hit]:
    """Yield that more GPUs are held at once than may be without asking."""
    rule = subject.profile.rules.gpus_at_once
    if rule is None:
        return
    held = [(subject.gpus_of(pod) * _most(subject, pod), pod) for pod in subject.pods]
    held = sorted((it for it in held if it[0]), key=lambda it: it[0], reverse=True)
    servers = subject.profile.model_servers
    if subject.run is not None:
        # Servers of a run come one after another; without one, all objects may be sent together.
        held = held[: servers.at_once]
    total = sum(gpus for gpus, _ in held)
    if subject.run is not None and servers.gpus_at_once is not None:
        total = min(total, servers.gpus_at_once)
    if total > rule.more_than:
        pod = held[0][1]
        yield Hit(pod.title, pod.where("containers"), total, f"GPUs of {len(held)} objects at once")


def _most(subject: Subject, pod: Pod) -> int:
    """Return the most pods that there may be, an autoscaler's included."""
    most = pod.at_once
    for scaler in subject.of_kind("HorizontalPodAutoscaler", "ScaledObject"):
        target = mapping(at(scaler, "spec.scaleTargetRef"))
        if target.get("name") == name_of(pod.owner):
            for field in ("spec.maxReplicas", "spec.maxReplicaCount"):
                limit = at(scaler, field)
                most = max(most, limit) if isinstance(limit, int) else most
    return most


def over_quota(subject: Subject) -> Iterator[Hit]:
    """Yield pods that only GPUs fit of which a namespace may use fewer without asking."""
    gpus = subject.profile.gpus
    for pod in subject.pods:
        wanted = subject.gpus_of(pod)
        if not wanted:
            continue
        products = _products(pod, gpus.label) or _products_of_resource(subject, pod)
        known = [gpus.products[name] for name in products if name in gpus.products]
        quotas = [product.quota for product in known if product.quota is not None]
        if known and len(quotas) == len(known) and max(quotas) < wanted:
            form = next((product.request_form for product in known if product.request_form), "")
            yield Hit(
                pod.title,
                pod.where("affinity"),
                ", ".join(sorted(products)),
                f"a namespace may use {max(quotas)} of them, and {wanted} are needed"
                + (f"; ask at {form}" if form else ""),
            )


def other_gpu_names(subject: Subject) -> Iterator[Hit]:
    """Yield GPUs asked for by a name that the products which a pod demands do not go by."""
    gpus = subject.profile.gpus
    for pod, container in subject.containers:
        names = {gpus.resource_of(name) for name in _products(pod, gpus.label)}
        for asked in mapping(at(container.spec, "resources.limits")):
            if names and subject.is_gpu(asked) and names != {asked}:
                field = f"{container.path}.resources.limits.{asked}"
                detail = f"its nodes have {', '.join(sorted(names))}"
                yield Hit(pod.title, field, container.resource("limits", asked), detail)


def _products(pod: Pod, label: str) -> tuple[str, ...]:
    """Return the values of the product label that a pod demands; empty if it demands none."""
    selected = text(mapping(pod.spec.get("nodeSelector")).get(label))
    if selected:
        return (selected,)
    path = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
    return tuple(
        str(value)
        for term in items(at(pod.spec, path))
        for expression in items(mapping(term).get("matchExpressions"))
        if mapping(expression).get("key") == label and mapping(expression).get("operator") == "In"
        for value in items(mapping(expression).get("values"))
    )


def _products_of_resource(subject: Subject, pod: Pod) -> tuple[str, ...]:
    gpus = subject.profile.gpus
    asked = {
        name
        for container in pod.containers
        for name in mapping(at(container.spec, "resources.limits"))
        if subject.is_gpu(name)
    }
    return tuple(name for name in gpus.products if gpus.resource_of(name) in asked)


def not_exempt(subject: Subject) -> Iterator[Hit]:
    """Yield objects whose pods must use what they ask for."""
    for pod in subject.pods:
        if _is_large(subject, pod):
            yield Hit(pod.title, pod.where("containers"), _asked(pod))


def many_not_exempt(subject: Subject) -> Iterator[Hit]:
    """Yield objects whose pods wait for a server and ask for more than is exempt."""
    rule = subject.profile.rules.utilisation
    if rule is None:
        return
    for pod in subject.pods:
        waits = pod.kind in {"Job", "CronJob"} and not subject.gpus_of(pod)
        waits = waits and pod.component != "model-server"
        if waits and pod.at_once > rule.violating_pods and _is_large(subject, pod):
            yield Hit(pod.title, "spec.parallelism", pod.at_once, f"pods of {_asked(pod)} each")


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


def _asked(pod: Pod) -> str:
    memory = format_gb(in_gb(pod.requested("memory")))
    return f"{pod.requested('cpu').normalize():f} CPU, {memory}"
