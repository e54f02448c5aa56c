"""
The client against the cluster that KUBECONFIG names: run by `make test-cluster`.

It makes a namespace of its own and deletes it. With GRACE_TEST_IMAGE, an image
that the nodes have and that holds a shell, commands and logs are tried as well.
"""

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest

from grace.cluster.client import ChangeKind, ClusterClient, text
from grace.cluster.executor.decide import JobStanding
from grace.cluster.executor.judging import judge_job, pods_by_owner, uid_of
from grace.cluster.executor.records import (
    StepEnd,
    forget_failures,
    make_record,
    read_record,
    write_step,
)
from grace.cluster.profile import load_profile
from grace.cluster.read_facts import read_facts
from grace.cluster.steps import StepName
from grace.errors import ClusterError, FieldConflict

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif("KUBECONFIG" not in os.environ, reason="KUBECONFIG names no cluster"),
]
_IMAGE = os.environ.get("GRACE_TEST_IMAGE", "")


@pytest.fixture
async def client() -> AsyncIterator[ClusterClient]:
    async with await ClusterClient.connect() as made:
        yield made


@pytest.fixture
async def namespace(client: ClusterClient) -> AsyncIterator[str]:
    name = f"grace-test-{secrets.token_hex(4)}"
    await client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    await client.delete("Namespace", name)


def config_map(namespace: str, **data: str) -> dict[str, Any]:
    metadata = {"name": "a", "namespace": namespace, "labels": {"of": "grace"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def job(namespace: str, script: str) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": _IMAGE or "localhost/none:1",
        "command": ["sh", "-c", script],
        "terminationMessagePath": "/dev/termination-log",
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "j", "namespace": namespace, "labels": {"of": "grace"}},
        "spec": {
            "backoffLimit": 0,
            "template": {
                "metadata": {"labels": {"of": "grace"}},
                "spec": {"restartPolicy": "Never", "containers": [container]},
            },
        },
    }


async def test_objects_are_applied_listed_and_deleted(
    client: ClusterClient, namespace: str
) -> None:
    made = await client.apply(config_map(namespace, x="1", y="2"))
    assert (await client.get("ConfigMap", "a", namespace)) == made
    changed = await client.apply(config_map(namespace, x="1"))
    assert changed["data"] == {"x": "1"}
    (listed,) = await client.list("ConfigMap", namespace, labels={"of": "grace"})
    assert listed == changed
    assert not await client.delete("ConfigMap", "a", namespace, uid="another")
    assert await client.delete("ConfigMap", "a", namespace, uid=uid_of(made))
    assert not await client.delete("ConfigMap", "a", namespace)


async def test_fields_of_others_are_left_and_ours_are_taken_over(
    client: ClusterClient, namespace: str
) -> None:
    await client.apply(config_map(namespace, x="1"), manager="grace")
    await client.apply(config_map(namespace, x="2"), manager="grace-run-1")
    with pytest.raises(FieldConflict, match=r"\.data\.x .* 'grace-run-1'"):
        await client.apply(config_map(namespace, x="3"), manager="grace-run-2")


async def test_what_is_wrong_is_told(client: ClusterClient, namespace: str) -> None:
    await client.apply({**config_map(namespace, x="1"), "immutable": True})
    with pytest.raises(ClusterError, match="cannot be changed in "):
        await client.apply({**config_map(namespace, x="2"), "immutable": True})
    unknown = config_map(namespace)
    unknown["metadata"]["name"] = "b"
    with pytest.raises(ClusterError, match="nonsense"):
        await client.apply({**unknown, "nonsense": 1})
    bad = job(namespace, "true")
    bad["spec"]["backoffLimit"] = -1
    with pytest.raises(ClusterError, match=r"spec\.backoffLimit"):
        await client.apply(bad, dry_run=True)


async def test_changes_are_watched(client: ClusterClient, namespace: str) -> None:
    async with asyncio.timeout(30):
        watch = client.watch("ConfigMap", namespace, labels={"of": "grace"})
        await client.apply(config_map(namespace, x="1"))
        assert (await anext(watch)).kind is ChangeKind.ADDED
        await client.apply(config_map(namespace, x="2"))
        change = await anext(watch)
        assert (change.kind, text(change.manifest, "data", "x")) == (ChangeKind.MODIFIED, "2")
        await client.delete("ConfigMap", "a", namespace)
        assert (await anext(watch)).kind is ChangeKind.DELETED


async def test_long_lists_come_whole(client: ClusterClient, namespace: str) -> None:
    names = iter([f"c{number:04}" for number in range(620)])

    async def make() -> None:
        for name in names:
            item = config_map(namespace)
            item["metadata"]["name"] = name
            await client.apply(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(16):
            group.create_task(make())
    assert len(await client.list("ConfigMap", namespace, labels={"of": "grace"})) == 620


async def test_a_record_keeps_and_forgets_its_parts_one_by_one(
    client: ClusterClient, namespace: str
) -> None:
    run_id, done, failed = "20260131t235959z", StepName("smoke.a"), StepName("score.exp2.a")
    await make_record(client, namespace, run_id)
    await asyncio.gather(
        write_step(client, namespace, run_id, done, StepEnd(at="now")),
        write_step(client, namespace, run_id, failed, StepEnd("no", at="now")),
    )
    await make_record(client, namespace, run_id)
    assert set((await read_record(client, namespace, run_id)).steps) == {done, failed}
    assert await forget_failures(client, namespace, run_id) == (failed,)
    assert set((await read_record(client, namespace, run_id)).steps) == {done}


async def test_the_cluster_says_what_it_is(client: ClusterClient, namespace: str) -> None:
    facts = await read_facts(client, load_profile("local"), namespace)
    assert facts.server_version.startswith("v1.")
    assert facts.namespace_exists
    assert facts.permissions["create", "jobs.batch"]
    assert facts.api_groups is not None
    assert "batch" in facts.api_groups
    assert "Job" in await client.kinds("batch/v1")
    assert any("get" in rule.verbs or "*" in rule.verbs for rule in await client.rules(namespace))


@pytest.mark.skipif(not _IMAGE, reason="GRACE_TEST_IMAGE names no image")
async def test_a_pod_runs_commands_and_is_read_to_its_end(
    client: ClusterClient, namespace: str
) -> None:
    said = '{"status": "failed", "cells": {}, "error": "on purpose"}'
    script = f"echo hello; until test -e /dev/shm/go; do :; done; echo '{said}' >/dev/termination-log; exit 1"
    await client.apply(job(namespace, script))
    async with asyncio.timeout(180):
        async for change in client.watch("Pod", namespace, labels={"of": "grace"}):
            if text(change.manifest, "status", "phase") == "Running":
                break
        (found,) = await client.list("Pod", namespace, labels={"of": "grace"})
        pod = text(found, "metadata", "name")
        assert await client.log_tail(pod, namespace) == ("hello",)
        given = os.urandom(3_000_000)
        output = await client.run(pod, namespace, ["sha256sum"], stdin=given)
        assert output.stdout.decode().split()[0] == hashlib.sha256(given).hexdigest()
        back = await client.run(pod, namespace, ["head", "-c", "2000000", "/dev/zero"])
        assert back.stdout == bytes(2_000_000)
        failed = await client.run(pod, namespace, ["sh", "-c", "echo no >&2; exit 7"])
        assert (failed.ended.exit_code, failed.ended.stderr) == (7, "no\n")
        await client.run(pod, namespace, ["touch", "/dev/shm/go"])  # noqa: S108 -- a pod's own
        assert [line async for line in client.log_lines(pod, namespace)] == ["hello"]
        async for change in client.watch("Job", namespace, labels={"of": "grace"}):
            pods = pods_by_owner(await client.list("Pod", namespace, labels={"of": "grace"}))
            seen = judge_job(change.manifest, pods[uid_of(change.manifest)], "nvidia.com/gpu")
            if seen.standing is JobStanding.FAILED:
                assert "on purpose" in seen.reason
                break
