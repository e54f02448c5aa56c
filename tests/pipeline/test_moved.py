"""A run folder that was moved, to another place or another machine, goes on there."""

import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fake_llamacpp import FakeLlamaCpp, served
from grace.cli.main import invoke
from grace.engine.journal import read_journal
from grace.runs.folder import RunFolder, find_runs
from inputs import write_inputs
from processes import Forker

FLAGS = ("--model", "smollm2-135m", "--extractor", "rules", "--experiment", "exp1")


@dataclass
class Moved:
    """A run that was killed in the middle, and moved without its inputs; its server is another."""

    folder: RunFolder
    whole: RunFolder
    inputs: dict[str, Path]
    server: FakeLlamaCpp
    url: str

    @property
    def input_flags(self) -> list[str]:
        return [flag for key, path in self.inputs.items() for flag in ("--input", f"{key}={path}")]


def tables(folder: RunFolder) -> dict[str, bytes]:
    return {
        name: (folder.path / name).read_bytes()
        for name in folder.published()
        if not name.startswith("journal/")
    }


@pytest.fixture
def moved(tmp_path: Path, forker: Forker) -> Iterator[Moved]:
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "inputs").mkdir(parents=True)
    there.mkdir()
    given = write_inputs(here / "inputs")
    flags = [flag for key, path in given.items() for flag in ("--input", f"{key}={path}")]
    server = FakeLlamaCpp(delay_seconds=0.01)
    with served(server) as url:
        command = ["run", *FLAGS, *flags, "--endpoint", url, "--out"]
        running = forker.start([*command, here / "out"], tmp_path / "log")
        while not any(path.stat().st_size for path in here.rglob("journal/*")):
            pass
        running.kill()
        assert running.wait() == -signal.SIGKILL
        assert invoke([*command, str(here / "whole")]) == 0
    shutil.move(here / "out", there / "results")
    shutil.move(here / "inputs", there / "data")
    (folder,) = find_runs(there / "results")
    (whole,) = find_runs(here / "whole")
    another = FakeLlamaCpp()
    with served(another) as url:
        inputs = {key: there / "data" / path.name for key, path in given.items()}
        yield Moved(folder, whole, inputs, another, url)


def test_it_goes_on_from_its_folder_once_told_where_things_are(moved: Moved) -> None:
    kept = {
        int(str(one.value["seed"])) for one in read_journal(moved.folder.journal).records.values()
    }
    assert kept
    command = ["resume", str(moved.folder.path), "--endpoint", moved.url, *moved.input_flags]
    assert invoke(command) == 0
    assert tables(moved.folder) == tables(moved.whole)
    assert not kept & set(moved.server.seeds())


def test_it_says_what_it_needs_to_be_told(moved: Moved, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["resume", str(moved.folder.path), "--endpoint", moved.url]) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert "study1.csv: is not there any more" in shown
    assert "--input study1=CSV" in shown
    assert moved.server.asked == []


def test_another_input_is_refused_with_the_field_named(
    moved: Moved, capsys: pytest.CaptureFixture[str]
) -> None:
    path = moved.inputs["study1"]
    path.write_bytes(path.read_bytes() + b"\n")
    command = ["resume", str(moved.folder.path), "--endpoint", moved.url, *moved.input_flags]
    assert invoke(command) == 1
    assert "studies.study1.input_sha256: " in capsys.readouterr().err


def test_the_first_command_goes_on_in_the_new_place_as_well(moved: Moved) -> None:
    out = moved.folder.path.parents[2]
    command = ["run", *FLAGS, *moved.input_flags, "--endpoint", moved.url, "--out", str(out)]
    assert invoke(command) == 0
    assert tables(moved.folder) == tables(moved.whole)


def test_a_folder_outside_its_order_is_refused_with_the_place_where_it_belongs(
    moved: Moved, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(moved.folder.path, alone)
    command = ["resume", str(alone), "--endpoint", moved.url, *moved.input_flags]
    assert invoke(command) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert "OUT/exp1/smollm2-135m/TIMESTAMP" in shown
    assert moved.server.asked == []


def test_a_run_on_shipped_items_needs_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert invoke(["run", "--dry-run", "--limit", "2", "--out", str(out)]) == 0
    shutil.move(out, tmp_path / "elsewhere")
    for folder in find_runs(tmp_path / "elsewhere"):
        before = tables(folder)
        folder.manifest_path.unlink()
        assert invoke(["resume", str(folder.path)]) == 0
        assert tables(folder) == before
    assert not out.exists()
