"""
The schema of a study file: which keys it has and what each may hold.

How the parts must fit together is checked in `grace.studies.consistency`.
"""

import re
import warnings
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    model_validator,
)

from grace.studies.document import Numeral, shown

MAX_TOKENS = 4096
LARGEST_VALUE = 1e12

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,40}")
_COLUMN_NAME_CHARACTERS = 80


def _whole(value: object) -> object:
    if not isinstance(value, Numeral):
        return value
    try:
        # Not by way of a float, which holds 15 digits.
        return int(value)
    except ValueError:
        return int(value.number) if value.number.is_integer() else value


def _number(value: object) -> object:
    return value.number if isinstance(value, Numeral) else value


def _moderate(number: float) -> float:
    # Means and variances of larger ones would overflow, or be rounding.
    if abs(number) > LARGEST_VALUE:
        raise ValueError(f"is {number:g}; expected a number of at most {LARGEST_VALUE:g}")
    return number


def _flag(value: object) -> object:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; expected text")
    return text


def _one_line(text: str) -> str:
    _filled(text)
    if text != text.strip() or "\n" in text or "\t" in text:
        raise ValueError(
            f"is {shown(text)}; expected one line of text with no spaces around it: remove them"
        )
    return text


def _column_name(text: str) -> str:
    _one_line(text)
    if len(text) > _COLUMN_NAME_CHARACTERS or "{" in text or "}" in text:
        raise ValueError(
            f"is {shown(text)}; expected a column name of at most {_COLUMN_NAME_CHARACTERS} "
            "characters without braces"
        )
    return text


def _probe_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"is {shown(text)}; expected a letter and then letters, digits or _ (at most 41): "
            "column names are made of it"
        )
    return text


def _regex(text: str) -> str:
    try:
        with warnings.catch_warnings():
            # A pattern that will change its meaning in a later Python is a fault today.
            warnings.simplefilter("error")
            re.compile(text, re.DOTALL)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        raise ValueError(
            f"is {shown(text)}; expected a regular expression of Python ({error})"
        ) from error
    return text


def _token_limit(number: int) -> int:
    if not 1 <= number <= MAX_TOKENS:
        raise ValueError(f"is {number}; expected a whole number from 1 to {MAX_TOKENS}")
    return number


# str() makes plain text of a Numeral: it is a number only where the schema says so.
Text = Annotated[str, AfterValidator(lambda text: str(text).strip())]
FilledText = Annotated[Text, AfterValidator(_filled)]
Line = Annotated[str, AfterValidator(str), AfterValidator(_one_line)]
ColumnName = Annotated[str, AfterValidator(str), AfterValidator(_column_name)]
ProbeName = Annotated[str, AfterValidator(str), AfterValidator(_probe_name)]
Regex = Annotated[Text, AfterValidator(_regex)]
Whole = Annotated[int, BeforeValidator(_whole)]
TokenLimit = Annotated[Whole, AfterValidator(_token_limit)]
Number = Annotated[float, BeforeValidator(_number), AfterValidator(_moderate)]
Flag = Annotated[bool, BeforeValidator(_flag)]


class Entry(BaseModel):
    """A part of a study file: unknown keys and wrong types are faults."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class StudyEntry(Entry):
    """The keys at the top of the file; what its lists hold is validated one by one."""

    key: Line
    title: FilledText
    description: FilledText
    citation: Text = ""
    columns: tuple[object, ...]
    stimulus_columns: tuple[ColumnName, ...] | None = None
    conditions: tuple[ColumnName, ...] = ()
    dialogue: tuple[object, ...] = ()
    candidates: tuple[object, ...] = ()
    fields: tuple[object, ...] = ()
    sums: tuple[object, ...] = ()


class ColumnEntry(Entry):
    """One column of the study's CSV."""

    name: ColumnName
    description: FilledText
    aliases: tuple[ColumnName, ...] = ()
    choices: tuple[Line, ...] = ()
    pattern: Regex = ""
    expected: Text = ""
    may_be_empty: Flag = False


class TurnEntry(Entry):
    """What both kinds of probe have: a name and the texts of one turn."""

    name: ProbeName
    context: Text = ""
    instruction: Text = ""
    question: FilledText


class ResponseEntry(TurnEntry):
    """One turn of the dialogue."""

    max_tokens: TokenLimit = 256


class PremiseEntry(Entry):
    """What stands before an answer when nothing of the trial is told."""

    context: Text = ""
    instruction: Text = ""
    question: FilledText


class CandidateEntry(TurnEntry):
    """A question whose answers are scored."""

    answers: tuple[object, ...]
    premise: PremiseEntry | None = None


class AnswerEntry(Entry):
    """One answer, written as a mapping or as its label alone."""

    label: Line
    forms: tuple[Line, ...] | None = None
    value: Number | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_label(cls, data: object) -> object:
        # A bare number is its own value; a quoted one is text.
        if isinstance(data, Numeral):
            return {"label": data, "value": data}
        return {"label": data} if isinstance(data, str) else data


class FieldEntry(Entry):
    """One structured answer that is extracted from a response."""

    name: ColumnName
    kind: Literal["integer", "choice", "text"]
    description: FilledText
    probe: ProbeName | None = None
    minimum: Whole | None = None
    maximum: Whole | None = None
    choices: tuple[Line, ...] = ()
    uncertain: Flag = False


class SumEntry(Entry):
    """Integer fields that must add up to a total."""

    fields: tuple[ColumnName, ...]
    total: Whole
