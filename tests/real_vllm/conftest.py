"""One vLLM server for all tests here, and the same once more as an older version."""

import importlib.util
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fake_llamacpp import served
from grace.inference.transport import Transport
from grace.inference.vllm import VllmClient
from real_vllm.older import OlderVllm
from real_vllm.server import VllmServer, vllm_server

if TYPE_CHECKING:
    from rich.table import Table

HAS_VLLM = importlib.util.find_spec("vllm") is not None
collect_ignore_glob = [] if HAS_VLLM else ["test_*.py"]

PRINTED = pytest.StashKey["list[Table | str]"]()


@pytest.fixture(scope="session")
def folder() -> Path:
    """The default model, in fp32, as vLLM reads it."""
    from real_vllm.model_folder import model_folder

    return model_folder()


@pytest.fixture(scope="session")
def vllm(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    """The server; its log is kept where pytest keeps its temporary files."""
    log = tmp_path_factory.mktemp("vllm") / "vllm.log"
    with vllm_server(folder, log) as server:
        yield server


@pytest.fixture(scope="session")
def older(vllm: VllmServer) -> OlderVllm:
    """What stands before the same server and drops `logprob_token_ids`."""
    return OlderVllm(vllm.url)


@pytest.fixture(scope="session")
def older_url(older: OlderVllm) -> Iterator[str]:
    """Its address."""
    with served(older) as url:
        yield url


@pytest.fixture(scope="session")
def printed(request: pytest.FixtureRequest) -> "list[Table | str]":
    """What is printed when all tests are done."""
    return request.config.stash.setdefault(PRINTED, [])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the tables of figures."""
    from rich.console import Console

    if lines := config.stash.get(PRINTED, []):
        terminalreporter.section("measured")
        console = Console(width=110, highlight=False)
        with console.capture() as capture:
            for line in lines:
                console.print(line)
        terminalreporter.write_line(capture.get())


@asynccontextmanager
async def vllm_client(url: str) -> AsyncIterator[VllmClient]:
    """A connected client."""
    client = VllmClient(Transport(url))
    try:
        await client.connect()
        yield client
    finally:
        await client.aclose()
