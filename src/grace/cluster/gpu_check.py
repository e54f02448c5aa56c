"""
What a profile has wrong about a cluster's nodes: GPUs, their names, and room.

What a node offers is known only where nodes may be read; labels often may be.
"""

from collections.abc import Iterator
from decimal import Decimal

from grace.catalogue.faults import did_you_mean
from grace.cluster.facts import ClusterFacts, NodeFacts, Taint
from grace.cluster.profile import Profile, TolerationSettings
from grace.cluster.profile_finding import ProfileFinding, Standing
from grace.cluster.units import format_cpu, format_gb, in_gb, parse_quantity
from grace.errors import UsageError


def gpu_findings(profile: Profile, facts: ClusterFacts) -> Iterator[ProfileFinding]:
    """Yield products that are not there, are called otherwise, or are kept from us."""
    gpus = profile.gpus
    if not gpus.products:
        return
    if facts.nodes is None:
        words = "the cluster's nodes may not be listed, so its GPUs are not known"
        yield ProfileFinding(
            Standing.UNKNOWN, "gpus.products", words, f"look at `kubectl get nodes -L {gpus.label}`"
        )
        return
    there: dict[str, list[NodeFacts]] = {}
    for node in facts.nodes:
        if gpus.label in node.labels:
            there.setdefault(node.labels[gpus.label], []).append(node)
    has = ", ".join(sorted(there)) or "none"
    for name, product in gpus.products.items():
        field = f"gpus.products.{name}"
        nodes = there.get(name, [])
        if not nodes:
            near = did_you_mean(name, list(there))
            words = f"profile {profile.name} says GPU {name}; nodes with the label {gpus.label} "
            yield ProfileFinding(
                Standing.WRONG if not there else Standing.DOUBTFUL,
                field,
                f"{words}have: {has}{near}",
                "take it out, or correct it",
            )
            continue
        doubts = list(_product(profile, name, nodes))
        yield from doubts
        if product.count is not None and not doubts:
            counted = _count(nodes, gpus.resource_of(name))
            if counted is not None and counted < product.count:
                words = f"profile {profile.name} says {product.count} × {name}; the nodes have "  # noqa: RUF001 (a multiplication sign is meant)
                yield ProfileFinding(
                    Standing.DOUBTFUL, f"{field}.count", f"{words}{counted}", "correct the count"
                )
    for name in sorted(set(there) - set(gpus.products)):
        words = f"the cluster has GPUs {name}, which profile {profile.name} does not name"
        remedy = f"add gpus.products.{name} with its memory_gb to use them"
        yield ProfileFinding(Standing.DOUBTFUL, "gpus.products", words, remedy)


def _product(profile: Profile, name: str, nodes: list[NodeFacts]) -> Iterator[ProfileFinding]:
    """Yield what is wrong with how a product is asked for, and whether a pod may land there."""
    resource = profile.gpus.resource_of(name)
    offered = {
        key
        for node in nodes
        for key, written in node.allocatable.items()
        if "/" in key and not key.startswith("hugepages") and number_of(written)
    }
    if offered and resource not in offered:
        words = f"profile {profile.name} asks for {resource} to get {name}; its nodes offer: "
        yield ProfileFinding(
            Standing.WRONG,
            f"gpus.products.{name}.resource",
            words + ", ".join(sorted(offered)),
            f"set gpus.products.{name}.resource",
        )
    barred = [_barring(profile, node) for node in nodes]
    if all(barred):
        taints = sorted({f"{taint.key}={taint.value}:{taint.effect}" for taint in barred if taint})
        words = f"all nodes with {name} keep pods off: {', '.join(taints)}"
        remedy = "add a toleration to the profile, if the site allows it"
        yield ProfileFinding(Standing.DOUBTFUL, "tolerations", words, remedy)


def _barring(profile: Profile, node: NodeFacts) -> Taint | None:
    """Return the first taint that keeps our pods off a node."""
    tolerations = profile.tolerations + (profile.spot.tolerations if profile.spot else ())
    for taint in node.taints:
        # What asks for GPUs is let onto GPU nodes by the cluster itself, by this key.
        usual = taint.key == profile.gpus.resource
        if taint.effect == "PreferNoSchedule" or usual:
            continue
        if not any(_tolerates(toleration, taint) for toleration in tolerations):
            return taint
    return None if node.schedulable else Taint("node.kubernetes.io/unschedulable")


def _tolerates(toleration: TolerationSettings, taint: Taint) -> bool:
    if toleration.key != taint.key or toleration.effect not in {None, taint.effect}:
        return False
    return toleration.operator == "Exists" or (toleration.value or "") == taint.value


def _count(nodes: list[NodeFacts], resource: str) -> int | None:
    written = [node.allocatable.get(resource) for node in nodes if node.allocatable]
    return int(sum(number_of(one) for one in written if one is not None)) if written else None


def number_of(written: str) -> Decimal:
    """Return what a cluster says, as a number; 0 if it is none."""
    try:
        return parse_quantity(written)
    except UsageError:
        return Decimal(0)


def room_findings(profile: Profile, facts: ClusterFacts) -> Iterator[ProfileFinding]:
    """Yield pods of the profile that are larger than any node."""
    known = [node for node in facts.nodes or () if node.allocatable and node.schedulable]
    if not known:
        return
    cpu = max(number_of(node.allocatable.get("cpu", "0")) for node in known)
    memory = max(number_of(node.allocatable.get("memory", "0")) for node in known)
    asked = {"jobs.query": profile.jobs.query, "jobs.light": profile.jobs.light}
    if profile.model_servers.cpu_resources is not None:
        asked["model_servers.cpu_resources"] = profile.model_servers.cpu_resources
    for field, resources in asked.items():
        if Decimal(str(resources.cpu)) > cpu or resources.memory_gb > in_gb(memory):
            yield ProfileFinding(
                Standing.WRONG,
                field,
                f"{field} asks for {format_cpu(resources.cpu)} CPU and "
                f"{format_gb(resources.memory_gb)}; the largest node has "
                f"{format_cpu(float(cpu))} and {format_gb(in_gb(memory))}",
                "ask for less",
            )
