"""
All rules, as a table: what each demands, where that is written, and what to do.

The words of a site's rules take their figures from the profile, so that a site
that changes one changes its file.
"""

from grace.cluster.policies import (
    commands,
    jobs,
    naming,
    network,
    references,
    resources,
    security,
    storage,
)
from grace.cluster.policies.finding import Rule, Severity

_VIOLATION, _NOTICE = Severity.VIOLATION, Severity.NOTICE
_KUBERNETES = "https://kubernetes.io/docs/concepts"
_IMAGES = f"{_KUBERNETES}/containers/images/"
_RESOURCES = f"{_KUBERNETES}/configuration/manage-resources-containers/"
_POD_SECURITY = f"{_KUBERNETES}/security/pod-security-standards/"
_POLICIES = f"{_KUBERNETES}/services-networking/network-policies/"
_JOBS = f"{_KUBERNETES}/workloads/controllers/job/"
_NAMES = f"{_KUBERNETES}/overview/working-with-objects/names/"
_SECRETS = f"{_KUBERNETES}/configuration/secret/"

SITE_RULES = (
    Rule(
        "site-no-sleep",
        _VIOLATION,
        "a Job's command must not sleep, nor end in a sleep or an endless wait: whoever runs one "
        "is banned from the cluster",
        "let the command do its work and end; `grace files keep` ends by itself",
        commands.sleeping,
        lambda rules: rules.no_sleep,
    ),
    Rule(
        "site-no-installs",
        _VIOLATION,
        "nothing is installed or cloned when a pod starts: dependencies are in the image",
        "build an image (deploy/) and name it in the profile",
        commands.installing,
        lambda rules: rules.no_installs,
    ),
    Rule(
        "site-bare-pod",
        _VIOLATION,
        "a pod without a controller is interactive, and destroyed after {rule.hours:g} hours",
        "make it a Job",
        resources.bare_pods,
        lambda rules: rules.interactive_pods,
    ),
    Rule(
        "site-bare-pod-size",
        _VIOLATION,
        "a pod without a controller has {rule.gpus} GPUs, {rule.memory_gb:g} GB and {rule.cpu:g} "
        "cores at most",
        "make it a Job, or ask for less",
        resources.large_bare_pods,
        lambda rules: rules.interactive_pods,
    ),
    Rule(
        "site-long-running-gpu",
        _VIOLATION,
        "a Deployment or StatefulSet may hold no GPU unless it is on the site's exception list",
        "set model_servers.controller: job in the profile, or ask for an exception and list the "
        "model in rules.long_running.exceptions",
        resources.long_running_gpus,
        lambda rules: rules.long_running,
    ),
    Rule(
        "site-long-running",
        _NOTICE,
        "Deployments and StatefulSets are deleted after {rule.days:g} days, and should ask for "
        "little (Burstable)",
        "stop it when its stage is done: `grace cluster run` does, `grace cluster down` as well",
        resources.long_running,
        lambda rules: rules.long_running,
    ),
    Rule(
        "site-jobs-at-once",
        _VIOLATION,
        "no more than {rule.at_most} Jobs are submitted at once",
        "set jobs.at_once in the profile and let `grace cluster run` send them",
        jobs.too_many_jobs,
        lambda rules: rules.jobs_at_once,
    ),
    Rule(
        "site-jobs-applied",
        _NOTICE,
        "no more than {rule.at_most} Jobs are submitted at once",
        "`grace cluster run` sends a few at a time; do not `kubectl apply` the whole folder",
        jobs.many_jobs_applied,
        lambda rules: rules.jobs_at_once,
    ),
    Rule(
        "site-failed-jobs",
        _VIOLATION,
        "a failed Job must not go on making pods: at most {rule.backoff_at_most} retries, and "
        "ttlSecondsAfterFinished",
        "set backoffLimit and ttlSecondsAfterFinished (jobs.backoff_limit, jobs.keep_hours)",
        jobs.endless_failures,
        lambda rules: rules.failed_jobs,
    ),
    Rule(
        "site-limits-ratio",
        _VIOLATION,
        "limits are at most {rule.at_most:g} times the requests",
        "lower limits_ratio in the profile",
        resources.limits_over_ratio,
        lambda rules: rules.limits_ratio,
    ),
    Rule(
        "site-many-pods",
        _VIOLATION,
        "with more than {rule.more_than} pods or Jobs, limits are the requests",
        "set limits_ratio: 1 in the profile, or run fewer pods",
        resources.limits_of_many,
        lambda rules: rules.many_pods,
    ),
    Rule(
        "site-utilisation",
        _NOTICE,
        "pods that ask for more than {rule.exempt_cpu:g} CPU and {rule.exempt_memory_gb:g} GB must "
        "use at least {rule.gpu_at_least:.0%} of their GPUs, {rule.cpu_at_least:.0%} to "
        "{rule.cpu_at_most:.0%} of their CPUs and {rule.memory_at_least:.0%} to "
        "{rule.memory_at_most:.0%} of their memory; {rule.violating_pods} pods of a user may not",
        "look at the forecast of `grace cluster plan` first",
        resources.not_exempt,
        lambda rules: rules.utilisation,
    ),
    Rule(
        "site-utilisation-many",
        _VIOLATION,
        "no more than {rule.violating_pods} pods of a user may use less than they ask for; pods "
        "that wait for a server do, unless they ask for {rule.exempt_cpu:g} CPU and "
        "{rule.exempt_memory_gb:g} GB at most",
        "lower jobs.query in the profile, or jobs.shards",
        resources.many_not_exempt,
        lambda rules: rules.utilisation,
    ),
    Rule(
        "site-gpus-at-once",
        _VIOLATION,
        "a plan with more than {rule.more_than} GPUs at once is shown to the admins first "
        "{rule.contact}",
        "serve fewer models at once (model_servers.at_once, gpus_at_once); once the admins have "
        "agreed, raise rules.gpus_at_once.more_than in a profile of your own",
        resources.gpus_at_once,
        lambda rules: rules.gpus_at_once,
    ),
    Rule(
        "site-storage-class",
        _VIOLATION,
        "a claim names one of the site's storage classes",
        "set storage in the profile",
        storage.unknown_classes,
        lambda rules: rules.storage_classes,
    ),
    Rule(
        "site-storage-forbidden",
        _VIOLATION,
        "this storage class is not for data that must stay",
        "set storage in the profile to another class",
        storage.forbidden_classes,
        lambda rules: rules.storage_classes,
    ),
    Rule(
        "site-storage-access",
        _VIOLATION,
        "a volume of this class is mounted by one node at a time",
        "ask for ReadWriteOnce, or for a class of a shared file system",
        storage.unshareable,
        lambda rules: rules.storage_classes,
    ),
    Rule(
        "site-one-writer",
        _VIOLATION,
        "no two clients write to the same file of a shared volume",
        "give the Job's command `--shard $(JOB_COMPLETION_INDEX)/N`, or mount the volume read-only",
        jobs.many_writers,
        lambda rules: rules.one_writer,
    ),
)
"""Checked where the profile has such a rule."""

GENERAL_RULES = (
    Rule(
        "image-pinned",
        _VIOLATION,
        "an image has a tag that is not latest, or a digest",
        "set images in the profile",
        security.unpinned_images,
        source=_IMAGES,
    ),
    Rule(
        "resources-set",
        _VIOLATION,
        "every container says what it asks for and what it may take: CPU, memory, ephemeral storage",
        "set requests and limits",
        resources.without_resources,
        source=_RESOURCES,
    ),
    Rule(
        "quantity-valid",
        _VIOLATION,
        "quantities are numbers with a unit of Kubernetes, and limits not below requests",
        "correct the quantity",
        resources.bad_quantities,
        source=_RESOURCES,
    ),
    Rule(
        "gpu-whole",
        _VIOLATION,
        "GPUs are asked for in whole numbers, as a limit, and the request is the same",
        "set the limit, and leave the request out or make it the same",
        resources.bad_gpus,
        source=_RESOURCES,
    ),
    Rule(
        "gpu-resource",
        _VIOLATION,
        "GPUs are asked for by the name that the site gives to the products a pod may run on",
        "set gpus.products.*.resource in the profile, and ask for that",
        resources.other_gpu_names,
    ),
    Rule(
        "gpu-quota",
        _NOTICE,
        "these GPUs are not there for the asking",
        "ask for access first, or choose a model that fits another GPU",
        resources.over_quota,
    ),
    Rule(
        "pod-security",
        _VIOLATION,
        "pods keep to the Pod Security level restricted",
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
        "pods read the Secrets that the profile names, and the keys that it names",
        "set secrets or images.pull_secret in the profile",
        references.unknown_secrets,
        source=_SECRETS,
    ),
    Rule(
        "reference-exists",
        _VIOLATION,
        "what an object refers to is in the set",
        "correct the name, or add the object",
        references.missing,
    ),
    Rule(
        "selector-matches",
        _VIOLATION,
        "a selector matches pods",
        "correct the labels",
        references.unmatched_selectors,
    ),
    Rule(
        "server-probes",
        _VIOLATION,
        "a server has a startup, a readiness and a liveness probe",
        "add the probe",
        references.without_probes,
    ),
    Rule(
        "port-exists",
        _VIOLATION,
        "a probe or a Service names a port of the container",
        "correct the port",
        references.missing_ports,
    ),
    Rule(
        "default-deny",
        _VIOLATION,
        "what no policy allows is denied, in and out",
        "add a NetworkPolicy that selects all pods, with both policyTypes and no rules",
        network.not_denied,
        source=_POLICIES,
    ),
    Rule(
        "policy-narrow",
        _VIOLATION,
        "a policy names peers and ports",
        "name them",
        network.wide_open,
        source=_POLICIES,
    ),
    Rule(
        "dns-edge",
        _VIOLATION,
        "a pod that reaches anything may look names up",
        "add a policy for it: egress to the cluster's DNS, port 53, UDP and TCP",
        network.without_dns,
        source=_POLICIES,
    ),
    Rule(
        "server-edge",
        _VIOLATION,
        "a pod may reach the server that it asks, and the server lets it in",
        "add the egress of the one or the ingress of the other",
        network.without_edge,
        source=_POLICIES,
    ),
    Rule(
        "policy-port",
        _VIOLATION,
        "a policy is about ports that pods have",
        "correct the port",
        network.dead_ports,
        source=_POLICIES,
    ),
    Rule(
        "policy-selects",
        _VIOLATION,
        "a policy goes by labels that pods have",
        "correct the label",
        network.odd_selectors,
        source=_POLICIES,
    ),
    Rule(
        "job-restarts",
        _VIOLATION,
        "a Job's pods are restarted Never or OnFailure, a server's Always",
        "set restartPolicy",
        jobs.bad_restarts,
        source=_JOBS,
    ),
    Rule(
        "job-deadline",
        _VIOLATION,
        "a Job ends: activeDeadlineSeconds is at most two weeks",
        "set jobs.deadline_hours or model_servers.deadline_hours in the profile",
        jobs.without_deadline,
        source=_JOBS,
    ),
    Rule(
        "job-numbers",
        _VIOLATION,
        "completions, parallelism and the limits of indexes go together",
        "correct the number",
        jobs.bad_indexes,
        source=_JOBS,
    ),
    Rule(
        "grace-period",
        _VIOLATION,
        "a pod has the time that it needs to end, and no more than a quarter of an hour",
        "set terminationGracePeriodSeconds (jobs.drain_seconds in the profile)",
        jobs.bad_grace,
    ),
    Rule(
        "shard-count",
        _VIOLATION,
        "the shards of a Job are as many as its pods",
        "set completionMode: Indexed, and completions to the N of `--shard`",
        jobs.bad_shards,
    ),
    Rule(
        "scaler-bounds",
        _VIOLATION,
        "an autoscaler has bounds, from 1 up; a disruption budget has one",
        "correct them (model_servers.replicas and max_replicas)",
        jobs.bad_scalers,
    ),
    Rule(
        "claim-size",
        _VIOLATION,
        "a claim holds the model's weights",
        "raise the claim's size; the catalogue's disk_gb says how much",
        storage.small_claims,
    ),
    Rule(
        "mount-read-only",
        _VIOLATION,
        "a shared volume is mounted to be written only where something is written",
        "set readOnly: true",
        storage.writable_mounts,
    ),
    Rule(
        "mount-exists",
        _VIOLATION,
        "a mount has its volume, and a place of its own",
        "correct the name or the path",
        storage.bad_mounts,
    ),
    Rule(
        "input-immutable",
        _VIOLATION,
        "inputs do not change under a run, and a ConfigMap holds a mebibyte at most",
        "set immutable: true; put larger files on the claim for inputs",
        storage.changeable_inputs,
    ),
    Rule(
        "name-valid",
        _VIOLATION,
        "a name has lower-case letters, digits and hyphens: at most 63, a Job's and a server's 52",
        "shorten it; grace.cluster.names makes names that fit",
        naming.bad_names,
        source=_NAMES,
    ),
    Rule(
        "label-valid",
        _VIOLATION,
        "labels are valid, and app.kubernetes.io/managed-by says grace, so that `down` finds all",
        "correct the label",
        naming.bad_labels,
    ),
    Rule(
        "variable-valid",
        _VIOLATION,
        "a variable's name has letters, digits and _, and is there once",
        "rename it",
        naming.bad_variables,
    ),
    Rule(
        "unique",
        _VIOLATION,
        "no two objects have the same kind and name",
        "rename one of them",
        naming.duplicates,
    ),
    Rule(
        "namespace-same",
        _VIOLATION,
        "all objects are in the run's namespace",
        "correct metadata.namespace",
        naming.other_namespaces,
    ),
)
"""Checked everywhere."""

RULES = (*SITE_RULES, *GENERAL_RULES)
