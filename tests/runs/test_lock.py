"""The lock of a run folder: who is kept out, what they are told, what frees it."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from grace.cli.main import invoke
from grace.errors import RunFolderError, RunLocked
from grace.runs.folder import RunFolder

HOLDING = """
import sys, time
from pathlib import Path
from grace.runs.folder import RunFolder
with RunFolder(Path(sys.argv[1])).lock():
    print("locked", flush=True)
    time.sleep(60)
"""


def holding(folder: Path) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", HOLDING, str(folder)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"locked\n"
    return process


def test_who_is_kept_out_is_told_by_whom(tmp_path: Path) -> None:
    with holding(tmp_path) as other:
        with pytest.raises(RunLocked) as caught:
            RunFolder(tmp_path).lock().__enter__()
        other.kill()
    message = str(caught.value)
    assert f"process {other.pid} on {socket.gethostname()}, since 20" in message
    assert "wait for it" in message


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_holder_leaves_no_lock_behind(tmp_path: Path, number: signal.Signals) -> None:
    with holding(tmp_path) as other:
        other.send_signal(number)
    with RunFolder(tmp_path).lock():
        pass
    with RunFolder(tmp_path).lock():
        pass


def test_this_process_is_kept_out_as_well(tmp_path: Path) -> None:
    # The lock of the operating system does not bind the process that holds it, and is lost
    # when any descriptor of the file is closed.
    with RunFolder(tmp_path).lock():
        with pytest.raises(RunLocked, match=f"process {os.getpid()} on "):
            RunFolder(tmp_path / ".." / tmp_path.name).lock().__enter__()
        other = [sys.executable, "-c", HOLDING, str(tmp_path)]
        assert subprocess.call(other, stderr=subprocess.DEVNULL) == 1  # noqa: S603
    with RunFolder(tmp_path).lock():
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_system_without_locks_is_not_taken_for_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(RunFolderError, match=r"run\.lock: cannot be locked: .*--out") as caught:
        RunFolder(tmp_path).lock().__enter__()
    assert not isinstance(caught.value, RunLocked)
    assert os.strerror(number) in str(caught.value)


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
def test_both_words_for_locked_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(RunLocked, match="another process is working on this run"):
        RunFolder(tmp_path).lock().__enter__()


def test_an_interrupted_holder_that_wrote_nothing_is_another_process(tmp_path: Path) -> None:
    with holding(tmp_path) as other:
        (tmp_path / "run.lock").write_bytes(b"\xff\0 torn")
        with pytest.raises(RunLocked, match="another process is working on this run"):
            RunFolder(tmp_path).lock().__enter__()
        other.kill()


def test_a_run_in_work_is_not_summarised(toy_runs: tuple[RunFolder, RunFolder]) -> None:
    folder = toy_runs[0]
    before = {path: path.read_bytes() for path in folder.path.iterdir() if path.is_file()}
    with holding(folder.path) as other:
        assert invoke(["summarise", str(folder.path)]) == 1
        other.kill()
    del before[folder.path / "run.lock"]
    assert {path: path.read_bytes() for path in before} == before
    assert invoke(["summarise", str(folder.path)]) == 0
