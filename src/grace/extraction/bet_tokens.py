"""
The tokens of a text about bets: amounts of money, numbers, words, marks and line breaks.

Knows how a response is made ready for reading, and nothing of what it says.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from grace.extraction.parsed import plain

TOTAL = 100

_NUMBER = r"[0-9]++(?:,[0-9]{3}(?![0-9]))*+(?:\.[0-9]++)?"
_TOKEN = re.compile(
    rf"(?P<newline>\n+)|(?P<money>(?:usd ?|us)?[$€£] ?-?{_NUMBER}(?: (?:dollars?|usd)\b)?"
    rf"|{_NUMBER}(?:[$€£](?! ?[0-9])| ?%| (?:dollars?|bucks?|usd|percent|per cent)\b))"
    rf"|(?P<word>(?:a|one) hundred\b|[0-9]*+[a-z]++(?:['-][a-z]++)*+)|(?P<number>{_NUMBER})"
    r"|(?P<mark>[^\sa-z0-9])"
)
_DIGITS = re.compile(_NUMBER)
_DECORATION = str.maketrans(dict.fromkeys('*"`#\\{}[]', ""))
_CELL = re.compile(r"(?<=\S)\t")
_BLANK = re.compile(r"_{2,}")
_UNSTRESSED = re.compile(r"(?<![a-z0-9])_|_(?![a-z0-9])")


class Token(NamedTuple):
    """A piece of the text; *depth* counts the parentheses around it."""

    kind: str
    text: str
    start: int
    end: int
    depth: int


END = Token("end", "", 0, 0, 0)


def prepared(response: str) -> str:
    """Return a response as it is read here: plain, lower case, without decoration."""
    text = plain(_CELL.sub(" | ", response)).lower().replace("\\boxed{", "answer: ")
    text = text.replace(" * ", " x ")
    text = text.translate(_DECORATION)
    # The gap of an echoed template must not join "$" to the number after it.
    return _UNSTRESSED.sub("", _BLANK.sub(" ? ", text))


def tokens(text: str) -> Iterator[Token]:
    """Cut a prepared text into tokens."""
    depth = 0
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "mark"
        found = match.group()
        # An unclosed parenthesis ends with its line.
        depth = 0 if kind == "newline" else depth + (found == "(")
        yield Token(kind, found, match.start(), match.end(), depth)
        depth = max(0, depth - (found == ")"))


@dataclass(frozen=True, slots=True)
class Amount:
    """
    An amount as stated.

    Attributes:
        value: The whole number, or None.

        reason: Why there is no whole number.

        after: Index of the token after it.

        marked: Whether a unit or a currency sign says that it is an amount.
    """

    value: int | None
    reason: str
    after: int
    marked: bool


def whole_amount(text: str) -> tuple[int | None, str]:
    """
    Return the whole number from 0 to 100 that an amount is, or None and why it is none.

    >>> whole_amount("$10.00"), whole_amount("33.3")
    ((10, ''), (None, "the amount '33.3' is not a whole number"))
    """
    match = _DIGITS.search(text)
    number = match.group().replace(",", "") if match else ""
    units, _, fraction = number.partition(".")
    if fraction.strip("0"):
        return None, f"the amount {text!r} is not a whole number"
    units = units.lstrip("0") or "0"
    # The length first: Python refuses to convert thousands of digits.
    if "-" in text or len(units) > len(str(TOTAL)) or int(units) > TOTAL:
        return None, f"the amount {text[:20]!r} is not between 0 and {TOTAL}"
    return int(units), ""
