"""What is checked: objects, the cluster, and what they were made from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from grace.cluster.policies.pods import Container, Pod
from grace.cluster.policies.reading import (
    LONG_RUNNING,
    Manifest,
    at,
    kind_of,
    mapping,
    name_of,
    selects,
    text,
)
from grace.cluster.profile import Profile
from grace.cluster.request import ClusterRun


@dataclass(frozen=True)
class Subject:
    """
    Everything that rules look at.

    Attributes:
        objects: In the order in which they would be sent.

        profile: The cluster.

        run: What they were made from, if that is known.
    """

    objects: tuple[Manifest, ...]
    profile: Profile
    run: ClusterRun | None = None

    @cached_property
    def pods(self) -> tuple[Pod, ...]:
        """Every object's pods."""
        return tuple(pod for manifest in self.objects for pod in _pods(manifest))

    @cached_property
    def jobs(self) -> tuple[Pod, ...]:
        """The pods of Jobs, those among them that a CronJob makes as well."""
        return tuple(pod for pod in self.pods if pod.kind in {"Job", "CronJob"})

    @cached_property
    def containers(self) -> tuple[tuple[Pod, Container], ...]:
        """Every container, with its pod."""
        return tuple((pod, container) for pod in self.pods for container in pod.containers)

    @cached_property
    def _by_kind(self) -> Mapping[str, tuple[Manifest, ...]]:
        found: dict[str, list[Manifest]] = {}
        for manifest in self.objects:
            found.setdefault(kind_of(manifest), []).append(manifest)
        return {kind: tuple(manifests) for kind, manifests in found.items()}

    def of_kind(self, *kinds: str) -> tuple[Manifest, ...]:
        """Return the objects of some kinds."""
        return tuple(manifest for kind in kinds for manifest in self._by_kind.get(kind, ()))

    @cached_property
    def _by_name(self) -> Mapping[tuple[str, str], Manifest]:
        return {(kind_of(manifest), name_of(manifest)): manifest for manifest in self.objects}

    def named(self, kind: str, name: str) -> Manifest | None:
        """Return the object of a kind and name; None if there is none."""
        return self._by_name.get((kind, name))

    @cached_property
    def _by_label(self) -> Mapping[tuple[str, str], tuple[Pod, ...]]:
        found: dict[tuple[str, str], list[Pod]] = {}
        for pod in self.pods:
            for key, value in pod.labels.items():
                found.setdefault((key, text(value)), []).append(pod)
        return {label: tuple(pods) for label, pods in found.items()}

    def behind(self, service: Manifest) -> tuple[Pod, ...]:
        """Return the pods that a Service sends requests to."""
        wanted = mapping(at(service, "spec.selector"))
        if not wanted:
            return ()
        by_label = [self._by_label.get((key, text(value)), ()) for key, value in wanted.items()]
        fewest = min(by_label, key=len)
        return tuple(pod for pod in fewest if selects({"matchLabels": wanted}, pod.labels))

    def most(self, pod: Pod) -> int:
        """Return the most pods that there may be at the same time, an autoscaler's included."""
        most = pod.at_once
        for scaler in self.of_kind("HorizontalPodAutoscaler", "ScaledObject"):
            if at(scaler, "spec.scaleTargetRef.name") == name_of(pod.owner):
                for field in ("spec.maxReplicas", "spec.maxReplicaCount"):
                    limit = at(scaler, field)
                    most = max(most, limit) if isinstance(limit, int) else most
        return most

    @cached_property
    def gpu_resources(self) -> frozenset[str]:
        """All names by which GPUs are asked for."""
        return self.profile.gpus.resources

    def is_gpu(self, resource: str) -> bool:
        """Whether a resource is a kind of GPU."""
        return resource in self.gpu_resources or resource.startswith(("nvidia.com/", "amd.com/"))

    def gpus_of(self, pod: Pod) -> int:
        """Return the GPUs that one pod asks for."""
        names = {
            name
            for container in pod.containers
            for which in ("requests", "limits")
            for name in mapping(at(container.spec, f"resources.{which}"))
            if self.is_gpu(name)
        }
        return int(sum(pod.requested(name) for name in names))


def _pods(manifest: Manifest) -> Iterator[Pod]:
    kind = kind_of(manifest)
    if kind == "Pod":
        yield Pod(manifest, manifest, "")
    elif kind == "CronJob":
        template = mapping(at(manifest, "spec.jobTemplate.spec.template"))
        yield Pod(manifest, template, "spec.jobTemplate.spec.template")
    elif kind == "Job" or kind in LONG_RUNNING:
        yield Pod(manifest, mapping(at(manifest, "spec.template")), "spec.template")
