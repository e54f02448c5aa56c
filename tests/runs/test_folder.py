import fcntl
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from grace.errors import RunFolderError, RunLocked, UsageError
from grace.runs.folder import (
    RunFolder,
    RunRecord,
    check_timestamp,
    find_runs,
    new_timestamp,
    runs_of_cell,
)

Runs = tuple[RunFolder, RunFolder]


def test_a_path_says_experiment_model_and_timestamp() -> None:
    folder = RunFolder(Path("results/exp1/toy/20260131T235959Z"))
    assert (folder.experiment, folder.model, folder.timestamp) == (
        "exp1",
        "toy",
        "20260131T235959Z",
    )
    assert folder.table("study1", "raw_responses").name == "toy_study1_raw_responses.csv"


@pytest.mark.parametrize(
    "text", ["", "now", "2026-01-31T23:59:59Z", "20260131T235959", "20260131T235959Z\n", "../x"]
)
def test_what_is_not_a_timestamp_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected UTC as 20260131T235959Z"):
        check_timestamp(text)


def test_timestamps_are_utc_and_sort_by_time() -> None:
    moment = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)
    assert check_timestamp(new_timestamp(moment)) == "20260131T235959Z"
    assert check_timestamp(new_timestamp())


def test_the_record_of_a_run_survives_the_round_trip(toy_runs: Runs) -> None:
    record = toy_runs[0].read_record()
    toy_runs[0].write_record(record)
    assert toy_runs[0].read_record() == record
    assert RunRecord.model_validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize(
    ("content", "problem"),
    [("", "Invalid JSON"), ("{}", "started"), ("[]", "run.json"), ("\0", "Invalid JSON")],
)
def test_a_record_that_is_no_record_is_refused(toy_runs: Runs, content: str, problem: str) -> None:
    toy_runs[0].record_path.write_text(content)
    with pytest.raises(RunFolderError, match=rf"run\.json.*{problem}|{problem}"):
        toy_runs[0].read_record()


def test_a_folder_without_a_record_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="is not a run folder"):
        RunFolder(tmp_path).read_record()


def test_runs_are_found_at_and_below_a_folder(toy_runs: Runs) -> None:
    out = toy_runs[0].path.parents[2]
    for path, count in {
        out: 2,
        out / "exp1": 1,
        out / "exp1" / "toy": 1,
        toy_runs[0].path: 1,
    }.items():
        assert len(find_runs(path)) == count
    with pytest.raises(RunFolderError, match="holds no run"):
        find_runs(out / "exp3")


def test_only_runs_that_were_begun_belong_to_a_cell(toy_runs: Runs) -> None:
    out = toy_runs[0].path.parents[2]
    cell = out / "exp1" / "toy"
    (cell / "20990101T000000Z").mkdir()
    (cell / "notes").mkdir()
    assert [one.path for one in runs_of_cell(out, "exp1", "toy")] == [toy_runs[0].path]
    assert runs_of_cell(out, "exp1", "another") == []


def test_a_folder_that_cannot_be_made_ends_in_a_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"cannot be made.*choose another --out"):
        RunFolder(tmp_path / "file" / "exp1").make()


LOCKING = """
import fcntl, os, sys, time
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o644)
fcntl.lockf(descriptor, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(60)
"""


def test_a_lock_held_by_another_process_keeps_this_one_out_until_it_dies(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", LOCKING, str(tmp_path / "run.lock")], stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(RunLocked, match="another process is working on this run"):
            folder.lock().__enter__()
        other.kill()
        other.wait()
    with folder.lock():
        pass


def test_a_lock_keeps_other_processes_out_and_is_freed(tmp_path: Path) -> None:
    def is_free() -> bool:
        # From a child: POSIX locks do not bind the process that holds them.
        pid = os.fork()
        if pid == 0:
            descriptor = os.open(tmp_path / "run.lock", os.O_RDWR)
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os._exit(1)
            os._exit(0)
        return os.waitpid(pid, 0)[1] == 0

    with RunFolder(tmp_path).lock():
        assert not is_free()
    assert is_free()
    assert time.monotonic()


def test_a_folder_that_is_gone_cannot_be_locked(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="cannot be locked"):
        RunFolder(tmp_path / "gone").lock().__enter__()
