"""
Kubernetes objects as plain data: which kinds there are, where the API keeps them, and how to read them.

The kinds are a table, not a question to the cluster: they are the ones that
Grace makes or looks at, and a kind that is not in the table is a mistake of
ours, found before anything is sent.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from pydantic import JsonValue

Manifest = Mapping[str, JsonValue]

_CORE = "v1"
_APPS = "apps/v1"
_BATCH = "batch/v1"
_RBAC = "rbac.authorization.k8s.io/v1"


@dataclass(frozen=True, slots=True)
class Kind:
    """
    Where the API keeps a kind of object.

    Attributes:
        api_version: Group and version.

        name: As manifests say it.

        plural: As addresses say it.

        namespaced: Whether it lives in a namespace.
    """

    api_version: str
    name: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """The API group; empty for the core."""
        return self.api_version.rpartition("/")[0]

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """Return the address of one object, or of all."""
        root = "/api" if self.api_version == _CORE else "/apis"
        parts = [root, self.api_version]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name is not None:
            parts.append(quote(name, safe=""))
        return "/".join(parts)


_KINDS = (
    Kind(_CORE, "Namespace", "namespaces", namespaced=False),
    Kind(_CORE, "Node", "nodes", namespaced=False),
    Kind(_CORE, "ResourceQuota", "resourcequotas"),
    Kind(_CORE, "LimitRange", "limitranges"),
    Kind(_CORE, "ServiceAccount", "serviceaccounts"),
    Kind(_CORE, "ConfigMap", "configmaps"),
    Kind(_CORE, "Secret", "secrets"),
    Kind(_CORE, "PersistentVolumeClaim", "persistentvolumeclaims"),
    Kind(_CORE, "Service", "services"),
    Kind(_CORE, "Pod", "pods"),
    Kind(_CORE, "Event", "events"),
    Kind(_APPS, "StatefulSet", "statefulsets"),
    Kind(_APPS, "Deployment", "deployments"),
    Kind(_BATCH, "Job", "jobs"),
    Kind(_RBAC, "Role", "roles"),
    Kind(_RBAC, "RoleBinding", "rolebindings"),
    Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    Kind("storage.k8s.io/v1", "StorageClass", "storageclasses", namespaced=False),
    Kind("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", namespaced=False),
    Kind("keda.sh/v1alpha1", "ScaledObject", "scaledobjects"),
    Kind("keda.sh/v1alpha1", "TriggerAuthentication", "triggerauthentications"),
    Kind("argoproj.io/v1alpha1", "Workflow", "workflows"),
    Kind("argoproj.io/v1alpha1", "WorkflowTemplate", "workflowtemplates"),
    Kind("monitoring.coreos.com/v1", "ServiceMonitor", "servicemonitors"),
    Kind("monitoring.coreos.com/v1", "PodMonitor", "podmonitors"),
    Kind("monitoring.coreos.com/v1", "PrometheusRule", "prometheusrules"),
)
_BY_NAME = {kind.name: kind for kind in _KINDS}


def kind_of(name: str) -> Kind:
    """
    Return a kind by its name in manifests.

    Raises:
        ValueError: Grace neither makes nor reads such objects.
    """
    try:
        return _BY_NAME[name]
    except KeyError:
        raise ValueError(f"{name!r} is not a kind that Grace knows; add it to {__name__}") from None


@dataclass(frozen=True, slots=True)
class ObjectId:
    """
    Which object.

    Attributes:
        kind: Its kind, as manifests say it.

        name: Its name.

        namespace: None if its kind has none.
    """

    kind: str
    name: str
    namespace: str | None = None

    def __str__(self) -> str:
        place = f" in {self.namespace}" if self.namespace is not None else ""
        return f"{self.kind} {self.name}{place}"


def id_of(manifest: Manifest) -> ObjectId:
    """Return which object a manifest describes."""
    kind = text(manifest, "kind")
    namespace = text(manifest, "metadata", "namespace") or None
    known = _BY_NAME.get(kind)
    if known is not None and not known.namespaced:
        namespace = None
    return ObjectId(kind, text(manifest, "metadata", "name"), namespace)


def at(value: JsonValue | Manifest, *path: str | int) -> JsonValue:
    """
    Return what lies at a path, or None where it ends before.

    >>> at({"status": {"phase": "Bound"}}, "status", "phase"), at({}, "status", "phase")
    ('Bound', None)
    """
    found: object = value
    for step in path:
        if isinstance(found, Mapping):
            found = found.get(step)
        elif isinstance(found, list) and isinstance(step, int) and -len(found) <= step < len(found):
            found = found[step]
        else:
            return None
    return found  # type: ignore[return-value]  # a part of JSON is JSON


def text(value: JsonValue | Manifest, *path: str | int) -> str:
    """Return the text at a path; empty if there is none."""
    found = at(value, *path)
    return found if isinstance(found, str) else ""


def number(value: JsonValue | Manifest, *path: str | int) -> int:
    """Return the whole number at a path; 0 if there is none."""
    found = at(value, *path)
    return found if isinstance(found, int) else 0


def parts(value: JsonValue | Manifest, *path: str | int) -> Iterator[Manifest]:
    """Return the objects of the list at a path; none if there is no list."""
    found = at(value, *path)
    if isinstance(found, list):
        for part in found:
            if isinstance(part, dict):
                yield part


def labels_of(manifest: Manifest) -> Mapping[str, str]:
    """Return an object's labels."""
    return _texts(manifest, "labels")


def annotations_of(manifest: Manifest) -> Mapping[str, str]:
    """Return an object's annotations."""
    return _texts(manifest, "annotations")


def _texts(manifest: Manifest, field: str) -> Mapping[str, str]:
    found = at(manifest, "metadata", field)
    if not isinstance(found, dict):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, str)}
