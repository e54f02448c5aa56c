"""
What a live cluster says about itself, read with the user's own permissions.

Whatever may not be read is unknown, and no failure: most users see neither
nodes nor quotas of their site. Of Secrets only the names of keys are kept.
"""

import asyncio
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from grace.cluster.client import ClusterClient, Manifest, annotations_of, at, labels_of, parts, text
from grace.cluster.facts import ClusterFacts, NodeFacts, QuotaFacts, StorageClassFacts, Taint
from grace.cluster.profile import Profile
from grace.errors import ClusterDenied

_ASKERS = 8
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_APPLIED = (
    "configmaps",
    "persistentvolumeclaims",
    "services",
    "serviceaccounts",
    "jobs.batch",
    "statefulsets.apps",
    "networkpolicies.networking.k8s.io",
    "poddisruptionbudgets.policy",
)
_SET_UP = ("resourcequotas", "limitranges")
_OPTIONAL = ("roles.rbac.authorization.k8s.io", "rolebindings.rbac.authorization.k8s.io")

NEEDED_PERMISSIONS: tuple[tuple[str, str], ...] = (
    *((verb, resource) for resource in _APPLIED for verb in ("create", "patch", "get", "delete")),
    *(
        (verb, resource)
        for resource in ("jobs.batch", "statefulsets.apps")
        for verb in ("list", "watch")
    ),
    ("get", "pods"),
    ("list", "pods"),
    ("watch", "pods"),
    ("get", "pods/log"),
    ("create", "pods/exec"),
    ("list", "configmaps"),
)
"""What a run needs in its namespace, as (verb, resource)."""

WANTED_PERMISSIONS: tuple[tuple[str, str], ...] = (
    ("list", "events"),
    *((verb, resource) for resource in _OPTIONAL for verb in ("create", "patch")),
)
"""What a run can do without, and does better with."""


def permissions_of(profile: Profile) -> tuple[tuple[str, str], ...]:
    """Return what a run under a profile needs or wants to do."""
    asked = [*NEEDED_PERMISSIONS, *WANTED_PERMISSIONS]
    if profile.namespace.create:
        asked += [("create", "namespaces"), ("patch", "namespaces")]
        asked += [(verb, resource) for resource in _SET_UP for verb in ("create", "patch")]
    if profile.model_servers.autoscaler == "hpa":
        asked += [(verb, "horizontalpodautoscalers.autoscaling") for verb in ("create", "patch")]
    if profile.model_servers.autoscaler == "keda":
        asked += [(verb, "scaledobjects.keda.sh") for verb in ("create", "patch")]
    return tuple(asked)


async def read_facts(
    client: ClusterClient,
    profile: Profile,
    namespace: str,
    permissions: Sequence[tuple[str, str]] | None = None,
) -> ClusterFacts:
    """
    Return what a cluster says about itself.

    Args:
        client: The cluster.

        profile: Says which Secrets and permissions are of interest.

        namespace: The one that is looked at.

        permissions: Which are asked for, as (verb, resource); by default those
            that a run needs or wants.

    Raises:
        ClusterError: The cluster cannot be reached.
    """
    version = await client.version()
    exists, labels = await _namespace(client, namespace)
    classes = await client.list_if_permitted("StorageClass")
    nodes = await client.list_if_permitted("Node")
    quotas = await client.list_if_permitted("ResourceQuota", namespace)
    return ClusterFacts(
        server_version=version,
        namespace=namespace,
        namespace_exists=exists,
        namespace_labels=labels,
        storage_classes=None if classes is None else tuple(map(_storage_class, classes)),
        nodes=None if nodes is None else tuple(map(_node, nodes)),
        quotas=None if quotas is None else tuple(map(_quota, quotas)),
        permissions=await _permissions(
            client, namespace, permissions_of(profile) if permissions is None else permissions
        ),
        api_groups=await client.groups(),
        secrets=await _secrets(client, profile, namespace),
    )


async def _namespace(
    client: ClusterClient, namespace: str
) -> tuple[bool | None, Mapping[str, str] | None]:
    try:
        found = await client.get("Namespace", namespace)
    except ClusterDenied:
        return None, None
    return found is not None, None if found is None else labels_of(found)


async def _permissions(
    client: ClusterClient, namespace: str, asked: Sequence[tuple[str, str]]
) -> Mapping[tuple[str, str], bool]:
    found: dict[tuple[str, str], bool] = {}
    pending = iter(dict.fromkeys(asked))

    async def work() -> None:
        for verb, written in pending:
            named, _, subresource = written.partition("/")
            resource, _, group = named.partition(".")
            where = None if resource == "namespaces" else namespace
            found[verb, written] = await client.may(
                verb, resource, where, group=group, subresource=subresource
            )

    async with asyncio.TaskGroup() as group:
        for _ in range(_ASKERS):
            group.create_task(work())
    return {pair: found[pair] for pair in dict.fromkeys(asked)}


async def _secrets(
    client: ClusterClient, profile: Profile, namespace: str
) -> Mapping[str, frozenset[str] | None] | None:
    named = [profile.secrets.hub_token, profile.secrets.deepseek]
    names = {secret.name for secret in named if secret is not None}
    names |= {profile.images.pull_secret} if profile.images.pull_secret is not None else set()
    found: dict[str, frozenset[str] | None] = {}
    for name in sorted(names):
        try:
            secret = await client.get("Secret", name, namespace)
        except ClusterDenied:
            return None
        found[name] = None if secret is None else frozenset(_texts(secret, "data"))
    return found


def _storage_class(item: Manifest) -> StorageClassFacts:
    return StorageClassFacts(
        text(item, "metadata", "name"),
        text(item, "provisioner"),
        annotations_of(item).get(_DEFAULT_CLASS) == "true",
    )


def _node(item: Manifest) -> NodeFacts:
    return NodeFacts(
        text(item, "metadata", "name"),
        labels_of(item),
        _texts(item, "status", "allocatable"),
        tuple(
            Taint(text(taint, "key"), text(taint, "value"), text(taint, "effect"))
            for taint in parts(item, "spec", "taints")
        ),
        at(item, "spec", "unschedulable") is not True,
    )


def _quota(item: Manifest) -> QuotaFacts:
    return QuotaFacts(
        text(item, "metadata", "name"),
        _texts(item, "status", "hard") or _texts(item, "spec", "hard"),
        _texts(item, "status", "used"),
    )


def _texts(value: JsonValue | Manifest, *path: str) -> dict[str, str]:
    found = at(value, *path)
    return {key: str(part) for key, part in found.items()} if isinstance(found, dict) else {}
