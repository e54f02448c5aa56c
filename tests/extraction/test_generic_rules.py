"""The parser for a user's own study."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.extraction.generic_rules import parse
from grace.extraction.parsed import NUMBER_WORDS, Value
from grace.studies.study import AnswerField, FieldSum

RATING = AnswerField("rating", "integer", "A rating.", probe="main", minimum=1, maximum=7)
OFFSET = AnswerField("offset", "integer", "An offset.", probe="main", minimum=-5, maximum=5)
VERDICT = AnswerField(
    "verdict", "choice", "A verdict.", probe="main", choices=("sure", "not sure", "no opinion")
)
KNOWS = AnswerField(
    "knows", "choice", "Knowledge.", probe="main", choices=("yes", "no"), uncertain=True
)
COMMENT = AnswerField("comment", "text", "Free text.", probe="main")


def read(field: AnswerField, response: str) -> Value:
    return parse([field], (), {"main": response}).values[field.name]


@pytest.mark.parametrize(
    ("response", "rating"),
    [
        ("5", 5),
        ("5.", 5),
        ("I would say 5", 5),
        ("**5**", 5),
        ("five", 5),
        ("Five!", 5),
        ("5 and again 5", 5),
        ("five (5)", 5),
        ("I have 20 reasons to say 6.", 6),
        ("\uff15", 5),
        ("<think>2 or 3</think> 4", 4),
        ("3 out of 7", None),
        ("3/7", None),
        ("3-4", None),
        ("3 or 4", None),
        ("3.5", None),
        ("4.0", None),
        ("8", None),
        ("-3", None),
        ("1,000", None),
        ("no idea", None),
        ("", None),
        ("a5b", None),
        ("5th", None),
        ("__", None),
        ("9" * 6000, None),
    ],
)
def test_an_integer_counts_if_it_is_the_only_one_in_range(
    response: str, rating: int | None
) -> None:
    assert read(RATING, response) == rating


@pytest.mark.parametrize(("response", "offset"), [("-3", -3), ("minus", None), ("0", 0), ("2", 2)])
def test_integers_below_zero_are_read(response: str, offset: int | None) -> None:
    assert read(OFFSET, response) == offset


@pytest.mark.parametrize(
    ("response", "verdict"),
    [
        ("sure", "sure"),
        ("Sure!", "sure"),
        ("I am not sure.", "not sure"),
        ("NOT SURE", "not sure"),
        ("I have no opinion", "no opinion"),
        ("surely", None),
        ("measure", None),
        ("sure, or not sure", None),
        ("maybe", None),
        ("", None),
    ],
)
def test_a_choice_counts_if_it_is_the_only_whole_phrase(response: str, verdict: str | None) -> None:
    assert read(VERDICT, response) == verdict


@pytest.mark.parametrize(
    ("response", "knows"),
    [
        ("Yes.", "yes"),
        ("no", "no"),
        ("That is uncertain", "uncertain"),
        ("I don't know", None),
        ("yes and no", None),
        ("not yes", None),
        ("nothing", None),
    ],
)
def test_uncertain_is_a_choice_only_where_the_field_allows_it(
    response: str, knows: str | None
) -> None:
    assert read(KNOWS, response) == knows
    assert read(VERDICT, "uncertain") is None


def test_a_denied_choice_is_not_chosen() -> None:
    parsed = parse([KNOWS], (), {"main": "Certainly not yes."})
    assert parsed.values == {"knows": None}
    assert parsed.problems == ("knows: the text denies yes",)


@pytest.mark.parametrize(("response", "text"), [("  hi \n", "hi"), (" ", None), ("", None)])
def test_a_text_is_kept_as_it_is(response: str, text: str | None) -> None:
    assert read(COMMENT, response) == text


def test_problems_say_what_was_found() -> None:
    parsed = parse([RATING, VERDICT, COMMENT], (), {"main": "3 or 4"})
    assert parsed.problems == (
        "rating: the text states 2 integers from 1 to 7",
        "verdict: the text states none of sure, not sure, no opinion",
    )
    assert not parsed.complete


def test_fields_read_the_response_of_their_own_probe() -> None:
    other = AnswerField("other", "integer", "Another.", probe="second", minimum=0, maximum=9)
    parsed = parse([RATING, other], (), {"main": "2", "second": "9"})
    assert dict(parsed.values) == {"rating": 2, "other": 9}
    assert parsed.complete


def test_integers_that_share_a_response_must_be_named() -> None:
    shares = [
        AnswerField(name, "integer", "A share.", probe="main", minimum=0, maximum=100)
        for name in ("red", "blue")
    ]
    sums = [FieldSum(("red", "blue"), 100)]
    named = parse(shares, sums, {"main": "Red: 30, blue: 70"})
    assert dict(named.values) == {"red": 30, "blue": 70}
    assert named.complete
    unnamed = parse(shares, sums, {"main": "50"})
    assert dict(unnamed.values) == {"red": None, "blue": None}
    short = parse(shares, sums, {"main": "red is 30, blue is 60"})
    assert dict(short.values) == {"red": 30, "blue": 60}
    assert short.problems == ("red, blue: they add up to 90, not 100",)
    assert not short.complete


@given(st.integers(1, 7), st.sampled_from(["{}", "It is {}.", "Rating: {}", "({})", "'{}'"]))
def test_any_integer_in_range_is_read_back(number: int, form: str) -> None:
    assert read(RATING, form.format(number)) == number
    word = next(word for word, value in NUMBER_WORDS.items() if value == number)
    assert read(RATING, form.format(word)) == number


@given(st.text(max_size=300))
def test_no_text_is_too_strange(text: str) -> None:
    parsed = parse([RATING, VERDICT, KNOWS, COMMENT], (), {"main": text})
    assert parsed.values["comment"] in (None, text.strip())


@pytest.mark.parametrize("piece", ["a", " ", "\n", "9", "9,", "not ", "sure ", "one "])
def test_a_million_characters_are_read_without_harm(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    assert parse([RATING, VERDICT, KNOWS], (), {"main": text}).problems
