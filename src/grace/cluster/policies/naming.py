"""Rules about names: objects', containers', variables', labels'."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from grace.cluster.policies.finding import Hit
from grace.cluster.policies.pods import Pod
from grace.cluster.policies.reading import at, items, kind_of, mapping, name_of, text, title
from grace.cluster.policies.subject import Subject

LONGEST_LABEL = 63
LONGEST_JOB = 52
"""A pod's host name is the Job's, an index and five letters; a StatefulSet adds a hash."""
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SERVICE = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_PORT_NAME = re.compile(r"(?!.*--)(?=.*[a-z])[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CLUSTER_WIDE = ("Namespace", "ClusterRole", "ClusterRoleBinding", "PersistentVolume")
_SHORT = ("Job", "CronJob", "StatefulSet", "Deployment")


def bad_names(subject: Subject) -> Iterator[Hit]:
    """Yield names that Kubernetes refuses, or that leave no room for what it adds."""
    for manifest in subject.objects:
        name, kind = name_of(manifest), kind_of(manifest)
        longest = LONGEST_JOB if kind in _SHORT else LONGEST_LABEL
        pattern = _SERVICE if kind == "Service" else _LABEL
        if not pattern.fullmatch(name):
            yield Hit(title(manifest), "metadata.name", name or None)
        elif len(name) > longest:
            detail = f"{len(name)} characters; expected {longest} at most"
            yield Hit(title(manifest), "metadata.name", name, detail)
    for pod in subject.pods:
        yield from _inside(pod)


def _inside(pod: Pod) -> Iterator[Hit]:
    names: set[str] = set()
    for container in pod.containers:
        if not _is_label(container.name):
            yield Hit(pod.title, f"{container.path}.name", container.name or None)
        elif container.name in names:
            yield Hit(pod.title, f"{container.path}.name", container.name, "is there twice")
        names.add(container.name)
        for number, port in enumerate(container.ports):
            name = port.get("name")
            if name is not None and not (_PORT_NAME.fullmatch(str(name)) and len(str(name)) <= 15):
                yield Hit(pod.title, f"{container.path}.ports[{number}].name", name)
    for number, volume in enumerate(items(pod.spec.get("volumes"))):
        name = text(mapping(volume).get("name"))
        if not _is_label(name):
            yield Hit(pod.title, pod.where(f"volumes[{number}].name"), name or None)


def _is_label(name: str) -> bool:
    return bool(_LABEL.fullmatch(name)) and len(name) <= LONGEST_LABEL


def bad_labels(subject: Subject) -> Iterator[Hit]:
    """Yield label values that Kubernetes refuses, and objects that do not say whose they are."""
    for manifest in subject.objects:
        labels = mapping(at(manifest, "metadata.labels"))
        yield from _values(title(manifest), "metadata.labels", labels)
        if labels.get("app.kubernetes.io/managed-by") != "grace":
            field = "metadata.labels[app.kubernetes.io/managed-by]"
            value = labels.get("app.kubernetes.io/managed-by")
            yield Hit(title(manifest), field, value, "expected grace")
    for pod in subject.pods:
        if pod.path:
            yield from _values(pod.title, f"{pod.path}.metadata.labels", pod.labels)


def _values(what: str, path: str, labels: Mapping[str, JsonValue]) -> Iterator[Hit]:
    for key, value in labels.items():
        good = isinstance(value, str) and _LABEL_VALUE.fullmatch(value)
        if not good or len(str(value)) > LONGEST_LABEL:
            yield Hit(what, f"{path}[{key}]", value)


def bad_variables(subject: Subject) -> Iterator[Hit]:
    """Yield environment variables that no shell could name, and those that are there twice."""
    for pod, container in subject.containers:
        names: set[str] = set()
        for number, variable in enumerate(items(container.spec.get("env"))):
            name = text(mapping(variable).get("name"))
            field = f"{container.path}.env[{number}].name"
            if not _ENV.fullmatch(name):
                yield Hit(pod.title, field, name or None)
            elif name in names:
                yield Hit(pod.title, field, name, "is there twice")
            names.add(name)


def duplicates(subject: Subject) -> Iterator[Hit]:
    """Yield objects that another one would overwrite."""
    found = Counter(
        (kind_of(it), text(at(it, "metadata.namespace")), name_of(it)) for it in subject.objects
    )
    for (kind, _, name), count in found.items():
        if count > 1:
            yield Hit(f"{kind}/{name}", "metadata.name", name, f"is there {count} times")


def other_namespaces(subject: Subject) -> Iterator[Hit]:
    """Yield objects that are not in the run's namespace."""
    namespaced = [it for it in subject.objects if kind_of(it) not in _CLUSTER_WIDE]
    if subject.run is not None:
        expected = subject.run.namespace
    else:
        found = Counter(text(at(it, "metadata.namespace")) for it in namespaced)
        expected = found.most_common(1)[0][0] if found else ""
    for manifest in namespaced:
        namespace = text(at(manifest, "metadata.namespace"))
        if namespace != expected:
            detail = f"expected {expected}" if expected else "the others name none"
            yield Hit(title(manifest), "metadata.namespace", namespace or None, detail)
