"""Rules about what objects refer to: it must be there, and be what is meant."""

from collections.abc import Iterator, Mapping, Sequence

from pydantic import JsonValue

from grace.cluster.names import slug
from grace.cluster.policies.finding import Hit
from grace.cluster.policies.pods import Container, Pod
from grace.cluster.policies.reading import (
    LONG_RUNNING,
    Manifest,
    at,
    items,
    mapping,
    selects,
    text,
    title,
)
from grace.cluster.policies.subject import Subject


def missing(subject: Subject) -> Iterator[Hit]:
    """Yield references to objects, or keys of ConfigMaps, that are not in the set."""
    for pod in subject.pods:
        account = text(pod.spec.get("serviceAccountName"))
        if account not in {"", "default"} and subject.named("ServiceAccount", account) is None:
            yield _missing(pod.title, pod.where("serviceAccountName"), "ServiceAccount", account)
        for path, volume in _sources(pod):
            yield from _volume(subject, pod, path, volume)
        for container in pod.containers:
            yield from _configs(subject, pod, container)
    for owner in subject.of_kind("StatefulSet"):
        service = text(at(owner, "spec.serviceName"))
        found = subject.named("Service", service)
        if found is None:
            yield _missing(title(owner), "spec.serviceName", "Service", service)
        elif at(found, "spec.clusterIP") != "None":
            yield Hit(title(owner), "spec.serviceName", service, "is not headless")
    for scaler in subject.of_kind("HorizontalPodAutoscaler", "ScaledObject"):
        target = mapping(at(scaler, "spec.scaleTargetRef"))
        kind, name = text(target.get("kind")) or "Deployment", text(target.get("name"))
        if subject.named(kind, name) is None:
            yield _missing(title(scaler), "spec.scaleTargetRef.name", kind, name)
    yield from _bindings(subject)


def _missing(what: str, field: str, kind: str, name: str) -> Hit:
    return Hit(what, field, name or None, f"there is no {kind} of that name in the set")


def _bindings(subject: Subject) -> Iterator[Hit]:
    for binding in subject.of_kind("RoleBinding"):
        role = mapping(binding.get("roleRef"))
        kind, name = text(role.get("kind")), text(role.get("name"))
        if kind == "Role" and subject.named("Role", name) is None:
            yield _missing(title(binding), "roleRef.name", "Role", name)
        for number, account in enumerate(items(binding.get("subjects"))):
            name = text(mapping(account).get("name"))
            if mapping(account).get("kind") != "ServiceAccount":
                continue
            if subject.named("ServiceAccount", name) is None:
                yield _missing(title(binding), f"subjects[{number}].name", "ServiceAccount", name)


def _sources(pod: Pod) -> Iterator[tuple[str, Mapping[str, JsonValue]]]:
    for number, volume in enumerate(items(pod.spec.get("volumes"))):
        path = pod.where(f"volumes[{number}]")
        yield path, mapping(volume)
        for inner, source in enumerate(items(at(volume, "projected.sources"))):
            yield f"{path}.projected.sources[{inner}]", mapping(source)


def _volume(
    subject: Subject, pod: Pod, path: str, volume: Mapping[str, JsonValue]
) -> Iterator[Hit]:
    claim = at(volume, "persistentVolumeClaim.claimName")
    if claim is not None and subject.named("PersistentVolumeClaim", text(claim)) is None:
        field = f"{path}.persistentVolumeClaim.claimName"
        yield _missing(pod.title, field, "PersistentVolumeClaim", text(claim))
    if "configMap" not in volume:
        return
    config = mapping(volume["configMap"])
    name = text(config.get("name"))
    found = subject.named("ConfigMap", name)
    if found is None:
        if config.get("optional") is not True:
            yield _missing(pod.title, f"{path}.configMap.name", "ConfigMap", name)
        return
    for number, item in enumerate(items(config.get("items"))):
        key = text(mapping(item).get("key"))
        if not _has_key(found, key):
            field = f"{path}.configMap.items[{number}].key"
            yield Hit(pod.title, field, key or None, f"ConfigMap/{name} has no such key")


def _configs(subject: Subject, pod: Pod, container: Container) -> Iterator[Hit]:
    for number, variable in enumerate(items(container.spec.get("env"))):
        ref = mapping(at(variable, "valueFrom.configMapKeyRef"))
        if not ref or ref.get("optional") is True:
            continue
        path = f"{container.path}.env[{number}].valueFrom.configMapKeyRef"
        name, key = text(ref.get("name")), text(ref.get("key"))
        found = subject.named("ConfigMap", name)
        if found is None:
            yield _missing(pod.title, f"{path}.name", "ConfigMap", name)
        elif not _has_key(found, key):
            yield Hit(pod.title, f"{path}.key", key or None, f"ConfigMap/{name} has no such key")
    for number, source in enumerate(items(container.spec.get("envFrom"))):
        name = text(at(source, "configMapRef.name"))
        if name and subject.named("ConfigMap", name) is None:
            path = f"{container.path}.envFrom[{number}].configMapRef.name"
            yield _missing(pod.title, path, "ConfigMap", name)


def _has_key(config: Manifest, key: str) -> bool:
    return key in mapping(config.get("data")) or key in mapping(config.get("binaryData"))


def unknown_secrets(subject: Subject) -> Iterator[Hit]:
    """Yield references to Secrets, or keys of them, that the profile does not name."""
    secrets = subject.profile.secrets
    known = {
        secret.name: secret.key
        for secret in (secrets.hub_token, secrets.deepseek)
        if secret is not None
    }
    for pod in subject.pods:
        for path, name, key in _secret_references(pod):
            if name not in known:
                yield Hit(pod.title, f"{path}.name", name or None, "not one of the profile's")
            elif key is not None and key != known[name]:
                yield Hit(pod.title, f"{path}.key", key, f"the profile says {known[name]}")
        pull = subject.profile.images.pull_secret
        for number, secret in enumerate(items(pod.spec.get("imagePullSecrets"))):
            name = text(mapping(secret).get("name"))
            if name != pull:
                path = pod.where(f"imagePullSecrets[{number}].name")
                yield Hit(pod.title, path, name or None, f"the profile says {pull}")


def _secret_references(pod: Pod) -> Iterator[tuple[str, str, str | None]]:
    """Yield path, name and key of each reference to a Secret."""
    for container in pod.containers:
        for number, variable in enumerate(items(container.spec.get("env"))):
            ref = mapping(at(variable, "valueFrom.secretKeyRef"))
            if ref:
                path = f"{container.path}.env[{number}].valueFrom.secretKeyRef"
                yield path, text(ref.get("name")), text(ref.get("key"))
        for number, source in enumerate(items(container.spec.get("envFrom"))):
            ref = mapping(mapping(source).get("secretRef"))
            if ref:
                path = f"{container.path}.envFrom[{number}].secretRef"
                yield path, text(ref.get("name")), None
    for path, volume in _sources(pod):
        secret = mapping(volume.get("secret"))
        if secret:
            name = text(secret.get("secretName")) or text(secret.get("name"))
            keys = [text(mapping(item).get("key")) for item in items(secret.get("items"))]
            if not keys:
                yield f"{path}.secret", name, None
            for key in keys:
                yield f"{path}.secret", name, key


def unmatched_selectors(subject: Subject) -> Iterator[Hit]:
    """Yield selectors that match no pod, or not their own."""
    for pod in subject.pods:
        if pod.kind in LONG_RUNNING:
            selector = at(pod.owner, "spec.selector")
            if not mapping(selector) or not selects(selector, pod.labels):
                yield Hit(pod.title, "spec.selector", _plain(selector), "not its own pods' labels")
    for service in subject.of_kind("Service"):
        wanted = at(service, "spec.selector")
        if not mapping(wanted):
            yield Hit(title(service), "spec.selector", _plain(wanted), "expected labels")
        elif not subject.behind(service):
            yield Hit(title(service), "spec.selector", _plain(wanted), "no pod has these labels")
    for budget in subject.of_kind("PodDisruptionBudget"):
        wanted = at(budget, "spec.selector")
        if not any(selects(wanted, pod.labels) for pod in subject.pods):
            yield Hit(title(budget), "spec.selector", _plain(wanted), "no pod has these labels")


def _plain(value: object) -> JsonValue:
    return value if isinstance(value, str | int | float | dict | list) else None


def without_probes(subject: Subject) -> Iterator[Hit]:
    """Yield servers that nobody would notice to be dead, or not yet ready."""
    for pod in subject.pods:
        if pod.component != "model-server" and pod.kind not in LONG_RUNNING:
            continue
        for container in pod.containers:
            if container.init or not container.ports:
                continue
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if probe not in container.spec:
                    yield Hit(pod.title, f"{container.path}.{probe}")


def other_precision(subject: Subject) -> Iterator[Hit]:
    """Yield servers in another precision than the catalogue says: some overflow in float16."""
    if subject.run is None:
        return
    wanted = {slug(spec.key): spec.dtype for spec in subject.run.catalogue.models}
    for pod, container in subject.containers:
        expected = wanted.get(text(pod.labels.get("grace/model")), "auto")
        if pod.component != "model-server" or expected == "auto":
            continue
        words = container.words
        for number, word in enumerate(words):
            name, _, value = word.partition("=")
            if name == "--dtype":
                value = value or "".join(words[number + 1 : number + 2])
                if value not in {expected, "auto"}:
                    detail = f"the catalogue says {expected}"
                    yield Hit(pod.title, container.path, value, detail)


def missing_ports(subject: Subject) -> Iterator[Hit]:
    """Yield probes and Services that name a port which no container has."""
    for pod, container in subject.containers:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            for kind in ("httpGet", "tcpSocket", "grpc"):
                port = at(container.spec, f"{probe}.{kind}.port")
                if port is not None and not _has_port([container], port):
                    field = f"{container.path}.{probe}.{kind}.port"
                    yield Hit(pod.title, field, port, "the container has no such port")
    for service in subject.of_kind("Service"):
        chosen = subject.behind(service)
        for number, port in enumerate(items(at(service, "spec.ports"))):
            target = mapping(port).get("targetPort", mapping(port).get("port"))
            for pod in chosen:
                if not _has_port(pod.containers, target):
                    field = f"spec.ports[{number}].targetPort"
                    detail = f"{pod.title} has no such port"
                    yield Hit(title(service), field, target, detail)
                    break


def _has_port(containers: Sequence[Container], port: JsonValue) -> bool:
    return any(
        port in (named.get("containerPort"), named.get("name"))
        for container in containers
        for named in container.ports
    )
