from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from grace.catalogue.lock import lock_models
from grace.catalogue.lockfile import default_lock_path, read_lock, write_lock
from grace.catalogue.spec import load_catalogue
from grace.errors import CatalogueError, WeightsError

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_what_the_hub_says_is_recorded_and_applied(hub: Any, entries: Any, heard: Any) -> None:
    hub.put_repository("someone/model", {"config.json": b"{}"})
    path = entries.write(mine={})
    found = lock_models(load_catalogue(path, apply_lock=False), ["mine"], now=NOW, progress=heard)
    assert found["mine"].revision == COMMIT
    assert found["mine"].locked_at == "2026-11-23T12:00:00Z"
    assert read_lock(default_lock_path(), must_exist=True) == found
    assert load_catalogue(path).get("mine").revision == COMMIT
    assert heard.steps == ["looking up hf://someone/model"]


def test_other_models_keep_their_lock(hub: Any, entries: Any, tmp_path: Path) -> None:
    hub.put_repository("someone/model", {"config.json": b"{}"})
    hub.put_repository("someone/else", {"config.json": b"{}"})
    lock = tmp_path / "lock.yaml"
    catalogue = load_catalogue(entries.write(one={}, two={"repository": "someone/else"}))
    lock_models(catalogue, ["one"], path=lock, now=NOW)
    lock_models(catalogue, ["two"], path=lock, now=NOW)
    assert list(read_lock(lock, must_exist=True)) == ["one", "two"]
    first = lock.read_bytes()
    lock_models(catalogue, ["one", "two"], path=lock, now=NOW)
    assert lock.read_bytes() == first


def test_without_a_hub_nothing_is_written(
    entries: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    lock = tmp_path / "lock.yaml"
    with pytest.raises(WeightsError, match=r"hf://someone/model: the hub cannot be reached"):
        lock_models(load_catalogue(entries.write(mine={})), ["mine"], path=lock)
    assert not lock.exists()


def test_one_missing_repository_writes_nothing(hub: Any, entries: Any, tmp_path: Path) -> None:
    hub.put_repository("someone/model", {"config.json": b"{}"})
    lock = tmp_path / "lock.yaml"
    catalogue = load_catalogue(entries.write(one={}, two={"repository": "no/where"}))
    with pytest.raises(WeightsError, match="no/where"):
        lock_models(catalogue, ["one", "two"], path=lock)
    assert not lock.exists()


@pytest.mark.parametrize(
    ("key", "state"), [("smollm2-135m", "is pinned already"), ("deepseek", "is hosted")]
)
def test_what_needs_no_lock_is_not_locked(key: str, state: str) -> None:
    with pytest.raises(CatalogueError, match=f"{key}: {state}.*leave it out"):
        lock_models(load_catalogue(), [key])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version: 2\n", "no lock file of version 1"),
        ("[]", "no lock file"),
        ("version: 1\nrevisions: 3\n", "revisions is 3"),
        (
            "version: 1\nrevisions:\n  a: {repository: x/y, revision: main, locked_at: t}\n",
            "a: revision is 'main'; expected .*\nrun `grace models lock`",
        ),
    ],
)
def test_a_spoilt_lock_file_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    lock = tmp_path / "lock.yaml"
    lock.write_text(text, "utf-8")
    with pytest.raises(CatalogueError, match=expected):
        read_lock(lock, must_exist=True)


def test_a_lock_file_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(CatalogueError, match=r"cannot be written.*--lock"):
        write_lock(tmp_path / "file" / "lock.yaml", {})
