"""Rules about what pods may do, and what nobody may read."""

import re
from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from grace.cluster.placeholders import is_placeholder
from grace.cluster.policies.finding import Hit
from grace.cluster.policies.pods import Container, Pod
from grace.cluster.policies.reading import Manifest, at, items, mapping, name_of, text, title
from grace.cluster.policies.secret_text import SECRET_FLAG, SECRET_VALUE, is_secret_name, masked
from grace.cluster.policies.subject import Subject

_VOLUME_KINDS = frozenset(
    [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
        "claimTemplate",
        "name",
    ]
)
_HOST = ("hostNetwork", "hostPID", "hostIPC")
_SECCOMP = ("RuntimeDefault", "Localhost")


def unpinned_images(subject: Subject) -> Iterator[Hit]:
    """Yield images that may be another one tomorrow."""
    for pod, container in subject.containers:
        image = text(container.spec.get("image"))
        name, _, digest = image.partition("@")
        tag = name.rpartition("/")[2].partition(":")[2]
        if re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            continue
        if not image or digest or tag in {"", "latest"}:
            yield Hit(pod.title, f"{container.path}.image", image or None)


def placeholder_images(subject: Subject) -> Iterator[Hit]:
    """Yield images at an address that only shows where somebody's own goes."""
    for pod, container in subject.containers:
        image = text(container.spec.get("image"))
        if is_placeholder(image):
            yield Hit(
                pod.title, f"{container.path}.image", image, "nothing can be pulled from there"
            )


def unrestricted(subject: Subject) -> Iterator[Hit]:
    """Yield what the Pod Security level `restricted` refuses."""
    for pod in subject.pods:
        for field in _HOST:
            if pod.spec.get(field):
                yield Hit(pod.title, pod.where(field), pod.spec[field])
        yield from _volumes(pod)
        yield from _sysctls(pod)
        context = mapping(pod.spec.get("securityContext"))
        for container in pod.containers:
            own = mapping(container.spec.get("securityContext"))
            path = f"{container.path}.securityContext"
            yield from _container(pod, container, own, path)
            yield from _identity(pod, context, own, path)


def _volumes(pod: Pod) -> Iterator[Hit]:
    for number, volume in enumerate(items(pod.spec.get("volumes"))):
        for kind in mapping(volume):
            if kind not in _VOLUME_KINDS:
                yield Hit(pod.title, pod.where(f"volumes[{number}].{kind}"), kind)


def _sysctls(pod: Pod) -> Iterator[Hit]:
    for sysctl in items(at(pod.spec, "securityContext.sysctls")):
        yield Hit(pod.title, pod.where("securityContext.sysctls"), mapping(sysctl).get("name"))


def _container(
    pod: Pod, container: Container, own: Mapping[str, JsonValue], path: str
) -> Iterator[Hit]:
    if own.get("privileged"):
        yield Hit(pod.title, f"{path}.privileged", own["privileged"])
    if own.get("allowPrivilegeEscalation") is not False:
        value = own.get("allowPrivilegeEscalation")
        yield Hit(pod.title, f"{path}.allowPrivilegeEscalation", value, "expected false")
    capabilities = mapping(own.get("capabilities"))
    if "ALL" not in items(capabilities.get("drop")):
        yield Hit(pod.title, f"{path}.capabilities.drop", capabilities.get("drop"), "expected ALL")
    for added in items(capabilities.get("add")):
        if added != "NET_BIND_SERVICE":
            yield Hit(pod.title, f"{path}.capabilities.add", added)
    if own.get("procMount") not in (None, "Default"):
        yield Hit(pod.title, f"{path}.procMount", own["procMount"])
    for number, port in enumerate(container.ports):
        if port.get("hostPort"):
            yield Hit(pod.title, f"{container.path}.ports[{number}].hostPort", port["hostPort"])


def _identity(
    pod: Pod, context: Mapping[str, JsonValue], own: Mapping[str, JsonValue], path: str
) -> Iterator[Hit]:
    """Yield what is wrong with who a container runs as; its own field wins over the pod's."""
    effective = {**context, **own}
    if effective.get("runAsNonRoot") is not True:
        yield Hit(pod.title, f"{path}.runAsNonRoot", effective.get("runAsNonRoot"), "expected true")
    if effective.get("runAsUser") == 0:
        yield Hit(pod.title, f"{path}.runAsUser", 0)
    profile = mapping(effective.get("seccompProfile")).get("type")
    if profile not in _SECCOMP:
        yield Hit(pod.title, f"{path}.seccompProfile.type", profile, "expected RuntimeDefault")
    if mapping(effective.get("appArmorProfile")).get("type") == "Unconfined":
        yield Hit(pod.title, f"{path}.appArmorProfile.type", "Unconfined")
    windows = mapping(effective.get("windowsOptions"))
    if windows.get("hostProcess"):
        yield Hit(pod.title, f"{path}.windowsOptions.hostProcess", windows["hostProcess"])


def writable_roots(subject: Subject) -> Iterator[Hit]:
    """Yield containers that may change their own image's files."""
    for pod, container in subject.containers:
        value = at(container.spec, "securityContext.readOnlyRootFilesystem")
        if value is not True:
            field = f"{container.path}.securityContext.readOnlyRootFilesystem"
            yield Hit(pod.title, field, value)


def needless_tokens(subject: Subject) -> Iterator[Hit]:
    """Yield pods with a service account's token that no role makes use of."""
    bound = {
        text(mapping(account).get("name"))
        for binding in subject.of_kind("RoleBinding")
        for account in items(binding.get("subjects"))
    }
    for pod in subject.pods:
        name = text(pod.spec.get("serviceAccountName")) or "default"
        account = subject.named("ServiceAccount", name)
        token = pod.spec.get("automountServiceAccountToken")
        if token is None and account is not None:
            token = account.get("automountServiceAccountToken")
        if token is not False and name not in bound:
            field = pod.where("automountServiceAccountToken")
            yield Hit(pod.title, field, token, f"no role is bound to {name}")


def default_accounts(subject: Subject) -> Iterator[Hit]:
    """Yield pods that run under the namespace's default account."""
    for pod in subject.pods:
        name = pod.spec.get("serviceAccountName")
        if name in (None, "", "default"):
            yield Hit(pod.title, pod.where("serviceAccountName"), name)


def broad_roles(subject: Subject) -> Iterator[Hit]:
    """Yield roles that allow everything, or reach beyond the namespace or into Secrets."""
    for manifest in subject.of_kind("ClusterRole", "ClusterRoleBinding"):
        yield Hit(title(manifest), "kind", text(manifest.get("kind")), "reaches all namespaces")
    for role in subject.of_kind("Role"):
        for number, rule in enumerate(items(role.get("rules"))):
            for field in ("apiGroups", "resources", "verbs"):
                if "*" in items(mapping(rule).get(field)):
                    yield Hit(title(role), f"rules[{number}].{field}", "*")
            resources = items(mapping(rule).get("resources"))
            for resource in ("secrets", "serviceaccounts/token", "roles", "rolebindings", "nodes"):
                if resource in resources:
                    yield Hit(title(role), f"rules[{number}].resources", resource)
            verbs = items(mapping(rule).get("verbs"))
            for verb in ("escalate", "bind", "impersonate"):
                if verb in verbs:
                    yield Hit(title(role), f"rules[{number}].verbs", verb)


def secret_values(subject: Subject) -> Iterator[Hit]:
    """Yield secrets that stand in objects; their values are never shown."""
    for manifest in subject.objects:
        if manifest.get("kind") == "Secret":
            yield Hit(title(manifest), "kind", "Secret")
            continue
        for path, value in _texts(manifest, ""):
            if SECRET_VALUE.search(value):
                yield Hit(title(manifest), path, "(not shown)", "looks like a key or token")
    for pod, container in subject.containers:
        for number, variable in enumerate(items(container.spec.get("env"))):
            name, value = text(mapping(variable).get("name")), text(mapping(variable).get("value"))
            if value and is_secret_name(name) and not SECRET_VALUE.search(value):
                field = f"{container.path}.env[{number}].value"
                yield Hit(pod.title, field, "(not shown)", f"of {name}")
        yield from _flags(pod, container)


def _flags(pod: Pod, container: Container) -> Iterator[Hit]:
    words = container.words
    for number, word in enumerate(words):
        found = SECRET_FLAG.match(word)
        if found is None:
            script = " " in word and not SECRET_VALUE.search(word)
            if script and masked(word) != word:
                yield Hit(pod.title, container.path, "(not shown)", "in a script")
            continue
        value = found[1]
        if value is None:
            value = words[number + 1] if number + 1 < len(words) else ""
        if value and not value.startswith(("-", "$(", "/")) and not SECRET_VALUE.search(value):
            yield Hit(pod.title, container.path, "(not shown)", f"after {word.partition('=')[0]}")


def _texts(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Yield every text of an object with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _texts(inner, f"{path}[{number}]")


def open_namespaces(subject: Subject) -> Iterator[Hit]:
    """Yield namespaces of ours that do not enforce the profile's Pod Security level."""
    level = subject.profile.pod_security
    for namespace in subject.of_kind("Namespace"):
        key = "pod-security.kubernetes.io/enforce"
        found = _label(namespace, key)
        if found != level:
            yield Hit(f"Namespace/{name_of(namespace)}", f"metadata.labels[{key}]", found)


def _label(manifest: Manifest, key: str) -> str | None:
    return text(mapping(at(manifest, "metadata.labels")).get(key)) or None
