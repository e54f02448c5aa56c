"""Clocks that jump: the run that was begun last is the one that goes on."""

import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

import grace.runs.folder
from grace.cli.main import invoke
from grace.runs.folder import find_runs, timestamp_after
from inputs import input_flags

AHEAD = "20990101T000000Z"
"""What a clock that was far ahead has named a run, before it was set right."""


@pytest.fixture
def command(tmp_path: Path, small_inputs: dict[str, Path]) -> list[str]:
    flags = ["--dry-run", "--experiment", "exp1", "--limit", "1", *input_flags(small_inputs)]
    return ["run", *flags, "--out", str(tmp_path / "out")]


def test_a_run_begun_after_the_clock_went_back_is_the_last_one(
    command: list[str], tmp_path: Path
) -> None:
    assert invoke([*command, "--timestamp", AHEAD]) == 0
    assert invoke([*command, "--new"]) == 0
    first, second = find_runs(tmp_path / "out")
    assert first.timestamp == AHEAD
    second.manifest_path.unlink()
    # The unfinished one, and not the finished one with a later moment, is continued.
    assert invoke(command) == 0
    assert second.closed
    assert len(find_runs(tmp_path / "out")) == 2


def test_an_unfinished_run_is_found_though_the_clock_went_back(
    command: list[str], tmp_path: Path
) -> None:
    assert invoke([*command, "--timestamp", AHEAD]) == 0
    (folder,) = find_runs(tmp_path / "out")
    folder.manifest_path.unlink()
    assert invoke(command) == 0
    assert [one.path for one in find_runs(tmp_path / "out")] == [folder.path]
    assert folder.closed


def test_another_question_begins_a_later_run_though_the_clock_went_back(
    command: list[str], tmp_path: Path
) -> None:
    assert invoke([*command, "--timestamp", AHEAD]) == 0
    assert invoke([*command, "--seed", "2"]) == 0
    second = find_runs(tmp_path / "out")[-1]
    assert second.read_record().request.seed == 2
    second.manifest_path.unlink()
    assert invoke([*command, "--seed", "2"]) == 0
    assert second.closed


@pytest.mark.parametrize("name", ["99991231T235959Z", "20269999T999999Z"])
def test_a_folder_named_beyond_the_calendar_is_no_obstacle(
    command: list[str], tmp_path: Path, name: str
) -> None:
    assert invoke(command) == 0
    (folder,) = find_runs(tmp_path / "out")
    shutil.move(folder.path, folder.path.with_name(name))
    assert invoke([*command, "--new"]) == 0
    assert len(find_runs(tmp_path / "out")) == 2


NOON = datetime(2026, 1, 31, 12, 0, 0, 900_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([], "20260131T120000Z"),
        (["20260131T115959Z"], "20260131T120000Z"),
        (["20260131T120000Z"], "20260131T120001Z"),
        (["20260131T120000Z", "20260131T120001Z"], "20260131T120002Z"),
        (["20261231T235959Z", "20260131T120000Z"], "20270101T000000Z"),
        (["99991231T235959Z"], "20260131T120000Z"),
        (["99991231T235959Z", "20260131T120000Z"], "20260131T120001Z"),
        (["20269999T999999Z"], "20260131T120000Z"),
    ],
)
def test_a_timestamp_comes_after_all_that_are_taken(taken: list[str], expected: str) -> None:
    assert timestamp_after(taken, NOON) == expected


def test_nothing_measures_durations_with_the_wall_clock() -> None:
    source = Path(grace.runs.folder.__file__).parents[1]
    assert [
        path for path in source.rglob("*.py") if re.search(r"\btime\.time\(", path.read_text())
    ] == []
