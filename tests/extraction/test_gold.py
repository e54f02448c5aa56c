"""
Agreement with hand-coded replies, where the data are at hand.

The rules were developed on the participants of one half (number % 4 == 1) and
checked on the other; both must meet the figures.
"""

import csv
import re
from pathlib import Path

import pytest

from grace.extraction.knowledge_rules import parse as parse_knowledge
from grace.extraction.parsed import Parsed
from grace.extraction.politeness_rules import parse as parse_politeness

DATA = Path(__file__).parents[3] / "shared" / "data"
HALVES = pytest.mark.parametrize("remainder", [1, 3], ids=["developed on", "held out"])

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the coded replies are not here")

Row = dict[str, str]


def rows(study: int, participant: str, remainder: int) -> list[Row]:
    with (DATA / f"gold_study{study}_dev.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if int(row[participant]) % 4 == remainder]


def knowledge_rows(remainder: int) -> list[tuple[Row, Parsed]]:
    return [
        (
            row,
            parse_knowledge(
                {
                    "prior": row["response_story"],
                    "speech": row["response_speach"],
                    "knowledge": row["response_knowledge"],
                }
            ),
        )
        for row in rows(1, "participant_id", remainder)
    ]


@HALVES
def test_bets_of_complete_replies_are_right_in_99_of_100(remainder: int) -> None:
    judged = [
        [row[f"bet{state}_fixed"] for state in range(4)]
        == [str(parsed.values[str(state)]) for state in range(4)]
        for row, parsed in knowledge_rows(remainder)
        if row["bets_gold_complete"] == "True"
    ]
    assert len(judged) > 50
    assert sum(judged) >= 0.99 * len(judged)


@HALVES
def test_knowledge_is_right_in_97_of_100(remainder: int) -> None:
    judged = [
        row["Knowledge_A"] == parsed.values["Knowledge_A"]
        for row, parsed in knowledge_rows(remainder)
    ]
    assert sum(judged) >= 0.97 * len(judged)


@HALVES
def test_every_certain_prior_is_right(remainder: int) -> None:
    wrong = [
        row["row"]
        for row, parsed in knowledge_rows(remainder)
        if row["Prior_A_certain"] == "True" and row["Prior_A"] != str(parsed.values["Prior_A"])
    ]
    assert wrong == []


@HALVES
def test_nothing_is_filled_in_that_an_incomplete_reply_does_not_say(remainder: int) -> None:
    for row, parsed in knowledge_rows(remainder):
        if row["bets_gold_complete"] == "True":
            continue
        for state in range(4):
            bet = parsed.values[str(state)]
            if bet is not None:
                said = (
                    rf"\${bet} (?:on|for) (?:Option )?{state}\b|\b{state}\b[^\n$]{{0,60}}\${bet}\b"
                )
                assert re.search(said, row["response_speach"]), (row["row"], state)


@HALVES
def test_every_utterance_is_right(remainder: int) -> None:
    coded = rows(2, "Participant_ID", remainder)
    wrong = [
        row["row"]
        for row in coded
        if (values := parse_politeness(row["response"]).values)["Was/Wasn't"] != row["was_wasnt"]
        or values["Assessment"] != row["assessment"]
        or not values["response_text"]
    ]
    assert len(coded) > 500
    assert wrong == []
