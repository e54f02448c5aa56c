import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from fake_llamacpp import FakeLlamaCpp, refuse, served
from grace.cli.main import invoke
from grace.engine.journal import Record, read_journal
from grace.runs.csvfile import read_table
from grace.runs.folder import RunFolder, find_runs
from grace.runs.manifest import read_manifest
from inputs import input_flags

MODEL = ("--model", "smollm2-135m", "--experiment", "exp1", "--study", "study2")
RULES_FIRST = ("--extractor", "rules+smollm2-135m")
MODEL_ONLY = ("--extractor", "smollm2-135m")
ANSWER = {"Was/Wasn't": "wasn't", "Assessment": "amazing", "response_text": "Hm."}


@dataclass
class Extracting:
    """A model that always says something that the rules cannot read, and an extractor."""

    server: FakeLlamaCpp
    out: Path
    flags: list[str]

    def run(self, *flags: str) -> int:
        with served(self.server) as url:
            command = ["run", "--endpoint", url, "--out", str(self.out), *self.flags]
            return invoke([*command, *flags])

    @property
    def folder(self) -> RunFolder:
        (folder,) = find_runs(self.out)
        return folder

    @property
    def rows(self) -> list[dict[str, str]]:
        table = read_table(self.folder.table("study2", "structured"))
        return [dict(zip(table.header, row, strict=True)) for row in table.rows]

    @property
    def extractions(self) -> list[Record]:
        records = read_journal(self.folder.journal).records.values()
        return [record for record in records if record.stage == "extract"]


@pytest.fixture
def extracting(tmp_path: Path, small_inputs: dict[str, Path]) -> Extracting:
    flags = [*MODEL, *input_flags({"study2": small_inputs["study2"]})]
    server = FakeLlamaCpp()
    server.extract = lambda _fields, _prompt: json.dumps(ANSWER)
    server.mangle = unreadable
    return Extracting(server, tmp_path / "out", flags)


def unreadable(reply: Any) -> Any:
    """Leave only sentences without an assessment among the responses."""
    if "stop_type" in reply and str(reply["content"]).startswith(("It was", "What")):
        return {**reply, "content": "Hm."}
    return reply


def test_what_the_rules_leave_open_is_read_by_the_model_and_labelled(
    extracting: Extracting,
) -> None:
    assert extracting.run(*RULES_FIRST) == 0
    for row in extracting.rows:
        assert (row["response"], row["Was/Wasn't"], row["Assessment"]) == (
            "Hm.",
            "wasn't",
            "amazing",
        )
        assert row["extraction_status"].startswith("ok:")
        assert "smollm2-135m" in row["extraction_status"]
        assert row["extraction_error"] == ""
    assert extracting.folder.read_record().identity.asking["extractor"] == "rules+smollm2-135m"


def test_equal_responses_are_extracted_once(extracting: Extracting) -> None:
    assert extracting.run(*RULES_FIRST) == 0
    assert [one.kind for one in extracting.server.asked].count("extract") == 1
    (record,) = extracting.extractions
    assert record.value["raw"] == [json.dumps(ANSWER)]
    assert record.value["repaired"] is False


def test_what_the_rules_read_is_not_sent_to_the_model(extracting: Extracting) -> None:
    extracting.server.mangle = lambda reply: (
        {**reply, "content": "It was good."} if reply["stop_type"] == "eos" else reply
    )
    assert extracting.run(*RULES_FIRST) == 0
    assert extracting.extractions == []
    assert {row["extraction_status"] for row in extracting.rows} == {"ok:rules"}


def test_a_model_alone_reads_everything(extracting: Extracting) -> None:
    assert extracting.run(*MODEL_ONLY) == 0
    assert {row["extraction_status"] for row in extracting.rows} == {"ok:smollm2-135m"}


def test_an_invalid_answer_is_repaired_once_and_both_texts_are_kept(
    extracting: Extracting,
) -> None:
    texts = ['{"Was/Wasn\'t": "perhaps"}', json.dumps(ANSWER)]
    extracting.server.extract = lambda _fields, prompt: texts["That is not valid" in prompt]
    assert extracting.run(*MODEL_ONLY) == 0
    (record,) = extracting.extractions
    assert (record.value["raw"], record.value["repaired"]) == (texts, True)
    assert {row["extraction_status"] for row in extracting.rows} == {"ok:smollm2-135m"}


def answers_nonsense(_fields: Sequence[str], _prompt: str) -> str:
    return "I would rather not."


def refuses(_number: int, payload: Mapping[str, Any]) -> web.Response | None:
    return refuse(400) if "json_schema" in payload else None


@pytest.mark.parametrize(
    ("trouble", "extract", "reason"),
    [
        (None, answers_nonsense, "gave no valid JSON: there is no JSON object"),
        (refuses, None, "QueryRejected"),
    ],
    ids=["never valid", "refused"],
)
def test_a_failed_extraction_leaves_empty_fields_with_a_reason_and_the_raw_text(
    extracting: Extracting,
    trouble: Callable[..., web.Response | None] | None,
    extract: Callable[..., str] | None,
    reason: str,
) -> None:
    extracting.server.trouble = trouble or extracting.server.trouble
    extracting.server.extract = extract or extracting.server.extract
    # All responses are there; what is missing is their reading.
    assert extracting.run(*MODEL_ONLY) == 0
    for row in extracting.rows:
        assert (row["response"], row["status"]) == ("Hm.", "answered")
        assert (row["Was/Wasn't"], row["Assessment"], row["response_text"]) == ("", "", "")
        assert row["extraction_status"].startswith("failed")
        assert reason in row["extraction_error"]
    manifest = read_manifest(extracting.folder)
    assert manifest.studies["study2"].extraction == {"failed": 4}
    assert any("incomplete extraction" in warning for warning in manifest.warnings)
    log = [json.loads(line) for line in extracting.folder.extraction_log.read_text().splitlines()]
    assert [line["row"] for line in log] == [1, 2, 3, 4]


def test_a_failed_extraction_is_made_good_on_request(extracting: Extracting) -> None:
    extracting.server.trouble = refuses
    assert extracting.run(*MODEL_ONLY) == 0
    seeds = extracting.server.seeds()
    extracting.server.trouble = lambda _number, _payload: None
    assert extracting.run(*MODEL_ONLY, "--retry-failed") == 0
    assert {row["extraction_status"] for row in extracting.rows} == {"ok:smollm2-135m"}
    assert extracting.server.seeds() == seeds


def test_extractions_that_a_lost_server_left_out_are_made_good_on_request(
    extracting: Extracting,
) -> None:
    extracting.server.trouble = lambda _number, payload: (
        refuse(503, {"Retry-After": "0"}) if "json_schema" in payload else None
    )
    extracting.run(*MODEL_ONLY)
    seeds = extracting.server.seeds()
    extracting.server.trouble = lambda _number, _payload: None
    assert extracting.run(*MODEL_ONLY, "--retry-failed") == 0
    assert extracting.server.seeds() == seeds
    assert {row["extraction_status"] for row in extracting.rows} == {"ok:smollm2-135m"}


def test_a_row_without_a_response_is_not_extracted(extracting: Extracting) -> None:
    extracting.server.trouble = lambda number, payload: (
        refuse(400) if number == 4 and "json_schema" not in payload else None
    )
    assert extracting.run(*RULES_FIRST) == 3
    (row,) = [row for row in extracting.rows if row["status"] == "failed"]
    assert row["extraction_status"] == "not_attempted"
    assert row["extraction_error"].startswith("no response: utterance: QueryRejected")


def test_another_extractor_may_be_served_elsewhere(extracting: Extracting, tmp_path: Path) -> None:
    other = FakeLlamaCpp(extract=lambda _fields, _prompt: json.dumps(ANSWER))
    with served(other) as url:
        assert extracting.run(*MODEL_ONLY, "--extractor-endpoint", url) == 0
    assert {one.kind for one in other.asked} == {"score", "extract"}
    assert not any(one.kind == "extract" for one in extracting.server.asked)
