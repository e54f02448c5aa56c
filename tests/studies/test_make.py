"""Making trials: balance at any size, determinism, and writing whole files only."""

import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Hashable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grace.errors import UsageError
from grace.studies.builtin import BUILTIN_STUDIES
from grace.studies.make import make_rows, write_trials
from grace.studies.trials import load_trials

ROWS_PER_PARTICIPANT = {"study1": 6, "study2": 12}
Level = Callable[[dict[str, str]], Hashable]


def goal(row: dict[str, str]) -> str:
    return row["Goal"].replace(row["SP_Name"], "SP").replace(row["LS_Name"], "LS")


LEVELS: dict[str, dict[str, tuple[int, Level]]] = {
    "study1": {
        "cell": (6, lambda row: (row["access"], row["observe"])),
        "item": (12, lambda row: row["story_shortname"]),
        "item in cell": (
            72,
            lambda row: (row["story_shortname"], row["access"], row["observe"]),
        ),
    },
    "study2": {
        "goal": (3, goal),
        "state": (4, lambda row: row["State"]),
        "cell": (12, lambda row: (goal(row), row["State"])),
        "item": (24, lambda row: row["Domain"]),
        "item in cell": (288, lambda row: (row["Domain"], goal(row), row["State"])),
        "names": (48, lambda row: frozenset((row["SP_Name"], row["LS_Name"]))),
        "names and roles": (96, lambda row: (row["SP_Name"], row["LS_Name"])),
    },
}


@pytest.mark.parametrize(
    ("study_key", "level"), [(key, level) for key in LEVELS for level in LEVELS[key]]
)
@pytest.mark.parametrize("seed", [0, 7])
def test_in_every_beginning_of_a_file_levels_are_used_equally_often(
    study_key: str, level: str, seed: int
) -> None:
    size, value = LEVELS[study_key][level]
    counts: Counter[Hashable] = Counter()
    for number, row in enumerate(make_rows(study_key, 700, seed), start=1):
        counts[value(row)] += 1
        fewest = min(counts.values()) if len(counts) == size else 0
        assert max(counts.values()) - fewest <= 1, (number, counts)


@pytest.mark.parametrize("study_key", ["study1", "study2"])
def test_every_participant_meets_every_cell_once_with_different_items(study_key: str) -> None:
    size = ROWS_PER_PARTICIPANT[study_key]
    rows = make_rows(study_key, 40 * size, seed=3)
    _, cell = LEVELS[study_key]["cell"]
    _, item = LEVELS[study_key]["item"]
    for start in range(0, len(rows), size):
        block = rows[start : start + size]
        number = str(start // size + 1)
        assert {next(iter(row.values())) for row in block} == {number}
        assert len({cell(row) for row in block}) == size
        assert len({item(row) for row in block}) == size


def test_no_participant_of_the_second_study_meets_a_person_twice() -> None:
    rows = make_rows("study2", 12 * 30, seed=5)
    for start in range(0, len(rows), 12):
        people = [row[role] for row in rows[start : start + 12] for role in ("SP_Name", "LS_Name")]
        assert len(set(people)) == 24


# A change here changes every file that anyone has made: the seed is then no longer enough
# to make it again.
GOLDEN = {
    "study1": "955e66639ef2aa1c5e625aa0caa1df31b9eba3d179e2f828237bd8839e90a722",
    "study2": "10edfcc09b4dec9cba56b94b6e017f3f2262678bb02a55be578d31eed97ce4f9",
}


@pytest.mark.parametrize("study_key", ["study1", "study2"])
def test_the_same_seed_gives_the_same_rows_on_every_machine(study_key: str) -> None:
    rows = make_rows(study_key, 500, seed=20261123)
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    assert digest == GOLDEN[study_key]


@pytest.mark.parametrize("study_key", ["study1", "study2"])
def test_other_seeds_give_other_rows(study_key: str) -> None:
    made = [json.dumps(make_rows(study_key, 12, seed)) for seed in (-1, 0, 1, 2, 10**30)]

    assert len(set(made)) == len(made)


@given(
    study_key=st.sampled_from(["study1", "study2"]),
    rows=st.integers(1, 200),
    more=st.integers(0, 100),
    seed=st.integers(),
)
@settings(max_examples=30, deadline=None)
def test_a_smaller_file_is_the_beginning_of_a_larger_one(
    study_key: str, rows: int, more: int, seed: int
) -> None:
    smaller, larger = make_rows(study_key, rows, seed), make_rows(study_key, rows + more, seed)

    assert len(smaller) == rows
    assert larger[:rows] == smaller


@pytest.mark.parametrize(("study_key", "rows"), [("study1", 1), ("study1", 300), ("study2", 2500)])
def test_a_written_file_is_an_input_of_its_study(tmp_path: Path, study_key: str, rows: int) -> None:
    path = tmp_path / "new" / "trials.csv"
    write_trials(path, study_key, rows, seed=1)

    trials = load_trials(BUILTIN_STUDIES[study_key], path)

    assert len(trials.trials) == rows
    assert trials.header == tuple(column.name for column in BUILTIN_STUDIES[study_key].columns)


def test_a_written_file_has_line_feeds_and_only_the_quotes_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "trials.csv"
    write_trials(path, "study2", 24, seed=1)
    content = path.read_bytes()

    assert b"\r" not in content
    assert content.endswith(b"\n")
    assert content.startswith(b"Participant_ID,Domain,Precontext,Scenario,Utterance,Goal,State,")
    assert b',"Imagine that' in content
    with path.open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == make_rows("study2", 24, seed=1)


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "trials.csv"
    path.write_text("mine")

    with pytest.raises(UsageError, match=r"exists already; .*--force"):
        write_trials(path, "study1", 6, seed=1)
    assert path.read_text() == "mine"

    write_trials(path, "study1", 6, seed=1, force=True)
    assert path.read_text().count("\n") == 7
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_can_be_read_by_those_whom_the_umask_lets(tmp_path: Path) -> None:
    ordinary, made = tmp_path / "ordinary", tmp_path / "made.csv"
    ordinary.touch()
    write_trials(made, "study1", 6, seed=1)

    assert made.stat().st_mode == ordinary.stat().st_mode


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "inside").touch()

    with pytest.raises(UsageError, match="cannot be written"):
        write_trials(folder, "study1", 6, seed=1, force=True)
    with pytest.raises(UsageError, match="cannot be written"):
        write_trials(folder / "inside" / "trials.csv", "study1", 6, seed=1)

    assert os.listdir(tmp_path) == ["folder"]  # noqa: PTH208


@pytest.mark.parametrize("rows", [0, -1, 1_000_001])
def test_an_impossible_number_of_rows_is_refused(tmp_path: Path, rows: int) -> None:
    with pytest.raises(UsageError, match=f"rows is {rows}; expected a number from 1 to"):
        write_trials(tmp_path / "trials.csv", "study1", rows, seed=1)
    assert not list(tmp_path.iterdir())


def test_a_study_of_ones_own_has_no_material_to_make_trials_of() -> None:
    with pytest.raises(UsageError, match="'mine'; trials can be made for study1 and study2"):
        make_rows("mine", 6, seed=1)
