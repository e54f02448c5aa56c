"""
The embedded model server: started, waited for and stopped cleanly.

The server runs in a process of its own, so that its memory and its crashes are
its own. It listens on the loopback interface only, unless it is told otherwise.
"""

import asyncio
import contextlib
import errno
import importlib.metadata
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pydantic import JsonValue

from grace.errors import ServingError

LOOPBACK = "127.0.0.1"
START_SECONDS = 180.0
STOP_SECONDS = 10.0
_SAMPLE_SECONDS = 0.4
_IDLE = 3


@dataclass(frozen=True, slots=True)
class EmbeddedSettings:
    """
    How the embedded server is run.

    Attributes:
        slots: Queries answered side by side.

        context: Tokens of prompt and answer that fit in one slot.

        threads: Compute threads; 0 takes the cores that are idle now.

        host: The address that it listens on; others than loopback let other
            machines in.

        port: 0 takes any free port.

        tokens_at_once: How many tokens are computed together. With more than
            one, scores depend a little on cache and concurrency: by up to 0.3
            nats with quantised weights, 0.00001 with 32-bit ones.
    """

    slots: int = 1
    context: int = 2048
    threads: int = 0
    host: str = LOOPBACK
    port: int = 0
    tokens_at_once: int = 1


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """
    A running embedded server.

    Attributes:
        url: Its address.

        details: What decides its numbers, for the run's identity.

        process: Its process.

        log: What it writes to standard error.
    """

    url: str
    details: dict[str, JsonValue]
    process: asyncio.subprocess.Process
    log: IO[bytes]

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self.process.returncode is None


def idle_threads() -> int:
    """
    Count the cores that are idle now, at least one and at most eight.

    Threads of one model wait for each other at every layer; one thread more
    than there are idle cores makes all of them several times slower.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(8, round((cores or 1) * _idle_share())))


def _idle_share() -> float:
    """Measure for a moment which share of the processor nobody uses; 1 if that cannot be told."""
    # The load average would still count what ended a minute ago, such as an installation.
    try:
        before = _processor_times()
        time.sleep(_SAMPLE_SECONDS)
        after = _processor_times()
    except (OSError, ValueError):
        return 1.0
    passed = [new - old for old, new in zip(before, after, strict=True)]
    return passed[_IDLE] / sum(passed) if sum(passed) else 1.0


def _processor_times() -> list[int]:
    first_line = Path("/proc/stat").read_text("ascii").splitlines()[0]
    return [int(field) for field in first_line.split()[1:9]]


@asynccontextmanager
async def embedded_server(
    model: Path, alias: str, settings: EmbeddedSettings | None = None
) -> AsyncIterator[EmbeddedServer]:
    """
    Run a server for the length of a `with` block.

    Args:
        model: A GGUF file.

        alias: The model's name on the server.

        settings: Slots, context and threads.

    Raises:
        ServingError: The extra is not installed, the port is taken, or the
            server did not come up.
    """
    server = await start_server(model, alias, settings or EmbeddedSettings())
    try:
        yield server
    finally:
        await stop_server(server)


async def start_server(model: Path, alias: str, settings: EmbeddedSettings) -> EmbeddedServer:
    """
    Start a server and wait until it is ready.

    Raises:
        ServingError: See `embedded_server`.
    """
    version = _engine_version()
    _check_file(model)
    port = _claim_port(settings.host, settings.port)
    log = _log_file()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "grace.serving.llamacpp_process"),
        *("--model", str(model)),
        *("--alias", alias),
        *("--host", settings.host),
        *("--port", str(port)),
        *("--slots", str(settings.slots)),
        *("--tokens-at-once", str(settings.tokens_at_once)),
        *("--context", str(settings.context)),
        *("--threads", str(settings.threads or await asyncio.to_thread(idle_threads))),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
        # Ctrl-C in the terminal is for Grace, which stops the server when it has drained.
        start_new_session=True,
    )
    server = EmbeddedServer(
        url=f"http://{_reached_at(settings.host)}:{port}",
        details={
            "xllamacpp": version,
            "cache_type": "f32",
            "flash_attention": False,
            "tokens_at_once": settings.tokens_at_once,
        },
        process=process,
        log=log,
    )
    try:
        await asyncio.wait_for(_ready(process), START_SECONDS)
    except TimeoutError as error:
        await stop_server(server)
        raise ServingError(
            f"the embedded server was not ready with {model.name} after {START_SECONDS:.0f} s"
        ) from error
    except ServingError as error:
        words = _last_line(log)
        await stop_server(server)
        raise ServingError(
            f"the embedded server did not start with {model.name}: {error}{words}"
        ) from error
    except BaseException:
        await stop_server(server)
        raise
    return server


async def stop_server(server: EmbeddedServer) -> None:
    """End the server's process: kindly, then by force; safe to call twice."""
    process = server.process
    if process.stdin is not None:
        process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    server.log.close()


async def _ready(process: asyncio.subprocess.Process) -> None:
    if process.stdout is None:
        raise ServingError("the server has no standard output")
    # llama.cpp may print lines of its own before ours.
    while line := await process.stdout.readline():
        with contextlib.suppress(ValueError):
            if "listening" in json.loads(line):
                return
    status = await process.wait()
    raise ServingError(f"its process ended with status {status} (not a usable GGUF file?)")


def _engine_version() -> str:
    try:
        return importlib.metadata.version("xllamacpp")
    except importlib.metadata.PackageNotFoundError as error:
        raise ServingError(
            "the embedded model server is not installed; install 'grace[embedded]', or give the "
            "address of a server with --endpoint"
        ) from error


def _check_file(model: Path) -> None:
    if not model.is_file():
        raise ServingError(f"{model}: no such GGUF file")


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode("utf-8", "replace").strip().splitlines()
    return f"; its last words: {lines[-1][:200]}" if lines else ""


def _log_file() -> IO[bytes]:
    """Open a file that vanishes; in memory where the whole file system is read-only."""
    try:
        return tempfile.TemporaryFile()
    except OSError:
        return open(os.memfd_create("log"), "w+b")  # noqa: PTH123  see `stop_server`


def _reached_at(host: str) -> str:
    """Return the address by which a server is reached from this machine."""
    if host in {"", "0.0.0.0", "::"}:  # noqa: S104  compared, not listened on
        return LOOPBACK if host != "::" else "[::1]"
    return f"[{host}]" if ":" in host else host


def _claim_port(host: str, wanted: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the server will: what a server before it left half closed is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ServingError(
                    f"{host}: cannot be listened on: {error.strerror}; --host is an address of "
                    "this machine, 127.0.0.1 for itself alone or 0.0.0.0 for all"
                ) from error
            raise ServingError(
                f"port {wanted} is in use; choose another with --port, or 0 for any free port"
            ) from error
        port: int = probe.getsockname()[1]
        return port
