"""Somebody who finds a stopped run the next morning is told why it stopped."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_llamacpp import FakeLlamaCpp, refuse, served
from grace.cli.main import invoke
from grace.errors import RunFolderError
from grace.runs.folder import RunFolder, find_runs
from grace.runs.stop import STOP_FILE, read_stop, stop_noted
from inputs import input_flags

FLAGS = ("--model", "smollm2-135m", "--extractor", "rules", "--experiment", "exp1", "--study")


@pytest.fixture
def server() -> Iterator[tuple[FakeLlamaCpp, str]]:
    """A server, and its address."""
    held = FakeLlamaCpp()
    with served(held) as url:
        yield held, url


def test_status_says_which_error_stopped_a_run_until_it_goes_on(
    server: tuple[FakeLlamaCpp, str],
    tmp_path: Path,
    small_inputs: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    held, url = server
    given = {"study2": small_inputs["study2"]}
    out = tmp_path / "out"
    command = ["run", "--endpoint", url, *FLAGS, "study2", *input_flags(given), "--out", str(out)]
    held.trouble = lambda number, _payload: refuse(401) if number > 2 else None
    assert invoke(command) == 1
    (folder,) = find_runs(out)
    capsys.readouterr()
    assert invoke(["status", str(out)]) == 3
    shown = capsys.readouterr().out
    assert "an error stopped it" in shown
    assert "refuses whatever it is asked" in shown
    held.trouble = lambda _number, _payload: None
    assert invoke(command) == 0
    assert not (folder.path / STOP_FILE).exists()


def test_a_folder_in_which_nothing_can_be_noted_changes_no_message(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "gone")
    with pytest.raises(RunFolderError, match="the disk is gone"), stop_noted(folder):
        raise RunFolderError("the disk is gone")
    assert read_stop(folder) is None
