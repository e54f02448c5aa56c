from dataclasses import replace

import pytest
from capacity_runs import profile_with

from grace.cluster.facts import ClusterFacts, NodeFacts, QuotaFacts, StorageClassFacts, Taint
from grace.cluster.profile import Profile, load_profile
from grace.cluster.profile_check import (
    ProfileFinding,
    Standing,
    check_profile,
)

LABEL = "nvidia.com/gpu.product"
_NAMED = ("images.runner", "images.llamacpp")
ALLOWED = {
    (verb, resource): True
    for verb in ("get", "create", "patch", "delete")
    for resource in ("jobs.batch", "configmaps")
}


def nrp_facts() -> ClusterFacts:
    """Return a cluster that is as the NRP's profile says."""
    profile = load_profile("nrp")
    gpus = profile.gpus
    nodes = [
        NodeFacts(
            f"node-{number}",
            labels={LABEL: name},
            allocatable={"cpu": "64", "memory": "512Gi", gpus.resource_of(name): "64"},
        )
        for number, name in enumerate(gpus.products)
    ]
    classes = [StorageClassFacts("rook-cephfs"), StorageClassFacts("rook-ceph-block", default=True)]
    return ClusterFacts(
        server_version="v1.36.2",
        namespace="lab",
        namespace_exists=True,
        namespace_labels={},
        storage_classes=tuple(classes),
        nodes=tuple(nodes),
        quotas=(QuotaFacts("lab", {"requests.nvidia.com/a100": "8", "pods": "100"}),),
        permissions=ALLOWED,
        api_groups=frozenset({"batch", "argoproj.io"}),
        secrets={
            "grace-hub": frozenset({"HF_TOKEN"}),
            "grace-deepseek": frozenset({"DEEPSEEK_API_KEY"}),
        },
    )


def local_facts() -> ClusterFacts:
    """Return a cluster of one node with two CPUs."""
    node = NodeFacts(
        "one", allocatable={"cpu": "2", "memory": "7900Mi", "ephemeral-storage": "40Gi"}
    )
    return ClusterFacts(
        server_version="v1.34.1+k3s1",
        namespace="grace-experiments",
        namespace_exists=False,
        storage_classes=(StorageClassFacts("local-path", "rancher.io/local-path", default=True),),
        nodes=(node,),
        quotas=(),
        permissions={**ALLOWED, ("create", "namespaces"): True},
        api_groups=frozenset({"argoproj.io"}),
        secrets={},
    )


def check(facts: ClusterFacts, profile: Profile | None = None) -> tuple[ProfileFinding, ...]:
    """Return what is found, images apart: the NRP's profile names none that exist."""
    found = check_profile(profile or load_profile("nrp"), facts)
    return tuple(one for one in found if one.field not in _NAMED)


def test_images_that_are_nowhere_are_wrong_until_they_are_named() -> None:
    found = check_profile(load_profile("nrp"), nrp_facts())
    assert [(one.standing, one.field) for one in found] == [
        (Standing.WRONG, "images.runner"),
        (Standing.WRONG, "images.llamacpp"),
    ]
    assert "registry.example.org/your-lab/grace-runner:0.1.0" in found[0].words
    named = {name: "ghcr.io/lab/grace:1" for name in ("runner", "llamacpp")}
    assert not check_profile(profile_with("nrp", images=named), nrp_facts())


def only(found: tuple[ProfileFinding, ...]) -> ProfileFinding:
    """Return the one finding that there is."""
    assert len(found) == 1, list(map(str, found))
    return found[0]


def test_nothing_is_found_where_profile_and_cluster_agree() -> None:
    assert check(nrp_facts()) == ()
    assert check(local_facts(), load_profile("local")) == ()


def test_a_storage_class_that_is_not_there_is_told_with_those_that_are() -> None:
    facts = replace(
        nrp_facts(),
        storage_classes=(
            StorageClassFacts("rook-ceph-block"),
            StorageClassFacts("rook-cephfs-east"),
        ),
    )
    found = check(facts)
    assert {finding.standing for finding in found} == {Standing.WRONG}
    assert {finding.field for finding in found} == {
        "storage.inputs.storage_class",
        "storage.output.storage_class",
        "storage.logs.storage_class",
    }
    assert (
        "says storage class rook-cephfs; the cluster has: rook-ceph-block, rook-cephfs-east"
        in str(found[0])
    )
    assert "did you mean rook-cephfs-east?" in str(found[0])


def test_a_claim_without_a_class_needs_a_default_one() -> None:
    facts = replace(local_facts(), storage_classes=(StorageClassFacts("standard"),))
    found = check(facts, load_profile("local"))
    assert len(found) == 4
    assert all("has no default one; it has: standard" in finding.words for finding in found)


def test_folders_of_one_node_cannot_be_shared() -> None:
    profile = profile_with("local", storage={"output": {"size_gb": 1, "access": "ReadWriteMany"}})
    finding = only(check(local_facts(), profile))
    assert finding.field == "storage.output.access"
    assert finding.standing is Standing.WRONG


def test_a_product_that_no_node_has_is_told_with_those_that_are_there() -> None:
    facts = nrp_facts()
    nodes = [node for node in facts.nodes or () if node.labels[LABEL] != "NVIDIA-L40"]
    nodes.append(replace(nodes[0], name="other", labels={LABEL: "NVIDIA-L40S"}, allocatable={}))
    found = check(replace(facts, nodes=tuple(nodes)))
    words = "\n".join(map(str, found))
    assert "says GPU NVIDIA-L40; nodes with the label nvidia.com/gpu.product have:" in words
    assert "the cluster has GPUs NVIDIA-L40S, which profile nrp does not name" in words
    assert all(finding.standing is Standing.DOUBTFUL for finding in found)


def test_a_product_that_goes_by_another_resource_is_wrong() -> None:
    facts = nrp_facts()
    nodes = tuple(
        replace(node, allocatable={"cpu": "64", "memory": "1Ti", "nvidia.com/gpu": "64"})
        for node in facts.nodes or ()
    )
    found = check(replace(facts, nodes=nodes))
    assert {finding.field for finding in found} == {
        "gpus.products.NVIDIA-A100-80GB-PCIe.resource",
        "gpus.products.NVIDIA-A100-SXM4-80GB.resource",
        "gpus.products.NVIDIA-RTX-A6000.resource",
    }
    assert "its nodes offer: nvidia.com/gpu" in found[0].words


def test_fewer_gpus_than_the_profile_counts_are_doubtful() -> None:
    facts = nrp_facts()
    nodes = tuple(
        replace(node, allocatable={**node.allocatable, "nvidia.com/gpu": "4"})
        if node.labels[LABEL] == "NVIDIA-L40"
        else node
        for node in facts.nodes or ()
    )
    finding = only(check(replace(facts, nodes=nodes)))
    assert finding.field == "gpus.products.NVIDIA-L40.count"
    assert finding.words.endswith("the nodes have 4")


@pytest.mark.parametrize(
    ("taint", "barred"),
    [
        (Taint("nautilus.io/reservation", "lab-b", "NoSchedule"), True),
        (Taint("nautilus.io/reservation", "lab-b", "PreferNoSchedule"), False),
        (Taint("nvidia.com/gpu", "", "NoSchedule"), False),
        (Taint("nautilus.io/hardware", "large-gpu", "NoSchedule"), False),
        (Taint("nautilus.io/hardware", "arm64", "NoSchedule"), True),
    ],
)
def test_taints_count_unless_they_are_tolerated(taint: Taint, barred: bool) -> None:  # noqa: FBT001 (a parameter of the test)
    profile = profile_with(
        "nrp",
        tolerations=[
            {
                "key": "nautilus.io/hardware",
                "operator": "Equal",
                "value": "large-gpu",
                "effect": None,
            }
        ],
    )
    facts = nrp_facts()
    nodes = tuple(
        replace(node, taints=(taint,)) if node.labels[LABEL] == "NVIDIA-L40" else node
        for node in facts.nodes or ()
    )
    found = check(replace(facts, nodes=nodes), profile)
    assert bool(found) is barred
    if barred:
        assert f"{taint.key}={taint.value}" in only(found).words


def test_pods_larger_than_any_node_are_wrong() -> None:
    small = NodeFacts("one", allocatable={"cpu": "400m", "memory": "1Gi"})
    found = check(replace(local_facts(), nodes=(small,)), load_profile("local"))
    assert only(found).field == "model_servers.cpu_resources"


def test_an_empty_quota_is_told_with_the_place_to_ask() -> None:
    quota = QuotaFacts("gpus", {"requests.nvidia.com/a100": "0", "services.loadbalancers": "0"})
    finding = only(check(replace(nrp_facts(), quotas=(quota,))))
    assert finding.standing is Standing.DOUBTFUL
    assert "leaves nothing of requests.nvidia.com/a100: 0 in all, 0 in use" in finding.words
    assert "https://nrp.ai/reservations" in finding.remedy


def test_a_spent_quota_is_told() -> None:
    quota = QuotaFacts("lab", {"pods": "10"}, {"pods": "10"})
    assert "leaves nothing of pods" in only(check(replace(nrp_facts(), quotas=(quota,)))).words


def test_what_may_not_be_done_is_told_by_resource() -> None:
    facts = nrp_facts()
    denied = {**facts.permissions, ("create", "jobs.batch"): False, ("delete", "jobs.batch"): False}
    finding = only(check(replace(facts, permissions=denied)))
    assert finding.words == "you may not create, delete jobs.batch in lab"
    assert finding.standing is Standing.WRONG


def test_what_a_run_can_do_without_is_doubtful() -> None:
    facts = nrp_facts()
    denied = {**facts.permissions, ("list", "events"): False}
    assert only(check(replace(facts, permissions=denied))).standing is Standing.DOUBTFUL


def test_a_namespace_that_is_ours_to_make_needs_the_permission() -> None:
    facts = local_facts()
    denied = {**facts.permissions, ("create", "namespaces"): False}
    finding = only(check(replace(facts, permissions=denied), load_profile("local")))
    assert finding.field == "namespace.create"


def test_a_namespace_that_is_not_there_is_wrong_unless_we_make_it() -> None:
    finding = only(check(replace(nrp_facts(), namespace_exists=False)))
    assert "there is no namespace lab" in finding.words


def test_a_stricter_namespace_than_the_profile_says_is_doubtful() -> None:
    profile = profile_with("nrp", pod_security="baseline")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    found = check(replace(nrp_facts(), namespace_labels=labels), profile)
    assert only(found).field == "pod_security"
    assert check(replace(nrp_facts(), namespace_labels=labels)) == ()


@pytest.mark.parametrize(("version", "count"), [("v1.28.9", 1), ("v1.29.0", 0), ("v1.30+", 0)])
def test_an_old_server_is_wrong(version: str, count: int) -> None:
    assert len(check(replace(nrp_facts(), server_version=version))) == count


def test_a_version_that_is_none_is_not_known() -> None:
    found = check(replace(nrp_facts(), server_version="dev"))
    assert only(found).standing is Standing.UNKNOWN


def test_autoscalers_need_what_serves_them() -> None:
    servers = {"controller": "statefulset", "max_replicas": 2}
    keda = profile_with(
        "nrp", model_servers={**servers, "autoscaler": "keda", "keda_prometheus": "http://p:9090"}
    )
    hpa = profile_with("nrp", model_servers={**servers, "autoscaler": "hpa"})
    for profile in (keda, hpa):
        facts = nrp_facts()
        assert only(check(facts, profile)).field == "model_servers.autoscaler"
    groups = frozenset({"argoproj.io", "metrics.k8s.io", "keda.sh"})
    for profile in (keda, hpa):
        facts = replace(nrp_facts(), api_groups=groups)
        assert check(facts, profile) == ()


def test_a_secret_with_another_key_is_wrong_and_a_missing_one_is_doubtful() -> None:
    facts = nrp_facts()
    other = {**(facts.secrets or {}), "grace-hub": frozenset({"HUGGINGFACE_TOKEN"})}
    finding = only(check(replace(facts, secrets=other)))
    assert finding.standing is Standing.WRONG
    assert "reads the key HF_TOKEN of the Secret grace-hub, which has: HUGGINGFACE_TOKEN" in (
        finding.words
    )
    finding = only(check(replace(facts, secrets={**other, "grace-hub": None})))
    assert finding.standing is Standing.DOUBTFUL
    assert "kubectl create secret generic grace-hub" in finding.remedy


def test_a_missing_pull_secret_is_wrong() -> None:
    profile = profile_with("nrp", images={"pull_secret": "lab-registry"})
    facts = nrp_facts()
    missing = {**(facts.secrets or {}), "lab-registry": None}
    assert only(check(replace(facts, secrets=missing), profile)).field == "images.pull_secret"
    there = {**missing, "lab-registry": frozenset({".dockerconfigjson"})}
    assert check(replace(facts, secrets=there), profile) == ()


def test_what_the_cluster_does_not_say_is_not_known_and_never_wrong() -> None:
    found = check(ClusterFacts("v1.36.2", "lab"))
    assert found
    assert {finding.standing for finding in found} == {Standing.UNKNOWN}


def test_wrong_things_come_first() -> None:
    facts = replace(nrp_facts(), namespace_exists=False, quotas=None, api_groups=frozenset())
    standings = [finding.standing for finding in check(facts)]
    assert standings == [Standing.WRONG, Standing.UNKNOWN]
