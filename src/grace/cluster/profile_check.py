"""
What a profile has wrong about a cluster, in words.

Compares two pieces of data: a profile, and what a cluster said about itself.
What the cluster would not say is told as not known, never as wrong.
"""

from collections.abc import Iterator

from grace.catalogue.faults import did_you_mean
from grace.cluster.facts import ClusterFacts
from grace.cluster.gpu_check import gpu_findings, room_findings
from grace.cluster.permission_check import permission_findings, quota_findings
from grace.cluster.placeholders import is_placeholder
from grace.cluster.profile import ClaimSettings, Profile
from grace.cluster.profile_finding import ProfileFinding, Standing

__all__ = ["ProfileFinding", "Standing", "check_profile"]

OLDEST_MINOR = 29
"""Since then Jobs know retries for each index and wait for a pod to end before its successor."""

_LEVELS = ("privileged", "baseline", "restricted")
_ENFORCE = "pod-security.kubernetes.io/enforce"


def check_profile(profile: Profile, facts: ClusterFacts) -> tuple[ProfileFinding, ...]:
    """
    Return what a profile has wrong about a cluster, or may have; wrong things first.

    Args:
        profile: The profile.

        facts: What the cluster said.
    """
    found = [
        *_version(facts),
        *_namespace(profile, facts),
        *_storage(profile, facts),
        *gpu_findings(profile, facts),
        *room_findings(profile, facts),
        *quota_findings(profile, facts),
        *permission_findings(facts),
        *_groups(profile, facts),
        *_images(profile),
        *_secrets(profile, facts),
    ]
    return tuple(sorted(found, key=lambda finding: list(Standing).index(finding.standing)))


def _version(facts: ClusterFacts) -> Iterator[ProfileFinding]:
    parts = facts.server_version.lstrip("v").split(".")
    minor = parts[1].rstrip("+") if len(parts) > 1 else ""
    if not minor.isdigit() or parts[0] != "1":
        words = f"the cluster says that it is version {facts.server_version!r}"
        remedy = "look at `kubectl version`"
        yield ProfileFinding(Standing.UNKNOWN, "", words, remedy)
    elif int(minor) < OLDEST_MINOR:
        words = f"the cluster is Kubernetes {facts.server_version}"
        remedy = f"Grace's objects need 1.{OLDEST_MINOR} or newer"
        yield ProfileFinding(Standing.WRONG, "", words, remedy)


def _namespace(profile: Profile, facts: ClusterFacts) -> Iterator[ProfileFinding]:
    field = "namespace.create"
    if facts.namespace_exists is None:
        words = f"whether there is a namespace {facts.namespace} may not be asked"
        yield ProfileFinding(Standing.UNKNOWN, field, words, "look at `kubectl get namespace`")
    elif not facts.namespace_exists and not profile.namespace.create:
        words = f"there is no namespace {facts.namespace}, and profile {profile.name} makes none"
        remedy = "name an existing one with --namespace, or ask the admins for it"
        yield ProfileFinding(Standing.WRONG, field, words, remedy)
    if facts.namespace_labels is None:
        return
    level = facts.namespace_labels.get(_ENFORCE, "privileged")
    if profile.pod_security not in _LEVELS[_LEVELS.index(level) if level in _LEVELS else 0 :]:
        words = (
            f"profile {profile.name} says pod_security {profile.pod_security}; the namespace "
            f"{facts.namespace} enforces {level}"
        )
        remedy = "set pod_security: restricted; Grace's pods keep to it"
        yield ProfileFinding(Standing.DOUBTFUL, "pod_security", words, remedy)


def _storage(profile: Profile, facts: ClusterFacts) -> Iterator[ProfileFinding]:
    if facts.storage_classes is None:
        words = "the cluster's storage classes may not be listed"
        remedy = "look at `kubectl get storageclass`, or ask the admins"
        yield ProfileFinding(Standing.UNKNOWN, "storage", words, remedy)
        return
    names = [one.name for one in facts.storage_classes]
    default = [one.name for one in facts.storage_classes if one.default]
    has = ", ".join(names) or "none"
    for purpose in ("inputs", "weights", "output", "logs"):
        claim: ClaimSettings = getattr(profile.storage, purpose)
        field = f"storage.{purpose}.storage_class"
        if claim.storage_class is None:
            if not default:
                words = f"profile {profile.name} names no storage class for {purpose}, and the "
                words += f"cluster has no default one; it has: {has}"
                yield ProfileFinding(Standing.WRONG, field, words, f"set {field}")
        elif claim.storage_class not in names:
            near = did_you_mean(claim.storage_class, names)
            words = f"profile {profile.name} says storage class {claim.storage_class}; the cluster "
            yield ProfileFinding(Standing.WRONG, field, f"{words}has: {has}{near}", f"set {field}")
        elif _is_local(facts, claim.storage_class) and claim.access == "ReadWriteMany":
            yield _not_shared(purpose, claim.storage_class)
    if default and _is_local(facts, default[0]):
        for purpose in ("inputs", "output", "logs"):
            claim = getattr(profile.storage, purpose)
            if claim.storage_class is None and claim.access == "ReadWriteMany":
                yield _not_shared(purpose, default[0])


def _is_local(facts: ClusterFacts, name: str) -> bool:
    """Whether a class makes folders of one node, which no other node can mount."""
    provisioners = {one.name: one.provisioner for one in facts.storage_classes or ()}
    return any(
        part in provisioners.get(name, "") for part in ("local-path", "hostpath", "minikube")
    )


def _not_shared(purpose: str, name: str) -> ProfileFinding:
    return ProfileFinding(
        Standing.WRONG,
        f"storage.{purpose}.access",
        f"storage.{purpose} asks for ReadWriteMany of the class {name}, whose volumes are folders "
        "of one node",
        f"set storage.{purpose}.access: ReadWriteOnce, on a cluster of one node",
    )


def _groups(profile: Profile, facts: ClusterFacts) -> Iterator[ProfileFinding]:
    if facts.api_groups is None:
        return
    keda = profile.model_servers.autoscaler == "keda"
    if keda and "keda.sh" not in facts.api_groups:
        words = f"profile {profile.name} says autoscaler keda, which the cluster does not have"
        remedy = "set model_servers.autoscaler: none or hpa"
        yield ProfileFinding(Standing.WRONG, "model_servers.autoscaler", words, remedy)
    hpa = profile.model_servers.autoscaler == "hpa"
    if hpa and not {"metrics.k8s.io", "custom.metrics.k8s.io"} & facts.api_groups:
        words = f"profile {profile.name} says autoscaler hpa; the cluster serves no metrics for it"
        remedy = "set model_servers.autoscaler: none"
        yield ProfileFinding(Standing.WRONG, "model_servers.autoscaler", words, remedy)


def _images(profile: Profile) -> Iterator[ProfileFinding]:
    for name in ("runner", "llamacpp", "vllm", "tgi"):
        image = getattr(profile.images, name)
        if is_placeholder(image):
            words = f"{image} only shows where the name of your own image goes"
            remedy = (
                "build it and push it to where the nodes can pull it (deploy/README.md), and name "
                "it in a profile of your own"
            )
            yield ProfileFinding(Standing.WRONG, f"images.{name}", words, remedy)


def _secrets(profile: Profile, facts: ClusterFacts) -> Iterator[ProfileFinding]:
    if facts.secrets is None:
        return
    pull = profile.images.pull_secret
    if pull is not None and pull in facts.secrets and facts.secrets[pull] is None:
        words = f"there is no Secret {pull} in {facts.namespace}, with which images are pulled"
        remedy = (
            f"kubectl create secret docker-registry {pull} ..., or leave images.pull_secret out"
        )
        yield ProfileFinding(Standing.WRONG, "images.pull_secret", words, remedy)
    for name in ("hub_token", "deepseek"):
        secret = getattr(profile.secrets, name)
        if secret is None or secret.name not in facts.secrets:
            continue
        keys = facts.secrets[secret.name]
        field = f"secrets.{name}"
        if keys is None:
            words = f"there is no Secret {secret.name} in {facts.namespace}"
            remedy = (
                f"if you need it: kubectl create secret generic {secret.name} "
                f"--from-literal={secret.key}=..."
            )
            yield ProfileFinding(Standing.DOUBTFUL, field, words, remedy)
        elif secret.key not in keys:
            words = f"profile {profile.name} reads the key {secret.key} of the Secret {secret.name}"
            words += f", which has: {', '.join(sorted(keys)) or 'none'}"
            yield ProfileFinding(Standing.WRONG, field, words, f"set {field}.key")
