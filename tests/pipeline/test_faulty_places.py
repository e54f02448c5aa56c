"""Disks that are full, read-only or gone, at any of the files that a run writes."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fake_llamacpp import FakeLlamaCpp, served
from grace.cli.main import invoke
from grace.engine.journal import read_journal
from grace.runs.folder import RunFolder, find_runs
from inputs import input_flags
from processes import Forker

MODEL = ("--model", "smollm2-135m", "--extractor", "rules")


def tables(folders: list[RunFolder]) -> dict[str, bytes]:
    return {
        f"{folder.experiment}/{path.name}": path.read_bytes()
        for folder in folders
        for path in folder.path.iterdir()
        if path.suffix in {".csv", ".jsonl"}
    }


@contextmanager
def disk(path: Path, size: str) -> Iterator[Path]:
    """A file system of its own, as small as is asked for."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.call(command, stderr=subprocess.DEVNULL):  # noqa: S603
        pytest.skip("mounting a small disk is not permitted here")
    try:
        yield path
    finally:
        subprocess.check_call(["umount", "-l", str(path)])  # noqa: S603, S607


def remount(path: Path, options: str) -> None:
    subprocess.check_call(["mount", "-o", f"remount,{options}", str(path)])  # noqa: S603, S607


@pytest.fixture
def command(small_inputs: dict[str, Path]) -> list[str]:
    return ["run", "--dry-run", *input_flags(small_inputs)]


def test_a_disk_that_is_full_anywhere_ends_in_a_message_and_the_run_goes_on(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke([*command, "--out", str(tmp_path / "whole")]) == 0
    whole = tables(find_runs(tmp_path / "whole"))
    with disk(tmp_path / "disk", "4m") as small:
        out = small / "out"
        codes = []
        # Each time a little more room: the disk is full at ever later files.
        for room in range(0, 400, 8):
            ballast = small / "ballast"
            ballast.write_bytes(b"")
            free = os.statvfs(small).f_bavail * os.statvfs(small).f_frsize
            used = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
            with ballast.open("wb") as stream:
                stream.write(bytes(max(0, free - max(0, room * 1024 - used))))
            capsys.readouterr()
            codes.append(invoke([*command, "--out", str(out)]))
            shown = capsys.readouterr().err
            if codes[-1] == 0:
                break
            assert codes[-1] == 1
            assert "No space left on device" in shown
            assert "Traceback" not in shown
        assert codes[-1] == 0
        assert len(codes) > 5
        assert tables(find_runs(out)) == whole
        assert not list(out.rglob(".*.part"))


@pytest.mark.parametrize("name", ["run.json", "structured.csv", "summary.csv", "manifest.json"])
def test_a_folder_that_became_read_only_ends_in_a_message(
    tmp_path: Path, command: list[str], name: str, forker: Forker
) -> None:
    out = tmp_path / "out"
    code, shown = forker.run(
        [*command, "--out", out], tmp_path / "log", read_only_from=f".*{name}.part"
    )
    assert code == 1, shown
    assert "cannot be written: Read-only file system" in " ".join(shown.split())
    assert "Traceback" not in shown
    assert invoke([*command, "--out", str(out)]) == 0


def test_an_out_that_is_read_only_from_the_start_sends_nothing(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with disk(tmp_path / "disk", "1m") as small:
        remount(small, "ro")
        assert invoke([*command, "--out", str(small / "out")]) == 1
    assert "Read-only file system" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["deleted", "moved", "journal"])
def test_a_run_whose_folder_vanishes_stops_before_it_asks_everything(
    tmp_path: Path, small_inputs: dict[str, Path], forker: Forker, how: str
) -> None:
    server, out = FakeLlamaCpp(delay_seconds=0.05), tmp_path / "out"
    vanished = threading.Event()

    def vanish(number: int, _payload: object) -> None:
        journals = list(out.rglob("*.jsonl"))
        if number > 6 and journals and not vanished.is_set():
            vanished.set()
            if how == "deleted":
                shutil.rmtree(out)
            elif how == "moved":
                shutil.move(out, tmp_path / "elsewhere")
            else:
                journals[0].unlink()

    server.trouble = vanish
    flags = ["--experiment", "exp1", "--replicates", "20", *MODEL, *input_flags(small_inputs)]
    with served(server) as url:
        command = ["run", "--endpoint", url, "--out", str(out), "--concurrency", "2", *flags]
        code, shown = forker.run(command, tmp_path / "log")
        assert code == 1, shown
        assert "Traceback" not in shown
        assert "is gone" in shown
        assert len(server.asked) < 200
        if how == "moved":
            (folder,) = find_runs(tmp_path / "elsewhere")
            kept = {
                int(str(one.value["seed"])) for one in read_journal(folder.journal).records.values()
            }
            assert len(kept) > 3
            asked = len(server.asked)
            server.delay_seconds = 0
            assert forker.run(["resume", folder.path], tmp_path / "log2")[0] == 0
            assert not kept & set(server.seeds()[asked:])


GONE = (
    ("extract", "open", ".*structured.csv.part"),
    ("summarise", "open", "*structured.csv"),
    ("summarise", "open", ".*summary.csv.part"),
    ("validate", "open", "*structured.csv"),
    ("validate", "os.listdir", "20*Z"),
    ("validate", "open", "extraction_errors.jsonl"),
    ("validate", "open", ".manifest.json.part"),
    ("validate", "open", "manifest.json"),
)


@pytest.mark.parametrize(("stage", "event", "name"), GONE)
def test_a_stage_whose_folder_is_gone_ends_in_a_message(
    toy_runs: tuple[RunFolder, RunFolder],
    small_inputs: dict[str, Path],
    forker: Forker,
    tmp_path: Path,
    stage: str,
    event: str,
    name: str,
) -> None:
    folder = toy_runs[0]
    out = folder.path.parents[2]
    folder.manifest_path.unlink()
    code, shown = forker.run(
        [
            *("stage", stage, "--experiment", "exp1", "--model", "toy", "--dry-run", "--out", out),
            *("--timestamp", folder.timestamp, *input_flags(small_inputs)),
        ],
        tmp_path / "log",
        runs_before=(event, name, f"rm -r {out}"),
    )
    assert not out.exists()
    assert code == 1, shown
    assert "Traceback" not in shown
