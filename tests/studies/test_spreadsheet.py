from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.cli.main import invoke
from grace.runs.folder import find_runs
from grace.studies.spreadsheet import begins_like_a_formula, formula_cells

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "scalar_adjectives"
FORMULAS = ("=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0", "- $10 on 2")


@pytest.mark.parametrize("cell", FORMULAS)
def test_what_a_spreadsheet_would_run_is_found(cell: str) -> None:
    found = formula_cells("t.csv", ("a", "b"), [("x", "y"), ("x", cell), (cell, cell)])
    assert found is not None
    assert (found.count, found.row, found.column, found.value) == (3, 2, "b", cell)


@pytest.mark.parametrize("cell", ["", "a", " =1", "-1", "+1.5", "-.5e-3", "-12%", "-", "+", "a=1"])
def test_text_and_numbers_are_not_formulas(cell: str) -> None:
    assert not begins_like_a_formula(cell)
    assert formula_cells("t.csv", ("a",), [(cell,)]) is None


@given(st.text())
def test_only_the_first_character_decides(text: str) -> None:
    assert not begins_like_a_formula(f"x{text}")
    assert begins_like_a_formula(f"={text}x")


def test_check_and_validate_tell_and_change_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = EXAMPLE.with_suffix(".csv").read_text().splitlines()[:4]
    header = lines[0].split(",")
    note = header.index("note")
    cells = ["=1+1", "\x1b[31m@SUM(A1)", '"+HYPERLINK(""x"")"']
    rows = [
        ",".join([*line.split(",")[:note], cell])
        for line, cell in zip(lines[1:], cells, strict=True)
    ]
    trials = tmp_path / "trials.csv"
    trials.write_text("\n".join([lines[0], *rows]) + "\n")
    study = str(EXAMPLE.with_suffix(".yaml"))
    assert invoke(["studies", "check", study, str(trials)]) == 0
    told = capsys.readouterr().err
    assert "note: 2 cells begin like a spreadsheet formula; the first:\n" in told
    assert "      trials.csv, row 1, note: '=1+1'\n" in told
    out = tmp_path / "out"
    flags = ["--study", study, "--input", f"scalar_adjectives={trials}"]
    assert invoke(["run", "--dry-run", "--out", str(out), *flags]) == 0
    (responses, _) = find_runs(out)
    table = responses.table("scalar_adjectives", "raw_responses").read_bytes()
    for cell in cells:
        assert f",{cell},".encode() in table
    capsys.readouterr()
    assert invoke(["validate", str(responses.path)]) == 0
    heard = capsys.readouterr()
    assert "valid" in heard.out
    assert "note: 4 cells begin like a spreadsheet formula in 2 tables; the first:\n" in heard.err
    assert "toy_scalar_adjectives_raw_responses.csv, row 1, note: '=1+1'" in heard.err


def test_nothing_is_said_where_there_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    csv = EXAMPLE.with_suffix(".csv")
    assert invoke(["studies", "check", str(EXAMPLE.with_suffix(".yaml")), str(csv)]) == 0
    assert "note" not in capsys.readouterr().err
