"""Taking a run down: servers at once, results only when told twice."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from fake_api import FakeApi
from fake_controllers import JobScript
from small_manifests import NAMESPACE, SmallManifests, small_run

from grace.cluster.client import ClusterClient, Patience
from grace.cluster.executor.desired import Desired
from grace.cluster.executor.execute import execute
from grace.cluster.executor.observing import run_status
from grace.cluster.executor.pacing import Pacing
from grace.cluster.executor.records import mark_collected
from grace.cluster.executor.stopping import down, start_server
from grace.cluster.request import ClusterRun
from grace.errors import ObjectMissing, UsageError

_AT = datetime(2026, 2, 1, tzinfo=UTC)
_OTHER = "20250101T000000Z"


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    fake = FakeApi()
    async with fake.served():
        yield fake


@pytest.fixture
async def client(api: FakeApi) -> AsyncIterator[ClusterClient]:
    patience = Patience(attempts=2, first_wait_seconds=0, longest_wait_seconds=0)
    async with ClusterClient.at(api.url, patience=patience) as made:
        yield made


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
