"""The Job that drives a run in the cluster: when it is there, and when it must not be."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from cluster_runs import a_run
from driving import QUICK, Notes, client_of, desired_of
from fake_api import FakeApi
from fake_controllers import ServerScript
from pydantic import JsonValue
from small_manifests import NAMESPACE, small_profile, small_run

from grace.cluster.client import ClusterClient
from grace.cluster.executor.decide import JobStanding
from grace.cluster.executor.driver_job import dismiss, driver_of, employ
from grace.cluster.executor.execute import begin, drive
from grace.cluster.executor.stopping import down, stop_servers
from grace.cluster.manifests import Manifest, driver_objects, setup_objects


def plain(objects: Sequence[Manifest]) -> list[Any]:
    found: list[Any] = json.loads(json.dumps(objects))
    return found


async def allow(client: ClusterClient) -> None:
    """Make what the driver's pod asks the API with."""
    for version, kind in (
        ("v1", "ServiceAccount"),
        ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ):
        metadata: dict[str, JsonValue] = {"name": "grace-driver", "namespace": NAMESPACE}
        await client.apply({"apiVersion": version, "kind": kind, "metadata": metadata})


def drivers(api: FakeApi) -> list[str]:
    return [name for name in api.names("jobs") if name.startswith("driver-")]


async def test_a_run_is_driven_in_the_cluster_until_it_is_over(api: FakeApi) -> None:
    desired = desired_of(small_run(experiments=("exp2",)))
    async with client_of(api) as client:
        await allow(client)
        assert await begin(client, desired, pacing=QUICK)
        assert drivers(api) == ["driver-20260131t235959z"]
        assert (await driver_of(client, desired)).standing is JobStanding.ACTIVE
        status = await drive(client, desired, pacing=QUICK)
    assert status.finished
    assert drivers(api) == []


async def test_without_its_rights_it_is_left_out_with_a_word(api: FakeApi) -> None:
    class Screen(Notes):
        def message(self, text: str) -> None:
            self.reasons.append(text)

    desired, notes = desired_of(small_run()), Screen()
    async with client_of(api) as client:
        assert not await employ(client, desired, notes, QUICK)
        assert (await driver_of(client, desired)).standing is JobStanding.ABSENT
    assert drivers(api) == []
    assert "ServiceAccount grace-driver is not in lab" in notes.reasons[0]


async def test_a_profile_can_do_without_it(api: FakeApi) -> None:
    profile = small_profile()
    alone = profile.driver.model_copy(update={"in_cluster": False})
    run = small_run(profile=profile.model_copy(update={"driver": alone}))
    async with client_of(api) as client:
        await allow(client)
        assert not await begin(client, desired_of(run), pacing=QUICK)
    assert drivers(api) == []


@pytest.mark.parametrize("stop", [stop_servers, down], ids=["stopped", "taken down"])
async def test_what_drives_a_run_goes_before_the_servers_that_it_would_start_again(
    api: FakeApi, stop: object
) -> None:
    desired = desired_of(small_run(experiments=("exp2",)))
    api.controllers.servers["smollm2-135m"] = ServerScript(looks=10**9)
    async with client_of(api) as client:
        await allow(client)
        await begin(client, desired, pacing=QUICK)
        await (stop_servers if stop is stop_servers else down)(client, desired)
        assert not await dismiss(client, desired, QUICK)
    assert drivers(api) == []


async def test_it_is_made_anew_when_a_run_goes_on(api: FakeApi) -> None:
    desired = desired_of(small_run(experiments=("exp2",)))
    async with client_of(api) as client:
        await allow(client)
        await begin(client, desired, pacing=QUICK)
        (before,) = [item for key, item in api.objects.items() if key[2] in drivers(api)]
        await begin(client, desired, pacing=QUICK, retry_failed=True)
        (after,) = [item for key, item in api.objects.items() if key[2] in drivers(api)]
    assert before["metadata"]["uid"] != after["metadata"]["uid"]


def test_its_pod_alone_has_a_token_and_may_reach_the_api() -> None:
    run = a_run()
    job, *policies = plain((*driver_objects(run), *setup_objects(run)))
    pod = job["spec"]["template"]
    assert pod["spec"]["automountServiceAccountToken"] is True
    assert pod["spec"]["serviceAccountName"] == "grace-driver"
    assert [volume["name"] for volume in pod["spec"]["volumes"]] == ["tmp"]
    assert pod["metadata"]["labels"]["grace/reaches"] == "api"
    assert "grace-to-api" in {each["metadata"]["name"] for each in policies}
