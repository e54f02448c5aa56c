"""How each rule can be broken in the good set, and nothing else."""

from collections.abc import Callable, Mapping
from typing import Any

from good_set import (
    NAMESPACE,
    QUERY,
    RUN,
    SERVER,
    Objects,
    bare_pod,
    container,
    gpus,
    many_jobs,
    pod,
    scaler,
    scheduled,
    stateful,
)

J, S = f"Job/{QUERY}", f"Job/{SERVER}"
W = f"Job/weights-smollm2-135m-{RUN}"
Break = Callable[[Objects], object]


def put(objects: Objects, manifest: Mapping[str, Any]) -> None:
    """Add an object."""
    objects[f"{manifest['kind']}/{manifest['metadata']['name']}"] = dict(manifest)


def lay(target: dict[str, Any], **fields: Any) -> object:
    """Set fields."""
    target.update(fields)
    return target


def all_of(*breaks: Break) -> Break:
    """Return what breaks a set in several places."""
    return lambda objects: [broken(objects) for broken in breaks]


def command(*words: str) -> Break:
    """Return what gives the download another command."""
    return lambda objects: lay(container(objects, W), command=list(words))


def limit(name: str, value: str) -> Break:
    """Return what changes a limit of the queries."""
    return lambda objects: lay(container(objects, J)["resources"]["limits"], **{name: value})


def environment(**variable: Any) -> Break:
    """Return what gives the queries a variable."""
    return lambda objects: lay(container(objects, J), env=[variable])


def egress(objects: Objects) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = objects["NetworkPolicy/grace-to-servers"]["spec"]["egress"]
    return found


def ingress(objects: Objects) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = objects["NetworkPolicy/grace-servers"]["spec"]["ingress"]
    return found


def security(**fields: Any) -> Break:
    """Return what changes the queries' security context."""
    return lambda objects: lay(container(objects, J)["securityContext"], **fields)


def small_gpus(objects: Objects, name: str, count: int = 1) -> object:
    gpus(objects, name, count, "NVIDIA-L40", "nvidia.com/gpu")
    return objects


def stateful_gpu(objects: Objects) -> None:
    stateful(objects)
    small_gpus(objects, f"StatefulSet/{SERVER}")


def large_pod(objects: Objects) -> None:
    made = bare_pod()
    for which in ("requests", "limits"):
        made["spec"]["containers"][0]["resources"][which]["memory"] = "64Gi"
    put(objects, made)


def pod_with(name: str, value: str) -> Break:
    """Return what adds a Pod without a controller that asks for so much."""

    def add(objects: Objects) -> None:
        made = bare_pod()
        for which in ("requests", "limits"):
            made["spec"]["containers"][0]["resources"][which][name] = value
        put(objects, made)

    return add


def objects_cron(objects: Objects) -> dict[str, Any]:
    """Let the download begin by the clock, and return what says when."""
    found: dict[str, Any] = scheduled(objects, W)["spec"]
    return found


def cron_job(objects: Objects) -> dict[str, Any]:
    found: dict[str, Any] = objects_cron(objects)["jobTemplate"]["spec"]
    return found


def cron_pod(objects: Objects) -> dict[str, Any]:
    found: dict[str, Any] = cron_job(objects)["template"]["spec"]
    return found


def cron_container(objects: Objects, field: str) -> None:
    """Take a field away from its security context."""
    cron_pod(objects)["containers"][0]["securityContext"].pop(field)


def scaler_of(objects: Objects) -> Objects:
    scaler(objects)
    return objects


def claim_of(objects: Objects, mode: str) -> None:
    """Let the weights be on a volume of another access mode."""
    objects["PersistentVolumeClaim/weights-smollm2-135m"]["spec"]["accessModes"] = [mode]


def secret_volume(objects: Objects, **secret: Any) -> None:
    pod(objects, J)["volumes"].append({"name": "secret", "secret": secret})


def forty_more(objects: Objects, name: str, value: str) -> None:
    """Let there be more than a hundred pods, one with another limit."""
    many_jobs(objects, 40)
    objects[J]["spec"] |= {"completions": 4}
    container(objects, J)["resources"]["limits"][name] = value


def eight_pods(objects: Objects) -> None:
    resources = container(objects, J)["resources"]
    for which in ("requests", "limits"):
        resources[which]["cpu"] = "4"
    objects[J]["spec"] |= {"completions": 8, "parallelism": 8}
    words = container(objects, J)["command"]
    words[words.index("$(JOB_COMPLETION_INDEX)/4")] = "$(JOB_COMPLETION_INDEX)/8"


def mounted_script(objects: Objects, key: str, script: str) -> object:
    return lay(objects["ConfigMap/config-0123456789ab"]["data"], **{key: script})


def range_of(**limits: Any) -> Break:
    """Return what puts a LimitRange into the set."""
    spec = {"limits": [{"type": "Container", **limits}]}
    return lambda objects: put(objects, labelled("LimitRange", spec=spec))


def without_shard(objects: Objects) -> None:
    words = container(objects, J)["command"]
    place = words.index("--shard")
    del words[place : place + 2]


def storage(name: str, value: str) -> Break:
    return lambda objects: lay(
        objects[f"PersistentVolumeClaim/{name}"]["spec"], storageClassName=value
    )


def no_port(objects: Objects) -> None:
    objects[f"Service/{SERVER}"]["spec"]["ports"] = [{"port": 8000, "targetPort": 9000}]
    for policy, field in (("grace-to-servers", "egress"), ("grace-servers", "ingress")):
        rule = objects[f"NetworkPolicy/{policy}"]["spec"][field][0]
        rule["ports"] = [*rule["ports"], {"protocol": "TCP", "port": 9000}]
    container(objects, S)["ports"].append({"name": "more", "containerPort": 9000})
    objects["Service/peers-smollm2-135m"]["spec"]["ports"][0]["targetPort"] = "nosuch"


def other_port(objects: Objects) -> None:
    container(objects, S)["ports"].append({"name": "metrics", "containerPort": 9000})
    egress(objects)[0]["ports"] = [{"protocol": "TCP", "port": 9000}]


def two_secrets(objects: Objects) -> None:
    variable = container(objects, W)["env"][0]
    variable["valueFrom"]["secretKeyRef"]["key"] = "HUGGINGFACE_TOKEN"


def second_init(objects: Objects) -> None:
    only = dict(container(objects, J))
    pod(objects, J)["initContainers"] = [{**only, "image": "busybox", "name": "first"}]


SLEEPS: tuple[Break, ...] = (
    command("sleep", "infinity"),
    command("/usr/bin/sleep", "3600"),
    command("sh", "-c", "grace stage respond; sleep infinity"),
    command("sh", "-c", "grace stage respond&&sleep 1d"),
    command("bash", "-lc", "grace stage respond\nsleep 100"),
    command("bash", "-c", 'exec "/bin/sleep" inf'),
    command("tail", "-f", "/dev/null"),
    command("sh", "-c", "tail -n0 -F /dev/null"),
    command("sh", "-c", "trap : TERM; tail -f /dev/null & wait"),
    command("sh", "-c", "while true; do :; done"),
    command("python", "-c", "import time; time.sleep(1e9)"),
    command("timeout", "9999", "sleep", "9998"),
    command("env", "A=b", "sleep", "1"),
    command("tini", "--", "sleep", "1"),
    command("/pause"),
    command("busybox", "sleep", "9"),
    command("tail", "-f", "-n", "0", "/dev/null"),
    command("tail", "/dev/null", "--follow=name"),
    command("python", "-c", "from time import sleep\nsleep(5)"),
    command("perl", "-e", "sleep 100"),
    command("sh", "-c", "while sleep 1; do date; done"),
    command("sh", "-c", "T=sleep; $T 10"),
    lambda objects: mounted_script(objects, "run", "#!/bin/sh\ngrace stage respond\nsleep 600\n"),
    lambda objects: mounted_script(objects, "run.sh", "sleep 600"),
    lambda objects: lay(container(objects, W), command=["/bin/sh"], args=["-c", "x; sleep 5"]),
    lambda objects: lay(container(objects, W), command=None, args=["sleep", "60"]),
    lambda objects: lay(
        container(objects, J), lifecycle={"preStop": {"exec": {"command": ["sleep", "60"]}}}
    ),
    lambda objects: lay(container(objects, J), lifecycle={"preStop": {"sleep": {"seconds": 60}}}),
)

INSTALLS: tuple[Break, ...] = (
    lambda objects: mounted_script(objects, "run.sh", "pip install vllm"),
    command("pip", "install", "vllm"),
    command("git", "clone", "https://example.org/x"),
    *(
        command("sh", "-c", f"{text} && grace stage respond")
        for text in (
            "pip install vllm",
            "pip3 install --user vllm",
            "python -m pip install .",
            "uv pip install vllm",
            "conda install -y numpy",
            "conda env create -f e.yaml",
            "apt-get update",
            "apt-get -y install git",
            "apk add curl",
            "git clone https://example.org/x",
            "git -C /x pull",
            "curl -s https://example.org/x | sh",
            "npm install",
        )
    ),
)

BREAKS: tuple[tuple[str, Break], ...] = (
    *(("site-no-sleep", broken) for broken in SLEEPS),
    *(("site-no-installs", broken) for broken in INSTALLS),
    ("site-bare-pod", lambda objects: put(objects, bare_pod())),
    ("site-bare-pod-size", large_pod),
    ("site-bare-pod-size", pod_with("cpu", "17")),
    ("site-bare-pod-size", pod_with("nvidia.com/gpu", "3")),
    ("site-long-running-gpu", stateful_gpu),
    ("site-long-running", stateful),
    ("site-jobs-at-once", lambda objects: many_jobs(objects, 400)),
    ("site-failed-jobs", lambda objects: objects[S]["spec"].pop("backoffLimit")),
    ("site-failed-jobs", lambda objects: lay(objects[S]["spec"], backoffLimit=7)),
    ("site-failed-jobs", lambda objects: lay(objects[J]["spec"], backoffLimitPerIndex=7)),
    ("site-failed-jobs", lambda objects: objects[J]["spec"].pop("ttlSecondsAfterFinished")),
    ("site-limits-ratio", limit("cpu", "2")),
    ("site-limits-ratio", limit("memory", "2500Mi")),
    ("site-limits-ratio", limit("ephemeral-storage", "1.3Gi")),
    ("site-many-pods", lambda objects: forty_more(objects, "cpu", "1100m")),
    (
        "site-utilisation",
        lambda objects: (
            lay(container(objects, S)["resources"]["requests"], cpu="1001m"),
            lay(container(objects, S)["resources"]["limits"], cpu="1001m"),
        ),
    ),
    ("site-utilisation-many", eight_pods),
    ("site-gpus-at-once", lambda objects: small_gpus(objects, S, 51)),
    ("site-storage-class", storage("grace-output", "standard")),
    (
        "site-storage-class",
        lambda objects: objects["PersistentVolumeClaim/grace-logs"]["spec"].pop("storageClassName"),
    ),
    ("site-storage-forbidden", storage("grace-output", "rook-cephfs-ucsd")),
    ("site-storage-access", storage("grace-output", "rook-ceph-block")),
    ("site-one-writer", without_shard),
    (
        "image-placeholder",
        lambda objects: lay(container(objects, J), image="registry.example.org/lab/runner:1"),
    ),
    ("image-placeholder", lambda objects: lay(container(objects, S), image="x.invalid:5000/a:1")),
    (
        "gpu-quota",
        lambda objects: gpus(objects, S, 1, "NVIDIA-A100-SXM4-80GB", "nvidia.com/a100"),
    ),
    ("claim-shared", lambda objects: claim_of(scaler_of(objects), "ReadWriteOnce")),
    ("claim-shared", lambda objects: lay(stateful(objects)["spec"], replicas=2)),
    (
        "claim-shared",
        lambda objects: lay(
            objects["PersistentVolumeClaim/grace-output"]["spec"],
            storageClassName="rook-ceph-block",
            accessModes=["ReadWriteOnce"],
        ),
    ),
    ("site-failed-jobs", lambda objects: objects_cron(objects).pop("concurrencyPolicy")),
    ("site-failed-jobs", lambda objects: lay(cron_job(objects), backoffLimit=100)),
    ("job-deadline", lambda objects: cron_job(objects).pop("activeDeadlineSeconds")),
    ("job-numbers", lambda objects: lay(cron_job(objects), parallelism=0)),
    ("job-restarts", lambda objects: lay(cron_pod(objects), restartPolicy="Always")),
    ("site-no-sleep", lambda objects: lay(cron_pod(objects)["containers"][0], args=["sleep"])),
    ("read-only-root", lambda objects: cron_container(objects, "readOnlyRootFilesystem")),
    ("pod-security", lambda objects: cron_container(objects, "allowPrivilegeEscalation")),
    ("resources-set", lambda objects: cron_pod(objects)["containers"][0].pop("resources")),
    ("image-pinned", lambda objects: lay(container(objects, J), image="grace-runner:latest")),
    ("image-pinned", lambda objects: lay(container(objects, J), image="host:5000/grace-runner")),
    ("image-pinned", lambda objects: lay(container(objects, J), image="runner@sha256:abc")),
    ("image-pinned", lambda objects: container(objects, J).pop("image")),
    ("image-pinned", second_init),
    ("resources-set", lambda objects: container(objects, J)["resources"].pop("limits")),
    ("resources-set", lambda objects: container(objects, J)["resources"]["requests"].pop("cpu")),
    ("quantity-valid", limit("memory", "2GB")),
    ("quantity-valid", limit("memory", "1Gi")),
    (
        "quantity-valid",
        lambda objects: lay(
            objects["PersistentVolumeClaim/grace-logs"]["spec"]["resources"]["requests"],
            storage="ten",
        ),
    ),
    ("limit-range", range_of(max={"memory": "1Gi"})),
    ("limit-range", range_of(min={"cpu": "2"})),
    (
        "limit-range",
        lambda objects: (
            range_of(maxLimitRequestRatio={"cpu": "1"})(objects) or limit("cpu", "1100m")(objects)
        ),
    ),
    (
        "limit-range",
        lambda objects: put(
            objects, labelled("ResourceQuota", spec={"hard": {"requests.memory": "1Gi"}})
        ),
    ),
    (
        "gpu-whole",
        lambda objects: (
            small_gpus(objects, S),
            limit_gpu(objects, "500m"),
            lay(container(objects, S)["resources"]["requests"], **{"nvidia.com/gpu": "500m"}),
        ),
    ),
    (
        "gpu-whole",
        all_of(lambda objects: small_gpus(objects, S), lambda objects: limit_gpu(objects, "2")),
    ),
    (
        "gpu-resource",
        lambda objects: gpus(objects, S, 1, "NVIDIA-A100-SXM4-80GB", "nvidia.com/gpu"),
    ),
    ("pod-security", security(allowPrivilegeEscalation=True)),
    ("pod-security", security(capabilities={"drop": ["NET_RAW"]})),
    ("pod-security", security(capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]})),
    ("pod-security", security(privileged=True)),
    ("pod-security", security(procMount="Unmasked")),
    ("pod-security", security(runAsNonRoot=False)),
    ("pod-security", security(runAsUser=0)),
    ("pod-security", security(seccompProfile={"type": "Unconfined"})),
    ("pod-security", lambda objects: pod(objects, J).pop("securityContext")),
    ("pod-security", lambda objects: lay(pod(objects, J), hostNetwork=True)),
    ("pod-security", lambda objects: lay(pod(objects, J), hostPID=True)),
    ("pod-security", lambda objects: lay(container(objects, S)["ports"][0], hostPort=8000)),
    (
        "pod-security",
        lambda objects: pod(objects, J)["volumes"].append(
            {"name": "host", "hostPath": {"path": "/"}}
        ),
    ),
    ("pod-security", security(appArmorProfile={"type": "Unconfined"})),
    ("pod-security", security(windowsOptions={"hostProcess": True})),
    (
        "pod-security",
        lambda objects: lay(
            pod(objects, J)["securityContext"], sysctls=[{"name": "kernel.msgmax", "value": "1"}]
        ),
    ),
    ("namespace-level", lambda objects: put(objects, namespace("privileged"))),
    ("read-only-root", lambda objects: container(objects, J)["securityContext"].popitem()),
    ("account-named", lambda objects: pod(objects, J).pop("serviceAccountName")),
    ("account-token", lambda objects: lay(pod(objects, J), automountServiceAccountToken=True)),
    ("role-least", lambda objects: lay(role(objects), verbs=["*"])),
    ("role-least", lambda objects: lay(role(objects), resources=["secrets"])),
    ("role-least", lambda objects: put(objects, labelled("ClusterRole", rules=[]))),
    ("no-secret-values", lambda objects: put(objects, labelled("Secret", stringData={"a": "b"}))),
    ("no-secret-values", environment(name="HF_TOKEN", value="value")),
    ("no-secret-values", environment(name="DEEPSEEK_API_KEY", value="value")),
    ("no-secret-values", environment(name="DB_PASSWORD", value="value")),
    ("no-secret-values", environment(name="HARMLESS", value="hf_" + "a1B2" * 8)),
    ("no-secret-values", command("grace", "stage", "respond", "--api-key", "value")),
    ("no-secret-values", command("grace", "stage", "respond", "--api-key=value")),
    ("no-secret-values", command("sh", "-c", "serve --api-key value")),
    (
        "no-secret-values",
        lambda objects: lay(objects["ConfigMap/config-0123456789ab"]["data"], x="sk-" + "a1B2" * 8),
    ),
    ("secret-known", two_secrets),
    ("secret-known", lambda objects: lay(pod(objects, J), imagePullSecrets=[{"name": "mine"}])),
    ("reference-exists", lambda objects: objects.pop("ConfigMap/input-study1-csv-0123456789ab")),
    ("reference-exists", lambda objects: objects.pop("PersistentVolumeClaim/grace-logs")),
    ("reference-exists", lambda objects: objects.pop("ServiceAccount/grace-query")),
    ("reference-exists", lambda objects: objects.pop("Role/grace-driver")),
    (
        "reference-exists",
        lambda objects: lay(stateful(objects)["spec"], serviceName=SERVER),
    ),
    (
        "reference-exists",
        lambda objects: lay(scaler(objects)["spec"]["scaleTargetRef"], name="another"),
    ),
    (
        "reference-exists",
        lambda objects: lay(
            pod(objects, J)["volumes"][0]["projected"]["sources"][0]["configMap"],
            items=[{"key": "other.yaml", "path": "run.yaml"}],
        ),
    ),
    (
        "reference-exists",
        environment(
            name="A", valueFrom={"configMapKeyRef": {"name": "config-0123456789ab", "key": "b"}}
        ),
    ),
    (
        "reference-exists",
        environment(name="A", valueFrom={"configMapKeyRef": {"name": "nosuch", "key": "b"}}),
    ),
    (
        "reference-exists",
        lambda objects: lay(container(objects, J), envFrom=[{"configMapRef": {"name": "nosuch"}}]),
    ),
    (
        "reference-exists",
        lambda objects: lay(objects["RoleBinding/grace-driver"]["subjects"][0], name="nosuch"),
    ),
    (
        "reference-exists",
        lambda objects: lay(stateful(objects)["spec"], serviceName="nosuch"),
    ),
    (
        "secret-known",
        lambda objects: lay(container(objects, J), envFrom=[{"secretRef": {"name": "mine"}}]),
    ),
    ("secret-known", lambda objects: secret_volume(objects, secretName="mine")),
    (
        "secret-known",
        lambda objects: secret_volume(
            objects, secretName="grace-hub", items=[{"key": "TOKEN", "path": "token"}]
        ),
    ),
    (
        "selector-matches",
        lambda objects: lay(
            objects[f"PodDisruptionBudget/{SERVER}"]["spec"],
            selector={
                "matchExpressions": [
                    {"key": "grace/model", "operator": "NotIn", "values": ["smollm2-135m"]},
                    {"key": "grace/model", "operator": "Exists"},
                ]
            },
        ),
    ),
    (
        "selector-matches",
        lambda objects: objects["Service/peers-smollm2-135m"]["spec"].pop("selector"),
    ),
    (
        "selector-matches",
        lambda objects: lay(
            objects[f"PodDisruptionBudget/{SERVER}"]["spec"]["selector"]["matchLabels"],
            **{"grace/model": "gpt2"},
        ),
    ),
    (
        "selector-matches",
        lambda objects: lay(
            objects["Service/peers-smollm2-135m"]["spec"]["selector"], **{"grace/model": "gpt2"}
        ),
    ),
    (
        "selector-matches",
        lambda objects: lay(
            stateful(objects)["spec"]["selector"]["matchLabels"], **{"grace/model": "gpt2"}
        ),
    ),
    ("server-probes", lambda objects: container(objects, S).pop("livenessProbe")),
    ("server-probes", lambda objects: container(objects, S).pop("startupProbe")),
    (
        "port-exists",
        lambda objects: lay(container(objects, S), livenessProbe={"tcpSocket": {"port": 80}}),
    ),
    ("port-exists", no_port),
    ("default-deny", lambda objects: objects.pop("NetworkPolicy/grace-default-deny")),
    (
        "default-deny",
        lambda objects: lay(
            objects["NetworkPolicy/grace-default-deny"]["spec"], policyTypes=["Ingress"]
        ),
    ),
    ("policy-narrow", lambda objects: egress(objects)[0].pop("to")),
    ("policy-narrow", lambda objects: egress(objects)[0].pop("ports")),
    ("policy-narrow", lambda objects: lay(ingress(objects)[0], **{"from": [{"podSelector": {}}]})),
    (
        "policy-narrow",
        lambda objects: ingress(objects)[0]["from"].append({"namespaceSelector": {}}),
    ),
    (
        "policy-narrow",
        lambda objects: ingress(objects)[0]["from"].append({"ipBlock": {"cidr": "0.0.0.0/0"}}),
    ),
    ("dns-edge", lambda objects: egress(objects).pop()),
    ("dns-edge", lambda objects: egress(objects)[1]["ports"].pop()),
    (
        "dns-edge",
        lambda objects: lay(
            egress(objects)[1]["to"][0]["podSelector"]["matchLabels"], **{"k8s-app": "other"}
        ),
    ),
    ("server-edge", other_port),
    (
        "server-edge",
        lambda objects: lay(
            objects["NetworkPolicy/grace-servers"]["spec"]["ingress"][0]["from"][0]["podSelector"][
                "matchLabels"
            ],
            **{"grace/reaches": "outside"},
        ),
    ),
    (
        "policy-port",
        lambda objects: objects["NetworkPolicy/grace-servers"]["spec"]["ingress"][0][
            "ports"
        ].append({"protocol": "TCP", "port": 8080}),
    ),
    (
        "policy-selects",
        lambda objects: lay(
            objects["NetworkPolicy/grace-to-outside"]["spec"],
            podSelector={"matchLabels": {"grace/reach": "outside"}},
        ),
    ),
    ("job-restarts", lambda objects: lay(pod(objects, J), restartPolicy="Always")),
    ("job-restarts", lambda objects: pod(objects, J).pop("restartPolicy")),
    (
        "job-restarts",
        lambda objects: (
            lay(objects[J]["spec"], podFailurePolicy={"rules": []}),
            lay(pod(objects, J), restartPolicy="OnFailure"),
        ),
    ),
    ("job-deadline", lambda objects: objects[J]["spec"].pop("activeDeadlineSeconds")),
    ("job-deadline", lambda objects: lay(objects[J]["spec"], activeDeadlineSeconds=10**8)),
    ("job-numbers", lambda objects: objects[S]["spec"].pop("completions")),
    ("job-numbers", lambda objects: lay(objects[S]["spec"], parallelism=0)),
    (
        "job-numbers",
        lambda objects: lay(objects[S]["spec"], completionMode="NonIndexed", maxFailedIndexes=1),
    ),
    ("grace-period", lambda objects: lay(pod(objects, J), terminationGracePeriodSeconds=3600)),
    ("grace-period", lambda objects: lay(pod(objects, J), terminationGracePeriodSeconds=20)),
    ("shard-count", lambda objects: lay(objects[J]["spec"], completions=5)),
    ("shard-count", lambda objects: shard(objects, "0/4")),
    ("shard-count", lambda objects: shard(objects, "$(INDEX)/4")),
    ("scaler-bounds", lambda objects: lay(scaler(objects)["spec"], maxReplicas=0)),
    ("scaler-bounds", lambda objects: lay(scaler(objects)["spec"], minReplicas=3)),
    (
        "scaler-bounds",
        lambda objects: objects[f"PodDisruptionBudget/{SERVER}"]["spec"].pop("maxUnavailable"),
    ),
    ("mount-read-only", lambda objects: container(objects, S)["volumeMounts"][0].popitem()),
    (
        "mount-read-only",
        lambda objects: container(objects, J)["volumeMounts"].append(
            {"name": "logs", "mountPath": "/grace/inputs/more"}
        ),
    ),
    (
        "mount-exists",
        lambda objects: lay(container(objects, J)["volumeMounts"][2], subPath="../other"),
    ),
    (
        "mount-exists",
        lambda objects: lay(container(objects, J)["volumeMounts"][2], mountPath="relative"),
    ),
    (
        "mount-exists",
        lambda objects: lay(container(objects, J)["volumeMounts"][2], name="result"),
    ),
    (
        "mount-exists",
        lambda objects: lay(container(objects, J)["volumeMounts"][3], mountPath="/grace/results/"),
    ),
    ("input-immutable", lambda objects: objects["ConfigMap/config-0123456789ab"].pop("immutable")),
    (
        "input-immutable",
        lambda objects: lay(objects["ConfigMap/config-0123456789ab"]["data"], x="x" * 2**20),
    ),
    ("name-valid", lambda objects: rename(objects, "PersistentVolumeClaim/grace-logs", "a_b")),
    ("name-valid", lambda objects: lay(objects[J]["metadata"], name="a" * 53)),
    ("name-valid", lambda objects: lay(objects[J]["metadata"], name="Respond")),
    ("name-valid", lambda objects: lay(container(objects, J), name="a.b")),
    ("name-valid", lambda objects: lay(container(objects, J), ports=[{"name": "UPPER"}])),
    ("label-valid", lambda objects: lay(objects[J]["metadata"]["labels"], x="a b")),
    ("label-valid", lambda objects: lay(objects[J]["metadata"]["labels"], x="a" * 64)),
    (
        "label-valid",
        lambda objects: objects[J]["metadata"]["labels"].pop("app.kubernetes.io/managed-by"),
    ),
    ("variable-valid", environment(name="NOT-GOOD", value="1")),
    ("variable-valid", environment(name="1ST", value="1")),
    (
        "variable-valid",
        lambda objects: lay(container(objects, J), env=[{"name": "A", "value": "1"}] * 2),
    ),
    ("unique", lambda objects: objects.update({"again": objects["Role/grace-driver"]})),
    (
        "namespace-same",
        lambda objects: lay(objects["Role/grace-driver"]["metadata"], namespace="other"),
    ),
)


ALSO = {"site-bare-pod-size": ("site-bare-pod",)}
"""What cannot be broken alone."""


def limit_gpu(objects: Objects, value: str) -> object:
    return lay(container(objects, S)["resources"]["limits"], **{"nvidia.com/gpu": value})


def namespace(level: str) -> dict[str, Any]:
    made = labelled("Namespace")
    made["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = level
    return made


def labelled(kind: str, **fields: Any) -> dict[str, Any]:
    """Return an object of a kind."""
    labels = {"app.kubernetes.io/managed-by": "grace"}
    metadata = {"name": NAMESPACE, "namespace": NAMESPACE, "labels": labels}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **fields}


def role(objects: Objects) -> dict[str, Any]:
    found: dict[str, Any] = objects["Role/grace-driver"]["rules"][0]
    return found


def shard(objects: Objects, value: str) -> None:
    words = container(objects, J)["command"]
    words[words.index("--shard") + 1] = value


def rename(objects: Objects, key: str, name: str) -> None:
    objects[key]["metadata"]["name"] = name
    for volume in pod(objects, J)["volumes"]:
        claim = volume.get("persistentVolumeClaim", {})
        if claim.get("claimName") == key.partition("/")[2]:
            claim["claimName"] = name
