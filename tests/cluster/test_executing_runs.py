"""Whole runs on a fake cluster, to their end."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from driving import QUICK, Notes, client_of, desired_of, drive, finish_well, states
from fake_api import FakeApi
from fake_controllers import JobScript
from small_manifests import NAMESPACE, SmallManifests, small_run

from grace.cluster.executor.decide import ServerStanding, StepState
from grace.cluster.executor.desired import Desired
from grace.cluster.executor.execute import execute
from grace.cluster.executor.observing import run_status
from grace.cluster.executor.stopping import stop_servers
from grace.cluster.request import ClusterRun
from grace.cluster.steps import Step
from grace.errors import IdentityMismatch


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    fake = FakeApi()
    async with fake.served():
        yield fake


async def test_a_run_goes_through_all_phases_and_leaves_no_server(api: FakeApi) -> None:
    run = small_run()
    finish_well(api, run)
    notes = Notes()
    status = await drive(api, run, notes)
    assert status.exit_code == 0
    assert set(states(status).values()) == {StepState.DONE}
    assert sorted(api.controllers.ran) == sorted(step.name for step in run.steps)
    assert notes.phases[0] == 1
    assert notes.phases[-1] == 6
    assert api.names("statefulsets") == []
    assert api.names("services") == []
    assert "run-20260131t235959z" in api.names("configmaps")


async def test_only_one_model_is_served_at_a_time_and_extraction_comes_last(api: FakeApi) -> None:
    run = small_run(models=("gemma-2-2b", "gemma-2-9b"), extractor="smollm2-135m")
    finish_well(api, run)
    status = await drive(api, run)
    assert status.exit_code == 0
    assert api.controllers.server_peak == 1
    extracts = [name for name in api.controllers.ran if name.startswith("extract")]
    scores = [name for name in api.controllers.ran if name.startswith("score")]
    assert max(map(api.controllers.ran.index, scores)) < min(
        map(api.controllers.ran.index, extracts)
    )


async def test_no_more_jobs_are_at_work_than_the_profile_allows(api: FakeApi) -> None:
    run = small_run(models=("gemma-2-2b", "gemma-2-9b"), at_once=2, jobs_at_once=1)
    finish_well(api, run)
    assert (await drive(api, run)).exit_code == 0
    assert api.controllers.job_peak == 1
    assert api.controllers.server_peak == 2


async def test_missing_answers_end_with_3(api: FakeApi) -> None:
    run = small_run(experiments=("exp2",))
    counts = {"planned": 4, "answered": 3, "failed": 1, "not_asked": 0}
    finish_well(api, run, {"status": "incomplete", "cells": {"exp2/m": counts}})
    status = await drive(api, run)
    assert status.missing == 1
    assert status.exit_code == 3


async def test_answers_that_nobody_counted_are_not_taken_to_be_complete(api: FakeApi) -> None:
    status = await drive(api, small_run(experiments=("exp2",)))
    assert status.missing is None
    assert status.exit_code == 3


async def test_a_finished_run_is_not_run_again_when_its_jobs_are_gone(api: FakeApi) -> None:
    run = small_run()
    finish_well(api, run)
    await drive(api, run)
    for plural in ("jobs", "pods"):
        for name in api.names(plural):
            await api.remove((plural, NAMESPACE, name))
    before = list(api.controllers.ran)
    status = await drive(api, run)
    assert status.exit_code == 0
    assert api.controllers.ran == before
    assert api.names("jobs") == []


async def test_jobs_that_remove_themselves_at_once_are_not_run_twice(api: FakeApi) -> None:
    class Fleeting(SmallManifests):
        def step_objects(self, run: ClusterRun, step: Step, /) -> tuple[dict[str, Any], ...]:
            (job,) = super().step_objects(run, step)
            job["spec"]["ttlSecondsAfterFinished"] = 0
            return (job,)

    run = small_run(experiments=("exp2",))
    async with client_of(api) as client:
        status = await execute(client, Desired(run, Fleeting()), pacing=QUICK)
    assert not status.failed
    assert sorted(api.controllers.ran) == sorted({*api.controllers.ran})


async def test_status_is_the_same_from_anywhere(api: FakeApi) -> None:
    run = small_run(experiments=("exp2",))
    finish_well(api, run)
    done = await drive(api, run)
    async with client_of(api) as client:
        assert await run_status(client, desired_of(run)) == done


async def test_a_finished_run_says_nothing_of_a_server_that_another_run_has(api: FakeApi) -> None:
    run = small_run(experiments=("exp2",))
    finish_well(api, run)
    done = await drive(api, run)
    other = desired_of(small_run(timestamp="20250101T000000Z", experiments=("exp2",)))
    async with client_of(api) as client:
        for manifest in other.servers["smollm2-135m"].objects:
            await client.apply(manifest, manager="grace-other")
        later = await run_status(client, desired_of(run))
    (server,) = later.servers
    assert server.standing is ServerStanding.ABSENT
    assert server.reason == ""
    assert later == done


async def test_progress_is_read_from_the_logs_of_pods(api: FakeApi) -> None:
    run = small_run(experiments=("exp2",))
    finish_well(api, run)
    score = next(step for step in run.steps if step.kind == "score")
    line = '{"event": "progress", "planned": 8, "done": 3, "failed": 1, "rate": 0.5}'
    api.logs[f"{desired_of(run).steps[score.name].job.name}-0"] = ["not json", line, "{}"]
    api.controllers.jobs[score.name] = JobScript(looks=5)
    notes = Notes()
    await drive(api, run, notes)
    seen = [
        step.progress
        for status in notes.statuses
        for step in status.steps
        if step.progress is not None
    ]
    assert seen
    assert (seen[0].planned, seen[0].done, seen[0].failed) == (8, 3, 1)


async def test_servers_are_stopped_after_the_jobs_that_ask_them_and_the_run_goes_on(
    api: FakeApi,
) -> None:
    run = small_run(experiments=("exp2",))
    finish_well(api, run)
    api.controllers.jobs["score.exp2.smollm2-135m"] = JobScript(looks=10_000)
    driving = asyncio.create_task(drive(api, run))
    await api.until(lambda: len(api.names("jobs")) == 2)
    driving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await driving
    async with client_of(api) as client:
        other = small_run(timestamp="20250101T000000Z")
        assert await stop_servers(client, desired_of(other)) == ()
        moving = asyncio.create_task(keep_moving(api))
        before = len(api.requests)
        assert await stop_servers(client, desired_of(run), QUICK) == ("smollm2-135m",)
        moving.cancel()
    deleted = [path for method, path in api.requests[before:] if method == "DELETE"]
    assert "/jobs/" in deleted[0]
    assert "/statefulsets/" in deleted[-1]
    assert len(api.names("jobs")) == 1
    api.controllers.jobs["score.exp2.smollm2-135m"] = JobScript()
    assert (await drive(api, run)).exit_code == 0


async def keep_moving(api: FakeApi) -> None:
    while True:
        seen = len(api.requests)
        await api.until(lambda seen=seen: len(api.requests) > seen)  # type: ignore[misc]  # bound now
        await api.controllers.advance()


async def test_inputs_are_sent_after_the_set_up_and_before_the_first_step(api: FakeApi) -> None:
    run = small_run(experiments=("exp2",))
    seen: list[tuple[list[str], list[str]]] = []

    async def send() -> None:
        seen.append((api.names("persistentvolumeclaims"), api.names("jobs")))

    async with client_of(api) as client:
        await execute(client, desired_of(run), pacing=QUICK, before_steps=send)
    assert seen == [(["grace-output"], [])]


async def test_a_running_step_says_where_and_since_when(api: FakeApi) -> None:
    run = small_run(experiments=("exp2",))
    notes = Notes()
    await drive(api, run, notes)
    running = [
        step
        for status in notes.statuses
        for step in status.steps
        if step.state is StepState.RUNNING and step.pods
    ]
    assert {step.nodes for step in running} == {("node-1",)}
    assert all(step.since.startswith("20") for step in running)


async def test_another_run_of_the_same_timestamp_is_refused(api: FakeApi) -> None:
    run = small_run(experiments=("exp2",))
    finish_well(api, run)
    await drive(api, run)
    with pytest.raises(IdentityMismatch, match=r"settings\.experiment: "):
        await drive(api, small_run(experiments=("exp1",)))
