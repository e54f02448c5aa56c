"""The rules of any careful site about single pods and what they may do, as a table."""

from grace.cluster.policies import (
    gpu_rules,
    references,
    resources,
    security,
)
from grace.cluster.policies.finding import Rule, Severity

_VIOLATION, _NOT_READY = Severity.VIOLATION, Severity.NOT_READY
_KUBERNETES = "https://kubernetes.io/docs/concepts"
_IMAGES = f"{_KUBERNETES}/containers/images/"
_RESOURCES = f"{_KUBERNETES}/configuration/manage-resources-containers/"
_POD_SECURITY = f"{_KUBERNETES}/security/pod-security-standards/"
_POLICIES = f"{_KUBERNETES}/services-networking/network-policies/"
_JOBS = f"{_KUBERNETES}/workloads/controllers/job/"
_NAMES = f"{_KUBERNETES}/overview/working-with-objects/names/"
_SECRETS = f"{_KUBERNETES}/configuration/secret/"

POD_RULES = (
    Rule(
        "image-pinned",
        _VIOLATION,
        "an image has a digest, or a tag other than latest",
        "set images in the profile",
        security.unpinned_images,
        source=_IMAGES,
    ),
    Rule(
        "image-placeholder",
        _NOT_READY,
        "images have an address that exists; one at example.org only shows where yours goes",
        "build the images, push them to where the nodes can pull them, and name them in a profile "
        "of your own (images.runner, images.llamacpp): docs/how-to/nrp.md, step 2",
        security.placeholder_images,
    ),
    Rule(
        "resources-set",
        _VIOLATION,
        "every container has requests and limits for CPU, memory and ephemeral storage",
        "set requests and limits",
        resources.without_resources,
        source=_RESOURCES,
    ),
    Rule(
        "quantity-valid",
        _VIOLATION,
        "amounts are written as Kubernetes reads them (500m, 2Gi), and a limit is not below its request",
        "correct the quantity",
        resources.bad_quantities,
        source=_RESOURCES,
    ),
    Rule(
        "limit-range",
        _VIOLATION,
        "the namespace's own LimitRange and ResourceQuota leave room for the pods",
        "ask for less, or set namespace.quota in the profile",
        resources.outside_limits,
        source=_RESOURCES,
    ),
    Rule(
        "gpu-whole",
        _VIOLATION,
        "GPUs are whole numbers under limits, and a request for them is the same number",
        "set the limit, and leave the request out or make it the same",
        gpu_rules.bad_gpus,
        source=_RESOURCES,
    ),
    Rule(
        "gpu-resource",
        _VIOLATION,
        "a pod asks for GPUs by the name that the site gives them",
        "set gpus.products.*.resource in the profile, and ask for that",
        gpu_rules.other_gpu_names,
    ),
    Rule(
        "gpu-quota",
        _NOT_READY,
        "a namespace has such GPUs only after it has asked for them",
        "ask, then write what you were given into a profile of your own (gpus.products.*.quota), or "
        "choose a model that fits other GPUs",
        gpu_rules.over_quota,
    ),
    Rule(
        "pod-security",
        _VIOLATION,
        'pods keep to the Pod Security level "restricted"',
        "correct securityContext, or take the volume out",
        security.unrestricted,
        source=_POD_SECURITY,
    ),
    Rule(
        "namespace-level",
        _VIOLATION,
        "a namespace of ours enforces the profile's Pod Security level",
        "label it pod-security.kubernetes.io/enforce",
        security.open_namespaces,
        source=_POD_SECURITY,
    ),
    Rule(
        "read-only-root",
        _VIOLATION,
        "a container does not change its image's files",
        "set readOnlyRootFilesystem: true, and mount an emptyDir where it writes",
        security.writable_roots,
    ),
    Rule(
        "account-named",
        _VIOLATION,
        "pods run under an account of their own",
        "set serviceAccountName",
        security.default_accounts,
    ),
    Rule(
        "account-token",
        _VIOLATION,
        "a pod has an account's token only where a role is bound to the account",
        "set automountServiceAccountToken: false",
        security.needless_tokens,
    ),
    Rule(
        "role-least",
        _VIOLATION,
        "a role allows what its pods do, in this namespace, and never to read Secrets",
        "name groups, resources and verbs",
        security.broad_roles,
    ),
    Rule(
        "no-secret-values",
        _VIOLATION,
        "no object holds a secret's value",
        "make a Secret with kubectl, and refer to it (secrets in the profile)",
        security.secret_values,
        source=_SECRETS,
    ),
    Rule(
        "secret-known",
        _VIOLATION,
        "pods read no Secret, and no key of one, that the profile does not name",
        "set secrets or images.pull_secret in the profile",
        references.unknown_secrets,
        source=_SECRETS,
    ),
)
"""Checked everywhere."""
