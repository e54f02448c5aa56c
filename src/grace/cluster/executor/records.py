"""
What must outlive a run's Jobs: which steps ended and how, which servers were given up, what was collected.

Jobs remove themselves some hours after they end. So each end is written to a
ConfigMap of the run, one key for each step. A key has a field manager of its
own: it is written, or taken back, without reading the others, and two laptops
that watch the same run cannot undo each other's work.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import JsonValue

from grace.cluster.client import ClusterClient, Manifest, annotations_of, at, digest_manager, text
from grace.cluster.executor.desired import OURS, RUN_LABEL
from grace.cluster.executor.outcome import Outcome
from grace.cluster.steps import StepName
from grace.cluster.stored_run import stored_run_name
from grace.errors import ObjectMissing

COLLECTED = "grace/collected"
"""The annotation of a stored run that says that its results were verified elsewhere."""

_SERVER = "server."


@dataclass(frozen=True, slots=True)
class StepEnd:
    """
    How a step ended.

    Attributes:
        failure: Why it failed; empty if it did not.

        outcome: What its pods said; None if they said nothing.

        at: When, in UTC.
    """

    failure: str = ""
    outcome: Outcome | None = None
    at: str = ""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a run's record holds."""

    steps: Mapping[StepName, StepEnd] = field(default_factory=dict)
    servers: Mapping[str, str] = field(default_factory=dict)
    """Those that were given up, and why."""


@dataclass(frozen=True, slots=True)
class Collection:
    """
    Proof that a run's results were collected.

    Attributes:
        at: When, in UTC.

        files: How many files were compared.

        sha256: Over the list of their paths, sizes and hashes.
    """

    at: str
    files: int
    sha256: str


async def read_record(client: ClusterClient, namespace: str, run_id: str) -> RunRecord:
    """
    Return what a run's record holds; nothing if there is none.

    Raises:
        ClusterError: It cannot be read.
    """
    found = await client.get("ConfigMap", _record_name(run_id), namespace)
    data = {} if found is None else at(found, "data")
    steps: dict[StepName, StepEnd] = {}
    servers: dict[str, str] = {}
    for key, value in data.items() if isinstance(data, dict) else ():
        entry = _parsed(value)
        if key.startswith(_SERVER):
            servers[key.removeprefix(_SERVER)] = text(entry, "failure")
        elif entry is not None:
            outcome = Outcome.of(at(entry, "outcome"))
            steps[StepName(key)] = StepEnd(text(entry, "failure"), outcome, text(entry, "at"))
    return RunRecord(steps, servers)


async def write_step(
    client: ClusterClient, namespace: str, run_id: str, step: StepName, end: StepEnd
) -> None:
    """Record how a step ended."""
    entry: dict[str, JsonValue] = {"at": end.at}
    if end.failure:
        entry["failure"] = end.failure
    if end.outcome is not None:
        entry["outcome"] = end.outcome.as_json()
    await _write(client, namespace, run_id, step, entry)


async def write_server(
    client: ClusterClient, namespace: str, run_id: str, key: str, failure: str
) -> None:
    """Record that a server was given up, and why."""
    await _write(client, namespace, run_id, f"{_SERVER}{key}", {"failure": failure})


async def forget_failures(
    client: ClusterClient, namespace: str, run_id: str
) -> tuple[StepName, ...]:
    """Take back what is recorded of failures, so that it is tried again; return the steps."""
    record = await read_record(client, namespace, run_id)
    failed = tuple(name for name, end in record.steps.items() if end.failure)
    for key in (*failed, *(f"{_SERVER}{key}" for key in record.servers)):
        await _write(client, namespace, run_id, key, None)
    return failed


async def make_record(client: ClusterClient, namespace: str, run_id: str) -> None:
    """Make a run's record, empty unless it is there."""
    await client.apply(_record(namespace, run_id, {}))


async def mark_collected(
    client: ClusterClient, namespace: str, run_id: str, files: int, sha256: str, at: datetime
) -> None:
    """
    Note that a run's results were collected, and found to be the same here and there.

    Raises:
        ClusterError: It cannot be noted.
    """
    proof = {"at": at.isoformat(timespec="seconds"), "files": files, "sha256": sha256}
    name = stored_run_name(run_id)
    if await client.get("ConfigMap", name, namespace) is None:
        raise ObjectMissing(f"there is no run {run_id} in {namespace}; nothing was noted")
    await client.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "annotations": {COLLECTED: json.dumps(proof)},
            },
        },
        manager=digest_manager(COLLECTED),
    )


def collection_of(stored: Manifest) -> Collection | None:
    """Return the proof that a stored run was collected; None if it was not."""
    entry = _parsed(annotations_of(stored).get(COLLECTED))
    files = at(entry, "files")
    if not isinstance(files, int) or not text(entry, "sha256"):
        return None
    return Collection(text(entry, "at"), files, text(entry, "sha256"))


def _record_name(run_id: str) -> str:
    return f"{stored_run_name(run_id)}-record"


async def _write(
    client: ClusterClient,
    namespace: str,
    run_id: str,
    key: str,
    entry: dict[str, JsonValue] | None,
) -> None:
    data: dict[str, JsonValue] = {} if entry is None else {key: json.dumps(entry)}
    manager = digest_manager(f"{run_id}/{key}")
    await client.apply(_record(namespace, run_id, data), manager=manager)


def _record(namespace: str, run_id: str, data: dict[str, JsonValue]) -> Manifest:
    labels: dict[str, JsonValue] = {
        "app.kubernetes.io/name": "grace",
        "app.kubernetes.io/component": "run-record",
        RUN_LABEL: run_id,
        **OURS,
    }
    manifest: dict[str, JsonValue] = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": _record_name(run_id), "namespace": namespace, "labels": labels},
    }
    return {**manifest, "data": data} if data else manifest


def _parsed(value: JsonValue) -> dict[str, JsonValue] | None:
    if not isinstance(value, str):
        return None
    try:
        found = json.loads(value)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
