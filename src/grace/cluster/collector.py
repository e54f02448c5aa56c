"""
The pod that hands files over: found, or started and waited for, and taken away again.

It runs `grace files keep`, which ends by itself once nobody asks for files. A
pod that was evicted comes back as another: each command goes to the one that is
there.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from pydantic import JsonValue

from grace.catalogue.progress import ProgressHook
from grace.cluster.request import ClusterRun
from grace.cluster.transfer import Patience, RunningCommand
from grace.errors import ClusterError, ClusterUnavailable, ObjectMissing

Manifest = Mapping[str, JsonValue]

_LOOKS = 300
_FIRST_SECONDS = 0.1
_LOOK_SECONDS = 1.0


class Cluster(Protocol):
    """What collection needs of a cluster; see `grace.cluster.client.ClusterClient`."""

    async def apply(self, manifest: Manifest, /, *, manager: str = "grace") -> Manifest:
        """Make an object, or bring those of its fields that are the manager's to what is said."""
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
            async with self.client.running(pod, self.namespace, command, stdin=stdin) as started:
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
    client: Cluster, job: Manifest, progress: ProgressHook, patience: Patience
) -> AsyncIterator[JobPod]:
    """
    Have a pod that hands files over, for the length of a `with` block.

    Args:
        client: The cluster.

        job: The Job that makes it.

        progress: Hears what it waits for.

        patience: How time is spent.

    Raises:
        ClusterError: It cannot be made, or does not start; the message says why.
    """
    name, namespace = (str(_at(job, "metadata", key)) for key in ("name", "namespace"))
    pod = JobPod(client, namespace, name)
    await _start(pod, job, progress, patience)
    try:
        yield pod
    finally:
        # Left alone it would end by itself, and hold its claims until then.
        await client.delete("Job", name, namespace)


def collector_job(run: ClusterRun) -> Manifest:
    """Return the Job whose pod hands a run's files over."""
    from grace.cluster.manifests import files_objects

    (job,) = files_objects(run)
    return job


async def _start(pod: JobPod, job: Manifest, progress: ProgressHook, patience: Patience) -> None:
    client, said = pod.client, ""
    for look in range(_LOOKS):
        found = await client.get("Job", pod.job, pod.namespace)
        if found is None:
            await client.apply(job)
        elif _over(found):
            # Of an earlier time: a Job does not begin again.
            await client.delete("Job", pod.job, pod.namespace)
        elif await pod.ready() is not None:
            return
        why = _why_waiting(await pod.pods())
        if why and why != said:
            progress.noted(f"the pod that hands files over waits: {why}")
            said = why
        await patience.wait(min(_FIRST_SECONDS * 2.0**look, _LOOK_SECONDS))
    raise ClusterError(
        f"Job {pod.job} in {pod.namespace}: its pod did not become ready in "
        f"{_LOOKS * _LOOK_SECONDS / 60:g} minutes{f': {said}' if said else ''}; look at "
        f"`kubectl -n {pod.namespace} describe job {pod.job}`, then give the command again"
    )


def _over(job: Manifest) -> bool:
    if _at(job, "metadata", "deletionTimestamp") is not None:
        # Already on its way; another one can be made when it is gone.
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


def _at(value: JsonValue | Manifest, *path: str) -> JsonValue:
    found: object = value
    for step in path:
        found = found.get(step) if isinstance(found, Mapping) else None
    return found  # type: ignore[return-value]  # a part of JSON is JSON


def _items(value: JsonValue) -> list[dict[str, JsonValue]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
