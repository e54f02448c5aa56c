"""Weights where there is no home, nothing can be written, or all was copied into an image."""

import errno
import os
import shutil
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import platformdirs
import pytest

from grace.catalogue.lockfile import default_lock_path, read_lock
from grace.catalogue.spec import ModelSpec, load_catalogue
from grace.catalogue.store import Place, default_store
from grace.catalogue.weights import ensure_weights, find_weights, weights_path
from grace.errors import WeightsError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONTENT = os.urandom(5_000)


def spec(entries: Any, **fields: Any) -> ModelSpec:
    return load_catalogue(entries.write(mine=fields)).get("mine")


@pytest.fixture
def files(hub: Any) -> None:
    pytest.importorskip("huggingface_hub")
    hub.put_repository("someone/model", {"model.gguf": CONTENT, "config.json": b"{}"})


@pytest.fixture
def remote(entries: Any, files: None) -> ModelSpec:
    return spec(entries, weights=f"hf://someone/model@{COMMIT}/model.gguf")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("file", ["", "/model.gguf"])
def test_the_path_of_weights_is_known_before_they_are_fetched(
    entries: Any, tmp_path: Path, file: str
) -> None:
    one = spec(entries, weights=f"hf://someone/model@{COMMIT}{file}")
    expected = weights_path(one, tmp_path / "store")
    assert not (tmp_path / "store").exists()
    assert ensure_weights(one, tmp_path / "store").path == expected


def test_the_path_of_weights_on_another_machine_is_known(remote: ModelSpec) -> None:
    path = weights_path(remote, PurePosixPath("/grace/weights"))
    assert isinstance(path, PurePosixPath)
    assert path.parts[:4] == ("/", "grace", "weights", "mine")
    shipped = load_catalogue().get("smollm2-135m")
    assert str(weights_path(shipped, PurePosixPath("/w"))).startswith("/w/smollm2-135m/")


def test_a_model_without_weights_has_no_path() -> None:
    with pytest.raises(WeightsError, match="no weights to fetch"):
        weights_path(load_catalogue().get("deepseek"), PurePosixPath("/grace/weights"))


def test_weights_that_were_copied_are_hashed_and_not_fetched(
    remote: ModelSpec, hub: Any, tmp_path: Path
) -> None:
    ensure_weights(remote, tmp_path / "built")
    shutil.copytree(tmp_path / "built", tmp_path / "image", copy_function=shutil.copyfile)
    hub.asked.clear()
    found = ensure_weights(remote, tmp_path / "image")
    assert found.path.read_bytes() == CONTENT
    # From now on it is known.
    assert find_weights(remote, tmp_path / "image") == found
    assert hub.asked == []


def test_weights_that_were_spoilt_in_a_copy_are_fetched_again(
    remote: ModelSpec, tmp_path: Path
) -> None:
    ensure_weights(remote, tmp_path / "built")
    shutil.copytree(tmp_path / "built", tmp_path / "image", copy_function=shutil.copyfile)
    weights_of = Path(weights_path(remote, tmp_path / "image"))
    weights_of.write_bytes(CONTENT[:-1] + b"?")
    assert ensure_weights(remote, tmp_path / "image").path.read_bytes() == CONTENT


def read_only(*_: object) -> NoReturn:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def test_copied_weights_are_used_where_nothing_can_be_written(
    remote: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_weights(remote, tmp_path / "built")
    shutil.copytree(tmp_path / "built", tmp_path / "image", copy_function=shutil.copyfile)
    monkeypatch.setattr(Place, "write_receipt", read_only)
    assert ensure_weights(remote, tmp_path / "image").path.read_bytes() == CONTENT
    assert find_weights(remote, tmp_path / "image") is None


def test_weights_that_lie_somewhere_need_no_store(
    entries: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: Any
) -> None:
    (tmp_path / "w.gguf").write_bytes(CONTENT)
    monkeypatch.setenv("GRACE_CACHE", os.devnull)
    found = ensure_weights(spec(entries, weights="file://w.gguf"), None, heard)
    assert found.path == tmp_path / "w.gguf"


def homeless(_name: str) -> NoReturn:
    raise RuntimeError("could not determine the home directory")


def test_without_a_home_nothing_is_locked_and_nothing_is_kept(
    remote: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRACE_CACHE")
    monkeypatch.setattr(platformdirs, "user_cache_path", homeless)
    monkeypatch.setattr(platformdirs, "user_config_path", homeless)
    assert read_lock(default_lock_path(), must_exist=False) == {}
    assert load_catalogue().get("smollm2-135m").key == "smollm2-135m"
    assert find_weights(remote) is None
    with pytest.raises(WeightsError, match=r"Not a directory.*GRACE_CACHE"):
        ensure_weights(remote)
    assert default_store().is_absolute()


def test_the_home_of_another_user_is_none(tmp_path: Path) -> None:
    class Closed(type(tmp_path)):  # type: ignore[misc]
        def exists(self, **_: object) -> bool:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    assert read_lock(Closed(tmp_path / "lock.yaml"), must_exist=False) == {}
