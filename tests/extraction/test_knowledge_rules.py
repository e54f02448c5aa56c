"""Study 1's fields: the number before the speech, the speaker's knowledge, and all together."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.extraction.knowledge_rules import parse

PRIORS: list[tuple[str, int | None]] = [
    ("3", 3),
    ("3.", 3),
    ("Three", 3),
    ("three.", 3),
    ("All 3.", 3),
    ("All", 3),
    ("All of them.", 3),
    ("All three eggs have cracks.", 3),
    ("2 of the 3 lamps", 2),
    ("2 out of 3", 2),
    ("2/3", 2),
    ("3/3", 3),
    ("None", 0),
    ("0", 0),
    ("None of them have turned.", 0),
    ("Zero keys.", 0),
    ("2 or 3", None),
    ("2-3", None),
    ("Between 2 and 3", None),
    ("Between 2 and 3, most likely 3.", 3),
    ("At least 2", None),
    ("Most of them", None),
    ("Answer with one number from 0 to 3.", None),
    ("I don't know.", None),
    ("", None),
    ("Omar bought 3 keys.", None),
    ("Omar bought 3 keys. I think 2 have turned.", 2),
    ("I think that 3 eggs have cracks.", 3),
    ("Probably 3.", 3),
    ("I would guess 3.", 3),
    ("My answer is 2.", 2),
    ("The answer is 3 because almost all of them win.", 3),
    ("$\\boxed{3}$", 3),
    ("**3**", 3),
    ("It could be all 3 or perhaps fewer.", None),
    ("It is impossible to say whether all 3 have turned.", None),
    ("It's not possible to know for sure, but all 3 are likely to have lit up.", 3),
    ("Not all 3 have turned.", None),
    ("Could be 0, 1, 2 or 3.", None),
    ("How many of the 3 keys do you think have turned?", None),
    ("How many of the 3 keys do you think have turned?\n3", 3),
    ("2 days ago, Paul put 3 bulbs into water.", None),
    ("100%", None),
    ("Almost all of the 3 eggs", 3),
    ("3 lamps", 3),
    ("I think all 3.", 3),
    ("There are 3 eggs.", None),
    ("There are 2 eggs with cracks.", 2),
    ("3 out of 3 lamps have a crack.", 3),
    ("Given that almost all win, all three of Omar's keys have turned.", 3),
    ("1 - 2 - 3", None),
    ("If all 3 had turned he would be rich. I say 2.", 2),
    ("We might expect 2 of the 3, but it is most likely that all 3 have turned.", 3),
    ("It is likely that 2 or 3 of the lamps have a crack.", None),
    ("I expect that at least 2 of the 3, most likely all 3, have worked.", 3),
    ("<think>2?</think>3", 3),
    ("Number: 3", 3),
    ("3 bulbs have lit up.", 3),
    ("5", None),
    ("30", None),
    ("2.5", None),
    ("Answer: 3 eggs", 3),
    ("Exactly two of the eggs.", 2),
    ("Only one has turned.", 1),
    ("one", 1),
    ("Both", None),
    # What small models wrote beside the point.
    ("3 eggs have no cracks, so we subtract 3 from 3.", None),
    ("There are only two possible answers.", None),
    ("The answer is 6.", None),
    ("7 of the 3 eggs", None),
    ("If an egg has a crack, that would be 1 egg.", None),
    ("- 6 eggs\n- 7 eggs\n- 8 eggs\n- 1", None),
    ("1. 2. 3.", None),
    ("The 3 lamps have a crack.\nTariq must repair 3 lamps.", 3),
    ("All 3 eggs do not have cracks.", None),
    ("Three days after Paul planted the 3 bulbs, it takes 3 days more.", None),
    ("3\n\nHow many of the 3 eggs are white?\nAnswer: 1", 3),
    ("The number 3 is an odd number.", None),
    ("The number of eggs with cracks is 2.", 2),
]

STANCES: list[tuple[str, str | None]] = [
    ("Yes", "yes"),
    ("No.", "no"),
    ("yes", "yes"),
    ("**Yes**, Nora knows.", "yes"),
    ("**No**", "no"),
    ("Answer: No", "no"),
    ("The answer is yes.", "yes"),
    ("Yes.\n\nQuestion: How many?\nAnswer: No", "yes"),
    ("I don't know.", "uncertain"),
    ("I'm not sure.", "uncertain"),
    ("It is unclear.", "uncertain"),
    ("Maybe.", "uncertain"),
    ("", None),
    ("3", None),
    ("Nora has looked at 2 of the 3 lamps.", None),
    ("Nora does not know exactly how many of the 3 lamps have a crack.", "no"),
    ("Nora doesn\u2019t know for sure.", "no"),
    ("Nora cannot know exactly how many lamps worked because he only looked at 2.", "no"),
    ("She can't know.", "no"),
    ("He knows exactly how many.", "yes"),
    ("Ida knows.", "yes"),
    ("I think he does.", "yes"),
    ("I think so.", "yes"),
    ("I don't think so.", "no"),
    ("I do not think that Ida knows exactly how many.", "no"),
    ("It is unlikely that Omar knows exactly how many keys turned.", "no"),
    ("Probably not.", "no"),
    ("Not really, she only opened one.", "no"),
    ("Definitely.", "yes"),
    ("It is impossible to say whether Nora knows exactly how many lamps worked.", "uncertain"),
    ("We cannot determine whether Nora knows exactly how many.", "uncertain"),
    ("Nora may or may not know exactly how many.", "uncertain"),
    ("Not necessarily.", "uncertain"),
    ("Do you think Nora knows exactly how many of the 3 lamps have a crack?", None),
    ("Do you think Nora knows exactly how many of the 3 lamps have a crack? Yes.", "yes"),
    ("Do you think Nora knows exactly how many of the 3 lamps have a crack?\nNo", "no"),
    ("To determine whether Nora knows exactly how many, we look at his statement.", None),
    (
        "The question is whether Nora knows exactly how many of them worked. He looked at all 3. Therefore, yes.",
        "yes",
    ),
    (
        "If Nora had looked at all 3 lamps, he would know exactly how many have a crack. But he looked at 2. So the answer is no.",
        "no",
    ),
    ("If he had looked at all 3, he would know exactly how many worked.", None),
    ("Until she opens the remaining 2 eggs, she can't know exactly how many have cracks.", "no"),
    ("Once he cracks the third clock, he will know exactly how many. He does not know yet.", "no"),
    ("Yes, Nora does not know exactly how many lamps have a crack.", None),
    ("No, Nora knows exactly how many.", None),
    ("No... wait, actually Nora looked at all three, so he knows exactly how many.", "yes"),
    ("No, it is not certain that Nora knows exactly how many.", "uncertain"),
    ("Yes or no", None),
    ("yes/no", None),
    ("Answer yes or no.", None),
    ("Nora knows that at least 2 lamps have a crack.", None),
    ("Nora only knows the grades of 2 lamps.", "no"),
    ("No one can tell.", None),
    ("No doubt she knows exactly how many.", "yes"),
    ("Ines is not aware of how many pears have a worm.", "no"),
    ("Ines is certain about how many pears have a worm.", "yes"),
    ("<think>He looked at 2. No wait, yes?</think>No", "no"),
    ("<think>Hmm, yes", None),
    ("Since Nora looked at all 3 lamps, he knows exactly how many have a crack.", "yes"),
    ("There is no indication that Omar knows exactly how many keys have turned.", "uncertain"),
    ("It's likely that Omar knows exactly how many keys have turned.", "yes"),
    ("It's possible that Omar knows exactly how many keys have turned.", "uncertain"),
    ("Paul might know exactly how many.", "uncertain"),
    ("Yes, I do think Nora knows.", "yes"),
    ("NO", "no"),
    ('"No"', "no"),
    ("(No)", "no"),
    ("- No", "no"),
    ("no, he doesn't", "no"),
    ("Based on what he said, no.", "no"),
    ("Based on what he said, yes, he does.", "yes"),
    ("I would say no.", "no"),
    ("I'd say yes, since she opened all of them.", "yes"),
    ("$\\boxed{No}$", "no"),
    ("The final answer is: $\\boxed{yes}$", "yes"),
    ("Nora does know exactly how many.", "yes"),
    ("He must know exactly how many, because he has seen all.", "yes"),
    ("She has no way of knowing exactly how many.", "no"),
    ("Nope", "no"),
    ("Yep.", "yes"),
    ("Yes!", "yes"),
    ("No - she looked at only two.", "no"),
    (
        "It is unclear whether he knows. He looked at 1 of 3 only. So he does not know exactly how many.",
        "no",
    ),
    ("He does not know exactly how many. It is unclear whether he knows about the third.", "no"),
    ("For Nora to know exactly how many, he would have to look at all of them.", None),
    ("Omar is unaware of the result of the third key.", "no"),
    ("Omar does not know the result of the third key.", "no"),
    ("He does not.", "no"),
    ("Nora doesn't.", "no"),
    ("She does.", "yes"),
    ("uncertain", "uncertain"),
    ("Unknown", "uncertain"),
    # What small models wrote around their answers.
    ('I can answer that. "Yes."', "yes"),
    ("No, I cannot answer this question.", None),
    ("Answer yes or", None),
    ("I think Omar does not know exactly how many. The answer is either yes or no.", "no"),
    ('No. A better answer is: "Yes". You cannot say that Ida knows exactly how many.', "uncertain"),
    ("No, no, no.", "no"),
    ("I think Ida knows exactly how many of the keys fit.", "yes"),
    ("No, I think Ida knows exactly how many of the keys fit.", None),
    ("Yes.\nDo you think she is right?\nAnswer: No\nDo you think so?\nAnswer: Yes", "yes"),
]


@pytest.mark.parametrize(("text", "number"), PRIORS)
def test_the_number_is_the_one_that_the_text_gives(text: str, number: int | None) -> None:
    assert parse({"prior": text}).values["Prior_A"] == number


@pytest.mark.parametrize(("text", "stance"), STANCES)
def test_knowledge_is_what_the_text_says(text: str, stance: str | None) -> None:
    assert parse({"knowledge": text}).values["Knowledge_A"] == stance


COMPLETE = {
    "prior": "Probably all 3.",
    "speech": "0: $0, 1: $10, 2: $30, 3: $60",
    "knowledge": "No, she has seen only one.",
}


def test_three_full_answers_are_complete() -> None:
    parsed = parse(COMPLETE)
    assert dict(parsed.values) == {
        "Prior_A": 3,
        "0": 0,
        "1": 10,
        "2": 30,
        "3": 60,
        "Knowledge_A": "no",
    }
    assert parsed.problems == ()
    assert parsed.complete


@pytest.mark.parametrize("turn", COMPLETE)
def test_a_turn_without_an_answer_leaves_its_fields_open(turn: str) -> None:
    parsed = parse({**COMPLETE, turn: ""})
    fields = {"prior": ["Prior_A"], "speech": ["0", "1", "2", "3"], "knowledge": ["Knowledge_A"]}
    assert [name for name, value in parsed.values.items() if value is None] == fields[turn]
    assert len(parsed.problems) == 1
    assert parsed.problems[0].endswith("there is no answer")
    assert not parsed.complete


def test_missing_turns_count_as_empty() -> None:
    assert set(parse({}).values.values()) == {None}


def test_bets_that_do_not_sum_to_100_are_stated_but_not_complete() -> None:
    parsed = parse({**COMPLETE, "speech": "0: $0, 1: $10, 2: $30, 3: $50"})
    assert [parsed.values[state] for state in "0123"] == [0, 10, 30, 50]
    assert parsed.problems == ("bets: they add up to 90, not 100",)
    assert not parsed.complete


def test_uncertain_is_an_answer_and_silence_is_none() -> None:
    uncertain = parse({**COMPLETE, "knowledge": "It is impossible to say whether she knows."})
    silent = parse({**COMPLETE, "knowledge": "She has seen two of them."})
    assert uncertain.values["Knowledge_A"] == "uncertain"
    assert uncertain.complete
    assert silent.values["Knowledge_A"] is None
    assert silent.problems == ("Knowledge_A: the text does not say whether the speaker knows",)


def test_a_contradiction_is_no_answer() -> None:
    parsed = parse({**COMPLETE, "knowledge": "Yes, Nora does not know exactly how many."})
    assert parsed.values["Knowledge_A"] is None
    assert parsed.problems == ("Knowledge_A: the text answers yes and says the opposite",)


def test_a_range_is_no_number() -> None:
    parsed = parse({**COMPLETE, "prior": "It could be 2 or 3 eggs."})
    assert parsed.values["Prior_A"] is None
    assert parsed.problems == ("Prior_A: the text names a range or a limit",)


def test_a_number_that_no_item_count_can_be_is_reported() -> None:
    parsed = parse({**COMPLETE, "prior": "7"})
    assert parsed.values["Prior_A"] is None
    assert parsed.problems == ("Prior_A: the number given is 7, not 0 to 3",)


def test_the_next_turn_of_a_model_that_runs_on_is_not_its_answer() -> None:
    parsed = parse({**COMPLETE, "knowledge": "Yes.\nDoes Paul know?\nAnswer: No"})
    assert parsed.values["Knowledge_A"] == "yes"


def test_other_numbers_of_items_are_possible() -> None:
    parsed = parse({"prior": "All 5.", "speech": "$50 on 4, $50 on 5", "knowledge": "no"}, 5)
    assert parsed.values["Prior_A"] == 5
    assert [parsed.values[str(state)] for state in range(6)] == [0, 0, 0, 0, 50, 50]
    assert parsed.complete


SPEAKERS = st.sampled_from(["Nora", "Paul", "She", "he", "The speaker"])
OPENINGS = st.sampled_from(["", "Response: ", "Based on what was said, ", "I think that "])


@given(speaker=SPEAKERS, opening=OPENINGS, hedge=st.sampled_from(["", "likely ", "probably "]))
def test_a_plain_statement_is_read_whoever_it_is_about(
    speaker: str, opening: str, hedge: str
) -> None:
    knows = f"{opening}{speaker} {hedge}knows exactly how many of the 3 lamps work."
    does_not = f"{opening}{speaker} {hedge}does not know exactly how many of the 3 lamps work."
    unclear = f"{opening}it is not certain whether {speaker} {hedge}knows exactly how many work."
    assert parse({"knowledge": knows}).values["Knowledge_A"] == "yes"
    assert parse({"knowledge": does_not}).values["Knowledge_A"] == "no"
    assert parse({"knowledge": unclear}).values["Knowledge_A"] == "uncertain"


@given(st.integers(0, 3), st.sampled_from(["{}", "{}.", "**{}**", "Answer: {}", "I would say {}."]))
def test_a_number_alone_is_the_answer(number: int, form: str) -> None:
    assert parse({"prior": form.format(number)}).values["Prior_A"] == number


@given(st.text(max_size=300))
def test_no_text_is_too_strange(text: str) -> None:
    parsed = parse({"prior": text, "speech": text, "knowledge": text})
    assert list(parsed.values) == ["Prior_A", "0", "1", "2", "3", "Knowledge_A"]


@pytest.mark.parametrize("piece", ["a", " ", "\n", "3", "no ", "if "])
def test_a_million_characters_are_read_without_harm(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    assert parse({"prior": text, "knowledge": text}).values["0"] is None


@pytest.mark.parametrize(
    "piece",
    ["knows ", "not ", "all of ", "he does not know ", "2 or ", "whether he knows is ", "1 "],
)
def test_no_repetition_makes_reading_slow(piece: str) -> None:
    short, long = (_seconds(piece * (size // len(piece))) for size in (10_000, 40_000))
    assert long < 12 * short + 0.1


def _seconds(text: str) -> float:
    return min(_once(text) for _ in range(3))


def _once(text: str) -> float:
    before = time.process_time()
    parse({"prior": text, "knowledge": text})
    return time.process_time() - before
