"""A run's objects with nothing in them but what the executor looks at."""

import hashlib
from pathlib import Path
from typing import Any, Literal

from grace.catalogue.spec import load_catalogue
from grace.cluster.profile import Profile, load_profile
from grace.cluster.request import ClusterRun, InputFile, ServerModels
from grace.cluster.steps import Step
from grace.settings import RunSettings

TIMESTAMP = "20260131T235959Z"
NAMESPACE = "lab"
_OURS = {"app.kubernetes.io/managed-by": "grace"}


def small_run(
    *,
    models: tuple[str, ...] = ("smollm2-135m",),
    extractor: str | None = None,
    experiments: tuple[Any, ...] = ("exp1", "exp2"),
    timestamp: str = TIMESTAMP,
    profile: Profile | None = None,
    **changed: Any,
) -> ClusterRun:
    """Return a run of a few steps."""
    return ClusterRun(
        profile=profile or small_profile(**changed),
        namespace=NAMESPACE,
        timestamp=timestamp,
        settings=RunSettings(model=models, experiment=experiments, out=Path("/grace/results")),
        catalogue=load_catalogue(apply_lock=False),
        extractor=extractor,
        files=(InputFile("study1.csv", b"participant_id\n1\n"),),
    )


def small_profile(
    at_once: int = 1,
    gpus_at_once: int | None = None,
    jobs_at_once: int | None = None,
    **servers: Any,
) -> Profile:
    """Return the local profile with other bounds."""
    profile = load_profile("local")
    changed = {"at_once": at_once, "gpus_at_once": gpus_at_once, **servers}
    return profile.model_copy(
        update={
            "model_servers": profile.model_servers.model_copy(update=changed),
            "jobs": profile.jobs.model_copy(update={"at_once": jobs_at_once}),
        }
    )


def _labels(run: ClusterRun, **more: str) -> dict[str, str]:
    return {
        **_OURS,
        "grace/run": run.run_id,
        **{f"grace/{name}": value for name, value in more.items()},
    }


def _object(
    kind: str, name: str, labels: dict[str, str], version: str = "v1", **fields: Any
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "labels": labels}
    if kind != "Namespace":
        metadata["namespace"] = NAMESPACE
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


class SmallManifests:
    """
    Builders in the place of Grace's own.

    Args:
        controller: What keeps servers running.
    """

    def __init__(self, controller: Literal["StatefulSet", "Job"] = "StatefulSet") -> None:
        self._controller = controller

    def setup_objects(self, run: ClusterRun, /) -> tuple[dict[str, Any], ...]:
        contents = {file.name: file.content.decode() for file in run.files}
        return (
            _object("Namespace", NAMESPACE, _OURS),
            _object("ConfigMap", "inputs-1234", _OURS, immutable=True, data=contents),
            _object("PersistentVolumeClaim", "grace-output", _OURS, spec={}),
        )

    def weights_objects(self, run: ClusterRun, key: str, /) -> tuple[dict[str, Any], ...]:
        return (_object("PersistentVolumeClaim", f"weights-{_short(key)}", _OURS, spec={}),)

    def driver_objects(self, run: ClusterRun, /) -> tuple[dict[str, Any], ...]:
        labels = _labels(run)
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main"}]}}
        spec = {"completions": 1, "backoffLimit": 1, "template": template}
        return (_object("Job", f"driver-{run.run_id}", labels, "batch/v1", spec=spec),)

    def server_objects(
        self, run: ClusterRun, server: ServerModels, /
    ) -> tuple[dict[str, Any], ...]:
        name = f"model-{_short(server.base.key)}"
        # As the real ones: the controller alone says for which run it is.
        labels = {**_OURS, "grace/model": server.base.key}
        limits = {"nvidia.com/gpu": str(server.base.gpu_count)} if server.base.gpus else {}
        container = {"name": "server", "resources": {"limits": limits}}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        version = "apps/v1" if self._controller == "StatefulSet" else "batch/v1"
        spec = {"replicas": 1, "template": template}
        return (
            _object("Service", name, labels, spec={}),
            _object(self._controller, name, _labels(run), version, spec=spec),
            _object("PodDisruptionBudget", name, labels, "policy/v1", spec={}),
        )

    def step_objects(self, run: ClusterRun, step: Step, /) -> tuple[dict[str, Any], ...]:
        labels = _labels(run, step=step.name)
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main"}]}}
        spec = {"completions": step.shards, "backoffLimit": 1, "template": template}
        name = f"job-{_short(run.run_id + step.name)}"
        return (_object("Job", name, labels, "batch/v1", spec=spec),)
