"""A small set of objects that breaks no rule of any profile, as plain data."""

import copy
import json
from typing import Any

NAMESPACE = "lab"
RUN = "20260131t235959z"
SERVER = "model-smollm2-135m"
QUERY = f"respond-exp1-smollm2-135m-{RUN}"
Objects = dict[str, dict[str, Any]]


def good_set() -> Objects:
    """Return the objects by `Kind/name`; each call returns new ones."""
    objects = [
        *_access(),
        *_policies(),
        _claim("grace-output", "results", "rook-cephfs", "ReadWriteMany", "50Gi"),
        _claim("grace-logs", "results", "rook-cephfs", "ReadWriteMany", "10Gi"),
        _claim("weights-smollm2-135m", "weights", "rook-ceph-block", "ReadWriteOnce", "10Gi"),
        _config("config-0123456789ab", {"run.yaml": "limit: 10\n"}),
        _config("input-study1-csv-0123456789ab", {"study1.csv": "a,b\n"}),
        *_server(),
        _query(),
        _weights(),
    ]
    # Not copy.deepcopy: it would keep what two objects share.
    apart: list[dict[str, Any]] = json.loads(json.dumps(objects))
    return {f"{it['kind']}/{it['metadata']['name']}": it for it in apart}


def container(objects: Objects, name: str) -> dict[str, Any]:
    """Return the first container of an object's pods."""
    found: dict[str, Any] = objects[name]["spec"]["template"]["spec"]["containers"][0]
    return found


def pod(objects: Objects, name: str) -> dict[str, Any]:
    """Return the spec of an object's pods."""
    found: dict[str, Any] = objects[name]["spec"]["template"]["spec"]
    return found


def bare_pod() -> dict[str, Any]:
    """Return a Pod without a controller, like those of the queries."""
    template = _query()["spec"]["template"]
    labels = {**_labels("query"), "grace/reaches": "servers"}
    spec = {**copy.deepcopy(template["spec"]), "restartPolicy": "Never"}
    spec["containers"][0]["command"] = ["grace", "studies", "list"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "access", "namespace": NAMESPACE, "labels": labels},
        "spec": spec,
    }


def many_jobs(objects: Objects, count: int) -> None:
    """Add Jobs that do nothing wrong but to be many."""
    for number in range(count):
        job = _query()
        job["metadata"]["name"] = f"respond-{number}"
        objects[f"Job/respond-{number}"] = copy.deepcopy(job)


def stateful(objects: Objects) -> dict[str, Any]:
    """Make the server a StatefulSet, and return it."""
    job = objects.pop(f"Job/{SERVER}")
    template = job["spec"]["template"]
    template["spec"].pop("restartPolicy")
    template["spec"]["restartPolicy"] = "Always"
    labels = {"app.kubernetes.io/component": "model-server", "grace/model": "smollm2-135m"}
    made: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": job["metadata"],
        "spec": {
            "replicas": 1,
            "serviceName": "peers-smollm2-135m",
            "selector": {"matchLabels": labels},
            "template": template,
        },
    }
    objects[f"StatefulSet/{SERVER}"] = made
    return made


def scheduled(objects: Objects, name: str) -> dict[str, Any]:
    """Let a CronJob make a Job's pods, and return it."""
    job = objects.pop(name)
    job["spec"].pop("ttlSecondsAfterFinished")
    made = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": job["metadata"],
        "spec": {
            "schedule": "*/5 * * * *",
            "concurrencyPolicy": "Forbid",
            "jobTemplate": {"metadata": {"labels": job["metadata"]["labels"]}, "spec": job["spec"]},
        },
    }
    objects[f"CronJob/{job['metadata']['name']}"] = made
    return made


def scaler(objects: Objects) -> dict[str, Any]:
    """Make the server a StatefulSet with an autoscaler, and return the latter."""
    stateful(objects)
    weights = objects["PersistentVolumeClaim/weights-smollm2-135m"]["spec"]
    weights |= {"storageClassName": "rook-cephfs", "accessModes": ["ReadWriteMany"]}
    made: dict[str, Any] = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _metadata(SERVER, "model-server"),
        "spec": {
            "minReplicas": 1,
            "maxReplicas": 2,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": SERVER},
        },
    }
    objects[f"HorizontalPodAutoscaler/{SERVER}"] = made
    return made


def gpus(objects: Objects, name: str, count: int, product: str, resource: str) -> None:
    """Let an object's pods ask for GPUs of a product."""
    resources = container(objects, name)["resources"]
    resources["requests"][resource] = resources["limits"][resource] = str(count)
    terms = [{"key": "nvidia.com/gpu.product", "operator": "In", "values": [product]}]
    required = {"nodeSelectorTerms": [{"matchExpressions": terms}]}
    pod(objects, name)["affinity"] = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}
    }


def _labels(component: str, **further: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "grace",
        "app.kubernetes.io/managed-by": "grace",
        "app.kubernetes.io/component": component,
        **further,
    }


def _metadata(name: str, component: str, **further: str) -> dict[str, Any]:
    return {"name": name, "namespace": NAMESPACE, "labels": _labels(component, **further)}


def _access() -> list[dict[str, Any]]:
    accounts = [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": _metadata(f"grace-{name}", "setup"),
            "automountServiceAccountToken": False,
        }
        for name in ("query", "server", "weights", "driver")
    ]
    rules = [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "patch"]}]
    api = "rbac.authorization.k8s.io"
    return [
        *accounts,
        {
            "apiVersion": f"{api}/v1",
            "kind": "Role",
            "metadata": _metadata("grace-driver", "setup"),
            "rules": rules,
        },
        {
            "apiVersion": f"{api}/v1",
            "kind": "RoleBinding",
            "metadata": _metadata("grace-driver", "setup"),
            "roleRef": {"apiGroup": api, "kind": "Role", "name": "grace-driver"},
            "subjects": [
                {"kind": "ServiceAccount", "name": "grace-driver", "namespace": NAMESPACE}
            ],
        },
    ]


def _policies() -> list[dict[str, Any]]:
    server = {"matchLabels": {"app.kubernetes.io/component": "model-server"}}
    senders = {"matchLabels": {"grace/reaches": "servers"}}
    outside = {"matchLabels": {"grace/reaches": "outside"}}
    ours = {"matchLabels": {"app.kubernetes.io/name": "grace"}}
    port = [{"protocol": "TCP", "port": 8000}]
    dns = {
        "to": [
            {
                "namespaceSelector": {
                    "matchLabels": {"kubernetes.io/metadata.name": "kube-system"}
                },
                "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
            }
        ],
        "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
    }
    hub = {
        "to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}],
        "ports": [{"protocol": "TCP", "port": 443}],
    }
    return [
        _policy("grace-default-deny", ours, ["Ingress", "Egress"]),
        _policy(
            "grace-to-servers",
            senders,
            ["Egress"],
            egress=[{"to": [{"podSelector": server}], "ports": port}, dns],
        ),
        _policy(
            "grace-servers",
            server,
            ["Ingress"],
            ingress=[{"from": [{"podSelector": senders}], "ports": port}],
        ),
        _policy("grace-to-outside", outside, ["Egress"], egress=[hub, copy.deepcopy(dns)]),
    ]


def _policy(name: str, selector: object, types: list[str], **rules: object) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(name, "setup"),
        "spec": {"podSelector": selector, "policyTypes": types, **rules},
    }


def _claim(name: str, component: str, storage: str, access: str, size: str) -> dict[str, Any]:
    model = {"grace/model": "smollm2-135m"} if component == "weights" else {}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _metadata(name, component, **model),
        "spec": {
            "accessModes": [access],
            "storageClassName": storage,
            "resources": {"requests": {"storage": size}},
        },
    }


def _config(name: str, data: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(name, "setup"),
        "immutable": True,
        "data": data,
    }


def _server() -> list[dict[str, Any]]:
    health = {"httpGet": {"path": "/health", "port": "http"}}
    probes = {f"{name}Probe": health for name in ("startup", "readiness", "liveness")}
    command = ["grace", "serve", "smollm2-135m", "--host", "0.0.0.0", "--port", "8000"]  # noqa: S104 (inside a pod)
    template = _template(
        "model-server",
        "server",
        command,
        [_mounted("weights", "weights-smollm2-135m")],
        [{"name": "weights", "mountPath": "/grace/weights", "readOnly": True}],
        **{"grace/model": "smollm2-135m"},
    )
    only = template["spec"]["containers"][0]
    only |= {"ports": [{"name": "http", "containerPort": 8000}], **probes}
    wanted = {"app.kubernetes.io/component": "model-server", "grace/model": "smollm2-135m"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(SERVER, "model-server"),
        "spec": {"selector": wanted, "ports": [{"port": 8000, "targetPort": "http"}]},
    }
    peers = copy.deepcopy(service)
    peers["metadata"]["name"] = "peers-smollm2-135m"  # type: ignore[index]  # a dict of dicts
    peers["spec"]["clusterIP"] = "None"  # type: ignore[index]  # likewise
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(SERVER, "model-server"),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": wanted}},
    }
    return [_job(SERVER, template), service, peers, budget]


def _query() -> dict[str, Any]:
    command = ["grace", "stage", "respond", "--config", "/grace/config/run.yaml"]
    command += ["--experiment", "exp1", "--model", "smollm2-135m"]
    command += ["--endpoint", f"http://{SERVER}:8000", "--server", "llamacpp"]
    command += ["--shard", "$(JOB_COMPLETION_INDEX)/4", "--log", "json"]
    config = {"configMap": {"name": "config-0123456789ab"}}
    inputs = {"configMap": {"name": "input-study1-csv-0123456789ab"}}
    template = _template(
        "query",
        "query",
        command,
        [
            {"name": "config", "projected": {"sources": [config]}},
            {"name": "inputs", "projected": {"sources": [inputs]}},
            _mounted("results", "grace-output"),
            _mounted("logs", "grace-logs"),
        ],
        [
            {"name": "config", "mountPath": "/grace/config", "readOnly": True},
            {"name": "inputs", "mountPath": "/grace/inputs", "readOnly": True},
            {"name": "results", "mountPath": "/grace/results"},
            {"name": "logs", "mountPath": "/grace/logs"},
        ],
        **{"grace/reaches": "servers", "grace/model": "smollm2-135m", "grace/run": RUN},
    )
    return _job(QUERY, template, shards=4)


def _weights() -> dict[str, Any]:
    command = ["grace", "models", "pull", "smollm2-135m", "--store", "/grace/weights"]
    template = _template(
        "weights",
        "weights",
        command,
        [_mounted("weights", "weights-smollm2-135m")],
        [{"name": "weights", "mountPath": "/grace/weights"}],
        **{"grace/reaches": "outside", "grace/model": "smollm2-135m", "grace/run": RUN},
    )
    token = {"secretKeyRef": {"name": "grace-hub", "key": "HF_TOKEN"}}
    template["spec"]["containers"][0]["env"] = [{"name": "HF_TOKEN", "valueFrom": token}]
    return _job(f"weights-smollm2-135m-{RUN}", template)


def _mounted(name: str, claim: str) -> dict[str, Any]:
    return {"name": name, "persistentVolumeClaim": {"claimName": claim}}


def _template(
    component: str,
    account: str,
    command: list[str],
    volumes: list[dict[str, Any]],
    mounts: list[dict[str, Any]],
    **labels: str,
) -> dict[str, Any]:
    asked = {"cpu": "1", "memory": "2Gi", "ephemeral-storage": "1Gi"}
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    return {
        "metadata": {"labels": _labels(component, **labels)},
        "spec": {
            "automountServiceAccountToken": False,
            "serviceAccountName": f"grace-{account}",
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 45,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "grace",
                    "image": "ghcr.io/lab/grace-runner:0.1.0",
                    "command": command,
                    "resources": {"requests": dict(asked), "limits": dict(asked)},
                    "securityContext": security,
                    "volumeMounts": [*mounts, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 (of a pod)
                }
            ],
            "volumes": [*volumes, {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
        },
    }


def _job(name: str, template: dict[str, Any], shards: int = 1) -> dict[str, Any]:
    limits = {"backoffLimitPerIndex": 3} if shards > 1 else {"backoffLimit": 3}
    component = template["metadata"]["labels"]["app.kubernetes.io/component"]
    model = {"grace/model": "smollm2-135m"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(name, component, **model),
        "spec": {
            "completionMode": "Indexed",
            "completions": shards,
            "parallelism": shards,
            **limits,
            "activeDeadlineSeconds": 86400,
            "ttlSecondsAfterFinished": 86400,
            "template": template,
        },
    }
