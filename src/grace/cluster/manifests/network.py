"""
Which pods may talk to which: nothing by default, and the few edges that a run needs.

An edge has two ends, and both are opened: the sender's egress and the
receiver's ingress. What sends needs names resolved as well, so each egress
policy brings its own edge to the DNS; what sends nothing has none.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from functools import cache
from urllib.parse import urlsplit

from kubernetes.client import (
    V1IPBlock,
    V1LabelSelector,
    V1NetworkPolicy,
    V1NetworkPolicyEgressRule,
    V1NetworkPolicyIngressRule,
    V1NetworkPolicyPeer,
    V1NetworkPolicyPort,
    V1NetworkPolicySpec,
)

from grace.cluster.manifests.labels import (
    COMPONENT,
    OURS,
    REACHES,
    RUN,
    Component,
    Reaches,
    labelled,
    metadata,
)
from grace.cluster.names import joined
from grace.cluster.profile import NetworkSettings
from grace.cluster.request import PORT, ClusterRun

_HTTPS = 443
_DNS = 53
_ANYWHERE = ("0.0.0.0/0", "::/0")
_NAMESPACE = "kubernetes.io/metadata.name"


def network_policies(run: ClusterRun) -> tuple[V1NetworkPolicy, ...]:
    """
    Return the policies of a run's namespace.

    In a namespace that is not ours, they select our pods only: what others run
    there is left alone.
    """
    everyone = {} if run.profile.namespace.create else OURS
    found = [
        _policy(run, "grace-default-deny", everyone, ingress=[], egress=[]),
        _policy(run, "grace-to-servers", _sending(Reaches.SERVERS), egress=_to_servers(run)),
        _policy(run, "grace-servers", _SERVERS, ingress=list(_into_servers(run))),
        _policy(
            run, "grace-to-outside", _sending(Reaches.OUTSIDE), egress=_to_outside(run, [_HTTPS])
        ),
    ]
    if run.profile.driver.in_cluster:
        found.append(_policy(run, "grace-to-api", _sending(Reaches.API), egress=_to_api(run)))
    if further := _further_ports(run):
        name = joined("grace-to-outside", run.run_id)
        senders = {**_sending(Reaches.OUTSIDE), RUN: run.run_id}
        found.append(_policy(run, name, senders, egress=_to_outside(run, further)))
    return tuple(found)


_SERVERS: Mapping[str, str] = {**OURS, COMPONENT: Component.SERVER.value}


def _sending(reaches: Reaches) -> dict[str, str]:
    return {**OURS, REACHES: reaches.value}


def _policy(
    run: ClusterRun,
    name: str,
    pods: Mapping[str, str],
    *,
    ingress: list[V1NetworkPolicyIngressRule] | None = None,
    egress: list[V1NetworkPolicyEgressRule] | None = None,
) -> V1NetworkPolicy:
    ways = {"Ingress": ingress, "Egress": egress}
    of_run = run if RUN in pods else None
    return V1NetworkPolicy(
        api_version="networking.k8s.io/v1",
        kind="NetworkPolicy",
        metadata=metadata(run, name, labelled(Component.SETUP, run=of_run)),
        spec=V1NetworkPolicySpec(
            pod_selector=_selector(pods),
            policy_types=[way for way, rules in ways.items() if rules is not None],
            ingress=ingress or None,
            egress=egress or None,
        ),
    )


def _to_servers(run: ClusterRun) -> list[V1NetworkPolicyEgressRule]:
    servers = V1NetworkPolicyPeer(pod_selector=_selector(_SERVERS))
    return [
        V1NetworkPolicyEgressRule(to=[servers], ports=[_tcp(PORT)]),
        _names(run.profile.network),
    ]


def _into_servers(run: ClusterRun) -> Iterator[V1NetworkPolicyIngressRule]:
    senders = V1NetworkPolicyPeer(pod_selector=_selector(_sending(Reaches.SERVERS)))
    yield _from(senders)
    monitoring = run.profile.network.monitoring_namespace
    if monitoring is not None:
        scrapers = V1NetworkPolicyPeer(namespace_selector=_selector({_NAMESPACE: monitoring}))
        yield _from(scrapers)


def _from(peer: V1NetworkPolicyPeer) -> V1NetworkPolicyIngressRule:
    # By the API's own names: the class takes `var_from` without a word and drops it, and a rule
    # without `from` lets everybody in.
    return V1NetworkPolicyIngressRule.model_validate({"from": [peer], "ports": [_tcp(PORT)]})


def _to_outside(run: ClusterRun, ports: list[int]) -> list[V1NetworkPolicyEgressRule]:
    network = run.profile.network
    blocks = [V1NetworkPolicyPeer(ip_block=_block(cidr, network)) for cidr in network.outside]
    return [
        V1NetworkPolicyEgressRule(to=blocks, ports=[_tcp(port) for port in ports]),
        _names(network),
    ]


def _to_api(run: ClusterRun) -> list[V1NetworkPolicyEgressRule]:
    # Any address, since a policy cannot say "the API", and each cluster has it elsewhere.
    anywhere = [V1NetworkPolicyPeer(ip_block=V1IPBlock(cidr=cidr)) for cidr in _ANYWHERE]
    ports = [_tcp(port) for port in run.profile.network.api_ports]
    return [V1NetworkPolicyEgressRule(to=anywhere, ports=ports), _names(run.profile.network)]


def _block(cidr: str, network: NetworkSettings) -> V1IPBlock:
    """Return a range without the cluster's own ranges in it; the API refuses others."""
    inside = [inner for inner in network.outside_except if _is_within(inner, cidr)]
    # By the API's own names, as in `_from`.
    return V1IPBlock.model_validate({"cidr": cidr} | ({"except": inside} if inside else {}))


@cache
def _is_within(inner: str, outer: str) -> bool:
    part, whole = ipaddress.ip_network(inner), ipaddress.ip_network(outer)
    return (
        part.version == whole.version and part != whole and part[0] in whole and part[-1] in whole
    )


def _further_ports(run: ClusterRun) -> list[int]:
    """Return ports other than 443 of hosted models that the run asks."""
    addresses = [run.settings.endpoint, run.settings.extractor_endpoint]
    addresses += [spec.endpoint for spec in run.models]
    ports = set()
    for address in filter(None, addresses):
        parts = urlsplit(address)
        # A name without a dot is a Service of ours, in the same namespace.
        if "." in (parts.hostname or ""):
            ports.add(parts.port or (80 if parts.scheme == "http" else _HTTPS))
    return sorted(ports - {_HTTPS})


def _names(network: NetworkSettings) -> V1NetworkPolicyEgressRule:
    """Return the edge to the DNS, and to its caches on the nodes."""
    servers = V1NetworkPolicyPeer(
        namespace_selector=_selector({_NAMESPACE: network.dns_namespace}),
        pod_selector=_selector(network.dns_labels),
    )
    caches = [V1NetworkPolicyPeer(ip_block=V1IPBlock(cidr=cidr)) for cidr in network.dns_caches]
    return V1NetworkPolicyEgressRule(
        to=[servers, *caches], ports=[_port("UDP", _DNS), _port("TCP", _DNS)]
    )


def _selector(labels: Mapping[str, str]) -> V1LabelSelector:
    return V1LabelSelector(match_labels=dict(labels) or None)


def _tcp(number: int) -> V1NetworkPolicyPort:
    return _port("TCP", number)


def _port(protocol: str, number: int) -> V1NetworkPolicyPort:
    return V1NetworkPolicyPort(protocol=protocol, port=number)
