"""Which model, server and extractor a run gets."""

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from fake_llamacpp import FakeLlamaCpp, served, serving
from grace.catalogue.progress import SilentProgress
from grace.catalogue.spec import load_catalogue
from grace.errors import CatalogueError, ServerUnavailable, UsageError
from grace.pipeline.connection import TOY, connect_model, models_of
from grace.pipeline.extractor import choose_extractor
from grace.settings import RunSettings

CATALOGUE = load_catalogue()


def settings(**values: Any) -> RunSettings:
    return RunSettings.model_validate(values)


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_API_KEY", "secret")


def test_a_dry_run_takes_the_toy_whatever_is_asked_for() -> None:
    assert models_of(settings(dry_run=True, model=("gemma-2-9b",)), CATALOGUE) == (TOY,)


def test_a_dry_run_finds_a_name_that_is_wrong() -> None:
    with pytest.raises(CatalogueError, match="no-such-model"):
        models_of(settings(dry_run=True, model=("no-such-model",)), CATALOGUE)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"model": ("smollm2-135m", "smollm2-135m")}, "a model is given twice"),
        (
            {"model": ("smollm2-135m", "gpt2"), "endpoint": "http://x"},
            "--endpoint serves one model",
        ),
        ({"model": ("gpt2",)}, "gpt2 is served by vllm.*--endpoint http://HOST:PORT"),
        ({"model": ("smollm",)}, "there is no model 'smollm'"),
    ],
)
def test_models_that_cannot_be_had_are_refused(values: Any, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        models_of(settings(**values), CATALOGUE)


def test_without_a_key_the_rules_extract() -> None:
    choice = choose_extractor(settings(), CATALOGUE)
    assert (choice.name, choice.label, choice.use) == ("rules", "rules", None)


def test_a_key_in_a_file_is_a_key_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("secret\n")
    monkeypatch.setenv("DEEPSEEK_API_KEY_FILE", str(tmp_path / "key"))
    assert choose_extractor(settings(), CATALOGUE).label == "rules+deepseek"


@pytest.mark.usefixtures("key")
def test_with_a_key_deepseek_reads_what_the_rules_leave_open() -> None:
    choice = choose_extractor(settings(), CATALOGUE)
    assert (choice.name, choice.label, choice.rules_first) == ("deepseek", "rules+deepseek", True)


@pytest.mark.usefixtures("key")
def test_a_dry_run_never_asks_deepseek() -> None:
    assert choose_extractor(settings(dry_run=True), CATALOGUE).use is None


@pytest.mark.parametrize(
    ("values", "label"),
    [
        ({"extractor": "smollm2-135m"}, "smollm2-135m"),
        ({"extractor": "rules+smollm2-135m"}, "rules+smollm2-135m"),
        ({"extractor": "gpt2", "extractor_endpoint": "http://x"}, "gpt2"),
        ({"extractor": "gpt2", "model": ("gpt2",), "endpoint": "http://x"}, "gpt2"),
    ],
)
def test_any_model_can_extract(values: Any, label: str) -> None:
    assert choose_extractor(settings(**values), CATALOGUE).label == label


@pytest.mark.parametrize(
    ("extractor", "problem"),
    [
        ("deepseek", "needs a key: set the environment variable DEEPSEEK_API_KEY"),
        ("rules+deepseek", "needs a key"),
        ("gpt2", "--extractor-endpoint http://HOST:PORT"),
        ("nobody", "there is no model 'nobody'"),
        ("rules+", "there is no model ''"),
    ],
)
def test_an_extractor_that_cannot_be_had_is_refused(extractor: str, problem: str) -> None:
    with pytest.raises((UsageError, CatalogueError), match=problem):
        choose_extractor(settings(extractor=extractor), CATALOGUE)


async def connected(given: RunSettings, endpoint: str | None) -> tuple[str, int]:
    (use,) = models_of(given, CATALOGUE)
    async with connect_model(
        use, given, CATALOGUE, Path("nowhere"), SilentProgress(), endpoint
    ) as connection:
        return connection.server.dialect, connection.concurrency


async def test_the_dialect_of_an_endpoint_is_found_out() -> None:
    async with serving(FakeLlamaCpp().app()) as url:
        assert await connected(settings(endpoint=url), url) == ("llamacpp", 16)
        assert await connected(settings(endpoint=url, concurrency=3), url) == ("llamacpp", 3)
        assert await connected(settings(endpoint=url, server="llamacpp"), url) == ("llamacpp", 16)


async def test_an_endpoint_that_does_not_answer_is_unavailable() -> None:
    with served(FakeLlamaCpp()) as url:
        pass
    with pytest.raises(ServerUnavailable):
        await connected(settings(endpoint=url), url)


async def test_an_endpoint_that_is_no_model_server_is_refused() -> None:
    async with serving(web.Application()) as url:
        with pytest.raises(UsageError, match="but not as"):
            await connected(settings(endpoint=url), url)
