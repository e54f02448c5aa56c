from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from cluster_runs import a_run, at, catalogue, changed, everything, kind_and_name, pods_of

from grace.catalogue.fields import GpuOption
from grace.catalogue.weights import weights_path
from grace.cluster.manifests import gpu_option, server_command, server_objects
from grace.cluster.manifests.servers import server_environment
from grace.cluster.profile import load_profile
from grace.cluster.request import ServerModels
from grace.errors import UsageError

NRP = load_profile("nrp")
EVERYWHERE = "0.0.0.0"  # noqa: S104 (a pod is reached by its address)
WEIGHTS = PurePosixPath("/grace/weights")


def server(key: str, *adapters: str) -> ServerModels:
    known = catalogue()
    return ServerModels(known.get(key), tuple(known.get(adapter) for adapter in adapters))


def path(key: str, root: PurePosixPath = WEIGHTS) -> str:
    return str(weights_path(catalogue().get(key), root))


def test_vllm_is_started_for_exact_scoring() -> None:
    assert server_command(server("gemma-2-2b"), NRP) == [
        *("vllm", "serve", path("gemma-2-2b"), "--host", EVERYWHERE, "--port", "8000"),
        *("--served-model-name", "gemma-2-2b", "--dtype", "bfloat16", "--max-model-len", "8192"),
        *("--tensor-parallel-size", "1", "--max-logprobs", "128"),
        *("--logprobs-mode", "raw_logprobs", "--generation-config", "vllm"),
        *("--enable-prefix-caching", "--disable-uvicorn-access-log"),
    ]


def test_vllm_splits_weights_as_the_option_that_the_site_has() -> None:
    command = server_command(server("llama-3-70b"), NRP)
    assert command[command.index("--tensor-parallel-size") + 1] == "4"
    doubled = server_command(server("gpt2-twice"), NRP)
    assert doubled[doubled.index("--tensor-parallel-size") + 1] == "2"
    assert doubled[doubled.index("--data-parallel-size") + 1] == "2"
    assert doubled[doubled.index("--quantization") + 1] == "fp8"


def test_adapters_are_served_on_their_base() -> None:
    command = server_command(server("gemma-2-2b", "gemma-poet", "gemma-lawyer"), NRP)
    poet = path("gemma-poet", PurePosixPath("/grace/adapters/gemma-poet"))
    lawyer = path("gemma-lawyer", PurePosixPath("/grace/adapters/gemma-lawyer"))
    assert command[command.index("--enable-lora") :] == [
        *("--enable-lora", "--max-loras", "2", "--max-lora-rank", "64", "--lora-modules"),
        *(f"gemma-poet={poet}", f"gemma-lawyer={lawyer}"),
    ]


def test_tgi_is_started_for_exact_scoring() -> None:
    assert server_command(server("gemma-on-tgi"), NRP) == [
        *("/tgi-entrypoint.sh", "--model-id", path("gemma-on-tgi"), "--hostname", EVERYWHERE),
        *("--port", "8000", "--num-shard", "1"),
        *("--max-input-tokens", "8191", "--max-total-tokens", "8192"),
        *("--enable-prefill-logprobs", "--usage-stats", "off", "--dtype", "bfloat16"),
    ]
    # TGI takes one of the two only.
    quantised = server_command(server("gemma-on-tgi.8bit"), NRP)
    assert quantised[-2:] == ["--quantize", "fp8"]
    assert "--dtype" not in quantised


def test_llama_cpp_is_grace_itself() -> None:
    command = [
        "grace",
        "serve",
        "smollm2-135m",
        "--host",
        EVERYWHERE,
        "--port",
        "8000",
        "--threads",
    ]
    assert server_command(server("smollm2-135m"), load_profile("local")) == [*command, "1"]
    assert server_command(server("smollm2-135m"), NRP) == [*command, "2"]
    assert server_command(server("smollm2-135m"), changed("nrp", model_servers={"threads": 5})) == [
        *command,
        "5",
    ]


def test_the_profile_can_add_arguments_of_its_own() -> None:
    profile = changed("nrp", model_servers={"arguments": {"vllm": ["--max-num-seqs", "512"]}})
    assert server_command(server("gpt2"), profile)[-2:] == ["--max-num-seqs", "512"]
    assert "--max-num-seqs" not in server_command(server("gemma-on-tgi"), profile)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (("gemma-on-tgi", "gemma-poet"), "gemma-poet: adapters on gemma-on-tgi, which tgi serves"),
        (("smollm2-135m", "gemma-poet"), "which llamacpp serves"),
        (("deepseek",), "deepseek: is served by 'openai'"),
    ],
)
def test_what_a_server_cannot_do_is_refused(found: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        server_command(server(*found), NRP)


def test_tgi_has_no_float32() -> None:
    spec = catalogue().get("gemma-on-tgi").model_copy(update={"dtype": "float32"})
    with pytest.raises(UsageError, match="dtype is 'float32', which TGI does not have"):
        server_command(ServerModels(spec), NRP)


@pytest.mark.parametrize("key", ["gemma-2-2b", "gemma-on-tgi"])
def test_whatever_a_server_keeps_goes_to_a_folder_that_can_be_written(key: str) -> None:
    environment = server_environment(server(key), NRP)
    folders = [value for value in environment.values() if value.startswith("/")]
    assert len(folders) > 10
    assert all(value == "/grace/cache" or value.startswith("/grace/cache/") for value in folders)
    assert environment["HF_HUB_OFFLINE"] == "1"
    pod = template(a_run("nrp", key))
    assert {"mountPath": "/grace/cache", "name": "cache"} in pod["containers"][0]["volumeMounts"]


def template(run: Any, number: int = 0) -> Any:
    """Return the pod of a run's first server."""
    found = server_objects(run, run.servers[number])
    return next(pod for _, pod in pods_of(list(found)))["spec"]


def test_llama_cpp_finds_weights_in_the_image_or_in_the_claim() -> None:
    baked = template(a_run())
    assert "env" not in baked["containers"][0]
    assert [each["name"] for each in baked["volumes"]] == ["tmp"]
    fetched = template(a_run("local", "gemma-3-270m"))
    # Grace's store is the folder `weights` in it.
    assert fetched["containers"][0]["env"] == [{"name": "GRACE_CACHE", "value": "/grace"}]
    assert {"mountPath": "/grace/weights", "name": "weights", "readOnly": True} in fetched[
        "containers"
    ][0]["volumeMounts"]


def test_the_users_own_catalogue_is_there_for_llama_cpp() -> None:
    own = Path("/grace/inputs/catalogue.yaml")
    pod = template(a_run("local", "gemma-3-270m", catalogue=own))
    assert pod["containers"][0]["command"][-2:] == ["--catalogue", str(own)]
    assert "inputs" in [each["name"] for each in pod["volumes"]]


def test_gpus_are_whole_and_on_nodes_that_have_them() -> None:
    given = load_profile("nrp").model_dump(mode="json")["gpus"]["products"]
    for product in given.values():
        product["quota"] = None
    pod = template(a_run(changed("nrp", gpus={"products": given}), "llama-3-70b"))
    resources = pod["containers"][0]["resources"]
    # On the NRP, A100s are a resource of their own.
    assert resources["limits"]["nvidia.com/a100"] == resources["requests"]["nvidia.com/a100"] == "4"
    assert "nvidia.com/gpu" not in resources["limits"]
    (term,) = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term["matchExpressions"] == [
        {
            "key": "nvidia.com/gpu.product",
            "operator": "In",
            "values": ["NVIDIA-A100-80GB-PCIe", "NVIDIA-A100-SXM4-80GB"],
        }
    ]
    (shm,) = [each for each in pod["volumes"] if each["name"] == "shm"]
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "8G"}


def test_a_runtime_class_is_for_gpus_only() -> None:
    profile = changed("nrp", gpus={"runtime_class": "nvidia"})
    assert template(a_run(profile, "gpt2"))["runtimeClassName"] == "nvidia"
    assert "runtimeClassName" not in template(a_run(profile, "smollm2-135m"))


def option(**fields: Any) -> GpuOption:
    return GpuOption(**{"name": "x", "count": 1, "memory_gb": 40, **fields})


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ([option(products=("NVIDIA-L40",)), option()], 0),
        ([option(products=("NVIDIA-H200",)), option(count=2)], 1),
        ([option(memory_gb=100), option(memory_gb=80)], 1),
        ([option(memory_gb=80)], 0),
        ([], None),
    ],
)
def test_the_first_option_that_the_site_can_satisfy_is_taken(
    options: list[GpuOption], chosen: int | None
) -> None:
    spec = catalogue().get("gpt2").model_copy(update={"gpus": tuple(options)})
    assert gpu_option(spec, NRP) == (None if chosen is None else options[chosen])


def test_a_site_without_such_gpus_says_what_it_has() -> None:
    with pytest.raises(UsageError) as refused:
        gpu_option(catalogue().get("deepseek-v3"), NRP)
    assert "NVIDIA-H200 with 141 GB each; the profile nrp has NVIDIA-A100" in str(refused.value)
    assert "NVIDIA-GeForce-RTX-3090 (24 GB)" in str(refused.value)
    with pytest.raises(UsageError, match="with 4 GB each; the profile local has no GPUs"):
        gpu_option(catalogue().get("gpt2"), load_profile("local"))


def test_a_server_is_a_stateful_set_or_a_job_as_the_profile_says() -> None:
    kinds = {kind for kind, _ in map(kind_and_name, everything(a_run("nrp", "gpt2")))}
    assert "StatefulSet" not in kinds
    job = next(
        each
        for each in everything(a_run("nrp", "gpt2"))
        if kind_and_name(each) == ("Job", "model-gpt2")
    )
    spec = at(job, "spec")
    assert (spec["completions"], spec["parallelism"]) == (1, 1)
    assert spec["activeDeadlineSeconds"] == 24 * 3600
    # Its end is nobody's wish, so that there are no exit statuses to tell apart.
    assert [rule["action"] for rule in spec["podFailurePolicy"]["rules"]] == ["Ignore"]
    local = {kind_and_name(each) for each in everything(a_run())}
    name = "smollm2-135m"
    assert {
        *(("StatefulSet", f"model-{name}"), ("Service", f"model-{name}")),
        *(("Service", f"peers-{name}"), ("PodDisruptionBudget", f"model-{name}")),
    } <= local


def test_a_stateful_set_can_be_drained_and_starts_all_at_once() -> None:
    objects = {kind_and_name(each): each for each in everything(a_run())}
    budget = at(objects["PodDisruptionBudget", "model-smollm2-135m"], "spec")
    assert budget["maxUnavailable"] == 1
    assert (
        at(objects["StatefulSet", "model-smollm2-135m"], "spec", "podManagementPolicy")
        == "Parallel"
    )
    assert at(objects["Service", "peers-smollm2-135m"], "spec", "clusterIP") == "None"


@pytest.mark.parametrize("controller", ["job", "statefulset"])
def test_services_are_at_port_8000(controller: str) -> None:
    run = a_run(changed("nrp", model_servers={"controller": controller}), "gpt2")
    services = [each for each in everything(run) if each["kind"] == "Service"]
    assert services
    for service in services:
        (port,) = at(service, "spec", "ports")
        assert (port["port"], port["targetPort"]) == (8000, "http")
    assert template(run)["containers"][0]["ports"] == [{"containerPort": 8000, "name": "http"}]


@pytest.mark.parametrize("key", ["gemma-2-2b", "gemma-on-tgi", "smollm2-135m"])
def test_a_server_has_time_to_start_and_is_then_watched(key: str) -> None:
    container = template(a_run("nrp", key))["containers"][0]
    probes = {name: container[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}
    assert {each["httpGet"]["path"] for each in probes.values()} == {"/health"}
    startup = probes["startup"]
    assert (
        startup["failureThreshold"] * startup["periodSeconds"]
        == NRP.model_servers.startup_minutes * 60
    )


def scaled(autoscaler: str, *keys: str) -> dict[tuple[str, str], Any]:
    servers = {
        "controller": "statefulset",
        "autoscaler": autoscaler,
        "replicas": 2,
        "max_replicas": 5,
        "keda_prometheus": "http://prometheus:9090",
    }
    run = a_run(changed("nrp", model_servers=servers), *keys)
    return {kind_and_name(each): each for each in everything(run)}


def test_pods_are_added_while_a_queue_is_long() -> None:
    objects = scaled("hpa", "gpt2", "gemma-on-tgi", "smollm2-135m")
    spec = at(objects["HorizontalPodAutoscaler", "model-gpt2"], "spec")
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 5)
    (metric,) = spec["metrics"]
    assert metric["pods"] == {
        "metric": {"name": "vllm:num_requests_waiting"},
        "target": {"averageValue": "10", "type": "AverageValue"},
    }
    other = at(objects["HorizontalPodAutoscaler", "model-gemma-on-tgi"], "spec", "metrics", 0)
    assert other["pods"]["metric"]["name"] == "tgi_queue_size"
    # llama.cpp counts no queue.
    assert ("HorizontalPodAutoscaler", "model-smollm2-135m") not in objects
    assert at(objects["StatefulSet", "model-smollm2-135m"], "spec", "replicas") == 2


def test_keda_asks_prometheus() -> None:
    found = at(scaled("keda", "gpt2")["ScaledObject", "model-gpt2"], "spec")
    assert (found["minReplicaCount"], found["maxReplicaCount"]) == (2, 5)
    assert found["triggers"][0]["metadata"] == {
        "serverAddress": "http://prometheus:9090",
        "query": (
            'sum(vllm:num_requests_waiting{namespace="grace-experiments",pod=~"model-gpt2-[0-9]+"})'
        ),
        "threshold": "10",
    }


def test_several_pods_of_a_server_are_spread_over_nodes() -> None:
    pod = at(scaled("hpa", "gpt2")["StatefulSet", "model-gpt2"], "spec", "template", "spec")
    (spread,) = pod["topologySpreadConstraints"]
    assert spread["whenUnsatisfiable"] == "ScheduleAnyway"
    assert spread["labelSelector"]["matchLabels"]["grace/model"] == "gpt2"
