"""A namespace of ours: what Pod Security it enforces, its quota, and its defaults."""

from collections.abc import Iterator

from kubernetes.client import (
    V1LimitRange,
    V1LimitRangeItem,
    V1LimitRangeSpec,
    V1Namespace,
    V1ObjectMeta,
    V1ResourceQuota,
    V1ResourceQuotaSpec,
)
from pydantic import BaseModel

from grace.cluster.manifests.labels import Component, labelled, metadata
from grace.cluster.manifests.quantities import requirements
from grace.cluster.request import ClusterRun

_NAME = "grace"
_MODES = ("enforce", "audit", "warn")


def namespace_objects(run: ClusterRun) -> Iterator[BaseModel]:
    """
    Yield the namespace, its quota and its defaults, if the namespace is ours to make.

    In a namespace that was given to us, all three are its owner's.
    """
    settings = run.profile.namespace
    if not settings.create:
        return
    yield _namespace(run)
    if settings.quota:
        yield V1ResourceQuota(
            api_version="v1",
            kind="ResourceQuota",
            metadata=metadata(run, _NAME, labelled(Component.SETUP)),
            spec=V1ResourceQuotaSpec(hard=dict(settings.quota)),
        )
    yield _limit_range(run)


def _namespace(run: ClusterRun) -> V1Namespace:
    level = run.profile.pod_security
    security = {f"pod-security.kubernetes.io/{mode}": level for mode in _MODES}
    return V1Namespace(
        api_version="v1",
        kind="Namespace",
        metadata=V1ObjectMeta(name=run.namespace, labels={**labelled(Component.SETUP), **security}),
    )


def _limit_range(run: ClusterRun) -> V1LimitRange:
    """Return what a container has that asks for nothing; ours all ask."""
    usual = requirements(run.profile, run.profile.jobs.light)
    item = V1LimitRangeItem(type="Container", default_request=usual.requests, default=usual.limits)
    return V1LimitRange(
        api_version="v1",
        kind="LimitRange",
        metadata=metadata(run, _NAME, labelled(Component.SETUP)),
        spec=V1LimitRangeSpec(limits=[item]),
    )
