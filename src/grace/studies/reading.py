"""
A study file's parts, each validated by itself.

One faulty answer does not hide the faults of the next: what is valid becomes an
entry, what is not leaves its faults. Names and texts can be had from the file's
raw value as well, where an entry's other keys cannot hide them.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from grace.studies.definition import (
    AnswerEntry,
    CandidateEntry,
    ColumnEntry,
    Entry,
    FieldEntry,
    ResponseEntry,
    StudyEntry,
    SumEntry,
)
from grace.studies.document import Faults, Place, shown
from grace.studies.probes import Turn

E = TypeVar("E", bound=Entry)


@dataclass(frozen=True, slots=True)
class Placed(Generic[E]):
    """A valid entry and where it stands in the file."""

    place: Place
    entry: E


def read_entry(model: type[E], value: object, place: Place, faults: Faults) -> E | None:
    """Return *value* as an entry, or None after noting all that is wrong with it."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            faults.add((*place, *detail["loc"]), _problem(detail, model))
        return None


def read_entries(
    model: type[E], value: object, place: Place, faults: Faults
) -> tuple[Placed[E], ...]:
    """
    Return the valid entries of a list; the others leave their faults.

    Args:
        model: What each entry must be.

        value: The list; anything else is the fault of the entry that holds it,
            and counts as an empty list here.

        place: Where the list stands.

        faults: Takes what is wrong.
    """
    items = value if isinstance(value, tuple) else ()
    entries = (
        (position, read_entry(model, item, (*place, position), faults))
        for position, item in enumerate(items)
    )
    return tuple(
        Placed((*place, position), entry) for position, entry in entries if entry is not None
    )


@dataclass(frozen=True, slots=True)
class Definition:
    """
    A study file, read but not yet a study.

    Attributes:
        raw: The file's value.

        head: The keys at the top, if all of them are valid.

        columns, dialogue, candidates, fields, sums: The valid entries.

        answers: The valid answers of each valid candidate probe, by its place.
    """

    raw: Mapping[str, object]
    head: StudyEntry | None
    columns: tuple[Placed[ColumnEntry], ...]
    dialogue: tuple[Placed[ResponseEntry], ...]
    candidates: tuple[Placed[CandidateEntry], ...]
    answers: Mapping[Place, tuple[Placed[AnswerEntry], ...]]
    fields: tuple[Placed[FieldEntry], ...]
    sums: tuple[Placed[SumEntry], ...]

    def items(self, section: str) -> Iterator[tuple[Place, Mapping[str, object]]]:
        """Yield the mappings of a list at the top, valid or not."""
        value = self.raw.get(section)
        for position, item in enumerate(value if isinstance(value, tuple) else ()):
            if isinstance(item, dict):
                yield (section, position), item

    def names(self, section: str) -> Iterator[tuple[Place, str]]:
        """Yield the names in a list at the top, with the place of each."""
        for place, item in self.items(section):
            name = item.get("name")
            if isinstance(name, str):
                yield (*place, "name"), str(name)

    def templates(self) -> Iterator[tuple[Place, str]]:
        """Yield the texts of all turns, with the place of each."""
        for section in ("dialogue", "candidates"):
            for place, item in self.items(section):
                yield from _turn_texts(item, place)
                premise = item.get("premise")
                if isinstance(premise, dict):
                    yield from _turn_texts(premise, (*place, "premise"))

    def variables(self) -> frozenset[str]:
        """Return the names that the texts of all turns use."""
        return frozenset(name for _, text in self.templates() for name in template_variables(text))


def read_definition(value: object, faults: Faults) -> Definition:
    """Read all parts of a file's *value*; what is wrong with them goes to *faults*."""
    raw = value if isinstance(value, dict) else {}
    candidates = read_entries(CandidateEntry, raw.get("candidates"), ("candidates",), faults)
    return Definition(
        raw=raw,
        head=read_entry(StudyEntry, value, (), faults),
        columns=read_entries(ColumnEntry, raw.get("columns"), ("columns",), faults),
        dialogue=read_entries(ResponseEntry, raw.get("dialogue"), ("dialogue",), faults),
        candidates=candidates,
        answers={
            placed.place: read_entries(
                AnswerEntry, placed.entry.answers, (*placed.place, "answers"), faults
            )
            for placed in candidates
        },
        fields=read_entries(FieldEntry, raw.get("fields"), ("fields",), faults),
        sums=read_entries(SumEntry, raw.get("sums"), ("sums",), faults),
    )


def _turn_texts(item: Mapping[str, object], place: Place) -> Iterator[tuple[Place, str]]:
    for part in ("context", "instruction", "question"):
        text = item.get(part)
        if isinstance(text, str):
            yield (*place, part), str(text)


def texts(value: object, place: Place) -> Iterator[tuple[Place, str]]:
    """Yield the texts in a list that may be anything, with the place of each."""
    for position, text in enumerate(value if isinstance(value, tuple) else ()):
        if isinstance(text, str):
            yield (*place, position), str(text)


def template_variables(text: str) -> frozenset[str]:
    """Return the names of all variables that a template uses."""
    return Turn(question=text).placeholders()


_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number without quotation marks",
    "float_type": "a number without quotation marks",
    "bool_type": "true or false",
    "tuple_type": "a list, one `- ` on each line",
    "model_type": "keys and values, as in `name: ...`",
}


def _problem(detail: ErrorDetails, model: type[Entry]) -> str:
    kind, value = detail["type"], detail["input"]
    if kind == "missing":
        return "is missing; add it"
    if kind == "extra_forbidden":
        known = list(model.model_fields)
        close = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1)
        meant = f" (did you mean {close[0]}?)" if close else ""
        return f"is not a key that is known here; expected {', '.join(known)}{meant}"
    if kind == "value_error":
        return str(detail["ctx"]["error"])
    if kind == "literal_error":
        return f"is {shown(value)}; expected {detail['ctx']['expected']}"
    expected = _EXPECTED.get(kind, detail["msg"])
    hint = " (null as an answer needs quotation marks)" if model is AnswerEntry else ""
    return f"is {shown(value)}; expected {expected}{hint if value is None else ''}"
