"""What a user may do in a namespace, and how much of it is left: against what a profile needs."""

from collections.abc import Iterator, Mapping

from grace.cluster.facts import ClusterFacts
from grace.cluster.gpu_check import number_of
from grace.cluster.profile import Profile
from grace.cluster.profile_finding import ProfileFinding, Standing

_WANTED = ("events", "roles.rbac.authorization.k8s.io", "rolebindings.rbac.authorization.k8s.io")
"""What a run can do without."""


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
    gpus = profile.gpus.resources
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


def permission_findings(facts: ClusterFacts) -> Iterator[ProfileFinding]:
    """Yield what the user may not do, of all that was asked about."""
    if not facts.permissions:
        words = f"what you may do in {facts.namespace} was not asked"
        yield ProfileFinding(Standing.UNKNOWN, "", words, "look at `kubectl auth can-i --list`")
    denied: dict[str, list[str]] = {}
    for (verb, resource), allowed in facts.permissions.items():
        if not allowed:
            denied.setdefault(resource, []).append(verb)
    for resource, verbs in denied.items():
        words = f"you may not {', '.join(verbs)} {resource} in {facts.namespace}"
        if resource == "namespaces":
            words = f"you may not {', '.join(verbs)} {resource}"
            remedy = "set namespace.create: false, and name a namespace that is there"
            yield ProfileFinding(Standing.WRONG, "namespace.create", words, remedy)
        elif resource in _WANTED:
            remedy = "a run can do without"
            yield ProfileFinding(Standing.DOUBTFUL, "", words, remedy)
        else:
            remedy = "ask a namespace admin to bind the Role grace-driver to you"
            yield ProfileFinding(Standing.WRONG, "", words, remedy)
