"""
A real vLLM server, started, waited for and stopped with all its processes.

It needs nothing but the standard library, so that any program can start vLLM
from another environment: the interpreter is an argument. It knows nothing of
Grace.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 900.0
STOP_SECONDS = 60.0
_POLL_SECONDS = 0.5
_LOG_TAIL = 4_000


class ServerDidNotStart(Exception):
    """The server ended, or was not ready in time; the message ends with its log."""


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """
    How vLLM is run.

    Attributes:
        python: The interpreter of an environment with vLLM.

        name: The model's name on the server.

        dtype: Arithmetic and weights.

        context: Tokens of prompt and answer together.

        block_size: Tokens in a block of the prefix cache; on a CPU, a multiple of 32.

        cache_gigabytes: Memory for keys and values.

        threads: Compute threads; 0 leaves one core to the server's other
            processes and takes the rest.

        options: More of vLLM's own options.
    """

    python: Path = Path(sys.executable)
    name: str = "smollm2-135m"
    dtype: str = "float32"
    context: int = 2048
    block_size: int = 32
    cache_gigabytes: int = 1
    threads: int = 0
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VllmServer:
    """A running server: its address and its main process."""

    url: str
    pid: int


@contextmanager
def vllm_server(
    model: Path,
    log: Path,
    settings: VllmSettings | None = None,
    *,
    start_seconds: float = START_SECONDS,
) -> Iterator[VllmServer]:
    """
    Run vLLM for the length of a `with` block, on a free port of the loopback interface.

    Args:
        model: A folder with a model.

        log: Where the server's output goes.

        settings: How it is run.

        start_seconds: How long it may take to be ready. It takes 40 s on an idle
            machine, and two to three minutes on a busy one.

    Raises:
        ServerDidNotStart: It ended, or was not ready in time.
    """
    settings = settings or VllmSettings()
    port = _free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603
            [str(settings.python), *_arguments(model, port, settings)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(settings),
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_ready(process, url, log, start_seconds)
            yield VllmServer(url, process.pid)
        finally:
            _stop(process)


def _arguments(model: Path, port: int, settings: VllmSettings) -> Sequence[str]:
    # `vllm serve` looks for a distribution named vllm; that of the CPU build has another name.
    return (
        *("-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(model)),
        *("--served-model-name", settings.name),
        *("--host", "127.0.0.1"),
        *("--port", str(port)),
        *("--dtype", settings.dtype),
        *("--max-model-len", str(settings.context)),
        *("--block-size", str(settings.block_size)),
        "--enforce-eager",
        *settings.options,
    )


def _environment(settings: VllmSettings) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        # What is on the caller's path may hide what vLLM imports.
        if name not in {"PYTHONPATH", "FORCE_COLOR"} and not name.lower().endswith("_proxy")
    }
    threads = settings.threads or max(1, (os.cpu_count() or 1) - 1)
    return {
        **kept,
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_CPU_KVCACHE_SPACE": str(settings.cache_gigabytes),
        # Bound to a core, a thread waits for whatever else runs there.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(threads),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(
    process: subprocess.Popen[bytes], url: str, log: Path, seconds: float
) -> None:
    # A proxy named in the environment must not answer for the loopback interface.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + seconds
    while process.poll() is None:
        with (
            contextlib.suppress(urllib.error.URLError, OSError),
            opener.open(f"{url}/health", timeout=5),
        ):
            return
        if time.monotonic() > deadline:
            raise ServerDidNotStart(f"vLLM was not ready after {seconds:.0f} s:\n{_tail(log)}")
        time.sleep(_POLL_SECONDS)
    raise ServerDidNotStart(f"vLLM ended with {process.returncode}:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_bytes()[-_LOG_TAIL:].decode("utf-8", "replace")


def _stop(process: subprocess.Popen[bytes]) -> None:
    # Listed first: when the main process is gone, its children have another parent.
    children = _descendants(process.pid)
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    deadline = time.monotonic() + STOP_SECONDS
    while children and time.monotonic() < deadline:
        children = {pid: begun for pid, begun in children.items() if _begun(pid) == begun}
        time.sleep(0.05)
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _descendants(pid: int) -> dict[int, str]:
    """Return all processes below one, each with the time of its start."""
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        with contextlib.suppress(OSError):
            for listed in Path(f"/proc/{parent}/task").glob("*/children"):
                for child in map(int, listed.read_text().split()):
                    begun = _begun(child)
                    if begun is not None:
                        found[child] = begun
                        waiting.append(child)
    return found


def _begun(pid: int) -> str | None:
    """Return when a process began, which tells it from a later one of the same number."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]
