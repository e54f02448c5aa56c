import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grace.cli.main import invoke
from grace.errors import RunFolderError
from grace.pipeline.reopen import reopen
from grace.runs.csvfile import Table, csv_bytes, read_table, write_bytes
from grace.runs.folder import RunFolder
from grace.runs.manifest import read_manifest
from grace.runs.validate import validate_manifest, validate_tables

Runs = tuple[RunFolder, RunFolder]
Rows = list[list[str]]
KINDS = {"exp1": ("raw_responses", "structured"), "exp2": ("probabilities", "scores")}


def faults(folder: RunFolder) -> list[str]:
    record = folder.read_record()
    inputs = reopen(folder, record).inputs
    return validate_tables(folder, inputs, record.request.replicates)


def change(path: Path, mutate: Callable[[list[str], Rows], None]) -> None:
    """Rewrite a table after *mutate* has changed its header and rows in place."""
    table = read_table(path)
    header, rows = list(table.header), [list(row) for row in table.rows]
    mutate(header, rows)
    made = Table(tuple(header), tuple(map(tuple, rows)))
    write_bytes(path, csv_bytes(made.header, made.rows))


def cell(name: str, value: str, row: int = 0) -> Callable[[list[str], Rows], None]:
    def mutate(header: list[str], rows: Rows) -> None:
        assert rows[row][header.index(name)] != value
        rows[row][header.index(name)] = value

    return mutate


def both(folder: RunFolder, study: str, mutate: Callable[[list[str], Rows], None]) -> None:
    """Change the raw responses and the structured table alike."""
    for kind in KINDS["exp1"]:
        change(folder.table(study, kind), mutate)


def drop_row(_header: list[str], rows: Rows) -> None:
    del rows[1]


def swap_rows(_header: list[str], rows: Rows) -> None:
    rows[0], rows[1] = rows[1], rows[0]


def repeat_row(_header: list[str], rows: Rows) -> None:
    rows.append(rows[-1])


def drop_column(header: list[str], rows: Rows) -> None:
    for row in (header, *rows):
        del row[-3]


def swap_columns(header: list[str], rows: Rows) -> None:
    for row in (header, *rows):
        row[-1], row[-2] = row[-2], row[-1]


def add_column(header: list[str], rows: Rows) -> None:
    for row in (header, *rows):
        row.append("more")


@pytest.mark.parametrize("runs", ["toy_runs", "incomplete_runs"])
def test_what_grace_wrote_has_no_faults(runs: str, request: pytest.FixtureRequest) -> None:
    for folder in request.getfixturevalue(runs):
        assert faults(folder) == []
        assert validate_manifest(folder) == []


@pytest.mark.parametrize("study", ["study1", "study2"])
@pytest.mark.parametrize("kind", [kind for kinds in KINDS.values() for kind in kinds])
@pytest.mark.parametrize(
    "mutate", [drop_row, swap_rows, repeat_row, drop_column, swap_columns, add_column]
)
def test_lost_moved_or_added_rows_and_columns_are_found(
    toy_runs: Runs, study: str, kind: str, mutate: Callable[[list[str], Rows], None]
) -> None:
    folder = toy_runs[kind in KINDS["exp2"]]
    change(folder.table(study, kind), mutate)
    assert any(f"{study}_{kind}.csv" in fault for fault in faults(folder))


@pytest.mark.parametrize("kind", ["raw_responses", "structured", "probabilities"])
@pytest.mark.parametrize("name", ["participant_id", "speach", "observe"])
def test_a_changed_cell_of_the_input_is_found(toy_runs: Runs, kind: str, name: str) -> None:
    folder = toy_runs[kind == "probabilities"]
    change(folder.table("study1", kind), cell(name, "changed", row=3))
    assert any("row 4" in fault for fault in faults(folder))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stimulus_id", "s000000000000"),
        ("model", "another"),
        ("replicate", "2"),
        ("goal", "kind"),
        ("state", "7"),
        ("status", "done"),
        ("status", ""),
    ],
)
def test_a_wrong_cell_beside_the_input_is_found(toy_runs: Runs, name: str, value: str) -> None:
    folder = toy_runs[0]
    both(folder, "study2", cell(name, value, row=2))
    (fault, *_) = faults(folder)
    assert "row 3" in fault
    assert name in fault


def test_a_failed_row_without_a_reason_is_found(incomplete_runs: Runs) -> None:
    folder = incomplete_runs[0]

    def mutate(header: list[str], rows: Rows) -> None:
        failed = next(row for row in rows if row[header.index("status")] == "failed")
        failed[header.index("error")] = ""

    both(folder, "study1", mutate)
    assert any("without a reason in error" in fault for fault in faults(folder))


@pytest.mark.parametrize("study", ["study1", "study2"])
def test_a_filled_response_on_a_failed_row_is_found(incomplete_runs: Runs, study: str) -> None:
    folder = incomplete_runs[0]

    def mutate(header: list[str], rows: Rows) -> None:
        failed = next(row for row in rows if row[header.index("status")] == "failed")
        last = "response" if study == "study2" else "response_knowledge"
        failed[header.index(last)] = "ERROR: timeout"

    both(folder, study, mutate)
    assert any("response" in fault for fault in faults(folder))


def test_a_structured_table_that_differs_from_the_raw_one_is_found(toy_runs: Runs) -> None:
    change(toy_runs[0].table("study2", "structured"), cell("response", "It was good."))
    assert any("row 1: differs from the raw responses" in fault for fault in faults(toy_runs[0]))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Prior_A", "4"),
        ("Prior_A", "-1"),
        ("0", "101"),
        ("1", "ten"),
        ("1", "10.0"),
        ("Knowledge_A", "maybe"),
        ("extraction_status", "done"),
        ("extraction_status", "not_attempted"),
    ],
)
def test_a_wrong_structured_value_is_found(toy_runs: Runs, name: str, value: str) -> None:
    change(toy_runs[0].table("study1", "structured"), cell(name, value))
    assert any(fault.count("structured.csv, row 1") for fault in faults(toy_runs[0]))


def test_bets_that_do_not_sum_up_are_found_on_a_row_that_claims_to_be_complete(
    incomplete_runs: Runs,
) -> None:
    folder = incomplete_runs[0]

    def mutate(header: list[str], rows: Rows) -> None:
        for row in rows:
            if row[header.index("extraction_status")].startswith("ok"):
                row[header.index("0")] = "50"
                row[header.index("1")] = "90"
                return
        # Make one: an answered row with all fields.
        row = next(one for one in rows if one[header.index("status")] == "answered")
        for name, value in {"Prior_A": "3", "0": "50", "1": "90", "2": "0", "3": "0"}.items():
            row[header.index(name)] = value
        row[header.index("Knowledge_A")] = "yes"
        row[header.index("extraction_status")] = "ok:rules"

    change(folder.table("study1", "structured"), mutate)
    assert any("a sum is not met" in fault for fault in faults(folder))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("state1_prob_10", "1.5"),
        ("state1_prob_10", "-0.1"),
        ("state1_prob_10", "0.0123"),
        ("state1_prob_10", "much"),
        ("state1_prob_10", ""),
        ("state1_prob_10", "nan"),
        ("state1_mean", "101"),
        ("state1_mean", "49.123"),
        ("state1_mean", "nan"),
        ("state2_std", "60"),
        ("state2_std", "1.25"),
        ("state3_entropy", "4"),
        ("state3_entropy", "0.5"),
        ("prob_knowledge_yes", "0.123"),
        ("entropy_knowledge", "1.1"),
        ("entropy_knowledge", "0.123"),
        ("entropy_knowledge", ""),
    ],
)
def test_a_wrong_number_in_the_wide_table_is_found(toy_runs: Runs, name: str, value: str) -> None:
    change(toy_runs[1].table("study1", "probabilities"), cell(name, value))
    assert any(f"row 1: {name} " in fault for fault in faults(toy_runs[1]))


@pytest.mark.parametrize("probe", ["state1", "direct"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("logprob", "0.25"),
        ("logprob", "-1"),
        ("logprob", "nan"),
        ("logprob", "-inf"),
        ("logprob", ""),
        ("probability", "1.2"),
        ("probability", "-0.2"),
        ("probability", "0.5"),
        ("probability", "nan"),
        ("probability", ""),
        ("coverage", "1.01"),
        ("coverage", "-0.1"),
        ("coverage", "0.5"),
        ("coverage", "0"),
        ("coverage", ""),
        ("n_tokens", "0"),
        ("n_tokens", ""),
        ("n_tokens", "two"),
        ("status", "failed"),
        ("status", "done"),
        ("error", "why?"),
        ("row", "9"),
        ("stimulus_id", "s000000000000"),
        ("probe", "state9"),
        ("candidate", "110%"),
    ],
)
def test_a_wrong_cell_in_the_long_table_is_found(
    toy_runs: Runs, probe: str, name: str, value: str
) -> None:
    folder = toy_runs[1]

    def mutate(header: list[str], rows: Rows) -> None:
        # Not the first line of its group, so that no check stops at the first.
        lines = [line for line in rows if line[2] == probe]
        assert lines[1][header.index(name)] != value
        lines[1][header.index(name)] = value

    change(folder.table("study1", "scores"), mutate)
    assert any("study1_scores.csv" in fault for fault in faults(folder))


@pytest.mark.parametrize("name", ["n_tokens", "logprob", "probability", "coverage"])
def test_a_number_on_a_failed_line_is_found(incomplete_runs: Runs, name: str) -> None:
    folder = incomplete_runs[1]

    def mutate(header: list[str], rows: Rows) -> None:
        failed = [line for line in rows if line[header.index("status")] == "failed"]
        failed[1][header.index(name)] = "1"

    change(folder.table("study1", "scores"), mutate)
    assert any("a number is filled in" in fault for fault in faults(folder))


def test_a_failed_line_without_a_reason_is_found(incomplete_runs: Runs) -> None:
    folder = incomplete_runs[1]

    def mutate(header: list[str], rows: Rows) -> None:
        failed = [line for line in rows if line[header.index("status")] == "failed"]
        failed[0][header.index("error")] = ""

    change(folder.table("study1", "scores"), mutate)
    assert any("without a reason" in fault for fault in faults(folder))


def test_a_number_in_the_wide_table_where_the_query_failed_is_found(incomplete_runs: Runs) -> None:
    folder = incomplete_runs[1]

    def mutate(_header: list[str], rows: Rows) -> None:
        row = next(row for row in rows if "" in row)
        row[row.index("")] = "0.5"

    change(folder.table("study1", "probabilities"), mutate)
    assert any("the scores are not answered" in fault for fault in faults(folder))


@pytest.mark.parametrize("kind", [kind for kinds in KINDS.values() for kind in kinds])
def test_a_table_that_is_gone_or_no_table_is_found(toy_runs: Runs, kind: str) -> None:
    folder = toy_runs[kind in KINDS["exp2"]]
    path = folder.table("study2", kind)
    path.write_bytes(b"\xff\xfe")
    assert any("cannot be read" in fault for fault in faults(folder))
    path.unlink()
    assert any("no such file" in fault for fault in faults(folder))


def manifest_of(folder: RunFolder) -> Any:
    return json.loads(folder.manifest_path.read_text())


def rewrite(folder: RunFolder, manifest: Any) -> None:
    folder.manifest_path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("experiment", [0, 1], ids=["exp1", "exp2"])
@pytest.mark.parametrize(
    "change_report",
    [
        lambda report: next(iter(report["queries"].values())).update(answered=99),
        lambda report: next(iter(report["queries"].values())).update(planned=99),
        lambda report: report.update(rows=report["rows"] + 1),
        lambda report: report.update(complete_rows=report["complete_rows"] - 1),
    ],
    ids=["answered", "planned", "rows", "complete rows"],
)
def test_a_wrong_count_in_the_manifest_is_found(
    toy_runs: Runs, experiment: int, change_report: Callable[[Any], None]
) -> None:
    folder = toy_runs[experiment]
    manifest = manifest_of(folder)
    change_report(manifest["studies"]["study2"])
    rewrite(folder, manifest)
    assert validate_manifest(folder)


@pytest.mark.parametrize("experiment", [0, 1], ids=["exp1", "exp2"])
def test_a_manifest_that_claims_more_complete_rows_than_the_tables_hold_is_found(
    incomplete_runs: Runs, experiment: int
) -> None:
    folder = incomplete_runs[experiment]
    manifest = manifest_of(folder)
    for report in manifest["studies"].values():
        report["complete_rows"] = report["rows"]
    manifest["complete"] = True
    rewrite(folder, manifest)
    assert any("the manifest says" in fault for fault in validate_manifest(folder))


def test_a_wrong_verdict_in_the_manifest_is_found(toy_runs: Runs) -> None:
    manifest = manifest_of(toy_runs[1])
    rewrite(toy_runs[1], {**manifest, "complete": False})
    assert any("'complete' does not fit" in fault for fault in validate_manifest(toy_runs[1]))


@pytest.mark.parametrize("kind", ["raw_responses", "structured", "summary"])
def test_a_file_that_was_changed_after_the_run_is_found(toy_runs: Runs, kind: str) -> None:
    path = toy_runs[0].table("study1", kind)
    path.write_bytes(path.read_bytes() + b"\n")
    assert any("was changed after the run" in fault for fault in validate_manifest(toy_runs[0]))


def test_a_file_that_is_gone_is_found(toy_runs: Runs) -> None:
    toy_runs[1].table("study1", "summary").unlink()
    assert any("in the manifest but missing" in f for f in validate_manifest(toy_runs[1]))


def test_a_table_that_the_manifest_does_not_vouch_for_is_found(toy_runs: Runs) -> None:
    manifest = manifest_of(toy_runs[1])
    del manifest["files"]["toy_study1_probabilities.csv"]
    rewrite(toy_runs[1], manifest)
    assert any("toy_study1_probabilities.csv" in f for f in validate_manifest(toy_runs[1]))


def test_an_unfinished_run_has_no_manifest_to_check(toy_runs: Runs) -> None:
    toy_runs[0].manifest_path.unlink()
    with pytest.raises(RunFolderError, match="not finished"):
        validate_manifest(toy_runs[0])


def test_the_command_names_all_faults_of_all_runs_and_exits_with_1(
    toy_runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    out = toy_runs[0].path.parents[2]
    assert invoke(["validate", str(out)]) == 0
    change(toy_runs[0].table("study1", "structured"), cell("Prior_A", "4"))
    change(toy_runs[1].table("study2", "probabilities"), cell("prob_was", "0.123"))
    capsys.readouterr()
    assert invoke(["validate", str(out)]) == 1
    shown = capsys.readouterr().err
    assert "Prior_A is '4'" in shown
    assert "prob_was is 0.123" in shown
    assert "was changed after the run" in shown


def test_a_journal_that_was_changed_is_found(toy_runs: tuple[RunFolder, RunFolder]) -> None:
    journal = next(toy_runs[0].journal.glob("*.jsonl"))
    assert f"journal/{journal.name}" in read_manifest(toy_runs[0]).files
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:-1], b"garbage\n"]))
    (fault,) = validate_manifest(toy_runs[0])
    assert str(journal) in fault
    assert "was changed after the run" in fault
