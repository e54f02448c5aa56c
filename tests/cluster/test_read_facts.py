"""What a cluster says about itself, and what it does not let one see."""

from collections.abc import AsyncIterator

import pytest
from fake_api import FakeApi

from grace.cluster.client import ClusterClient, Patience
from grace.cluster.facts import NodeFacts, QuotaFacts, StorageClassFacts, Taint
from grace.cluster.profile import load_profile
from grace.cluster.read_facts import read_facts

_PATIENT = Patience(attempts=2, first_wait_seconds=0, longest_wait_seconds=0)


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    fake = FakeApi()
    async with fake.served():
        yield fake


async def test_a_cluster_is_read_as_it_is(api: FakeApi) -> None:
    await api.put(("namespaces", "", "lab"), {"metadata": {"labels": {"a": "b"}}})
    await api.put(
        ("nodes", "", "n1"),
        {
            "metadata": {"labels": {"nvidia.com/gpu.product": "L40"}},
            "spec": {"unschedulable": True, "taints": [{"key": "k", "effect": "NoExecute"}]},
            "status": {"allocatable": {"cpu": "8", "nvidia.com/gpu": "4"}},
        },
    )
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    await api.put(
        ("storageclasses", "", "block"),
        {"metadata": {"annotations": default}, "provisioner": "ceph"},
    )
    quota = {"hard": {"pods": "9"}, "used": {"pods": "1"}}
    await api.put(("resourcequotas", "lab", "q"), {"metadata": {}, "status": quota})
    await api.put(
        ("secrets", "lab", "grace-hub"), {"metadata": {}, "data": {"HF_TOKEN": "aHVudGVyMg=="}}
    )
    async with ClusterClient.at(api.url, patience=_PATIENT) as client:
        facts = await read_facts(client, load_profile("nrp"), "lab")
    assert facts.server_version == "v1.36.2"
    assert facts.namespace_exists
    assert facts.namespace_labels == {"a": "b"}
    labels, room = {"nvidia.com/gpu.product": "L40"}, {"cpu": "8", "nvidia.com/gpu": "4"}
    assert facts.nodes == (
        NodeFacts("n1", labels, room, (Taint("k", effect="NoExecute"),), schedulable=False),
    )
    assert facts.storage_classes == (StorageClassFacts("block", "ceph", default=True),)
    assert facts.quotas == (QuotaFacts("q", {"pods": "9"}, {"pods": "1"}),)
    assert facts.secrets == {"grace-hub": frozenset({"HF_TOKEN"}), "grace-deepseek": None}
    assert "aHVudGVyMg" not in repr(facts)
    assert facts.api_groups == frozenset({"batch", "argoproj.io"})
    assert facts.permissions["create", "pods/exec"]


async def test_what_may_not_be_seen_is_unknown(api: FakeApi) -> None:
    for path in (
        "namespaces/lab",
        "/nodes",
        "storageclasses",
        "resourcequotas",
        "secrets",
        "/apis",
    ):
        api.fail("GET", path, status=403, body={"message": "no"}, times=99)
    api.allowed = lambda about: about["resource"] != "jobs"
    async with ClusterClient.at(api.url, patience=_PATIENT) as client:
        facts = await read_facts(client, load_profile("nrp"), "lab")
    unknown = (
        facts.namespace_exists,
        facts.namespace_labels,
        facts.nodes,
        facts.storage_classes,
        facts.quotas,
        facts.secrets,
        facts.api_groups,
    )
    assert set(unknown) == {None}
    assert not facts.permissions["create", "jobs.batch"]
    assert facts.permissions["create", "statefulsets.apps"]


async def test_a_profile_that_makes_its_namespace_asks_whether_it_may(api: FakeApi) -> None:
    api.allowed = lambda about: "namespace" in about
    async with ClusterClient.at(api.url, patience=_PATIENT) as client:
        facts = await read_facts(client, load_profile("local"), "lab")
    assert facts.namespace_exists is False
    assert facts.permissions["create", "namespaces"] is False
    assert facts.permissions["create", "resourcequotas"] is True
