"""A command that was stopped before its second experiment: nobody may take the first for all."""

import shutil
from pathlib import Path

import pytest

from grace.cli.main import invoke
from grace.runs.folder import RunFolder, find_runs


@pytest.fixture
def halved(tmp_path: Path) -> RunFolder:
    """The first of two runs; of the second, only an empty folder was made."""
    out = tmp_path / "out"
    assert invoke(["run", "--dry-run", "--study", "study2", "--limit", "3", "--out", str(out)]) == 0
    responses, probabilities = find_runs(out)
    shutil.rmtree(probabilities.path)
    probabilities.path.mkdir()
    return responses


def test_status_names_what_was_never_begun(
    halved: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert invoke(["status", str(halved.path.parents[2])]) == 3
    shown = capsys.readouterr().out
    assert "not begun" in shown
    assert "exp2 of toy was asked for together with exp1 of toy" in shown
    assert f"grace resume {halved.path}" in shown


def test_a_run_is_named_whole_from_inside_its_folder(
    halved: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(halved.path.parent)
    capsys.readouterr()
    assert invoke(["status", halved.timestamp]) == 3
    assert "exp2 of toy was asked for together with exp1 of toy" in capsys.readouterr().out


def test_what_was_never_begun_follows_on_resume(halved: RunFolder) -> None:
    assert invoke(["resume", str(halved.path)]) == 0
    assert all(folder.closed for folder in find_runs(halved.path.parents[2]))
    assert len(find_runs(halved.path.parents[2])) == 2
    assert invoke(["status", str(halved.path.parents[2])]) == 0


def test_a_run_that_was_asked_for_alone_is_whole(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    flags = ("--dry-run", "--study", "study2", "--limit", "2", "--experiment", "exp1")
    assert invoke(["run", *flags, "--out", out]) == 0
    assert invoke(["status", out]) == 0


def test_a_run_that_was_moved_alone_goes_on_alone(halved: RunFolder, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "exp1" / "toy" / halved.timestamp
    elsewhere.parent.mkdir(parents=True)
    shutil.move(halved.path, elsewhere)
    assert invoke(["status", str(tmp_path / "elsewhere")]) == 0
    assert invoke(["resume", str(elsewhere)]) == 0
    assert len(find_runs(tmp_path / "elsewhere")) == 1
