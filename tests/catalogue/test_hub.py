import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from grace.catalogue.sources import HubSource
from grace.catalogue.spec import ModelSpec, load_catalogue
from grace.catalogue.weights import ensure_weights, find_weights
from grace.errors import WeightsError

pytest.importorskip("huggingface_hub")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = os.urandom(120_000)
FILES = {
    "config.json": b'{"a": 1}',
    "tokenizer.model": b"tokens",
    "model-1.safetensors": WEIGHTS,
    "pytorch_model.bin": b"the same again",
    "original/model.safetensors": b"and again",
    "modeling.py": b"code",
    "README.md": b"words",
}


def spec(entries: Any, **fields: Any) -> ModelSpec:
    return load_catalogue(entries.write(mine=fields)).get("mine")


def names(folder: Path) -> set[str]:
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in paths if not str(path).startswith(".")}


def test_a_repository_is_fetched_without_copies_and_code(
    hub: Any, entries: Any, heard: Any
) -> None:
    hub.put_repository("someone/model", FILES)
    found = ensure_weights(spec(entries), progress=heard)
    assert names(found.path) == {"config.json", "tokenizer.model", "model-1.safetensors"}
    assert (found.path / "model-1.safetensors").read_bytes() == WEIGHTS
    assert found.source == f"hf://someone/model@{COMMIT}"
    assert "downloading model-1.safetensors" in heard.steps


def test_bytes_are_counted(hub: Any, entries: Any, heard: Any) -> None:
    hub.put_repository("someone/model", {"model.safetensors": WEIGHTS})
    counts: dict[str, int] = {}
    began = heard.began

    def remember(step: str, total_bytes: int | None) -> None:
        if heard.steps:
            counts[heard.steps[-1]] = heard.counted
        began(step, total_bytes)

    heard.began = remember
    ensure_weights(spec(entries), progress=heard)
    assert counts["downloading model.safetensors"] == len(WEIGHTS)


def test_what_is_here_needs_no_hub(hub: Any, entries: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.put_repository("someone/model", FILES)
    wanted = spec(entries, revision=COMMIT)
    found = ensure_weights(wanted)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert ensure_weights(wanted) == found
    assert ensure_weights(wanted, verify=True) == found


def test_one_file_of_a_repository(hub: Any, entries: Any) -> None:
    hub.put_repository("someone/model", FILES)
    wanted = spec(entries, weights=f"hf://someone/model@{COMMIT}/pytorch_model.bin")
    found = ensure_weights(wanted)
    assert found.path.read_bytes() == b"the same again"
    assert found.source == f"hf://someone/model@{COMMIT}/pytorch_model.bin"


def test_an_entry_can_say_which_files(hub: Any, entries: Any) -> None:
    hub.put_repository("someone/model", FILES)
    weights = {"scheme": "hf", "uri": "hf://someone/model", "files": ["*.bin", "config.*"]}
    found = ensure_weights(spec(entries, weights=weights))
    assert names(found.path) == {"pytorch_model.bin", "config.json"}


def test_a_file_that_does_not_exist_is_named(hub: Any, entries: Any) -> None:
    hub.put_repository("someone/model", FILES)
    with pytest.raises(WeightsError, match=r"none that is wanted \(none\.gguf\)"):
        ensure_weights(spec(entries, weights=f"hf://someone/model@{COMMIT}/none.gguf"))


@pytest.mark.parametrize("file", ["model-1.safetensors", "config.json"])
def test_a_file_with_another_hash_is_removed(hub: Any, entries: Any, file: str) -> None:
    hub.put_repository("someone/model", FILES)
    place = f"/someone/model/resolve/{COMMIT}/{file}"
    right = hub.files[place]
    hub.files[place] = right[:-1] + b"x"
    wanted = spec(entries)
    with pytest.raises(WeightsError, match="the hub states"):
        ensure_weights(wanted)
    assert find_weights(wanted) is None
    hub.files[place] = right
    assert (ensure_weights(wanted).path / file).read_bytes() == right


def test_a_gated_repository_says_how_to_get_in(hub: Any, entries: Any) -> None:
    hub.put_repository("someone/model", FILES)
    place = f"/someone/model/resolve/{COMMIT}/config.json"
    hub.headers[place] = {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"}
    hub.statuses[place] = [401] * 20
    with pytest.raises(
        WeightsError, match=r"is gated\. Accept the licence at .*someone/model.*HF_TOKEN"
    ):
        ensure_weights(spec(entries))


def test_a_token_from_a_file_is_not_shown_when_the_hub_repeats_it(
    hub: Any, entries: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = "hf_canary0123456789"
    (tmp_path / "token").write_text(canary)
    monkeypatch.setenv("HF_TOKEN_FILE", str(tmp_path / "token"))
    hub.put_repository("someone/model", FILES)
    place = f"/someone/model/resolve/{COMMIT}/config.json"
    hub.headers[place] = {"X-Error-Message": f"no such token: Bearer {canary}"}
    hub.statuses[place] = [400] * 20
    with pytest.raises(WeightsError) as caught:
        ensure_weights(spec(entries))
    assert "the hub cannot be reached" in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("RepoNotFound", r"no such repository; check the name .* HF_TOKEN"),
        ("RevisionNotFound", r"has no revision 'v9'; run `grace models lock` again"),
        ("", r"the hub cannot be reached"),
    ],
)
def test_what_does_not_exist_is_named(hub: Any, entries: Any, code: str, expected: str) -> None:
    place = "/api/models/someone/model/revision/v9"
    hub.statuses[place] = [404] * 20
    hub.headers[place] = {"X-Error-Code": code}
    with pytest.raises(WeightsError, match=expected):
        ensure_weights(spec(entries, revision="v9"))


def test_no_network_says_what_to_do(entries: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        WeightsError, match=r"hf download someone/model --local-dir.*file:///FOLDER"
    ):
        ensure_weights(spec(entries))


def test_more_than_fits_is_not_begun(hub: Any, entries: Any) -> None:
    hub.put_repository("someone/model", FILES)
    info = f"/api/models/someone/model/revision/{COMMIT}"
    size = f'"size": {len(WEIGHTS)}'.encode()
    hub.files[info] = hub.files[info].replace(size, b'"size": 1000000000000000000')
    with pytest.raises(WeightsError, match="are needed and"):
        ensure_weights(spec(entries))
    assert not any("/resolve/" in path for path, _ in hub.asked)


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    # A process in which the extra cannot be imported: this one may have it loaded already.
    code = (
        "import sys\nsys.modules['huggingface_hub'] = None\n"
        "from grace.catalogue.hub import resolve_revision\n"
        "from grace.catalogue.sources import HubSource\n"
        "from grace.errors import WeightsError\n"
        "try:\n    resolve_revision(HubSource('a/b'))\n"
        "except WeightsError as error:\n    print(error)\n"
    )
    result = subprocess.run(  # noqa: S603 (our own script)
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert "pip install 'grace[hub]'" in result.stdout
    assert "file:///FOLDER" in result.stdout


def test_offline_mode_is_named(tmp_path: Path) -> None:
    code = (
        "from grace.catalogue.hub import resolve_revision\n"
        "from grace.catalogue.sources import HubSource\n"
        "from grace.errors import WeightsError\n"
        "try:\n    resolve_revision(HubSource('a/b'))\n"
        "except WeightsError as error:\n    print(error)\n"
    )
    result = subprocess.run(  # noqa: S603 (our own script)
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert "HF_HUB_OFFLINE is set; unset it" in result.stdout


def test_a_branch_is_resolved_to_its_commit(hub: Any, entries: Any) -> None:
    hub.put_repository("someone/model", FILES)
    wanted = spec(entries, revision="main")
    assert wanted.source == HubSource("someone/model", "main")
    assert ensure_weights(wanted).source == f"hf://someone/model@{COMMIT}"
