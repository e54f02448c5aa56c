"""Taking a run down: servers at once, results only when told twice."""

from datetime import UTC, datetime
from typing import Any

import pytest
from fake_api import FakeApi
from fake_controllers import JobScript
from small_manifests import NAMESPACE, SmallManifests, small_run

from grace.cluster.client import ClusterClient
from grace.cluster.executor.desired import Desired
from grace.cluster.executor.execute import execute
from grace.cluster.executor.observing import run_status
from grace.cluster.executor.pacing import Pacing
from grace.cluster.executor.records import mark_collected
from grace.cluster.executor.stopping import delete_remains, down, start_server
from grace.cluster.request import ClusterRun
from grace.errors import ClusterDenied, ObjectMissing, UsageError

_AT = datetime(2026, 2, 1, tzinfo=UTC)
_OTHER = "20250101T000000Z"


def desired_of(run: ClusterRun) -> Desired:
    return Desired(run, SmallManifests())


async def finished(client: ClusterClient, run: ClusterRun) -> Desired:
    desired = desired_of(run)
    await execute(client, desired, pacing=Pacing(look_seconds=0.01, settle_seconds=0))
    return desired


async def test_down_takes_servers_and_jobs_and_leaves_results(
    api: FakeApi, client: ClusterClient
) -> None:
    desired = await finished(client, small_run(experiments=("exp2",)))
    await start_server(client, desired.servers["smollm2-135m"], desired.run.run_id)
    deleted = await down(client, desired)
    assert {target.kind for target in deleted} == {"StatefulSet", "Job"}
    await api.controllers.advance()
    await api.controllers.advance()
    assert api.names("jobs") == api.names("statefulsets") == api.names("services") == []
    assert api.names("persistentvolumeclaims") == ["grace-output"]
    assert f"run-{desired.run.run_id}" in api.names("configmaps")


async def test_down_leaves_another_runs_servers_and_jobs(
    api: FakeApi, client: ClusterClient
) -> None:
    mine = await finished(client, small_run(experiments=("exp2",)))
    other = desired_of(small_run(timestamp=_OTHER, experiments=("exp2",)))
    await start_server(client, other.servers["smollm2-135m"], other.run.run_id)
    (step, *_) = other.steps.values()
    await client.apply(step.objects[-1])
    await down(client, mine)
    assert len(api.names("statefulsets")) == len(api.names("services")) == 1
    assert api.names("jobs") == [step.job.name]


async def test_results_that_were_not_collected_are_deleted_only_when_told_twice(
    api: FakeApi, client: ClusterClient
) -> None:
    desired = await finished(client, small_run(experiments=("exp2",)))
    with pytest.raises(UsageError, match="were not collected: runs 20260131t235959z"):
        await down(client, desired, delete_results=True)
    assert api.names("persistentvolumeclaims") == ["grace-output"]
    assert api.names("jobs") != []
    await down(client, desired, delete_results=True, even_uncollected=True)
    assert api.names("persistentvolumeclaims") == []
    assert api.names("configmaps") == []
    assert api.names("namespaces") == [NAMESPACE]


async def test_results_that_were_collected_are_deleted_when_told(
    api: FakeApi, client: ClusterClient
) -> None:
    desired = await finished(client, small_run(experiments=("exp2",)))
    await mark_collected(client, NAMESPACE, desired.run.run_id, 7, "ab" * 32, _AT)
    collection = (await run_status(client, desired)).collection
    assert collection is not None
    assert (collection.files, collection.at) == (7, "2026-02-01T00:00:00+00:00")
    await down(client, desired, delete_results=True)
    assert api.names("persistentvolumeclaims") == []


async def test_another_runs_results_are_not_deleted_with_mine(
    api: FakeApi, client: ClusterClient
) -> None:
    mine = await finished(client, small_run(experiments=("exp2",)))
    await finished(client, small_run(experiments=("exp2",), timestamp=_OTHER))
    await mark_collected(client, NAMESPACE, mine.run.run_id, 7, "ab" * 32, _AT)
    with pytest.raises(UsageError, match="runs 20250101t000000z"):
        await down(client, mine, delete_results=True)
    assert api.names("persistentvolumeclaims") == ["grace-output"]


async def forget_runs(api: FakeApi) -> None:
    """Lose all records, as somebody does who deletes ConfigMaps."""
    for name in api.names("configmaps"):
        await api.remove(("configmaps", NAMESPACE, name))


async def test_what_no_record_speaks_of_any_more_is_deleted_when_told_twice(
    api: FakeApi, client: ClusterClient
) -> None:
    run = small_run(experiments=("exp2",), models=("gemma-2-2b",))
    desired = await finished(client, run)
    await start_server(client, desired.servers["gemma-2-2b"], run.run_id)
    await api.put(("serviceaccounts", NAMESPACE, "grace-query"), labelled("grace"))
    await api.put(("networkpolicies", NAMESPACE, "grace-deny"), labelled("grace"))
    await api.put(("networkpolicies", NAMESPACE, "theirs"), labelled("helm"))
    await api.put(("persistentvolumeclaims", NAMESPACE, "theirs"), {"metadata": {}})
    await forget_runs(api)
    with pytest.raises(UsageError, match=r"no record of a run, .*\(grace-output, weights-"):
        await delete_remains(client, NAMESPACE)
    assert "grace-output" in api.names("persistentvolumeclaims")
    deleted = await delete_remains(client, NAMESPACE, even_uncollected=True)
    assert api.names("persistentvolumeclaims") == api.names("networkpolicies") == ["theirs"]
    assert api.names("jobs") == api.names("statefulsets") == api.names("serviceaccounts") == []
    assert {"PersistentVolumeClaim", "NetworkPolicy", "Job"} <= {one.kind for one in deleted}


async def test_accounts_and_policies_without_volumes_need_not_be_told_twice(
    api: FakeApi, client: ClusterClient
) -> None:
    await api.put(("serviceaccounts", NAMESPACE, "grace-query"), labelled("grace"))
    (deleted,) = await delete_remains(client, NAMESPACE)
    assert str(deleted) == "ServiceAccount grace-query in lab"


async def test_records_go_last_so_that_a_command_which_broke_off_can_be_given_again(
    api: FakeApi, client: ClusterClient
) -> None:
    desired = await finished(client, small_run(experiments=("exp2",)))
    api.fail("DELETE", "/persistentvolumeclaims/", status=403, body={"message": "no"})
    with pytest.raises(ClusterDenied):
        await down(client, desired, delete_results=True, even_uncollected=True)
    assert f"run-{desired.run.run_id}" in api.names("configmaps")
    await down(client, desired, delete_results=True, even_uncollected=True)
    assert api.names("configmaps") == api.names("persistentvolumeclaims") == []


def labelled(whose: str) -> dict[str, Any]:
    return {"metadata": {"labels": {"app.kubernetes.io/managed-by": whose}}}


async def test_jobs_of_every_run_go_with_the_volumes_that_their_pods_hold(
    api: FakeApi, client: ClusterClient
) -> None:
    mine = await finished(client, small_run(experiments=("exp2",)))
    await finished(client, small_run(experiments=("exp2",), timestamp=_OTHER))
    assert len(api.names("jobs")) > len(mine.steps)
    await down(client, mine, delete_results=True, even_uncollected=True)
    # A claim stays, being deleted, as long as a pod that ended has it mounted.
    assert api.names("jobs") == api.names("statefulsets") == []


async def test_a_run_at_work_keeps_the_volumes_even_when_told_twice(
    api: FakeApi, client: ClusterClient
) -> None:
    mine = await finished(client, small_run(experiments=("exp2",)))
    other = desired_of(small_run(timestamp=_OTHER, experiments=("exp2",)))
    (step, *_) = other.steps.values()
    api.controllers.jobs[step.step.name] = JobScript(looks=100)
    await client.apply(step.objects[-1])
    with pytest.raises(UsageError, match="run 20250101t000000z is at work"):
        await down(client, mine, delete_results=True, even_uncollected=True)


async def test_a_run_that_is_not_there_cannot_be_marked(client: ClusterClient) -> None:
    with pytest.raises(ObjectMissing):
        await mark_collected(client, NAMESPACE, "20200101t000000z", 1, "ab", _AT)
