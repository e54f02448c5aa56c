"""
What a run wants of the cluster: its objects, and which step or server each belongs to.

The objects are made by builders that are given; by default
`grace.cluster.manifests`. What is needed to find an object again (name, labels,
GPUs) is read from the object itself, so that nothing is said twice.
"""

import importlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, cast

from grace.cluster.client import Manifest, ObjectId, at, id_of, labels_of, number, parts, text
from grace.cluster.executor.decide import Bounds
from grace.cluster.request import ClusterRun, ServerModels
from grace.cluster.steps import Step, StepKind, StepName

RUN_LABEL = "grace/run"
STEP_LABEL = "grace/step"
OURS = {"app.kubernetes.io/managed-by": "grace"}
_CONTROLLERS = frozenset({"StatefulSet", "Job", "Deployment"})


class Builders(Protocol):
    """Makes a run's objects; pure."""

    def setup_objects(self, run: ClusterRun, /) -> tuple[Manifest, ...]:
        """Return what all steps share, in an order that works."""
        ...

    def weights_objects(self, run: ClusterRun, key: str, /) -> tuple[Manifest, ...]:
        """Return where a model's weights are kept."""
        ...

    def server_objects(self, run: ClusterRun, server: ServerModels, /) -> tuple[Manifest, ...]:
        """Return a model server."""
        ...

    def step_objects(self, run: ClusterRun, step: Step, /) -> tuple[Manifest, ...]:
        """Return a step: one Job, and what it alone needs."""
        ...

    def driver_objects(self, run: ClusterRun, /) -> tuple[Manifest, ...]:
        """Return what drives a run inside the cluster: one Job."""
        ...


def default_builders() -> Builders:
    """Return Grace's own builders; they take a second to import."""
    return cast(Builders, importlib.import_module("grace.cluster.manifests"))


@dataclass(frozen=True, slots=True)
class WantedServer:
    """
    A model server.

    Attributes:
        key: Of the model that it is started with.

        objects: All of its objects.

        controller: The one that keeps its pods running.

        gpus: How many GPUs it may come to hold.
    """

    key: str
    objects: tuple[Manifest, ...]
    controller: ObjectId
    gpus: int

    @property
    def others(self) -> tuple[Manifest, ...]:
        """Its objects without the controller."""
        return tuple(item for item in self.objects if id_of(item) != self.controller)


@dataclass(frozen=True, slots=True)
class WantedStep:
    """
    A step and its objects.

    Attributes:
        step: Of the run.

        objects: Its Job, behind what the Job needs.

        job: Which of them is the Job.

        label: What the Job is found by.
    """

    step: Step
    objects: tuple[Manifest, ...]
    job: ObjectId
    label: str


@dataclass(frozen=True)
class Desired:
    """
    All that a run wants.

    Args:
        run: The run.

        builders: What makes its objects.
    """

    run: ClusterRun
    builders: Builders

    @cached_property
    def setup(self) -> tuple[Manifest, ...]:
        """What all steps share, in an order that works."""
        return self.builders.setup_objects(self.run)

    @cached_property
    def servers(self) -> Mapping[str, WantedServer]:
        """Servers by the key of their model, in the order in which they are first needed."""
        needed = {step.server for step in self.run.steps}
        return {
            server.base.key: self._server(server)
            for server in self.run.servers
            if server.base.key in needed
        }

    @cached_property
    def steps(self) -> Mapping[StepName, WantedStep]:
        """Steps by name, each behind those that it needs."""
        return {step.name: self._step(step) for step in self.run.steps}

    @cached_property
    def gpus(self) -> Mapping[str, int]:
        """How many GPUs each server may hold."""
        return {key: server.gpus for key, server in self.servers.items()}

    @cached_property
    def bounds(self) -> Bounds:
        """How much may be held at the same time."""
        profile = self.run.profile
        servers = profile.model_servers
        site = profile.rules.jobs_at_once
        jobs = [profile.jobs.at_once, None if site is None else site.at_most]
        return Bounds(
            servers.at_once,
            servers.gpus_at_once,
            min((bound for bound in jobs if bound is not None), default=None),
        )

    @property
    def labels(self) -> dict[str, str]:
        """What the objects of this run have in common."""
        return {RUN_LABEL: self.run.run_id}

    def _server(self, server: ServerModels) -> WantedServer:
        objects = self.builders.server_objects(self.run, server)
        controller = _controller(objects, f"the server of {server.base.key}")
        gpus = _gpus_of(controller, self.run.profile.gpus.resources) * _pods_of(controller, objects)
        return WantedServer(server.base.key, objects, id_of(controller), gpus)

    def _step(self, step: Step) -> WantedStep:
        objects = self.builders.step_objects(self.run, step)
        if step.kind is StepKind.WEIGHTS:
            objects = (*self.builders.weights_objects(self.run, step.model), *objects)
        job = _controller(objects, f"step {step.name}")
        for label in (RUN_LABEL, STEP_LABEL):
            if label not in labels_of(job):
                raise ValueError(f"the Job of step {step.name} has no label {label}")
        return WantedStep(step, objects, id_of(job), labels_of(job)[STEP_LABEL])


def _controller(objects: tuple[Manifest, ...], whose: str) -> Manifest:
    found = [item for item in objects if text(item, "kind") in _CONTROLLERS]
    if len(found) != 1:
        raise ValueError(f"{whose} has {len(found)} controllers; expected one")
    return found[0]


def _gpus_of(controller: Manifest, resources: Collection[str]) -> int:
    pod = at(controller, "spec", "template", "spec")
    limits = (
        at(part, "resources", "limits", resource)
        for part in parts(pod, "containers")
        for resource in resources
    )
    return sum(int(str(limit)) for limit in limits if limit is not None)


def _pods_of(controller: Manifest, objects: tuple[Manifest, ...]) -> int:
    most = [number(controller, "spec", "replicas") or 1]
    most += [number(item, "spec", "maxReplicas") for item in objects]
    most += [number(item, "spec", "maxReplicaCount") for item in objects]
    return max(most)
