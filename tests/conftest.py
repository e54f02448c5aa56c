"""What all tests share: no keys from outside, no user configuration, patient Hypothesis."""

import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from hypothesis import settings

from fake_llamacpp import FakeLlamaCpp, refuse, served
from grace.cli.main import invoke
from grace.runs.folder import RunFolder, find_runs
from inputs import input_flags, write_inputs
from processes import Forker

if TYPE_CHECKING:
    from fake_api import FakeApi

    from grace.cluster.client import ClusterClient

settings.register_profile("grace", deadline=None, max_examples=50)
settings.load_profile("grace")


@pytest.fixture(scope="session", autouse=True)
def _nothing_from_outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """
    Take away what would change a run: keys, locked revisions, colours, proxies.

    Once for all tests, so that fixtures of a wider scope than a test see the same.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DEEPSEEK_API_KEY", "GRACE_API_KEY", "GRACE_EXTRACTOR_API_KEY", "HF_TOKEN"):
            patch.delenv(name, raising=False)
            patch.delenv(f"{name}_FILE", raising=False)
        for name in ("FORCE_COLOR", "GITHUB_ACTIONS"):
            patch.delenv(name, raising=False)
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        patch.setenv("NO_COLOR", "1")
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("configuration")))
        yield


@pytest.fixture(scope="session")
def forker() -> Iterator[Forker]:
    """Processes that run a command line of Grace, each started in milliseconds."""
    with Forker() as running:
        yield running


@pytest.fixture(scope="session")
def small_inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Four rows of each study; two show the same stimulus; `speach` is spelled so."""
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="session")
def _toy_runs(tmp_path_factory: pytest.TempPathFactory, small_inputs: dict[str, Path]) -> Path:
    out = tmp_path_factory.mktemp("toy") / "out"
    assert invoke(["run", "--dry-run", "--out", str(out), *input_flags(small_inputs)]) == 0
    return out


def fails_now_and_then(_number: int, payload: Mapping[str, Any]) -> web.Response | None:
    """Refuse every fifth query for good, whenever it is asked."""
    return refuse(400) if (sum(payload["prompt"]) + payload.get("seed", 0)) % 5 == 0 else None


@pytest.fixture(scope="session")
def _incomplete_runs(
    tmp_path_factory: pytest.TempPathFactory, small_inputs: dict[str, Path]
) -> Path:
    out = tmp_path_factory.mktemp("incomplete") / "out"
    flags = ["--model", "smollm2-135m", "--extractor", "rules", *input_flags(small_inputs)]
    server = FakeLlamaCpp()
    with served(server) as url:
        # The probe of `connect` must pass.
        server.trouble = lambda number, payload: (
            fails_now_and_then(number, payload) if number > 2 else None
        )
        assert invoke(["run", "--endpoint", url, "--out", str(out), *flags]) == 3
    return out


def _copied(source: Path, target: Path) -> tuple[RunFolder, RunFolder]:
    shutil.copytree(source, target)
    responses, probabilities = find_runs(target)
    return responses, probabilities


@pytest.fixture
def toy_runs(_toy_runs: Path, tmp_path: Path) -> tuple[RunFolder, RunFolder]:
    """Copies of two complete runs: Experiment 1 and 2 of both studies."""
    return _copied(_toy_runs, tmp_path / "toy")


@pytest.fixture
def incomplete_runs(_incomplete_runs: Path, tmp_path: Path) -> tuple[RunFolder, RunFolder]:
    """Copies of two closed runs in which some queries failed for good."""
    return _copied(_incomplete_runs, tmp_path / "incomplete")


@pytest.fixture
async def api() -> AsyncIterator["FakeApi"]:
    """A cluster's API with nothing in it."""
    # Found beside the tests that ask for it; all others do without.
    from fake_api import FakeApi

    fake = FakeApi()
    async with fake.served():
        yield fake


@pytest.fixture
async def client(api: "FakeApi") -> AsyncIterator["ClusterClient"]:
    """Its client; what fails twice has failed."""
    from grace.cluster.client import ClusterClient, Patience

    patience = Patience(attempts=2, first_wait_seconds=0, longest_wait_seconds=0)
    async with ClusterClient.at(api.url, patience=patience) as made:
        yield made
