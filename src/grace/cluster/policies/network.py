"""
Rules about who may reach whom.

Policies add up: a pod that any of them selects may do what one of them allows,
and nothing else. Only the set's own namespace is known, so peers in other
namespaces and addresses are not looked at, DNS excepted.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import JsonValue

from grace.cluster.policies.finding import Hit
from grace.cluster.policies.pods import Pod
from grace.cluster.policies.reading import (
    Manifest,
    at,
    items,
    mapping,
    name_of,
    selects,
    text,
    title,
)
from grace.cluster.policies.subject import Subject

_DNS = 53
_URL = re.compile(r"https?://[^\s'\"]+")


@dataclass(frozen=True, slots=True)
class _Rule:
    """One ingress or egress rule of a policy, and where it stands."""

    policy: Manifest
    path: str
    peers: Sequence[Mapping[str, JsonValue]]
    all_peers: bool
    ports: Sequence[Mapping[str, JsonValue]]

    def allows_port(self, pod: Pod, port: JsonValue, protocol: str = "TCP") -> bool:
        if not self.ports:
            return True
        numbers = _numbers(pod, port)
        for allowed in self.ports:
            if (text(allowed.get("protocol")) or "TCP") != protocol:
                continue
            written = allowed.get("port")
            last = allowed.get("endPort")
            if written is None or _numbers(pod, written) & numbers:
                return True
            if not isinstance(written, int) or not isinstance(last, int):
                continue
            if any(written <= number <= last for number in numbers):
                return True
        return False

    def admits(self, pod: Pod) -> bool:
        """Whether a pod of the same namespace is one of the peers."""
        return self.all_peers or any(
            "ipBlock" not in peer
            and not mapping(peer.get("namespaceSelector"))
            and selects(peer.get("podSelector"), pod.labels)
            for peer in self.peers
        )


def _numbers(pod: Pod, port: JsonValue) -> set[int]:
    """Return the numbers of a port that may be a name."""
    if isinstance(port, int):
        return {port}
    return {
        number
        for container in pod.containers
        for named in container.ports
        if named.get("name") == port and isinstance(number := named.get("containerPort"), int)
    }


def _policies(subject: Subject, pod: Pod, direction: str) -> list[Manifest]:
    return [
        policy
        for policy in subject.of_kind("NetworkPolicy")
        if direction in _types(policy) and selects(at(policy, "spec.podSelector"), pod.labels)
    ]


def _types(policy: Manifest) -> Sequence[str]:
    written = [text(one) for one in items(at(policy, "spec.policyTypes"))]
    if written:
        return written
    return ("Ingress", "Egress") if at(policy, "spec.egress") else ("Ingress",)


def _rules(policy: Manifest, direction: str) -> Iterator[_Rule]:
    field, side = ("ingress", "from") if direction == "Ingress" else ("egress", "to")
    for number, rule in enumerate(items(at(policy, f"spec.{field}"))):
        peers = [mapping(peer) for peer in items(mapping(rule).get(side))]
        ports = [mapping(port) for port in items(mapping(rule).get("ports"))]
        yield _Rule(policy, f"spec.{field}[{number}]", peers, not peers, ports)


def not_denied(subject: Subject) -> Iterator[Hit]:
    """Yield pods that nothing denies what no policy allows."""
    denials = [
        policy
        for policy in subject.of_kind("NetworkPolicy")
        if {*_types(policy)} >= {"Ingress", "Egress"}
        and not items(at(policy, "spec.ingress"))
        and not items(at(policy, "spec.egress"))
    ]
    for pod in subject.pods:
        if not any(selects(at(policy, "spec.podSelector"), pod.labels) for policy in denials):
            detail = "no policy denies pods with these labels everything"
            yield Hit(pod.title, _labels_path(pod), dict(pod.labels), detail)


def wide_open(subject: Subject) -> Iterator[Hit]:
    """Yield rules that allow everybody, or everything."""
    for policy in subject.of_kind("NetworkPolicy"):
        for direction in ("Ingress", "Egress"):
            for rule in _rules(policy, direction):
                side = "from" if direction == "Ingress" else "to"
                field = f"{rule.path}.{side}"
                if rule.all_peers:
                    yield Hit(title(policy), field, None, "all are allowed")
                elif direction == "Ingress" and any(map(_anybody, rule.peers)):
                    peers: list[JsonValue] = [dict(peer) for peer in rule.peers]
                    yield Hit(title(policy), field, peers, "lets in pods that are not ours")
                elif not rule.ports:
                    yield Hit(title(policy), f"{rule.path}.ports", None, "all ports are allowed")


def _anybody(peer: Mapping[str, JsonValue]) -> bool:
    """Whether a peer that is let in may be anybody: an address, or a selector without labels."""
    selectors = [peer[name] for name in ("podSelector", "namespaceSelector") if name in peer]
    return not any(
        mapping(mapping(selector).get("matchLabels"))
        or items(mapping(selector).get("matchExpressions"))
        for selector in selectors
    )


def without_dns(subject: Subject) -> Iterator[Hit]:
    """Yield pods that may reach something, but not look its name up."""
    for pod in subject.pods:
        policies = _policies(subject, pod, "Egress")
        rules = [rule for policy in policies for rule in _rules(policy, "Egress")]
        elsewhere = [rule for rule in rules if not _is_dns(subject, pod, rule)]
        urls = any(_URL.search(word) for container in pod.containers for word in container.words)
        if not policies or not (elsewhere or urls):
            continue
        for protocol in ("UDP", "TCP"):
            if not any(_dns_edge(subject, pod, rule, protocol) for rule in rules):
                detail = f"no policy lets it reach port {_DNS}/{protocol} of the cluster's DNS"
                yield Hit(pod.title, _labels_path(pod), dict(pod.labels), detail)


def _labels_path(pod: Pod) -> str:
    return f"{pod.path}.metadata.labels" if pod.path else "metadata.labels"


def _is_dns(subject: Subject, pod: Pod, rule: _Rule) -> bool:
    return bool(rule.ports) and all(port.get("port") in (_DNS, "dns") for port in rule.ports)


def _dns_edge(subject: Subject, pod: Pod, rule: _Rule, protocol: str) -> bool:
    network = subject.profile.network
    if not rule.allows_port(pod, _DNS, protocol):
        return False
    if rule.all_peers:
        return True
    namespace = {"kubernetes.io/metadata.name": network.dns_namespace}
    return any(
        "ipBlock" not in peer
        and "namespaceSelector" in peer
        and selects(peer["namespaceSelector"], namespace)
        and selects(peer.get("podSelector"), dict(network.dns_labels))
        for peer in rule.peers
    )


def without_edge(subject: Subject) -> Iterator[Hit]:
    """Yield pods that ask a server of the set which they may not reach, or which refuses them."""
    services = {name_of(service): service for service in subject.of_kind("Service")}
    for pod, container in subject.containers:
        urls = dict.fromkeys(url for word in container.words for url in _URL.findall(word))
        for url in urls:
            host, number = _address(url)
            service = services.get(host)
            if service is None:
                continue
            for target, port in _targets(subject, service, number):
                if not _may_send(subject, pod, target, port):
                    detail = f"no policy lets it reach port {port} of {target.title}"
                    yield Hit(pod.title, container.path, url, detail)
                elif not _may_receive(subject, pod, target, port):
                    detail = f"no policy of {target.title} admits it at port {port}"
                    yield Hit(pod.title, container.path, url, detail)


def _address(url: str) -> tuple[str, int]:
    """Return a URL's host, without a domain, and port; nothing of one that is none."""
    try:
        parts = urlsplit(url)
        return (parts.hostname or "").partition(".")[0], parts.port or 80
    except ValueError:
        return "", 0


def _targets(subject: Subject, service: Manifest, number: int) -> Iterator[tuple[Pod, JsonValue]]:
    for port in items(at(service, "spec.ports")):
        if mapping(port).get("port") == number:
            target = mapping(port).get("targetPort", number)
            for pod in subject.behind(service):
                yield pod, target


def _may_send(subject: Subject, pod: Pod, target: Pod, port: JsonValue) -> bool:
    policies = _policies(subject, pod, "Egress")
    return not policies or any(
        rule.admits(target) and rule.allows_port(target, port)
        for policy in policies
        for rule in _rules(policy, "Egress")
    )


def _may_receive(subject: Subject, pod: Pod, target: Pod, port: JsonValue) -> bool:
    policies = _policies(subject, target, "Ingress")
    return not policies or any(
        rule.admits(pod) and rule.allows_port(target, port)
        for policy in policies
        for rule in _rules(policy, "Ingress")
    )


def dead_ports(subject: Subject) -> Iterator[Hit]:
    """Yield policies for ports that the pods which they are about do not have."""
    for policy in subject.of_kind("NetworkPolicy"):
        own = [pod for pod in subject.pods if selects(at(policy, "spec.podSelector"), pod.labels)]
        for rule in _rules(policy, "Ingress"):
            yield from _dead(policy, rule, own)
        for rule in _rules(policy, "Egress"):
            inside = [
                peer
                for peer in rule.peers
                if "podSelector" in peer and "namespaceSelector" not in peer
            ]
            if inside and len(inside) == len(rule.peers):
                yield from _dead(policy, rule, [pod for pod in subject.pods if rule.admits(pod)])


def _dead(policy: Manifest, rule: _Rule, pods: Sequence[Pod]) -> Iterator[Hit]:
    for number, port in enumerate(rule.ports):
        written = port.get("port")
        if written is None or not pods:
            continue
        alive = any(
            written in (named.get("containerPort"), named.get("name"))
            for pod in pods
            for container in pod.containers
            for named in container.ports
        )
        if not alive:
            field = f"{rule.path}.ports[{number}].port"
            yield Hit(title(policy), field, written, "none of the pods has such a port")


def odd_selectors(subject: Subject) -> Iterator[Hit]:
    """Yield policies that go by a label which no pod has: a name misspelt."""
    known = {key for pod in subject.pods for key in pod.labels}
    if not subject.pods:
        return
    for policy in subject.of_kind("NetworkPolicy"):
        selectors = [("spec.podSelector", at(policy, "spec.podSelector"))]
        for direction, side in (("Ingress", "from"), ("Egress", "to")):
            for rule in _rules(policy, direction):
                selectors += [
                    (f"{rule.path}.{side}[{number}].podSelector", peer["podSelector"])
                    for number, peer in enumerate(rule.peers)
                    if "podSelector" in peer and "namespaceSelector" not in peer
                ]
        for path, selector in selectors:
            for key in mapping(at(selector, "matchLabels")):
                if key not in known:
                    yield Hit(title(policy), f"{path}.matchLabels", key, "no pod has this label")
