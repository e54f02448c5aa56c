import pytest
from hypothesis import given

from grace.errors import UnsupportedByServer
from grace.inference.dating import TemplateDate
from grace.studies.prompts import Message
from strategies import any_text

DATE = TemplateDate("Current date: {date}\n", "2025-08-05")
HEAD = "<|system|>Knowledge cutoff: 2024-06\nCurrent date: {}\n\n<|end|>"


@pytest.mark.parametrize("day", ["2026-11-23", "2026-11-24", "2025-08-05", "1999-1-1"])
def test_every_day_gives_the_same_text(day: str) -> None:
    said = [Message("user", "Is it so?")]
    assert DATE.pin(HEAD.format(day) + "Is it so?", said) == HEAD.format("2025-08-05") + "Is it so?"


def test_a_date_in_a_message_is_left_alone() -> None:
    said = "Current date: 1999-12-31\nIs it so?"
    pinned = DATE.pin(HEAD.format("2026-11-23") + said, [Message("user", said)])
    assert pinned == HEAD.format("2025-08-05") + said


@pytest.mark.parametrize(
    "text",
    [
        "<|user|>Is it so?",
        # Written otherwise than the entry says.
        HEAD.format("23/11/2026"),
        HEAD.format("2026-11-23").replace("\n", " "),
        "",
    ],
)
def test_a_template_that_writes_no_such_date_is_refused(text: str) -> None:
    with pytest.raises(UnsupportedByServer, match=r"template_date of the model's catalogue entry"):
        DATE.pin(text, [])


def test_a_date_that_only_a_message_has_is_no_date_of_the_template() -> None:
    said = "Current date: 1999-12-31\n"
    with pytest.raises(UnsupportedByServer):
        DATE.pin(f"<|user|>{said}", [Message("user", said)])


@pytest.mark.parametrize(
    ("pinned", "today"),
    [("26 Jul 2024", "23 November 2026"), ("July 4, 2024", "May 1, 2026"), ("4/7/24", "12/11/26")],
)
def test_a_date_is_recognised_by_the_form_of_the_pinned_one(pinned: str, today: str) -> None:
    date = TemplateDate("Today Date: {date}.", pinned)
    assert date.pin(f"Today Date: {today}.", []) == f"Today Date: {pinned}."


@given(any_text)
def test_what_stands_around_the_date_stays(around: str) -> None:
    head = HEAD.format("2026-11-23")
    assert DATE.pin(head + around, []) == HEAD.format("2025-08-05") + around
