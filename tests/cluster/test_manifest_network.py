from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest
from cluster_runs import a_run, at, changed, everything, pods_of
from network_rules import Pod, allowed

from grace.cluster.manifests import Manifest, files_objects, setup_objects, step_objects
from grace.cluster.request import ClusterRun
from grace.cluster.steps import StepKind

DNS = Pod({"k8s-app": "kube-dns"}, "kube-system")
CACHE = Pod(namespace=None, address="169.254.20.10")
OUTSIDE = Pod(namespace=None, address="104.16.0.1")
OUTSIDE_6 = Pod(namespace=None, address="2606:4700::1")
API = Pod(namespace=None, address="10.96.0.1")
NODE = Pod(namespace=None, address="192.168.1.4")
METADATA = Pod(namespace=None, address="169.254.169.254")
STRANGER = Pod({"app": "theirs"})
ELSEWHERE = Pod({"app.kubernetes.io/name": "grace", "grace/reaches": "servers"}, "theirs")
PROMETHEUS = Pod({"app": "prometheus"}, "monitoring")


def policies_of(run: ClusterRun) -> list[Mapping[str, Any]]:
    return [each for each in setup_objects(run) if each["kind"] == "NetworkPolicy"]


def pod(objects: list[Manifest], name: str) -> Pod:
    """Return the pod that something makes."""
    found = [template for owner, template in pods_of(objects) if owner.startswith(name)]
    return Pod(at(found[0], "metadata", "labels"))


def scene(run: ClusterRun) -> dict[str, Pod]:
    """Return one pod of each kind, ours and others'."""
    objects = everything(run)
    return {
        **{name: pod(objects, name) for name in ("model", "weights", "smoke", "respond", "score")},
        **{name: pod(objects, name) for name in ("extract", "finish", "files")},
        **{
            "dns": DNS,
            "cache": CACHE,
            "outside": OUTSIDE,
            "outside 6": OUTSIDE_6,
            "api": API,
            "metadata": METADATA,
            "node": NODE,
        },
        **{"stranger": STRANGER, "elsewhere": ELSEWHERE, "prometheus": PROMETHEUS},
    }


PORTS = (
    (8000, "TCP"),
    (443, "TCP"),
    (6443, "TCP"),
    (53, "UDP"),
    (53, "TCP"),
    (80, "TCP"),
    (22, "TCP"),
)
ASKING = ("smoke", "respond", "score")
OTHERS = {
    "metadata",
    "dns",
    "cache",
    "outside",
    "outside 6",
    "api",
    "node",
    "stranger",
    "elsewhere",
    "prometheus",
}


def edges(run: ClusterRun) -> set[tuple[str, str, int, str]]:
    """Return all that pods of ours may begin, and what may be begun with them."""
    pods = scene(run)
    policies = policies_of(run)
    return {
        (sender, receiver, port, protocol)
        for sender, receiver, (port, protocol) in product(pods, pods, PORTS)
        if sender != receiver and not {sender, receiver} <= OTHERS
        if allowed(policies, pods[sender], pods[receiver], port, protocol)
    }


def names(sender: str) -> set[tuple[str, str, int, str]]:
    return {(sender, dns, 53, protocol) for dns in ("dns", "cache") for protocol in ("UDP", "TCP")}


def outside(sender: str) -> set[tuple[str, str, int, str]]:
    return {(sender, "outside", 443, "TCP"), (sender, "outside 6", 443, "TCP"), *names(sender)}


def test_a_run_has_the_edges_that_it_needs_and_no_other() -> None:
    run = a_run("nrp", "gpt2", extractor="deepseek")
    asking = {(sender, "model", 8000, "TCP") for sender in ASKING}
    named = set().union(*map(names, ASKING))
    assert edges(run) == asking | named | outside("weights") | outside("extract")


def test_in_a_namespace_of_ours_strangers_have_no_edges_either() -> None:
    run = a_run("local", "gemma-3-270m")
    policies = policies_of(run)
    assert not allowed(policies, STRANGER, OUTSIDE, 443)
    assert not allowed(policies, STRANGER, DNS, 53, "UDP")
    asking = {(sender, "model", 8000, "TCP") for sender in ASKING}
    assert edges(run) == asking | set().union(*map(names, ASKING)) | outside("weights")


def test_in_a_given_namespace_what_others_run_is_left_alone() -> None:
    policies = policies_of(a_run("nrp", "gpt2"))
    assert allowed(policies, STRANGER, OUTSIDE, 443)
    assert allowed(policies, PROMETHEUS, STRANGER, 8080)


def test_a_model_of_ours_that_extracts_is_asked_inside() -> None:
    run = a_run("nrp", "gpt2", extractor="gemma-2-2b")
    pods, policies = scene(run), policies_of(run)
    assert allowed(policies, pods["extract"], pods["model"], 8000)
    assert not allowed(policies, pods["extract"], OUTSIDE, 443)


def test_rules_alone_need_no_network() -> None:
    run = a_run("nrp", "gpt2")
    pods, policies = scene(run), policies_of(run)
    assert not allowed(policies, pods["extract"], OUTSIDE, 443)
    assert not allowed(policies, pods["extract"], DNS, 53, "UDP")


def test_metrics_are_open_to_the_namespace_that_the_profile_names() -> None:
    run = a_run(changed("nrp", network={"monitoring_namespace": "monitoring"}), "gpt2")
    assert ("prometheus", "model", 8000, "TCP") in edges(run)
    assert ("prometheus", "model", 8000, "TCP") not in edges(a_run("nrp", "gpt2"))


def test_a_hosted_model_on_another_port_is_reached_by_its_own_run_only() -> None:
    run = a_run(
        "nrp", "deepseek", experiment=("exp1",), endpoint="https://gateway.example.org:8443/v1"
    )
    policies = policies_of(run)
    step = next(step for step in run.steps if step.kind is StepKind.RESPOND)
    asking = pod(list(step_objects(run, step)), "respond")
    assert allowed(policies, asking, OUTSIDE, 8443)
    assert not allowed(policies, asking, OUTSIDE, 8080)
    other = Pod({**asking.labels, "grace/run": "20270101t000000z"})
    assert not allowed(policies, other, OUTSIDE, 8443)


def test_pods_that_hand_files_over_reach_nothing() -> None:
    run = a_run()
    files = pod(list(files_objects(run)), "files")
    policies = policies_of(run)
    receivers = (DNS, OUTSIDE, API, NODE, STRANGER)
    assert not any(
        allowed(policies, files, there, port) for there in receivers for port, _ in PORTS
    )


@pytest.mark.parametrize("cidr", ["0.0.0.0/0", "::/0", "104.16.0.0/12"])
def test_only_ranges_inside_another_are_left_out_of_it(cidr: str) -> None:
    run = a_run(changed("nrp", network={"outside": [cidr]}), "gpt2")
    policy = next(
        each for each in policies_of(run) if at(each, "metadata", "name") == "grace-to-outside"
    )
    block = at(policy, "spec", "egress", 0, "to", 0, "ipBlock")
    expected = {
        "0.0.0.0/0": [
            *("10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16")
        ],
        "::/0": ["fc00::/7", "fe80::/10"],
        "104.16.0.0/12": None,
    }
    assert block.get("except") == expected[cidr]
