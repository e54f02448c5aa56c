"""
What a model server is started with: its command line, and the environment that it needs.

The flags decide what a log-probability means and which defaults are added to a
request, so they are fixed here and not left to an image: raw log-probabilities
of as many listed tokens as vLLM allows, and no sampling defaults from the
model's own files, which would differ by model. Knows nothing of pods.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import assert_never

from grace.catalogue.model import ModelSpec
from grace.catalogue.weights import weights_path
from grace.cluster.manifests.gpus import gpu_option
from grace.cluster.names import slug
from grace.cluster.profile import Profile
from grace.cluster.request import PORT, WEIGHTS, ServerModels
from grace.cluster.server_size import server_resources
from grace.errors import UsageError

ADAPTERS = PurePosixPath("/grace/adapters")
"""Below it, the claim of each adapter that a server serves."""

CACHE = PurePosixPath("/grace/cache")
"""What a server compiles and keeps for itself; gone with its pod."""

_LISTED_TOKENS = 128
# vLLM's own limit is 16; ranks of published adapters go up to this, and memory is the only cost.
_LORA_RANK = 64


def server_command(server: ServerModels, profile: Profile) -> list[str]:
    """
    Return the command line of a model server, with the program first.

    Args:
        server: The model and its adapters.

        profile: Decides between the GPUs that the model can run on.

    Raises:
        UsageError: The site has no GPUs for it, or the server cannot do what
            the catalogue asks.
    """
    match server.base.server:
        case "vllm":
            return _vllm(server, profile)
        case "tgi":
            return _tgi(server, profile)
        case "llamacpp":
            return _llamacpp(server, profile)
        case "openai":
            raise UsageError(
                f"{server.base.key}: is served by 'openai', which Grace does not start; give its "
                "entry a server: vllm, tgi or llamacpp"
            )
        case _:
            assert_never(server.base.server)


def server_image(server: ServerModels, profile: Profile) -> str:
    """Return the image that holds the program."""
    images = profile.images
    return {"vllm": images.vllm, "tgi": images.tgi}.get(server.base.server, images.llamacpp)


def server_environment(server: ServerModels, profile: Profile) -> Mapping[str, str]:
    """
    Return the environment of a model server.

    The root file system is read-only and the user has no home, so every
    cache is named; and a server has no way out, so it is told not to look.
    """
    spec = server.base
    if spec.server == "llamacpp":
        baked = spec.key in profile.images.baked_weights
        # The store is `weights` in this folder; the image names its own.
        return {} if baked else {"GRACE_CACHE": str(WEIGHTS.parent)}
    shared = {
        "HOME": CACHE,
        # PyTorch asks for a name, which a user without an entry in /etc/passwd has not.
        "USER": "grace",
        "XDG_CACHE_HOME": CACHE / "xdg",
        "XDG_CONFIG_HOME": CACHE / "config",
        "HF_HOME": CACHE / "huggingface",
        "HF_HUB_OFFLINE": 1,
        "HF_HUB_DISABLE_TELEMETRY": 1,
        "TRITON_CACHE_DIR": CACHE / "triton",
        "TORCHINDUCTOR_CACHE_DIR": CACHE / "inductor",
        "TORCH_HOME": CACHE / "torch",
        "NUMBA_CACHE_DIR": CACHE / "numba",
        "CUDA_CACHE_PATH": CACHE / "cuda",
        "MPLCONFIGDIR": CACHE / "matplotlib",
    }
    own: dict[str, object] = {}
    if spec.server == "vllm":
        own = {
            "VLLM_CACHE_ROOT": CACHE / "vllm",
            "VLLM_CONFIG_ROOT": CACHE / "config/vllm",
            "VLLM_ASSETS_CACHE": CACHE / "vllm/assets",
            "FLASHINFER_WORKSPACE_BASE": CACHE,
            "VLLM_NO_USAGE_STATS": 1,
            "VLLM_DO_NOT_TRACK": 1,
        }
    if spec.server == "tgi":
        own = {"HUGGINGFACE_HUB_CACHE": CACHE / "huggingface/hub"}
    return {name: str(value) for name, value in (shared | own).items()}


def adapter_store(spec: ModelSpec) -> PurePosixPath:
    """Return where the claim of an adapter is mounted."""
    return ADAPTERS / slug(spec.key)


def _vllm(server: ServerModels, profile: Profile) -> list[str]:
    spec = server.base
    option = gpu_option(spec, profile)
    command = [
        *("vllm", "serve", str(weights_path(spec, WEIGHTS))),
        *("--host", "0.0.0.0"),  # noqa: S104 (a pod is reached by its address)
        *("--port", str(PORT)),
        *("--served-model-name", spec.name_on_server),
        *("--dtype", spec.dtype),
        *("--max-model-len", str(spec.context_length)),
        *("--tensor-parallel-size", str(1 if option is None else option.split)),
        *("--max-logprobs", str(_LISTED_TOKENS)),
        *("--logprobs-mode", "raw_logprobs"),
        *("--generation-config", "vllm"),
        "--enable-prefix-caching",
        "--disable-uvicorn-access-log",
    ]
    if option is not None and option.count > option.split:
        command += ["--data-parallel-size", str(option.count // option.split)]
    if spec.quantisation is not None:
        command += ["--quantization", spec.quantisation]
    if server.adapters:
        command += [
            *("--enable-lora", "--max-loras", str(len(server.adapters))),
            *("--max-lora-rank", str(_LORA_RANK)),
            "--lora-modules",
            *(_module(spec) for spec in server.adapters),
        ]
    return command + list(profile.model_servers.arguments.get("vllm", ()))


def _module(adapter: ModelSpec) -> str:
    return f"{adapter.name_on_server}={weights_path(adapter, adapter_store(adapter))}"


def _tgi(server: ServerModels, profile: Profile) -> list[str]:
    spec = server.base
    _refuse_adapters(server)
    if spec.dtype == "float32":
        raise UsageError(
            f"{spec.key}: dtype is 'float32', which TGI does not have; give bfloat16, or the "
            "server vllm"
        )
    option = gpu_option(spec, profile)
    command = [
        # The image's own entry point: it chooses the Python that the shards need.
        *("/tgi-entrypoint.sh", "--model-id", str(weights_path(spec, WEIGHTS))),
        # Else the pod's name is taken for it, from the variable HOSTNAME.
        *("--hostname", "0.0.0.0"),  # noqa: S104 (a pod is reached by its address)
        *("--port", str(PORT)),
        *("--num-shard", str(1 if option is None else option.split)),
        *("--max-input-tokens", str(spec.context_length - 1)),
        *("--max-total-tokens", str(spec.context_length)),
        "--enable-prefill-logprobs",
        *("--usage-stats", "off"),
    ]
    if spec.quantisation is not None:
        command += ["--quantize", spec.quantisation]
    elif spec.dtype != "auto":
        command += ["--dtype", spec.dtype]
    return command + list(profile.model_servers.arguments.get("tgi", ()))


def _llamacpp(server: ServerModels, profile: Profile) -> list[str]:
    spec = server.base
    _refuse_adapters(server)
    threads = profile.model_servers.threads or max(1, int(server_resources(spec, profile).cpu))
    return [
        *("grace", "serve", spec.key),
        *("--host", "0.0.0.0"),  # noqa: S104 (a pod is reached by its address)
        *("--port", str(PORT)),
        *("--threads", str(threads)),
    ]


def _refuse_adapters(server: ServerModels) -> None:
    if server.adapters:
        keys = ", ".join(spec.key for spec in server.adapters)
        raise UsageError(
            f"{keys}: adapters on {server.base.key}, which {server.base.server} serves; Grace "
            "serves adapters with vLLM only: give the base server: vllm"
        )
