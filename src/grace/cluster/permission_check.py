"""What a user may do in a namespace, and how much of it is left: against what a profile needs."""

from collections.abc import Iterator, Mapping

from grace.cluster.facts import ClusterFacts
from grace.cluster.gpu_check import number_of
from grace.cluster.profile import Profile
from grace.cluster.profile_finding import ProfileFinding, Standing

_EDITED = (
    "jobs.batch",
    "configmaps",
    "persistentvolumeclaims",
    "services",
    "serviceaccounts",
    "networkpolicies.networking.k8s.io",
)
NEEDED: tuple[tuple[str, str], ...] = (
    *((verb, name) for name in _EDITED for verb in ("get", "list", "create", "patch", "delete")),
    ("watch", "jobs.batch"),
    ("list", "pods"),
    ("watch", "pods"),
    ("get", "pods/log"),
    ("create", "pods/exec"),
)
"""What driving a run takes, whatever the profile: verb and resource."""


def needed_permissions(profile: Profile) -> tuple[tuple[str, str], ...]:
    """Return what a user must be allowed to do, by (verb, resource), to ask the cluster about."""
    servers = profile.model_servers
    own = ["statefulsets.apps", "poddisruptionbudgets.policy"]
    found = list(NEEDED)
    if servers.controller == "statefulset":
        found += [(verb, name) for name in own for verb in ("get", "create", "patch", "delete")]
    if servers.autoscaler == "hpa":
        found += [("create", "horizontalpodautoscalers.autoscaling")]
    if servers.autoscaler == "keda":
        found += [("create", "scaledobjects.keda.sh")]
    if profile.namespace.create:
        found += [("create", "namespaces"), ("create", "resourcequotas"), ("create", "limitranges")]
    return tuple(found)


def quota_findings(profile: Profile, facts: ClusterFacts) -> Iterator[ProfileFinding]:
    """Yield quotas of the namespace that leave nothing of what the profile uses."""
    if facts.quotas is None:
        words = f"the quotas of {facts.namespace} may not be listed"
        remedy = "look at `kubectl describe resourcequota`"
        yield ProfileFinding(Standing.UNKNOWN, "namespace.quota", words, remedy)
        return
    for quota in facts.quotas:
        for name, written in quota.hard.items():
            used = number_of(quota.used.get(name, "0"))
            if number_of(written) > used or not _matters(profile, name):
                continue
            spent = f"{written} in all, {quota.used.get(name, '0')} in use"
            words = f"the quota {quota.name} leaves nothing of {name}: {spent}"
            remedy = _remedy(profile, name)
            yield ProfileFinding(Standing.DOUBTFUL, "namespace.quota", words, remedy)


def _matters(profile: Profile, name: str) -> bool:
    bare = name.removeprefix("requests.").removeprefix("limits.")
    gpus = {profile.gpus.resource, *map(profile.gpus.resource_of, profile.gpus.products)}
    ours = {"cpu", "memory", "ephemeral-storage", "storage", "pods", "persistentvolumeclaims"}
    return bare in ours | gpus or bare in {"count/jobs.batch", "count/pods"}


def _remedy(profile: Profile, name: str) -> str:
    bare = name.removeprefix("requests.").removeprefix("limits.")
    forms: Mapping[str, str] = {
        profile.gpus.resource_of(product): settings.request_form
        for product, settings in profile.gpus.products.items()
        if settings.request_form
    }
    if bare in forms:
        return f"ask for access at {forms[bare]}, or choose models that fit other GPUs"
    return "wait until something has ended, or ask the admins for more"


def permission_findings(profile: Profile, facts: ClusterFacts) -> Iterator[ProfileFinding]:
    """Yield what the user may not do, or was not asked about."""
    needed = needed_permissions(profile)
    denied = [pair for pair in needed if facts.permissions.get(pair) is False]
    unknown = [pair for pair in needed if pair not in facts.permissions]
    by_resource: dict[str, list[str]] = {}
    for verb, resource in denied:
        by_resource.setdefault(resource, []).append(verb)
    for resource, verbs in by_resource.items():
        words = f"you may not {', '.join(verbs)} {resource} in {facts.namespace}"
        remedy = "ask a namespace admin to bind the Role grace-driver to you"
        field = "namespace.create" if resource == "namespaces" else ""
        if field:
            remedy = "set namespace.create: false, and name a namespace that is there"
        yield ProfileFinding(Standing.WRONG, field, words, remedy)
    if unknown:
        words = f"whether you may {unknown[0][0]} {unknown[0][1]} was not asked"
        more = f", and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        remedy = "look at `kubectl auth can-i --list`"
        yield ProfileFinding(Standing.UNKNOWN, "", words + more, remedy)
