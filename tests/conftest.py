"""What all tests share: no keys from outside, no user configuration, patient Hypothesis."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from processes import Forker

settings.register_profile("grace", deadline=None)
settings.load_profile("grace")


@pytest.fixture(scope="session")
def _no_configuration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("configuration")


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch, _no_configuration: Path) -> None:
    """Take away what would change a run: keys, locked revisions, colours, proxies."""
    for name in ("DEEPSEEK_API_KEY", "GRACE_API_KEY", "FORCE_COLOR", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(_no_configuration))


@pytest.fixture(scope="session")
def forker() -> Iterator[Forker]:
    """Processes that run a command line of Grace, each started in milliseconds."""
    with Forker() as running:
        yield running
