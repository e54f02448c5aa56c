"""Small controllers for Jobs and StatefulSets, which do as their scripts say."""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

Object = dict[str, Any]
Key = tuple[str, str, str]
_LONG_AGO = "2025-01-31T00:00:00Z"


class Storage(Protocol):
    """Where objects are kept."""

    objects: dict[Key, Object]

    async def put(self, key: Key, item: Object) -> Object:
        """Store an object."""
        ...

    async def remove(self, key: Key) -> None:
        """Remove one."""
        ...


@dataclass
class JobScript:
    """
    What happens to the pods of a step.

    Attributes:
        looks: How many looks its pods run for.

        fails: How many pods fail before one succeeds.

        exit_code, reason, message: Of pods that fail.

        outcome: What pods that succeed say.

        pending: Why pods stay Pending; empty if they do not.

        makes_no_pods: A warning instead of pods.
    """

    looks: int = 2
    fails: int = 0
    exit_code: int = 1
    reason: str = "Error"
    message: str = ""
    outcome: Object | None = None
    pending: str = ""
    makes_no_pods: str = ""


@dataclass
class ServerScript:
    """
    What happens to the pod of a server.

    Attributes:
        looks: How many looks it takes until it is ready.

        waiting: Why its container waits for ever; empty if it does not.

        restarts: How often it has crashed.

        unschedulable: Why no node takes it.

        ends_itself: How often its Job completes, as after its node is drained.
    """

    looks: int = 2
    waiting: str = ""
    restarts: int = 0
    unschedulable: str = ""
    ends_itself: int = 0


class Controllers:
    """
    What makes pods of Jobs and StatefulSets, and moves them on.

    Args:
        storage: Where the objects are.

    Attributes:
        jobs: What happens to the pods of steps, by their label.

        servers: What happens to the pods of servers, by their model.

        ran: The steps whose Jobs completed.

        gpu_peak, server_peak, job_peak: The most that there was at a time.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.jobs: dict[str, JobScript] = {}
        self.servers: dict[str, ServerScript] = {}
        self.ran: list[str] = []
        self.gpu_peak = 0
        self.server_peak = 0
        self.job_peak = 0

    async def advance(self) -> None:
        """Let the controllers do one thing for each object."""
        for key, item in list(self._storage.objects.items()):
            if key[0] not in {"jobs", "statefulsets"} or key not in self._storage.objects:
                continue
            if _is_step(item["spec"]["template"]):
                await self._advance_job(key, copy.deepcopy(item))
            elif key[2].startswith("driver-"):
                await self._advance_driver(key, copy.deepcopy(item))
            else:
                await self._advance_server(key, copy.deepcopy(item))
        await self._collect_orphans()
        pods = [item for key, item in self._storage.objects.items() if key[0] == "pods"]
        servers = [pod for pod in pods if not _is_step(pod)]
        self.gpu_peak = max(self.gpu_peak, sum(map(_gpus, servers)))
        self.server_peak = max(self.server_peak, len(servers))
        at_work = {
            pod["metadata"]["ownerReferences"][0]["uid"]
            for pod in pods
            if _is_step(pod) and pod["status"]["phase"] in {"Pending", "Running"}
        }
        self.job_peak = max(self.job_peak, len(at_work))

    async def _advance_job(self, key: Key, job: Object) -> None:
        if await self._leaves(key, job):
            return
        labels = job["spec"]["template"]["metadata"]["labels"]
        script = self.jobs.setdefault(labels.get("grace/step", ""), JobScript())
        status = job.setdefault("status", {})
        if any(condition["status"] == "True" for condition in status.get("conditions", ())):
            return
        if script.makes_no_pods:
            await self._warn(job, script.makes_no_pods)
            return
        pods = self._pods_of(job)
        going = [pod for pod in pods if pod["status"]["phase"] in {"Pending", "Running"}]
        failed = [pod for pod in pods if pod["status"]["phase"] == "Failed"]
        done = [pod for pod in pods if pod["status"]["phase"] == "Succeeded"]
        if len(done) >= job["spec"].get("completions", 1):
            self.ran.append(labels["grace/step"])
            await self._end_job(key, job, "Complete", "")
        elif len(failed) > job["spec"].get("backoffLimit", 0):
            await self._end_job(key, job, "Failed", "BackoffLimitExceeded")
        elif not going:
            await self._make_pod(job, f"{key[2]}-{len(pods)}", labels)
        for pod in going:
            await self._advance_job_pod(copy.deepcopy(pod), script, len(failed))

    async def _advance_job_pod(self, pod: Object, script: JobScript, failed: int) -> None:
        status = pod["status"]
        if script.pending:
            message = {"type": "PodScheduled", "status": "False", "message": script.pending}
            status["conditions"] = [message]
        elif status["phase"] == "Pending":
            status |= {"phase": "Running", "looks": script.looks}
            pod["spec"]["nodeName"] = "node-1"
        elif status["looks"] > 0:
            status["looks"] -= 1
        else:
            ends = failed < script.fails
            outcome = json.dumps(script.outcome) if script.outcome is not None else ""
            status["phase"] = "Failed" if ends else "Succeeded"
            terminated = {
                "exitCode": script.exit_code if ends else 0,
                "reason": script.reason if ends else "Completed",
                "message": script.message if ends else outcome,
                "finishedAt": now(),
            }
            status["containerStatuses"] = [{"name": "main", "state": {"terminated": terminated}}]
        await self._storage.put(
            ("pods", pod["metadata"]["namespace"], pod["metadata"]["name"]), pod
        )

    async def _end_job(self, key: Key, job: Object, kind: str, reason: str) -> None:
        condition = {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": now()}
        job["status"]["conditions"] = [condition]
        await self._storage.put(key, job)
        if job["spec"].get("ttlSecondsAfterFinished") == 0:
            await self._storage.remove(key)

    async def _advance_driver(self, key: Key, job: Object) -> None:
        """Keep a pod that does nothing, until its Job is taken away."""
        if not await self._leaves(key, job) and not self._pods_of(job):
            labels = job["spec"]["template"]["metadata"]["labels"]
            await self._make_pod(job, f"{key[2]}-0", labels)

    async def _advance_server(self, key: Key, item: Object) -> None:
        if await self._leaves(key, item):
            return
        labels = item["spec"]["template"]["metadata"]["labels"]
        script = self.servers.setdefault(labels["grace/model"], ServerScript())
        pods = self._pods_of(item)
        if item.get("status", {}).get("conditions"):
            return
        if script.ends_itself and pods and pods[0]["status"].get("conditions"):
            script.ends_itself -= 1
            times = {"startTime": _LONG_AGO, "completionTime": now()}
            item["status"] = {"conditions": [{"type": "Complete", "status": "True"}], **times}
            await self._storage.put(key, item)
            await self._storage.remove(("pods", key[1], pods[0]["metadata"]["name"]))
            return
        if not pods:
            await self._make_pod(item, f"{key[2]}-0", labels)
            return
        pod = copy.deepcopy(pods[0])
        status = pod["status"]
        if script.unschedulable:
            status["conditions"] = [
                {"type": "PodScheduled", "status": "False", "message": script.unschedulable}
            ]
        elif status["phase"] == "Pending":
            status |= {"phase": "Running", "startTime": now(), "looks": script.looks}
        elif script.waiting or script.restarts:
            state = {"waiting": {"reason": script.waiting}} if script.waiting else {}
            container: Object = {"name": "server", "image": "x:1", "state": state}
            container["restartCount"] = script.restarts
            status |= {"containerStatuses": [container], "startTime": _LONG_AGO}
        elif status["looks"] > 0:
            status["looks"] -= 1
        else:
            status["conditions"] = [{"type": "Ready", "status": "True"}]
        await self._storage.put(("pods", key[1], pod["metadata"]["name"]), pod)

    async def _leaves(self, key: Key, item: Object) -> bool:
        """Remove the pods of what is being deleted, then itself."""
        if "deletionTimestamp" not in item["metadata"]:
            return False
        pods = self._pods_of(item)
        if not pods:
            await self._storage.remove(key)
        for pod in pods:
            await self._storage.remove(("pods", key[1], pod["metadata"]["name"]))
        return True

    async def _collect_orphans(self) -> None:
        owners = {item["metadata"]["uid"] for item in self._storage.objects.values()}
        for key, item in list(self._storage.objects.items()):
            references = item["metadata"].get("ownerReferences", ())
            if any(reference["uid"] not in owners for reference in references):
                await self._storage.remove(key)

    async def _make_pod(self, owner: Object, name: str, labels: Mapping[str, str]) -> None:
        reference = {"uid": owner["metadata"]["uid"], "controller": True}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"labels": dict(labels), "ownerReferences": [reference]},
            "spec": copy.deepcopy(owner["spec"]["template"]["spec"]),
            "status": {"phase": "Pending"},
        }
        await self._storage.put(("pods", owner["metadata"]["namespace"], name), pod)

    async def _warn(self, owner: Object, message: str) -> None:
        metadata = owner["metadata"]
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "type": "Warning",
            "message": message,
            "involvedObject": {"uid": metadata["uid"]},
            "lastTimestamp": now(),
        }
        await self._storage.put(("events", metadata["namespace"], f"{metadata['name']}.1"), event)

    def _pods_of(self, owner: Object) -> list[Object]:
        uid = owner["metadata"]["uid"]
        return [
            item
            for key, item in sorted(self._storage.objects.items())
            if key[0] == "pods" and item["metadata"]["ownerReferences"][0]["uid"] == uid
        ]


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _is_step(item: Object) -> bool:
    return "grace/step" in item["metadata"]["labels"]


def _gpus(pod: Object) -> int:
    return sum(
        int(part.get("resources", {}).get("limits", {}).get("nvidia.com/gpu", 0))
        for part in pod["spec"]["containers"]
    )
