"""`grace files`, as a pod runs it: real processes, started for each file."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from grace.cli.main import invoke


def files(
    *arguments: str | Path, given: bytes = b"", folder: Path
) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(  # noqa: S603
        [sys.executable, "-m", "grace", "files", *arguments],
        input=given,
        capture_output=True,
        check=False,
        env={**os.environ, "TMPDIR": str(folder), "HOME": "/nonexistent"},
    )


def test_a_file_goes_there_and_back(tmp_path: Path) -> None:
    root, content = tmp_path / "root", os.urandom(3_000_000)
    root.mkdir()
    sha256 = hashlib.sha256(content).hexdigest()
    took = files(
        "receive", "exp1/x.bin", "--root", root, "--sha256", sha256, given=content, folder=tmp_path
    )
    assert took.returncode == 0, took.stderr
    held = {"path": "exp1/x.bin", "size": len(content), "sha256": sha256}
    assert json.loads(took.stdout) == held
    told = files("list", root, folder=tmp_path)
    assert [json.loads(line) for line in told.stdout.splitlines()] == [held]
    sent = files("send", root / "exp1/x.bin", "--offset", "7", "--length", "11", folder=tmp_path)
    assert sent.stdout == content[7:18]
    # The collector compares each part with this.
    assert json.loads(sent.stderr) == {"sha256": hashlib.sha256(content[7:18]).hexdigest()}
    whole = files("send", "exp1/x.bin", "--root", root, folder=tmp_path)
    assert whole.stdout == content


def test_a_damaged_file_is_refused_with_one_line(tmp_path: Path) -> None:
    took = files(
        "receive", tmp_path / "x", "--sha256", "0" * 64, given=b"something", folder=tmp_path
    )
    assert took.returncode == 1
    assert took.stderr.count(b"\n") == 1
    assert b"send it again" in took.stderr
    assert not (tmp_path / "x").exists()


def test_a_file_of_known_size_needs_no_end(tmp_path: Path) -> None:
    content = os.urandom(2_000_000)
    sha256, size = hashlib.sha256(content).hexdigest(), str(len(content))
    command = ["files", "receive", str(tmp_path / "x"), "--sha256", sha256, "--size", size]
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "grace", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        process.stdin.write(content)
        process.stdin.flush()
        # Standard input stays open, as it does through a web socket.
        assert process.wait(60) == 0
    assert (tmp_path / "x").read_bytes() == content


def test_a_path_outside_is_wrong_usage(tmp_path: Path) -> None:
    took = files("send", "../x", "--root", tmp_path, folder=tmp_path)
    assert took.returncode == 2
    assert not took.stdout


def test_an_odd_name_is_told_and_the_others_are_listed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a b").touch()
    (root / "c").touch()
    told = files("list", root, folder=tmp_path)
    assert told.returncode == 1
    assert json.loads(told.stdout)["path"] == "c"
    assert b"'a b' cannot be handed over" in told.stderr


def keeping(folder: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "grace", "files", "keep", *arguments],
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_an_idle_pod_ends_by_itself(tmp_path: Path) -> None:
    with keeping(tmp_path, "--idle-minutes", "0.005") as process:
        assert process.wait(60) == 0


def test_a_pod_that_is_told_to_end_ends_at_once(tmp_path: Path) -> None:
    with keeping(tmp_path) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@pytest.mark.parametrize("command", [["files", "--help"], ["files", "receive", "--help"]])
def test_it_is_found_by_whoever_knows_of_it(
    command: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke([*command]) == 0
    assert capsys.readouterr().out
    assert invoke(["--help"]) == 0
    assert " files " not in capsys.readouterr().out
