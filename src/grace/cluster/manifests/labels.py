"""
Labels: what an object is for, which run and model it belongs to, and what a pod may reach.

Selectors of Services, policies and people all go by these; nothing is found by
its name alone. Objects that outlive a run, or are shared by several, carry no
run: servers, claims, policies, and inputs by content.
"""

from collections.abc import Mapping
from enum import StrEnum

from kubernetes.client import V1ObjectMeta

from grace.cluster.names import slug, step_label
from grace.cluster.request import ClusterRun
from grace.cluster.steps import Step, StepKind

NAME = "app.kubernetes.io/name"
MANAGED_BY = "app.kubernetes.io/managed-by"
COMPONENT = "app.kubernetes.io/component"
RUN = "grace/run"
STEP = "grace/step"
MODEL = "grace/model"
REACHES = "grace/reaches"

OURS: Mapping[str, str] = {NAME: "grace"}
"""What every object of ours has, and so every pod."""


class Component(StrEnum):
    """What an object is for."""

    SETUP = "setup"
    SERVER = "model-server"
    QUERY = "query"
    WEIGHTS = "weights"
    RESULTS = "results"
    DRIVER = "driver"


class Reaches(StrEnum):
    """Where a pod may send requests; nowhere else."""

    NOTHING = "nothing"
    SERVERS = "servers"
    OUTSIDE = "outside"
    API = "api"


def labelled(
    component: Component,
    *,
    run: ClusterRun | None = None,
    step: Step | None = None,
    model: str | None = None,
) -> dict[str, str]:
    """
    Return the labels of an object.

    Args:
        component: What it is for.

        run: The run that it belongs to, if it belongs to one.

        step: The step, likewise.

        model: The key of the model, likewise.
    """
    found = {NAME: "grace", MANAGED_BY: "grace", COMPONENT: component.value}
    if run is not None:
        found[RUN] = run.run_id
    if step is not None:
        found[STEP] = step_label(step.name)
    if model is not None:
        found[MODEL] = slug(model)
    return found


def metadata(run: ClusterRun, name: str, labels: Mapping[str, str]) -> V1ObjectMeta:
    """Return the metadata of an object in the run's namespace."""
    return V1ObjectMeta(name=name, namespace=run.namespace, labels=dict(labels))


def component_of(step: Step) -> Component:
    """Return what the pods of a step are for."""
    match step.kind:
        case StepKind.WEIGHTS:
            return Component.WEIGHTS
        case StepKind.FINISH:
            return Component.RESULTS
        case _:
            return Component.QUERY


def reached_by(run: ClusterRun, step: Step) -> Reaches:
    """Return where the pods of a step must send requests."""
    if step.kind is StepKind.WEIGHTS:
        return Reaches.OUTSIDE
    if step.server is not None:
        return Reaches.SERVERS
    asked = asked_model(run, step)
    if asked is not None and run.catalogue.get(asked).hosted:
        return Reaches.OUTSIDE
    return Reaches.NOTHING


def asked_model(run: ClusterRun, step: Step) -> str | None:
    """Return the key of the model that a step asks, if it asks one."""
    match step.kind:
        case StepKind.WEIGHTS | StepKind.FINISH:
            return None
        case StepKind.EXTRACT:
            return run.extractor
        case _:
            return step.model
