"""
What is checked: objects as plain data, read without trusting their form.

A field of the wrong type counts as missing: schemas are checked elsewhere, and a
linter must not fall over what it was given.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

from pydantic import JsonValue

from grace.cluster.profile import Profile
from grace.cluster.request import ClusterRun
from grace.cluster.units import parse_quantity
from grace.errors import UsageError

Manifest = Mapping[str, JsonValue]
"""A Kubernetes object as plain data."""

LONG_RUNNING = ("Deployment", "StatefulSet", "ReplicaSet", "DaemonSet", "ReplicationController")
_NOTHING: Mapping[str, JsonValue] = {}


def mapping(value: object) -> Mapping[str, JsonValue]:
    """Return a mapping, or an empty one for anything else."""
    # The first question is the cheap one; a large set is asked a million times.
    return value if isinstance(value, dict) or isinstance(value, Mapping) else _NOTHING  # noqa: SIM101 (the order is meant)


def items(value: object) -> Sequence[JsonValue]:
    """Return a list, or an empty one for anything else."""
    return value if isinstance(value, list | tuple) else ()


def text(value: object) -> str:
    """Return a text, or an empty one for anything else."""
    return value if isinstance(value, str) else ""


def at(value: object, path: str) -> JsonValue:
    """Return what stands at a path of keys, `spec.template.spec`; None if nothing does."""
    for key in path.split("."):
        value = mapping(value).get(key)
    return value  # type: ignore[return-value]  # what a mapping of JSON holds is JSON


def kind_of(manifest: Manifest) -> str:
    """Return an object's kind."""
    return text(manifest.get("kind"))


def name_of(manifest: Manifest) -> str:
    """Return an object's name."""
    return text(at(manifest, "metadata.name"))


def title(manifest: Manifest) -> str:
    """Return what an object is called in findings: `Job/name`."""
    return f"{kind_of(manifest) or '?'}/{name_of(manifest) or '?'}"


def labels_of(value: object) -> Mapping[str, JsonValue]:
    """Return the labels of an object or a pod template."""
    return mapping(at(value, "metadata.labels"))


def quantity(value: object) -> Decimal | None:
    """Return a quantity's value; None if it is missing or none."""
    if value is None:
        return None
    try:
        return parse_quantity(value)
    except UsageError:
        return None


@dataclass(frozen=True, slots=True)
class Container:
    """
    A container of a pod.

    Attributes:
        spec: Its fields.

        path: Where it stands in the object.

        init: Whether it runs before the others.
    """

    spec: Mapping[str, JsonValue]
    path: str
    init: bool = False

    @property
    def name(self) -> str:
        """Its name."""
        return text(self.spec.get("name"))

    @property
    def words(self) -> tuple[str, ...]:
        """Its command and arguments."""
        found = (*items(self.spec.get("command")), *items(self.spec.get("args")))
        return tuple(str(word) for word in found)

    def resource(self, which: str, name: str) -> JsonValue:
        """Return a request or limit as it is written."""
        return mapping(at(self.spec, f"resources.{which}")).get(name)

    @property
    def ports(self) -> Sequence[Mapping[str, JsonValue]]:
        """Its ports."""
        return [mapping(port) for port in items(self.spec.get("ports"))]


@dataclass(frozen=True)
class Pod:
    """
    The pods of an object: their template, and how many there are.

    Attributes:
        owner: The object.

        template: Metadata and spec.

        path: Where the template stands; empty for a bare Pod.
    """

    owner: Manifest
    template: Mapping[str, JsonValue]
    path: str

    @cached_property
    def title(self) -> str:
        """The owner's title."""
        return title(self.owner)

    @cached_property
    def kind(self) -> str:
        """The owner's kind."""
        return kind_of(self.owner)

    @cached_property
    def spec(self) -> Mapping[str, JsonValue]:
        """The pod's spec."""
        return mapping(self.template.get("spec"))

    @cached_property
    def labels(self) -> Mapping[str, JsonValue]:
        """The pod's labels."""
        return labels_of(self.template)

    @cached_property
    def component(self) -> str:
        """What the pod is for: `query`, `model-server`."""
        return text(self.labels.get("app.kubernetes.io/component"))

    def where(self, field: str) -> str:
        """Return the path of a field of the pod's spec."""
        prefix = f"{self.path}.spec" if self.path else "spec"
        return f"{prefix}.{field}" if field else prefix

    @cached_property
    def containers(self) -> tuple[Container, ...]:
        """All containers, those that run first at the end."""
        return tuple(
            Container(mapping(spec), self.where(f"{field}[{number}]"), init)
            for field, init in (("containers", False), ("initContainers", True))
            for number, spec in enumerate(items(self.spec.get(field)))
        )

    @cached_property
    def volumes(self) -> Mapping[str, Mapping[str, JsonValue]]:
        """Volumes by name."""
        found = (mapping(volume) for volume in items(self.spec.get("volumes")))
        made = [mapping(made) for made in items(at(self.owner, "spec.volumeClaimTemplates"))]
        named = {text(volume.get("name")): volume for volume in found}
        claims: dict[str, Mapping[str, JsonValue]] = {
            name_of(claim): {"name": name_of(claim), "claimTemplate": dict(claim)} for claim in made
        }
        return named | claims

    @cached_property
    def config_maps(self) -> tuple[str, ...]:
        """Names of the ConfigMaps that are mounted."""
        sources = [
            source
            for volume in self.volumes.values()
            for source in (volume, *items(at(volume, "projected.sources")))
        ]
        found = (text(at(source, "configMap.name")) for source in sources)
        return tuple(name for name in found if name)

    @cached_property
    def job(self) -> Mapping[str, JsonValue]:
        """The spec of the Job that makes the pods; empty if none does."""
        if self.kind == "CronJob":
            return mapping(at(self.owner, "spec.jobTemplate.spec"))
        return mapping(self.owner.get("spec")) if self.kind == "Job" else _NOTHING

    def in_job(self, field: str) -> str:
        """Return the path of a field of the Job's spec."""
        return f"{self.path.removesuffix('.template')}.{field}"

    @cached_property
    def at_once(self) -> int:
        """How many of the pods run at the same time."""
        if self.kind in {"Job", "CronJob"}:
            completions, parallelism = self.job.get("completions"), self.job.get("parallelism")
            most = parallelism if isinstance(parallelism, int) else 1
            return min(most, completions) if isinstance(completions, int) else most
        replicas = at(self.owner, "spec.replicas")
        return replicas if isinstance(replicas, int) else 1

    def requested(self, name: str) -> Decimal:
        """Return what one pod asks for of a resource, as the scheduler counts it."""
        main = Decimal(0)
        first = Decimal(0)
        for container in self.containers:
            written = container.resource("requests", name)
            if written is None:
                written = container.resource("limits", name)
            asked = quantity(written) or Decimal(0)
            if container.init and container.spec.get("restartPolicy") != "Always":
                first = max(first, asked)
            else:
                main += asked
        return max(main, first)


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


def selects(selector: object, labels: Mapping[str, JsonValue]) -> bool:
    """
    Return whether a label selector matches labels; an empty one matches all.

    >>> selects({"matchLabels": {"a": "b"}}, {"a": "b", "c": "d"})
    True
    """
    wanted = mapping(at(selector, "matchLabels"))
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    for expression in items(mapping(selector).get("matchExpressions")):
        key = text(mapping(expression).get("key"))
        values = items(mapping(expression).get("values"))
        operator = mapping(expression).get("operator")
        matches = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }.get(text(operator), False)
        if not matches:
            return False
    return True
