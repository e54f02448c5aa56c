"""Responses that nobody would write: read in bounded time, or left unread with a reason."""

import json
import time
from collections.abc import Mapping

import pytest

from grace.engine.journal import Record
from grace.errors import CorruptJournal
from grace.extraction.extract import RowText, extract_rows
from grace.extraction.model_extractor import ModelExtractor, extraction_key, model_answer
from grace.extraction.rules import MOST_CHARACTERS, parse_by_rules
from grace.inference.client import Generation, GenerationRequest
from grace.inference.toy import ToyClient
from grace.studies.knowledge import KNOWLEDGE
from grace.studies.politeness import POLITENESS
from grace.studies.prompts import PromptMode

PIECES = ("$10 on 2 ", "0, 1, 2, 3 ", "2: $10\n", "0 1 2 3 ", "$ 1 / ", "1 or ", "if 2 ", "| 1 ")


def answers(text: str) -> Mapping[str, str]:
    return {probe.name: text for probe in KNOWLEDGE.dialogue}


@pytest.mark.parametrize("piece", PIECES)
def test_a_contrived_response_of_a_megabyte_takes_no_time(piece: str) -> None:
    started = time.process_time()
    parsed = parse_by_rules(KNOWLEDGE, answers(piece * (1_000_000 // len(piece))))
    assert time.process_time() - started < 0.5
    assert set(parsed.values.values()) == {None}
    assert not parsed.complete
    assert "characters; rules read at most 50,000" in parsed.problems[0]


def test_the_longest_response_that_is_read_is_read_whole() -> None:
    bets = "0: $0\n1: $10\n2: $30\n3: $60"
    text = "Let me think. " * (MOST_CHARACTERS // 14 - 4) + "\n" + bets
    assert len(text) <= MOST_CHARACTERS
    parsed = parse_by_rules(KNOWLEDGE, {**answers("3"), "speech": text})
    assert [parsed.values[str(state)] for state in range(4)] == [0, 10, 30, 60]


def test_a_row_with_such_a_response_is_kept_and_says_why_it_is_empty() -> None:
    long = RowText({POLITENESS.dialogue[0].name: "It was good. " * 5_000})
    (row,) = extract_rows(POLITENESS, [long], {}, "rules", rules_first=True)
    assert set(row.values.values()) == {None}
    assert "has 65,000 characters" in row.error


class Says(ToyClient):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    async def generate(self, request: GenerationRequest) -> Generation:
        return Generation(self.text, "stop", None, None)


@pytest.mark.parametrize(
    "text", ["{" * 200_000, '{"a": ' * 100_000, "}" * 200_000, "{" * 100_000 + "}" * 100_000]
)
async def test_braces_without_end_from_an_extracting_model_take_no_time(text: str) -> None:
    started = time.process_time()
    value = await ModelExtractor("m", Says(text), PromptMode.CHAT).extract(KNOWLEDGE, answers("3"))
    assert time.process_time() - started < 2
    assert value["values"] is None


async def test_json_inside_other_text_is_still_found() -> None:
    valid = json.dumps({**dict.fromkeys(("Prior_A", "0", "1", "2", "3"), 0), "Knowledge_A": "yes"})
    said = Says(f"Here it is:\n```json\n{valid}\n```")
    value = await ModelExtractor("m", said, PromptMode.CHAT).extract(KNOWLEDGE, answers("0"))
    assert value["values"] == json.loads(valid)


def test_an_extraction_without_values_or_reason_is_corrupt() -> None:
    key = extraction_key(KNOWLEDGE, "m", answers("3"))
    empty = Record(key, "extract", "extraction", "answered", {}, "", "", 1, 0.1, "now")
    assert model_answer(KNOWLEDGE, {}, answers("3")) is None
    rows = [RowText(answers("3"))]
    extracted = extract_rows(KNOWLEDGE, rows, {key: empty}, "m", rules_first=False)
    with pytest.raises(CorruptJournal, match="problem is"):
        list(extracted)
