"""Whole runs on a fake cluster: through failures, kills, and others who want the same."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from driving import QUICK, Notes, client_of, desired_of, drive, finish_well, states
from fake_api import FakeApi
from fake_controllers import JobScript, ServerScript
from small_manifests import NAMESPACE, SmallManifests, small_run

from grace.cluster.executor.decide import ServerStanding, StepState
from grace.cluster.executor.desired import Desired
from grace.cluster.executor.execute import execute
from grace.cluster.executor.status import RunStatus
from grace.cluster.executor.stopping import start_server
from grace.cluster.request import ClusterRun
from grace.cluster.steps import StepName
from grace.errors import ClusterUnavailable, FieldConflict


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    fake = FakeApi()
    async with fake.served():
        yield fake


async def test_a_failed_step_stops_what_needs_it_and_nothing_else(api: FakeApi) -> None:
    run = small_run(models=("gemma-2-2b", "gemma-2-9b"))
    finish_well(api, run)
    broken = StepName("respond.exp1.gemma-2-2b")
    error = '{"status": "failed", "cells": {}, "error": "the server refuses its key"}'
    api.controllers.jobs[broken] = JobScript(fails=9, message=error)
    status = await drive(api, run)
    assert status.exit_code == 1
    found = {step.step.name: step for step in status.steps}
    assert found[broken].state is StepState.FAILED
    assert "the server refuses its key" in found[broken].reason
    assert states(status)["extract.exp1.gemma-2-2b"] is StepState.BLOCKED
    assert states(status)["finish.exp2.gemma-2-2b"] is StepState.DONE
    assert states(status)["finish.exp1.gemma-2-9b"] is StepState.DONE
    assert api.names("statefulsets") == []


async def test_a_failure_without_a_word_is_explained_by_its_log(api: FakeApi) -> None:
    run = small_run(experiments=("exp2",))
    desired = desired_of(run)
    api.controllers.jobs["score.exp2.smollm2-135m"] = JobScript(fails=9, exit_code=1)
    job = desired.steps[run.steps[-2].name].job.name
    api.logs |= {f"{job}-{n}": ["hello", "Traceback: the disk is full"] for n in range(3)}
    status = await drive(api, run)
    reasons = " ".join(step.reason for step in status.failed)
    assert "exit code 1" in reasons
    assert "the disk is full" in reasons


async def test_killed_at_any_point_and_started_again_the_end_is_the_same(api: FakeApi) -> None:
    run = small_run(models=("gemma-2-2b", "smollm2-135m"))
    finish_well(api, run)
    api.controllers.jobs["score.exp2.gemma-2-2b"] = JobScript(fails=9)

    def reached(count: int) -> Callable[[], bool]:
        return lambda: len(api.requests) >= count

    status = None
    for lifetime in range(1, 400, 7):
        before = len(api.requests)
        driving = asyncio.create_task(drive(api, run))
        old_enough = asyncio.create_task(api.until(reached(before + lifetime)))
        await asyncio.wait({driving, old_enough}, return_when=asyncio.FIRST_COMPLETED)
        old_enough.cancel()
        if driving.done():
            status = driving.result()
            break
        driving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await driving
    assert status is not None
    assert status.exit_code == 1
    failed = {step.step.name for step in status.failed}
    assert failed == {"score.exp2.gemma-2-2b", "finish.exp2.gemma-2-2b"}
    assert len(api.controllers.ran) == len(set(api.controllers.ran)) == len(run.steps) - 2
    assert api.names("statefulsets") == []
    assert api.controllers.server_peak == 1


async def test_failed_steps_are_tried_again_only_when_asked(api: FakeApi) -> None:
    run = small_run(experiments=("exp2",))
    finish_well(api, run)
    api.controllers.jobs["score.exp2.smollm2-135m"] = JobScript(fails=9)
    assert (await drive(api, run)).exit_code == 1
    api.controllers.jobs["score.exp2.smollm2-135m"] = JobScript()
    assert (await drive(api, run)).exit_code == 1
    assert (await drive(api, run, retry_failed=True)).exit_code == 0


async def test_a_server_that_crashes_again_and_again_is_given_up(api: FakeApi) -> None:
    run = small_run(models=("gemma-2-2b", "gemma-2-9b"))
    finish_well(api, run)
    api.controllers.servers["gemma-2-2b"] = ServerScript(waiting="CrashLoopBackOff", restarts=6)
    status = await drive(api, run)
    assert status.exit_code == 1
    assert {step.step.model for step in status.failed} == {"gemma-2-2b"}
    assert any("ended 6 times" in step.reason for step in status.failed)
    assert api.names("statefulsets") == []


async def test_a_server_that_is_too_slow_is_given_up_with_the_reason(api: FakeApi) -> None:
    run = small_run(experiments=("exp2",))
    api.controllers.servers["smollm2-135m"] = ServerScript(waiting="ImagePullBackOff")
    status = await drive(api, run)
    assert status.exit_code == 1
    reasons = " ".join(step.reason for step in status.failed)
    assert "startup_minutes" in reasons
    assert "cannot be pulled" in reasons


async def test_a_server_without_a_node_waits_and_says_why(api: FakeApi) -> None:
    run = small_run(experiments=("exp2",))
    finish_well(api, run)
    gpu = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    api.controllers.servers["smollm2-135m"] = ServerScript(unschedulable=gpu)
    notes = Notes()

    class Frees(Notes):
        def looked(self, status: RunStatus) -> None:
            if any("no fitting GPU" in reason for reason in self.reasons):
                api.controllers.servers["smollm2-135m"].unschedulable = ""

    notes = Frees()
    assert (await drive(api, run, notes)).exit_code == 0
    assert any("Insufficient nvidia.com/gpu" in reason for reason in notes.reasons)


async def test_a_job_without_pods_says_why(api: FakeApi) -> None:
    run = small_run(experiments=("exp2",))
    quota = 'pods "x" is forbidden: exceeded quota: lab, requested: pods=1, used: pods=9'
    api.controllers.jobs["smoke.smollm2-135m"] = JobScript(makes_no_pods=quota)

    class Frees(Notes):
        def looked(self, status: RunStatus) -> None:
            if any("quota is used up" in reason for reason in self.reasons):
                api.controllers.jobs["smoke.smollm2-135m"].makes_no_pods = ""

    assert not (await drive(api, run, Frees())).failed


async def test_a_server_of_another_run_is_waited_for_and_never_stopped(api: FakeApi) -> None:
    other = small_run(timestamp="20250101T000000Z", experiments=("exp2",))
    mine = small_run(experiments=("exp2",))
    finish_well(api, mine)
    theirs = desired_of(other).servers["smollm2-135m"]
    async with client_of(api) as client:
        for manifest in theirs.objects:
            await client.apply(manifest, manager=f"grace-{other.run_id}")

    class Frees(Notes):
        def looked(self, status: RunStatus) -> None:
            (server,) = status.servers
            if server.standing is ServerStanding.ELSEWHERE and not self.statuses:
                assert "run 20250101T000000Z holds it" in server.reason
                assert server.gpus == 0
                for plural in ("statefulsets", "services", "poddisruptionbudgets"):
                    for name in api.names(plural):
                        api.objects.pop((plural, NAMESPACE, name))
                        api.owners.pop((plural, NAMESPACE, name))
            self.statuses.append(status)

    hook = Frees()
    assert (await drive(api, mine, hook)).exit_code == 0
    assert hook.statuses[0].servers[0].standing is ServerStanding.ELSEWHERE


async def test_servers_may_be_jobs_and_are_made_again_when_their_node_was_drained(
    api: FakeApi,
) -> None:
    run = small_run()
    finish_well(api, run)
    api.controllers.jobs["score.exp2.smollm2-135m"] = JobScript(looks=12)
    api.controllers.servers["smollm2-135m"] = ServerScript(ends_itself=2)
    async with client_of(api) as client:
        desired = Desired(run, SmallManifests("Job"))
        status = await execute(client, desired, pacing=QUICK)
    assert status.exit_code == 0
    assert api.controllers.servers["smollm2-135m"].ends_itself == 0
    assert sorted(api.names("jobs")) == sorted(step.job.name for step in desired.steps.values())


async def test_the_api_lets_only_one_run_have_a_server(api: FakeApi) -> None:
    first, second = (
        desired_of(small_run(timestamp=stamp)) for stamp in ("20250101T000000Z", "20260131T235959Z")
    )
    key = "smollm2-135m"
    async with client_of(api) as client:
        await start_server(client, first.servers[key], first.run.run_id)
        with pytest.raises(FieldConflict, match="'grace-20250101t000000z'"):
            await start_server(client, second.servers[key], second.run.run_id)
    (controller,) = (item for key, item in api.objects.items() if key[0] == "statefulsets")
    assert controller["metadata"]["labels"]["grace/run"] == first.run.run_id


async def test_a_server_that_was_left_half_made_is_made_whole(api: FakeApi) -> None:
    run = small_run(experiments=("exp2",))
    finish_well(api, run)
    server = desired_of(run).servers["smollm2-135m"]
    controller = next(item for item in server.objects if item["kind"] == "StatefulSet")
    async with client_of(api) as client:
        await client.apply(controller, manager=f"grace-{run.run_id}")
    assert api.names("services") == []
    assert (await drive(api, run)).exit_code == 0
    applied = [path for method, path in api.requests if method == "PATCH"]
    assert any("/services/" in path for path in applied)
    assert sum("/statefulsets/" in path for path in applied) == 1


async def test_two_runs_cannot_both_have_one_server(api: FakeApi) -> None:
    runs: Sequence[ClusterRun] = [
        small_run(timestamp=stamp, experiments=("exp2",))
        for stamp in ("20250101T000000Z", "20260131T235959Z")
    ]
    for run in runs:
        finish_well(api, run)
    found = await asyncio.gather(*(drive(api, run) for run in runs))
    assert [status.exit_code for status in found] == [0, 0]
    assert api.controllers.server_peak == 1


async def test_two_that_drive_one_run_do_no_harm(api: FakeApi) -> None:
    run = small_run()
    finish_well(api, run)
    found = await asyncio.gather(drive(api, run), drive(api, run))
    assert [status.exit_code for status in found] == [0, 0]
    assert sorted(api.controllers.ran) == sorted(step.name for step in run.steps)


async def test_a_server_past_its_deadline_is_stopped_whatever_waits_for_it(api: FakeApi) -> None:
    run = small_run(experiments=("exp2",), deadline_hours=-1.0)
    status = await drive(api, run)
    assert status.exit_code == 1
    assert any("deadline_hours" in step.reason for step in status.failed)
    assert api.names("statefulsets") == []


async def test_the_api_may_be_away_for_a_while(api: FakeApi) -> None:
    run = small_run(experiments=("exp2",))
    finish_well(api, run)

    class Fails(Notes):
        def looked(self, status: RunStatus) -> None:
            if not self.statuses:
                api.fail("GET", "/pods", times=20)
            self.statuses.append(status)

    assert (await drive(api, run, Fails())).exit_code == 0


async def test_a_server_that_the_cluster_refuses_is_given_up_in_its_words(api: FakeApi) -> None:
    run = small_run(models=("gemma-2-2b", "gemma-2-9b"), experiments=("exp2",))
    finish_well(api, run)
    refused = {"message": "admission webhook denied the request: GPUs need an exception"}
    api.fail(
        "PATCH", desired_of(run).servers["gemma-2-2b"].controller.name, status=400, body=refused
    )
    status = await drive(api, run)
    assert {step.step.model for step in status.failed} == {"gemma-2-2b"}
    assert any("GPUs need an exception" in step.reason for step in status.failed)
    assert status.servers[0].failure


async def test_a_server_that_somebody_edited_is_not_fought_over(api: FakeApi) -> None:
    run = small_run(experiments=("exp2",))
    service: Any = desired_of(run).servers["smollm2-135m"].others[0]
    async with client_of(api) as client:
        await client.apply({**service, "spec": {"type": "NodePort"}}, manager="kubectl-edit")
        edited = {**service, "metadata": {**service["metadata"], "labels": {"grace/model": "x"}}}
        await client.apply(edited, manager="kubectl-edit")
    status = await drive(api, run)
    assert status.exit_code == 1
    assert any("'kubectl-edit'" in step.reason for step in status.failed)


async def test_a_job_that_the_cluster_refuses_fails_its_step(api: FakeApi) -> None:
    run = small_run(experiments=("exp2",))
    smoke = desired_of(run).steps[run.steps[0].name]
    api.fail("PATCH", smoke.job.name, status=400, body={"message": "too many of them"})
    status = await drive(api, run)
    assert any("too many of them" in step.reason for step in status.failed)
    assert api.names("statefulsets") == []


async def test_an_api_that_stays_away_ends_the_driving_and_not_the_run(api: FakeApi) -> None:
    run = small_run(experiments=("exp2",))
    finish_well(api, run)

    class Fails(Notes):
        def looked(self, status: RunStatus) -> None:
            api.fail("GET", "/pods", times=10**6)

        def message(self, text: str) -> None:
            self.reasons.append(text)

    notes = Fails()
    pacing = replace(QUICK, patience_seconds=0.05)
    async with client_of(api) as client:
        with pytest.raises(ClusterUnavailable):
            await execute(client, desired_of(run), hook=notes, pacing=pacing)
    assert any("the run goes on there" in reason for reason in notes.reasons)
    api.faults.clear()
    assert (await drive(api, run)).exit_code == 0
