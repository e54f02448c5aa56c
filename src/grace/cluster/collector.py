"""
The pod that hands results over: found, or started and waited for, and taken away again.

It runs `grace files keep`, which ends by itself once nobody asks for files; its
claims are mounted for reading. A pod that was evicted comes back as another:
each command goes to the one that is there.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from pydantic import JsonValue

from grace.catalogue.progress import ProgressHook
from grace.cluster.names import joined
from grace.cluster.request import ClusterRun
from grace.cluster.transfer import Patience, RunningCommand
from grace.errors import ClusterError, ClusterUnavailable, ObjectMissing

Manifest = Mapping[str, JsonValue]
Note = Callable[[int, str], Awaitable[None]]

IDLE_MINUTES = 10
"""How long the pod stays while nobody asks for files."""

_STARTS = 150
_LOOK_SECONDS = 2.0
_OUTPUT_CLAIM = "grace-output"
_CONTAINER = "files"


class Cluster(Protocol):
    """What collection needs of a cluster; see `grace.cluster.client.ClusterClient`."""

    async def apply(self, manifest: Manifest, /) -> Manifest:
        """Make an object, or bring it to what the manifest says."""
        ...

    async def get(self, kind: str, name: str, namespace: str | None, /) -> Manifest | None:
        """Return an object, or None."""
        ...

    async def list(
        self, kind: str, namespace: str | None, /, *, labels: Mapping[str, str | None]
    ) -> tuple[Manifest, ...]:
        """Return the objects of a kind with these labels."""
        ...

    async def delete(self, kind: str, name: str, namespace: str | None, /) -> bool:
        """Delete an object and what it owns."""
        ...

    def running(
        self,
        pod: str,
        namespace: str,
        command: Sequence[str],
        *,
        container: str | None = None,
        stdin: AsyncIterator[bytes] | None = None,
    ) -> AbstractAsyncContextManager[RunningCommand]:
        """Run a command in a pod while its output is read."""
        ...


@dataclass(frozen=True, slots=True)
class JobPod:
    """
    The pod of a Job, whichever it is now.

    Attributes:
        client: The cluster.

        namespace: Where the Job is.

        job: Its name.
    """

    client: Cluster
    namespace: str
    job: str

    @asynccontextmanager
    async def running(
        self, command: Sequence[str], stdin: AsyncIterator[bytes] | None = None
    ) -> AsyncIterator[RunningCommand]:
        """Start a command; `ClusterUnavailable` if there is no pod at the moment."""
        pod = await self.ready()
        if pod is None:
            raise ClusterUnavailable(f"the pod of Job {self.job} is not running")
        try:
            async with self.client.running(
                pod, self.namespace, command, container=_CONTAINER, stdin=stdin
            ) as started:
                yield started
        except ObjectMissing as error:
            # Evicted or drained a moment ago; its Job makes another.
            raise ClusterUnavailable(f"pod {pod} is gone") from error

    async def ready(self) -> str | None:
        """Return the name of the pod that is ready, if there is one."""
        for pod in await self.pods():
            conditions = _items(_at(pod, "status", "conditions"))
            leaving = _at(pod, "metadata", "deletionTimestamp") is not None
            if not leaving and any(
                one.get("type") == "Ready" and one.get("status") == "True" for one in conditions
            ):
                return str(_at(pod, "metadata", "name"))
        return None

    async def pods(self) -> tuple[Manifest, ...]:
        """Return all pods of the Job."""
        labels = {"batch.kubernetes.io/job-name": self.job}
        return await self.client.list("Pod", self.namespace, labels=labels)


@asynccontextmanager
async def collector(
    client: Cluster, run: ClusterRun, progress: ProgressHook, patience: Patience
) -> AsyncIterator[JobPod]:
    """
    Have a pod that hands a run's files over, for the length of a `with` block.

    Raises:
        ClusterError: It cannot be made, or does not start; the message says why.
    """
    (job,) = collector_objects(run)
    name = str(_at(job, "metadata", "name"))
    pod = JobPod(client, run.namespace, name)
    await _start(client, run.namespace, job, pod, progress, patience)
    try:
        yield pod
    finally:
        # Left alone it would end by itself, and hold the claim until then.
        await client.delete("Job", name, run.namespace)


def noting(client: Cluster, run: ClusterRun) -> Note:
    """Return what notes on the cluster that a run's results were collected."""
    from grace.cluster.executor.records import mark_collected

    async def note(files: int, sha256: str) -> None:
        await mark_collected(client, run.namespace, run.run_id, files, sha256, datetime.now(UTC))

    return note


async def _start(
    client: Cluster,
    namespace: str,
    job: Manifest,
    pod: JobPod,
    progress: ProgressHook,
    patience: Patience,
) -> None:
    applied = False
    said = ""
    for _ in range(_STARTS):
        found = await client.get("Job", pod.job, namespace)
        if found is not None and _over(found):
            # Of an earlier collection; its pod is gone, and a Job does not begin again.
            await client.delete("Job", pod.job, namespace)
        elif found is None or not applied:
            applied = True
            await client.apply(job)
        if await pod.ready() is not None:
            return
        why = _why_waiting(await pod.pods())
        if why and why != said:
            progress.noted(f"the pod that hands results over waits: {why}")
            said = why
        await patience.wait(_LOOK_SECONDS)
    raise ClusterError(
        f"Job {pod.job} in {namespace}: its pod did not become ready in "
        f"{_STARTS * _LOOK_SECONDS / 60:g} minutes{f': {said}' if said else ''}; look at "
        f"`kubectl -n {namespace} describe job {pod.job}`, then collect again"
    )


def _over(job: Manifest) -> bool:
    if _at(job, "metadata", "deletionTimestamp") is not None:
        return False
    return any(
        one.get("type") in {"Complete", "Failed"} and one.get("status") == "True"
        for one in _items(_at(job, "status", "conditions"))
    )


def _why_waiting(pods: Sequence[Manifest]) -> str:
    for pod in pods:
        for one in _items(_at(pod, "status", "conditions")):
            if one.get("type") == "PodScheduled" and one.get("status") == "False":
                return f"{one.get('message') or one.get('reason')}"
        for status in _items(_at(pod, "status", "containerStatuses")):
            reason, message = (
                _at(status, "state", "waiting", key) for key in ("reason", "message")
            )
            if reason not in {None, "ContainerCreating"}:
                return f"{reason}: {message}" if message else str(reason)
    return ""


def collector_objects(run: ClusterRun) -> tuple[Manifest, ...]:
    """Return the Job whose pod hands a run's results over."""
    name = joined("collect", run.run_id, longest=52)
    return ({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}},)


def _at(value: JsonValue | Manifest, *path: str) -> JsonValue:
    found: object = value
    for step in path:
        found = found.get(step) if isinstance(found, Mapping) else None
    return found  # type: ignore[return-value]  # a part of JSON is JSON


def _items(value: JsonValue) -> list[dict[str, JsonValue]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
