"""Rules about GPUs: how they are asked for, how many, and which may be had."""

from collections.abc import Iterator

from grace.cluster.gpus import must_ask
from grace.cluster.policies.finding import Hit
from grace.cluster.policies.pods import Pod
from grace.cluster.policies.reading import at, items, mapping, quantity, text
from grace.cluster.policies.subject import Subject


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


def gpus_at_once(subject: Subject) -> Iterator[Hit]:
    """Yield that more GPUs are held at once than may be without asking."""
    rule = subject.profile.rules.gpus_at_once
    if rule is None:
        return
    held = [(subject.gpus_of(pod) * subject.most(pod), pod) for pod in subject.pods]
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


def over_quota(subject: Subject) -> Iterator[Hit]:
    """Yield pods that only GPUs fit of which a namespace may use fewer without asking."""
    gpus = subject.profile.gpus
    for pod in subject.pods:
        wanted = subject.gpus_of(pod) * subject.most(pod)
        if not wanted:
            continue
        products = _products(pod, gpus.label) or _products_of_resource(subject, pod)
        detail = must_ask(gpus, products, wanted)
        if detail:
            yield Hit(pod.title, pod.where("affinity"), ", ".join(sorted(products)), detail)


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
