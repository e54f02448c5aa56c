"""The first phase, on clusters that do not make it easy."""

from typing import Any

import pytest
from fake_api import FakeApi
from small_manifests import NAMESPACE, SmallManifests, small_run

from grace.cluster.client import ClusterClient
from grace.cluster.executor.desired import Desired
from grace.cluster.executor.pacing import Pacing
from grace.cluster.executor.setting_up import set_up
from grace.cluster.executor.status import QuietHook
from grace.cluster.request import ClusterRun
from grace.errors import ClusterDenied, ClusterError

_QUICK = Pacing(settle_seconds=0.01, claim_seconds=0.05)
_CLAIM = ("persistentvolumeclaims", NAMESPACE, "grace-output")


class Classed(SmallManifests):
    """Names a storage class, and has a Role."""

    def setup_objects(self, run: ClusterRun, /) -> tuple[dict[str, Any], ...]:
        *others, claim = super().setup_objects(run)
        claim["spec"] = {"storageClassName": "shared"}
        metadata = {"name": "driver", "namespace": NAMESPACE}
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata}
        return (*others, role, claim)


class Notes(QuietHook):
    """Keeps messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


def desired() -> Desired:
    return Desired(small_run(), Classed())


async def storage_class(api: FakeApi, mode: str) -> None:
    await api.put(("storageclasses", "", "shared"), {"metadata": {}, "volumeBindingMode": mode})


async def claim_is(api: FakeApi, phase: str) -> None:
    spec = {"storageClassName": "shared"}
    await api.put(_CLAIM, {"metadata": {}, "spec": spec, "status": {"phase": phase}})


async def test_the_run_is_stored_before_anything_but_its_namespace(
    api: FakeApi, client: ClusterClient
) -> None:
    await set_up(client, desired(), Notes(), _QUICK)
    applied = [path for method, path in api.requests if method == "PATCH"]
    assert "/namespaces/lab?" in applied[0]
    assert "/configmaps/run-20260131t235959z?" in applied[1]


async def test_a_claim_that_binds_at_once_is_waited_for_in_words(
    api: FakeApi, client: ClusterClient
) -> None:
    await storage_class(api, "Immediate")
    notes = Notes()
    with pytest.raises(ClusterError, match=r"grace-output .* is not bound after 0\.05 s"):
        await set_up(client, desired(), notes, _QUICK)
    assert notes.messages == ["waits for PersistentVolumeClaim grace-output in lab: not bound yet"]
    await claim_is(api, "Bound")
    await set_up(client, desired(), Notes(), _QUICK)


async def test_a_claim_that_binds_with_its_first_pod_is_not_waited_for(
    api: FakeApi, client: ClusterClient
) -> None:
    await storage_class(api, "WaitForFirstConsumer")
    await set_up(client, desired(), Notes(), _QUICK)


async def test_a_claim_is_not_waited_for_where_classes_may_not_be_seen(
    api: FakeApi, client: ClusterClient
) -> None:
    api.fail("GET", "storageclasses", status=403, body={"message": "no"}, times=9)
    await set_up(client, desired(), Notes(), _QUICK)


async def leave(api: FakeApi, plural: str, name: str, **fields: Any) -> None:
    """Let an object be one that is being deleted."""
    metadata = {"deletionTimestamp": "2026-02-01T00:00:00Z"}
    await api.put((plural, NAMESPACE, name), {"metadata": metadata, **fields})


def pod_with(claim: str) -> dict[str, Any]:
    owner = {"kind": "Job", "name": "files-20250101t000000z", "uid": "uid-of-no-one"}
    volumes = [{"name": "tmp", "emptyDir": {}}, {"persistentVolumeClaim": {"claimName": claim}}]
    return {"metadata": {"ownerReferences": [owner]}, "spec": {"volumes": volumes}}


async def test_a_claim_that_is_being_deleted_is_waited_for_and_then_made_again(
    api: FakeApi, client: ClusterClient
) -> None:
    await leave(api, "persistentvolumeclaims", "grace-output")

    class Watching(Notes):
        def message(self, text: str) -> None:
            super().message(text)
            # Its last pod ends.
            del api.objects[_CLAIM]

    notes = Watching()
    await set_up(client, desired(), notes, _QUICK)
    said = "waits for PersistentVolumeClaim grace-output in lab: being deleted"
    assert notes.messages == [said]
    assert "deletionTimestamp" not in api.objects[_CLAIM]["metadata"]


async def test_nothing_is_set_up_while_a_pod_holds_what_is_being_deleted(
    api: FakeApi, client: ClusterClient
) -> None:
    run = small_run(models=("gemma-2-2b",))
    (claim,) = SmallManifests().weights_objects(run, "gemma-2-2b")
    weights = claim["metadata"]["name"]
    await leave(api, "persistentvolumeclaims", weights)
    api.frozen = True
    await api.put(("pods", NAMESPACE, "files-x7k2p"), pod_with(weights))
    await api.put(("pods", NAMESPACE, "other"), pod_with("another-claim"))
    notes = Notes()
    expected = (
        rf"{weights} in lab is still being deleted after 0\.05 s: .* end pod files-x7k2p "
        r"\(of Job files-20250101t000000z\); then start again"
    )
    with pytest.raises(ClusterError, match=expected):
        await set_up(client, Desired(run, Classed()), notes, _QUICK)
    (said,) = notes.messages
    assert said.endswith("being deleted, and held by files-x7k2p")
    assert _CLAIM not in api.objects


async def test_a_claim_that_nobody_is_seen_to_hold_is_given_up_as_well(
    api: FakeApi, client: ClusterClient
) -> None:
    await leave(api, "persistentvolumeclaims", "grace-output")
    api.fail("GET", "/pods", status=403, body={"message": "no"}, times=99)
    with pytest.raises(ClusterError, match="see `kubectl -n lab describe pvc grace-output`"):
        await set_up(client, desired(), Notes(), _QUICK)


async def test_a_lost_volume_is_told(api: FakeApi, client: ClusterClient) -> None:
    await claim_is(api, "Lost")
    with pytest.raises(ClusterError, match="lost its volume"):
        await set_up(client, desired(), Notes(), _QUICK)


async def test_a_namespace_that_goes_away_is_not_used(api: FakeApi, client: ClusterClient) -> None:
    await api.put(("namespaces", "", "lab"), {"metadata": {}, "status": {"phase": "Terminating"}})
    with pytest.raises(ClusterError, match="namespace lab is being deleted"):
        await set_up(client, desired(), Notes(), _QUICK)


async def test_roles_that_may_not_be_made_are_left_out_and_nothing_else(
    api: FakeApi, client: ClusterClient
) -> None:
    api.fail("PATCH", "/roles/", status=403, body={"message": "no"})
    notes = Notes()
    await set_up(client, desired(), notes, _QUICK)
    assert len(notes.messages) == 1
    assert "it is left out" in notes.messages[0]
    api.fail("PATCH", "/persistentvolumeclaims/", status=403, body={"message": "no"})
    with pytest.raises(ClusterDenied):
        await set_up(client, desired(), Notes(), _QUICK)
