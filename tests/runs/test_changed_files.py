"""Files of a run that someone else changed: found, never repaired, never a traceback."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grace.cli.main import invoke
from grace.engine.journal import read_journal
from grace.engine.plan import plan_responses, plan_scores
from grace.engine.queries import QueryKey
from grace.engine.record import Record, corrupt
from grace.errors import CorruptJournal, RunFolderError
from grace.pipeline.reopen import reopen
from grace.runs.csvfile import csv_bytes, read_table, write_bytes
from grace.runs.folder import RunFolder
from grace.runs.manifest import read_manifest
from grace.runs.scored import score_all
from grace.runs.tables import response_table
from grace.runs.validate import validate_manifest, validate_tables

Runs = tuple[RunFolder, RunFolder]


def set_cells(path: Path, name: str, text: str) -> None:
    """Give a column of a table one value."""
    table = read_table(path)
    at = table.header.index(name)
    rows = [(*row[:at], text, *row[at + 1 :]) for row in table.rows]
    write_bytes(path, csv_bytes(table.header, rows))


def faults(folder: RunFolder) -> list[str]:
    record = folder.read_record()
    return validate_tables(folder, reopen(folder, record).inputs, record.request.replicates)


@pytest.mark.parametrize("text", ["9" * 5_000, "-1e308", "1e308", "1e999", "1_0", " 1", "\uff11"])
@pytest.mark.parametrize(
    ("experiment", "kind", "name"),
    [
        (0, "structured", "Prior_A"),
        (1, "probabilities", "state0_mean"),
        (1, "probabilities", "state0_std"),
        (1, "scores", "n_tokens"),
        (1, "scores", "first_token_shared"),
        (1, "scores", "logprob"),
        (1, "scores", "probability"),
        (1, "scores", "first_token_logprob"),
        (1, "scores", "first_token_probability"),
    ],
)
def test_what_is_no_number_of_grace_is_a_fault_and_no_traceback(
    toy_runs: Runs, experiment: int, kind: str, name: str, text: str
) -> None:
    set_cells(toy_runs[experiment].table("study1", kind), name, text)
    found = faults(toy_runs[experiment])
    assert found
    assert max(map(len, found)) < 1_000


def test_a_log_probability_far_above_0_is_a_fault_and_no_overflow(toy_runs: Runs) -> None:
    path = toy_runs[1].table("study1", "scores")
    set_cells(path, "outside_logprob", "1000")
    set_cells(path, "outside_token", "x")
    set_cells(path, "not_measured", "")
    assert faults(toy_runs[1])


def test_a_score_table_without_the_column_row_is_a_fault(toy_runs: Runs) -> None:
    path = toy_runs[1].table("study1", "scores")
    table = read_table(path)
    write_bytes(path, csv_bytes(("number", *table.header[1:]), table.rows))
    assert any("was changed after the run" in fault for fault in validate_manifest(toy_runs[1]))


@pytest.mark.parametrize(("experiment", "kind"), [(0, "structured"), (1, "scores")])
def test_tables_that_were_changed_are_not_summarised(
    toy_runs: Runs, experiment: int, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = toy_runs[experiment]
    name = "Prior_A" if kind == "structured" else "probability"
    before = folder.manifest_path.read_bytes()
    set_cells(folder.table("study1", kind), name, "many")
    assert invoke(["summarise", str(folder.path)]) == 1
    assert "was changed after the run. `grace validate" in capsys.readouterr().err
    assert folder.manifest_path.read_bytes() == before


def set_key(path: Path, change: Callable[[Any], None]) -> None:
    value = json.loads(path.read_bytes())
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest["seconds"].update(respond=float("nan")),
        lambda manifest: manifest["seconds"].update(respond="1"),
        lambda manifest: manifest.update(complete="yes"),
        lambda manifest: manifest.update(format=2),
        lambda manifest: manifest["studies"]["study1"].update(rows=True),
        lambda manifest: manifest["studies"].update({"x" * 300: manifest["studies"]["study1"]}),
        lambda manifest: manifest["files"].update({"x" * 300: {"bytes": 1, "sha256": ""}}),
        lambda manifest: manifest["files"].update({"../run.json": {"bytes": 1, "sha256": ""}}),
    ],
    ids=map(str, range(8)),
)
def test_a_manifest_that_grace_did_not_write_is_refused(
    toy_runs: Runs, change: Callable[[Any], None]
) -> None:
    set_key(toy_runs[0].manifest_path, change)
    with pytest.raises(RunFolderError, match=r"manifest\.json: "):
        read_manifest(toy_runs[0])
    assert invoke(["validate", str(toy_runs[0].path)]) == 1


def test_a_key_that_is_there_twice_is_refused_and_not_the_last_one_taken(toy_runs: Runs) -> None:
    for path, read in (
        (toy_runs[0].manifest_path, lambda: read_manifest(toy_runs[0])),
        (toy_runs[0].record_path, toy_runs[0].read_record),
    ):
        path.write_text(path.read_text().replace("{", '{"format": 1,', 1))
        with pytest.raises(RunFolderError, match="a key appears twice"):
            read()


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"format": ' + b"9" * 5_000 + b"}"])
def test_a_record_that_python_cannot_hold_is_refused(toy_runs: Runs, content: bytes) -> None:
    toy_runs[0].record_path.write_bytes(content)
    with pytest.raises(RunFolderError, match="Invalid JSON"):
        toy_runs[0].read_record()


@pytest.mark.parametrize("name", ["x" * 300 + ".yaml", "a\0b.yaml", "x" * 300, "study9"])
def test_a_study_or_an_input_that_cannot_be_a_path_is_refused(
    toy_runs: Runs, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    set_key(toy_runs[0].record_path, lambda record: record["request"].update(study=[name]))
    assert invoke(["status", str(toy_runs[0].path)]) == 0
    assert invoke(["validate", str(toy_runs[0].path)]) in (1, 2)
    assert len(capsys.readouterr().err) < 2_000


def test_an_input_whose_name_is_too_long_counts_as_gone(toy_runs: Runs) -> None:
    set_key(
        toy_runs[0].record_path,
        lambda record: record["request"]["input"].update(study1="x" * 300),
    )
    reopened = reopen(toy_runs[0], toy_runs[0].read_record())
    assert "is gone" in reopened.notes[0]


def change_values(folder: RunFolder, change: Callable[[dict[str, Any]], None]) -> None:
    for path in folder.journal.glob("*.jsonl"):
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        for line in lines:
            change(line["value"])
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.pop("text"),
        lambda value: value.update(text=None),
        lambda value: value.update(text=["a"]),
    ],
    ids=map(str, range(3)),
)
def test_a_response_that_is_no_text_is_corrupt(
    toy_runs: Runs, change: Callable[[dict[str, Any]], None]
) -> None:
    folder = toy_runs[0]
    change_values(folder, change)
    record = folder.read_record()
    records = read_journal(folder.journal).records
    plan = plan_responses(
        reopen(folder, record).inputs[0], seed=1, replicates=1, deterministic=False
    )
    table = response_table(plan, records, "toy")
    with pytest.raises(CorruptJournal, match="text is"):
        list(table.rows)


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value["forms"][0].pop("label"),
        lambda value: value["forms"][0].update(label=1),
        lambda value: value["forms"].append("x"),
        lambda value: value["forms"][0].update(token_ids=["1"]),
        lambda value: value["forms"][0].update(token_ids=[1.5]),
        lambda value: value["forms"][0].update(logprobs=["-0.5"]),
        lambda value: value["forms"][0].update(logprobs=[True]),
        lambda value: value["forms"][0].update(logprobs={"a": -0.5}),
        lambda value: value.update(outside={"reason": 1}),
        lambda value: value.update(outside={}),
        lambda value: value.update(outside={"logprob": "-0.5", "text": "a"}),
        lambda value: value.update(outside={"logprob": -0.5}),
        lambda value: value.update(end={"reason": None}),
    ],
    ids=map(str, range(13)),
)
def test_scores_that_are_no_scores_are_corrupt(
    toy_runs: Runs, change: Callable[[dict[str, Any]], None]
) -> None:
    folder = toy_runs[1]
    change_values(folder, change)
    records = read_journal(folder.journal).records
    plan = plan_scores(reopen(folder, folder.read_record()).inputs[0])
    with pytest.raises(CorruptJournal, match="the journal's answer to 'score'"):
        score_all(plan, records)


@pytest.mark.parametrize("change", [{"status": "x" * 100_000}, {"x" * 100_000: 1}], ids=["a", "b"])
def test_a_long_value_of_a_line_is_cut_in_the_message(
    toy_runs: Runs, change: dict[str, object]
) -> None:
    path = next(toy_runs[0].journal.glob("*.jsonl"))
    line = json.loads(path.read_bytes().splitlines()[0])
    path.write_text(json.dumps(line | change) + "\n")
    with pytest.raises(CorruptJournal) as caught:
        read_journal(toy_runs[0].journal)
    assert len(str(caught.value)) < 500


def test_a_key_that_is_twice_in_a_line_is_corrupt(toy_runs: Runs) -> None:
    path = next(toy_runs[0].journal.glob("*.jsonl"))
    path.write_text(path.read_text().replace('"text":', '"text":"other","text":', 1))
    with pytest.raises(CorruptJournal, match="a key appears twice"):
        read_journal(toy_runs[0].journal)


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
def test_a_number_beyond_all_floats_is_corrupt(toy_runs: Runs, number: str) -> None:
    path = next(toy_runs[1].journal.glob("*.jsonl"))
    path.write_text(path.read_text().replace('"logprobs":[', f'"logprobs":[{number},'))
    with pytest.raises(CorruptJournal, match="is too large"):
        read_journal(toy_runs[1].journal)


@pytest.mark.parametrize("number", [10**400, -(10**400), 1e300])
def test_a_number_that_no_score_is_leaves_its_row_empty(toy_runs: Runs, number: float) -> None:
    folder = toy_runs[1]
    change_values(folder, lambda value: value["forms"][0].update(logprobs=[number]))
    records = read_journal(folder.journal).records
    plan = plan_scores(reopen(folder, folder.read_record()).inputs[0])
    failed = [one for one in score_all(plan, records).values() if one.distribution is None]
    assert failed
    assert all(len(one.error) < 200 for one in failed)


def test_what_hides_in_a_records_names_is_shown_as_such() -> None:
    record = Record(QueryKey("k\x00"), "\x00", "\x1b[31m", "answered", {}, "", "", 1, 0.0, "")
    message = str(corrupt(record, "a number is missing"))
    assert message.isprintable()
