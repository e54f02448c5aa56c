"""The pods of an object, and their containers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

from pydantic import JsonValue

from grace.cluster.policies.reading import (
    Manifest,
    at,
    items,
    kind_of,
    labels_of,
    mapping,
    name_of,
    quantity,
    text,
    title,
)


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
        return mapping(self.owner.get("spec")) if self.kind == "Job" else {}

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
