"""The termination message: never too long, and never in the way of how the work ended."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.cli.termination import MOST_BYTES, Ending, Termination, encoded, public_text
from grace.errors import InputFaults, RunFolderError
from grace.runs.manifest import QueryCounts

COUNTS = QueryCounts(planned=4, answered=2, failed=1, not_asked=1)


@given(st.text(), st.integers(0, 200))
def test_it_fits_and_is_json_whatever_the_error(text: str, cells: int) -> None:
    found = encoded(Ending.FAILED, {f"exp1/{n}": COUNTS for n in range(cells)}, text * 3000)
    assert len(found) <= MOST_BYTES
    read = json.loads(found)
    assert read["status"] == "failed"
    assert (text * 3000).startswith(read["error"])
    assert len(read["cells"]) in {0, cells}


def test_it_says_how_each_cell_stands() -> None:
    assert json.loads(encoded(Ending.OPEN, {"exp1/toy": COUNTS})) == {
        "status": "open",
        "cells": {"exp1/toy": {"planned": 4, "answered": 2, "failed": 1, "not_asked": 1}},
        "error": "",
    }


def test_where_it_cannot_be_written_the_work_ends_as_without_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Termination(tmp_path / "nowhere" / "file").write(Ending.COMPLETE)
    assert "cannot be written: No such file" in " ".join(capsys.readouterr().err.split())
    Termination(None).write(Ending.COMPLETE)


def test_counts_that_cannot_be_read_hide_no_error(tmp_path: Path) -> None:
    def unreadable() -> dict[str, QueryCounts]:
        raise RunFolderError("the disk is gone")

    ended = Termination(tmp_path / "file")
    ended.counts = unreadable
    ended.write(Ending.FAILED, "what happened")
    assert json.loads((tmp_path / "file").read_bytes()) == {
        "status": "failed",
        "cells": {},
        "error": "what happened",
    }


def test_what_participants_wrote_is_not_passed_on() -> None:
    error = InputFaults("trials.csv", ["row 4: access is 'what somebody wrote'"])
    assert "somebody" in str(error)
    assert public_text(error) == (
        "trials.csv: 1 fault; nothing was sent; `grace studies check` shows them"
    )
