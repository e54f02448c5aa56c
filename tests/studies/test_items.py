"""The stimuli that Grace ships: their form, their grammar, and that they are new."""

import csv
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from grace.studies.builtin import BUILTIN_STUDIES
from grace.studies.make import make_rows, observed

DATA = Path(__file__).parents[3] / "shared" / "data"

# One full block each: every item in every cell.
KNOWLEDGE = make_rows("study1", 72, seed=0)
POLITENESS = make_rows("study2", 288, seed=0)


def published(name: str) -> list[dict[str, str]]:
    path = DATA / name
    if not path.exists():
        pytest.skip("the published stimuli are not on this machine")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def sentences(texts: Iterable[str]) -> set[str]:
    parts = (part for text in texts for part in re.split(r"(?<=[.?!])['\s]+|<br>\s*", text))
    return {part.strip(" '") for part in parts if part.strip(" '")}


def without_names(row: dict[str, str], column: str) -> str:
    return row[column].replace(row["SP_Name"], "SP").replace(row["LS_Name"], "LS")


def test_there_are_at_least_eight_stories_in_all_six_cells() -> None:
    cells = {("1", "1"), ("2", "1"), ("2", "2"), ("3", "1"), ("3", "2"), ("3", "3")}
    by_story: dict[str, set[tuple[str, str]]] = {}
    for row in KNOWLEDGE:
        by_story.setdefault(row["story_shortname"], set()).add((row["access"], row["observe"]))

    assert len(by_story) >= 8
    assert all(met == cells for met in by_story.values())


def test_every_story_tells_a_high_base_rate_and_breaks_the_line_once() -> None:
    for row in KNOWLEDGE:
        assert " almost always " in row["story_setup"]
        assert row["story_setup"].count("<br>") == row["story_setup"].count(".<br> ") == 1
        assert "3" in row["story_setup"].split("<br>")[1]


def test_the_questions_have_the_form_that_the_study_reads() -> None:
    for row in KNOWLEDGE:
        match = re.fullmatch(r"How many of the 3 (\w+) do you think (have .+)\?", row["priorQ"])
        assert match is not None
        items, phrase = match.groups()
        assert row["speechQ"] == f"Now how many of the 3 {items} do you think {phrase}?"
        assert re.fullmatch(
            rf"Do you think [A-Z][a-z]+ knows exactly how many of the 3 {items} {phrase}\?",
            row["knowledgeQ"],
        )


def test_one_item_has_and_several_items_have_the_property() -> None:
    for row in KNOWLEDGE:
        verb = "has" if row["observe"] == "1" else "have"
        match = re.search(r"How many of the 3 (\w+) do you think have (.+)\?", row["priorQ"])
        assert match is not None
        items, rest = match.groups()
        assert row["speech"].endswith(
            f": 'I have looked at {row['access']} of the 3 {items}. "
            f"{row['observe']} of the {items} {verb} {rest}.'"
        )


def test_no_property_refers_back_to_several_items() -> None:
    phrases = {row["priorQ"].split("do you think ")[1] for row in KNOWLEDGE}

    assert not [phrase for phrase in phrases if re.search(r"\b(them|their|they|it|its)\b", phrase)]
    assert observed("have honey", "1") == "has honey"


def test_the_speaker_is_named_in_the_story_the_speech_and_the_question() -> None:
    for row in KNOWLEDGE:
        match = re.match(r"Do you think (\w+) knows", row["knowledgeQ"])
        assert match is not None
        assert match[1] in row["story_setup"]
        assert match[1] in row["speech"].split(":")[0]


def test_there_are_at_least_sixteen_domains_in_all_twelve_cells() -> None:
    by_domain: dict[str, set[tuple[str, str]]] = {}
    for row in POLITENESS:
        cell = (without_names(row, "Goal"), row["State"])
        by_domain.setdefault(row["Domain"], set()).add(cell)

    assert len(by_domain) >= 16
    assert all(len(met) == 12 for met in by_domain.values())
    assert {row["State"] for row in POLITENESS} == {"0 hearts", "1 heart", "2 hearts", "3 hearts"}


def test_every_scenario_ends_with_a_question_that_it_was_can_answer() -> None:
    for row in POLITENESS:
        assert without_names(row, "Precontext").startswith("Imagine that LS has just ")
        assert re.fullmatch(
            r"Imagine that LS [a-z ]+ SP, who had .+ and asked, 'How was my [a-z ]+\?'",
            without_names(row, "Scenario"),
        )
        assert "LS" in without_names(row, "Scenario").split("SP, who had")[1]


def test_there_are_at_least_forty_pairs_of_names_and_none_ends_in_s() -> None:
    pairs = {frozenset((row["SP_Name"], row["LS_Name"])) for row in POLITENESS}
    names = [name for pair in pairs for name in pair]

    assert len(pairs) >= 40
    assert len(names) == len(set(names)) == 2 * len(pairs)
    assert not [name for name in names if name.endswith("s")]


def test_the_study_derives_its_variables_from_every_row() -> None:
    knowledge, politeness = BUILTIN_STUDIES["study1"], BUILTIN_STUDIES["study2"]
    for row in KNOWLEDGE:
        claim = knowledge.derive(row)["claim1"]
        assert re.match(r"exactly 1 of the 3 \w+ has ", claim)
    goals = [politeness.derive(row)["goal"] for row in POLITENESS]
    assert {goal: goals.count(goal) for goal in set(goals)} == {
        "informational": 96,
        "social": 96,
        "both": 96,
    }


def test_texts_are_plain_ascii_without_stray_spaces_or_braces() -> None:
    for row in (*KNOWLEDGE, *POLITENESS):
        for text in row.values():
            assert text.isascii()
            assert text == " ".join(text.split())
            assert not set(text) & set('{}"')


def test_no_story_shares_a_sentence_an_item_or_a_property_with_the_published_ones() -> None:
    rows = published("study1.csv")
    ours = sentences(
        row[column] for row in KNOWLEDGE for column in row if column.startswith(("st", "sp", "pr"))
    )
    theirs = sentences(
        row[column] for row in rows for column in row if column.startswith(("st", "sp", "pr"))
    )

    assert not ours & theirs
    # Column by column: their header spells two names in another way.
    for our_column, their_column in zip(KNOWLEDGE[0], rows[0], strict=True):
        if our_column in ("story_shortname", "priorQ", "speechQ", "knowledgeQ"):
            assert not {row[our_column] for row in KNOWLEDGE} & {row[their_column] for row in rows}
    words = {word for row in rows for word in re.findall(r"[a-z]+", row["priorQ"].lower())}
    frame = {"how", "many", "of", "the", "do", "you", "think", "have", "out", "inside"}
    used = {word for row in KNOWLEDGE for word in re.findall(r"[a-z]+", row["priorQ"].lower())}
    assert not used & (words - frame)


def test_no_scenario_domain_or_name_is_a_published_one() -> None:
    rows = published("study2.csv")
    for column in ("Precontext", "Scenario", "Domain"):
        ours = {without_names(row, column) for row in POLITENESS}
        theirs = {without_names(row, column) for row in rows}
        assert not ours & theirs
    assert not {row["SP_Name"] for row in POLITENESS} & {row["SP_Name"] for row in rows}
    questions = [
        {row["Scenario"].split("asked, ")[1] for row in source} for source in (POLITENESS, rows)
    ]
    assert not questions[0] & questions[1]


def test_goals_and_states_are_worded_as_in_the_published_study() -> None:
    rows = published("study2.csv")
    for column in ("Goal", "State"):
        ours = {without_names(row, column) for row in POLITENESS}
        assert ours == {without_names(row, column) for row in rows}
