"""
What NetworkPolicies allow, computed as the specification of Kubernetes says.

Only what Grace's policies use is understood; anything else is an error, so that
no rule is passed over.
"""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

OURS = "grace-experiments"


@dataclass(frozen=True)
class Pod:
    """A pod as policies see it; one without a namespace is an address outside."""

    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: str | None = OURS
    address: str = "10.1.2.3"


def allowed(
    policies: Sequence[Mapping[str, Any]],
    sender: Pod,
    receiver: Pod,
    port: int,
    protocol: str = "TCP",
) -> bool:
    """Return whether a connection is let through at both its ends."""
    return _passes(policies, "egress", sender, receiver, port, protocol) and _passes(
        policies, "ingress", receiver, sender, port, protocol
    )


def _passes(
    policies: Sequence[Mapping[str, Any]], way: str, here: Pod, there: Pod, port: int, protocol: str
) -> bool:
    of_pod = [
        policy["spec"]
        for policy in policies
        if here.namespace == policy["metadata"]["namespace"]
        and way.capitalize() in policy["spec"]["policyTypes"]
        and _matches(policy["spec"]["podSelector"], here.labels)
    ]
    if not of_pod:
        # Nobody isolates it.
        return True
    rules = [rule for spec in of_pod for rule in spec.get(way, [])]
    return any(
        _rule(rule, "to" if way == "egress" else "from", there, port, protocol) for rule in rules
    )


def _rule(rule: Mapping[str, Any], peers: str, there: Pod, port: int, protocol: str) -> bool:
    _know(rule, {peers, "ports"})
    # A rule without peers is for all, and one without ports for every port.
    return (peers not in rule or any(_peer(each, there) for each in rule[peers])) and (
        "ports" not in rule
        or any((each["port"], each["protocol"]) == (port, protocol) for each in rule["ports"])
    )


def _peer(peer: Mapping[str, Any], there: Pod) -> bool:
    _know(peer, {"podSelector", "namespaceSelector", "ipBlock"})
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        _know(block, {"cidr", "except"})
        return (
            there.namespace is None
            and _is_in(there.address, [block["cidr"]])
            and not _is_in(there.address, block.get("except", []))
        )
    if there.namespace is None:
        return False
    if "namespaceSelector" in peer:
        names = {"kubernetes.io/metadata.name": there.namespace}
        if not _matches(peer["namespaceSelector"], names):
            return False
    elif there.namespace != OURS:
        return False
    return _matches(peer.get("podSelector", {}), there.labels)


def _matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    _know(selector, {"matchLabels"})
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def _is_in(address: str, ranges: Iterable[str]) -> bool:
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(each) for each in ranges)


def _know(found: Mapping[str, Any], known: set[str]) -> None:
    if unknown := set(found) - known:
        raise ValueError(f"not understood: {unknown}")
