import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from grace.runs.holder import Holder, lock_holder

_LOCKING = """
import fcntl, sys
file = open(sys.argv[1], "r+")
fcntl.lockf(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked_elsewhere(path: Path) -> Iterator[int]:
    """Let another process hold the lock."""
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", _LOCKING, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        yield process.pid
        process.communicate()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "run.lock"
    path.touch()
    return path


def test_another_process_is_named_by_what_the_system_knows(path: Path) -> None:
    with locked_elsewhere(path) as pid:
        assert lock_holder(path) == Holder(pid)
        # Asking frees nothing.
        assert lock_holder(path) == Holder(pid)
    assert lock_holder(path) is None


def test_another_process_is_named_by_what_it_wrote(path: Path) -> None:
    path.write_text('{"host": "node7", "pid": 42, "since": "2026-01-31T10:00:00+00:00"}\n')
    # What a killed process left there locks nothing.
    assert lock_holder(path) is None
    with locked_elsewhere(path):
        holder = lock_holder(path)
    assert holder == Holder(42, "node7", "2026-01-31T10:00:00+00:00")
    assert str(holder) == "process 42 on node7, since 2026-01-31T10:00:00+00:00"


@pytest.mark.parametrize("content", ["{", "[]", '{"pid": null, "host": 1}', "\x00"])
def test_what_cannot_be_read_names_nobody_else(path: Path, content: str) -> None:
    path.write_text(content)
    with locked_elsewhere(path) as pid:
        assert lock_holder(path) == Holder(pid)


def test_a_folder_without_a_lock_is_worked_on_by_nobody(tmp_path: Path) -> None:
    assert lock_holder(tmp_path / "run.lock") is None


def test_a_process_on_another_machine_has_no_number() -> None:
    assert str(Holder(None)) == "a process"
    assert str(Holder(os.getpid())) == f"process {os.getpid()}"
