"""The rules of any careful site, as a table; they are checked everywhere."""

from grace.cluster.policies import (
    jobs,
    naming,
    network,
    references,
    storage,
)
from grace.cluster.policies.finding import Rule, Severity
from grace.cluster.policies.pod_table import POD_RULES

_VIOLATION, _NOT_READY = Severity.VIOLATION, Severity.NOT_READY
_KUBERNETES = "https://kubernetes.io/docs/concepts"
_IMAGES = f"{_KUBERNETES}/containers/images/"
_RESOURCES = f"{_KUBERNETES}/configuration/manage-resources-containers/"
_POD_SECURITY = f"{_KUBERNETES}/security/pod-security-standards/"
_POLICIES = f"{_KUBERNETES}/services-networking/network-policies/"
_JOBS = f"{_KUBERNETES}/workloads/controllers/job/"
_NAMES = f"{_KUBERNETES}/overview/working-with-objects/names/"
_SECRETS = f"{_KUBERNETES}/configuration/secret/"

GENERAL_RULES = (
    *POD_RULES,
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
        "a selector matches at least one pod",
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
        "server-precision",
        _VIOLATION,
        "a server computes in the precision that the catalogue says",
        "correct --dtype, or the catalogue's entry",
        references.other_precision,
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
        "network traffic that no policy allows is denied, in both directions",
        "add a NetworkPolicy that selects all pods, with both policyTypes and no rules",
        network.not_denied,
        source=_POLICIES,
    ),
    Rule(
        "policy-narrow",
        _VIOLATION,
        "a network policy names whom and which ports it allows, and lets in pods by label only",
        "name them",
        network.wide_open,
        source=_POLICIES,
    ),
    Rule(
        "dns-edge",
        _VIOLATION,
        "a pod that may reach others may also ask the cluster's DNS for their addresses",
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
        "a network policy names ports that the pods have",
        "correct the port",
        network.dead_ports,
        source=_POLICIES,
    ),
    Rule(
        "policy-selects",
        _VIOLATION,
        "a network policy names labels that some pod has",
        "correct the label",
        network.odd_selectors,
        source=_POLICIES,
    ),
    Rule(
        "job-restarts",
        _VIOLATION,
        "restartPolicy is Never or OnFailure for a Job's pods, and Always for a StatefulSet's",
        "set restartPolicy",
        jobs.bad_restarts,
        source=_JOBS,
    ),
    Rule(
        "job-deadline",
        _VIOLATION,
        "a Job has a deadline, of two weeks at most",
        "set jobs.deadline_hours or model_servers.deadline_hours in the profile",
        jobs.without_deadline,
        source=_JOBS,
    ),
    Rule(
        "job-numbers",
        _VIOLATION,
        "a Job's completions, parallelism and limits for each index fit each other",
        "correct the number",
        jobs.bad_indexes,
        source=_JOBS,
    ),
    Rule(
        "grace-period",
        _VIOLATION,
        "a pod that is stopped has the time that it needs to finish, and 15 minutes at most",
        "set terminationGracePeriodSeconds (jobs.drain_seconds in the profile)",
        jobs.bad_grace,
    ),
    Rule(
        "shard-count",
        _VIOLATION,
        "a Job has as many shards as pods, so that every query is asked",
        "set completionMode: Indexed, and completions to the N of `--shard`",
        jobs.bad_shards,
    ),
    Rule(
        "scaler-bounds",
        _VIOLATION,
        "an autoscaler has a least and a most, from 1 up; a disruption budget has one of its two limits",
        "correct them (model_servers.replicas and max_replicas)",
        jobs.bad_scalers,
    ),
    Rule(
        "claim-size",
        _VIOLATION,
        "the volume for a model is large enough for its weights",
        "raise the claim's size; the catalogue's disk_gb says how much",
        storage.small_claims,
    ),
    Rule(
        "claim-shared",
        _VIOLATION,
        "pods that may be on several nodes do not share a volume that only one node can use",
        "name a class of a shared file system (storage.weights: storage_class, and access: "
        "ReadWriteMany), or let there be one pod (model_servers.replicas and max_replicas: 1)",
        storage.tied_to_a_node,
    ),
    Rule(
        "mount-read-only",
        _VIOLATION,
        "a shared volume is read-only wherever nothing is written to it",
        "set readOnly: true",
        storage.writable_mounts,
    ),
    Rule(
        "mount-exists",
        _VIOLATION,
        "each mount names a volume of the pod, and no two mounts share a path",
        "correct the name or the path",
        storage.bad_mounts,
    ),
    Rule(
        "input-immutable",
        _VIOLATION,
        "input files cannot change while a run reads them, and a ConfigMap holds 1 MiB at most",
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
        "labels are valid, and the one that lets `grace cluster down` find the object is there",
        "correct the label",
        naming.bad_labels,
    ),
    Rule(
        "variable-valid",
        _VIOLATION,
        "an environment variable's name has letters, digits and _ only, and is set once",
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
