"""Rules about claims and what is mounted."""

from collections.abc import Iterator, Mapping
from decimal import Decimal

from pydantic import JsonValue

from grace.cluster.names import slug
from grace.cluster.policies.finding import Hit
from grace.cluster.policies.pods import Container, Pod
from grace.cluster.policies.reading import (
    Manifest,
    at,
    items,
    labels_of,
    mapping,
    name_of,
    quantity,
    selects,
    text,
    title,
)
from grace.cluster.policies.subject import Subject
from grace.cluster.request import CONFIG, INPUTS, WEIGHTS

_GIGABYTE = 10**9
"""As weights are counted by those who publish them; a claim of `10Gi` holds a little more."""
_SHARED = ("ReadWriteMany", "ReadOnlyMany")


def _claims(subject: Subject) -> Iterator[tuple[str, str, Mapping[str, JsonValue]]]:
    """Yield every claim: the object's title, where its spec stands, and the spec."""
    for claim in subject.of_kind("PersistentVolumeClaim"):
        yield title(claim), "spec", mapping(claim.get("spec"))
    for owner in subject.of_kind("StatefulSet"):
        for number, template in enumerate(items(at(owner, "spec.volumeClaimTemplates"))):
            path = f"spec.volumeClaimTemplates[{number}].spec"
            yield title(owner), path, mapping(mapping(template).get("spec"))


def unknown_classes(subject: Subject) -> Iterator[Hit]:
    """Yield claims of a class that the site does not list."""
    rule = subject.profile.rules.storage_classes
    if rule is None:
        return
    for what, path, spec in _claims(subject):
        name = spec.get("storageClassName")
        if name not in rule.allowed and text(name) not in rule.forbidden:
            detail = f"there are {', '.join(rule.allowed)}"
            yield Hit(what, f"{path}.storageClassName", name, detail)


def forbidden_classes(subject: Subject) -> Iterator[Hit]:
    """Yield claims of a class that must not be used."""
    rule = subject.profile.rules.storage_classes
    if rule is None:
        return
    for what, path, spec in _claims(subject):
        name = text(spec.get("storageClassName"))
        if name in rule.forbidden:
            yield Hit(what, f"{path}.storageClassName", name, rule.forbidden[name])


def unshareable(subject: Subject) -> Iterator[Hit]:
    """Yield claims that many nodes would mount, of a class that one node mounts at a time."""
    rule = subject.profile.rules.storage_classes
    if rule is None:
        return
    for what, path, spec in _claims(subject):
        if spec.get("storageClassName") in rule.one_node:
            for mode in items(spec.get("accessModes")):
                if mode in _SHARED:
                    yield Hit(what, f"{path}.accessModes", mode, text(spec["storageClassName"]))


def tied_to_a_node(subject: Subject) -> Iterator[Hit]:
    """
    Yield objects of several pods that share a claim which one node can use.

    Of model servers always: each may be put on another node. Of other pods where the
    site says so of the claim's class; on a single node, which only its owner knows
    to be one, they can share.
    """
    rule = subject.profile.rules.storage_classes
    one_node = () if rule is None else rule.one_node
    for pod in subject.pods:
        pods = subject.most(pod)
        if pods < 2:
            continue
        for name in _mounted_claims(pod):
            claim = subject.named("PersistentVolumeClaim", name)
            modes = [text(mode) for mode in items(at(claim, "spec.accessModes"))]
            if not modes or any(mode in _SHARED for mode in modes):
                continue
            known = at(claim, "spec.storageClassName") in one_node
            if not known and pod.component != "model-server":
                continue
            if "ReadWriteOncePod" in modes or not _kept_together(pod):
                field = pod.where("volumes")
                yield Hit(pod.title, field, name, f"{modes[0]}, and there may be {pods} pods")


def _mounted_claims(pod: Pod) -> Iterator[str]:
    for volume in pod.volumes.values():
        name = text(at(volume, "persistentVolumeClaim.claimName"))
        if name:
            yield name


def _kept_together(pod: Pod) -> bool:
    """Whether all pods must be on the node of the first."""
    path = "affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution"
    return any(
        mapping(term).get("topologyKey") == "kubernetes.io/hostname"
        and selects(mapping(term).get("labelSelector"), pod.labels)
        and bool(mapping(mapping(term).get("labelSelector")))
        for term in items(at(pod.spec, path))
    )


def small_claims(subject: Subject) -> Iterator[Hit]:
    """Yield claims for weights that are smaller than the weights."""
    if subject.run is None:
        return
    disk = {slug(spec.key): spec.disk_gb for spec in subject.run.catalogue.models}
    disk |= {spec.key: spec.disk_gb for spec in subject.run.catalogue.models}
    for claim in subject.of_kind("PersistentVolumeClaim"):
        labels = labels_of(claim)
        needed = disk.get(text(labels.get("grace/model")), 0)
        written = at(claim, "spec.resources.requests.storage")
        size = quantity(written)
        if needed and size is not None and size < Decimal(str(needed)) * _GIGABYTE:
            field = "spec.resources.requests.storage"
            yield Hit(title(claim), field, written, f"the weights take {needed:g} GB")


def writable_mounts(subject: Subject) -> Iterator[Hit]:
    """Yield what is mounted to be written where it is only read."""
    for pod, container in subject.containers:
        for number, mount in enumerate(items(container.spec.get("volumeMounts"))):
            if _needless(pod, container, mapping(mount)):
                yield Hit(
                    pod.title,
                    f"{container.path}.volumeMounts[{number}].readOnly",
                    mapping(mount).get("readOnly"),
                    f"{mapping(mount).get('mountPath')}",
                )


def _needless(pod: Pod, container: Container, mount: Mapping[str, JsonValue]) -> bool:
    volume = pod.volumes.get(text(mount.get("name")), {})
    claimed = mapping(volume.get("persistentVolumeClaim"))
    read_only = mount.get("readOnly") is True or claimed.get("readOnly") is True
    if read_only or not (claimed or "claimTemplate" in volume):
        return False
    path = text(mount.get("mountPath"))
    if _inside(path, str(WEIGHTS)):
        # Who downloads: a step of its own, or a container that runs before the server.
        return pod.component != "weights" and not container.init
    if _inside(path, str(INPUTS)) or _inside(path, str(CONFIG.parent)):
        return pod.component in {"query", "model-server", "weights"}
    return pod.component == "model-server"


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def bad_mounts(subject: Subject) -> Iterator[Hit]:
    """Yield mounts of volumes that are not there, and two mounts at one place."""
    for pod, container in subject.containers:
        places: set[str] = set()
        for number, mount in enumerate(items(container.spec.get("volumeMounts"))):
            where = f"{container.path}.volumeMounts[{number}]"
            name = text(mapping(mount).get("name"))
            place = text(mapping(mount).get("mountPath")).rstrip("/")
            if name not in pod.volumes:
                yield Hit(pod.title, f"{where}.name", name or None, "no volume has that name")
            inside = text(mapping(mount).get("subPath"))
            if place in places:
                yield Hit(pod.title, f"{where}.mountPath", place, "something is mounted there")
            elif not place.startswith("/") or ":" in place:
                yield Hit(pod.title, f"{where}.mountPath", place or None, "expected a path from /")
            elif ".." in inside.split("/") or inside.startswith("/"):
                yield Hit(pod.title, f"{where}.subPath", inside, "expected a path below")
            places.add(place)


def changeable_inputs(subject: Subject) -> Iterator[Hit]:
    """Yield ConfigMaps that could change under the pods that read them, or are too large."""
    read = {name for pod in subject.pods for name in pod.config_maps}
    for config in subject.of_kind("ConfigMap"):
        if name_of(config) in read and config.get("immutable") is not True:
            yield Hit(title(config), "immutable", config.get("immutable"))
        size = _size(config)
        if size > 1024**2:
            yield Hit(title(config), "data", size, "more than the 1,048,576 bytes that fit")


def _size(config: Manifest) -> int:
    values = (*mapping(config.get("data")).items(), *mapping(config.get("binaryData")).items())
    return sum(len(key.encode()) + len(str(value).encode()) for key, value in values)
