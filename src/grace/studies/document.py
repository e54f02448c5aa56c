"""
One YAML document as plain values, with the line of every part.

All scalars stay the text that was written, whatever YAML would make of them:
`no`, `1.50` and `2026-01-02` are answers that people give, and what a column or
a prompt says must not change on the way. Only the schema that reads the values
turns some of them into numbers; see `Numeral`.

Files come from anywhere, so whatever makes a small file large (anchors,
aliases) or runs code (tags) is refused. Knows nothing of studies.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml.events import (
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
)

from grace.errors import StudyDefinitionError
from grace.plain_yaml import FORBIDDEN, MAX_BYTES, BadYaml, checked_events

Place = tuple[str | int, ...]

MAX_FAULTS_SHOWN = 100
_MOST_CHARACTERS = 1_000

_NULLS = ("", "~", "null", "Null", "NULL")
_NUMBER = re.compile(r"[-+]?[0-9]{1,18}(\.[0-9]{1,18})?([eE][-+]?[0-9]{1,3})?")


class Numeral(str):
    """
    A number that was written without quotation marks, as it was written.

    >>> Numeral("1.50").number
    1.5
    """

    __slots__ = ()

    @property
    def number(self) -> float:
        """The number's value."""
        return float(self)


@dataclass(slots=True)
class Faults:
    """
    Everything that is wrong with one file, in the order of its lines.

    Attributes:
        source: The file, as the user gave it.

        lines: The line on which each part of the file begins.
    """

    source: str
    lines: Mapping[Place, int]
    _found: list[tuple[int, str]] = field(default_factory=list)

    def add(self, place: Place, problem: str) -> None:
        """Note that the part at *place* has a *problem*, worded "is ...; expected ..."."""
        nearest = place
        while nearest and nearest not in self.lines:
            nearest = nearest[:-1]
        line = self.lines.get(nearest, 1)
        named = place_text(place) or "the file"
        told = f"{named} {problem}"
        if len(told) > _MOST_CHARACTERS:
            # A file may give a key, or a column that is listed, any length.
            told = f"{told[:_MOST_CHARACTERS]}…"
        self._found.append((line, f"{self.source}, line {line}: {told}"))

    def __bool__(self) -> bool:
        return bool(self._found)

    def error(self) -> StudyDefinitionError:
        """Return one error that names all faults."""
        count = len(self._found)
        noun = "fault" if count == 1 else "faults"
        messages = [message for _, message in sorted(self._found, key=lambda found: found[0])]
        if count > MAX_FAULTS_SHOWN:
            hidden = count - MAX_FAULTS_SHOWN
            messages = [*messages[:MAX_FAULTS_SHOWN], f"... and {hidden} more faults"]
        return StudyDefinitionError("\n".join([f"{self.source}: {count} {noun}", *messages]))


def place_text(place: Place) -> str:
    """
    Return a place in a document as people write it.

    >>> place_text(("candidates", 1, "answers", 0))
    'candidates[1].answers[0]'
    """
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def shown(value: object, limit: int = 60) -> str:
    """Return *value* for a message: quoted, and cut if it is long."""
    if isinstance(value, tuple):
        return f"a list of {len(value)}"
    if isinstance(value, Mapping):
        return f"a mapping of {len(value)} keys"
    if not isinstance(value, str):
        return "empty" if value is None else repr(value)
    return repr(str(value) if len(value) <= limit else value[: limit - 1] + "…")


def read_text(path: Path) -> str:
    """
    Return the text of a file that a person wrote.

    Raises:
        StudyDefinitionError: The file cannot be read, is larger than
            `MAX_BYTES` or is not UTF-8.
    """
    try:
        if path.exists() and not path.is_file():
            raise StudyDefinitionError(f"{path}: is not a file; expected a study in YAML")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise StudyDefinitionError(
            f"{path}: no such file; give the path of a study in YAML"
        ) from error
    except OSError as error:
        raise StudyDefinitionError(
            f"{shown(str(path))}: cannot be read: {error.strerror}"
        ) from error
    except ValueError as error:
        raise StudyDefinitionError(f"{shown(str(path))}: is no path ({error})") from error
    if len(content) > MAX_BYTES:
        raise StudyDefinitionError(
            f"{path}: is larger than {MAX_BYTES:,} bytes; a study's definition is small: "
            "keep its trials in the CSV"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise StudyDefinitionError(
            f"{path}, line {line}: byte {content[error.start]:#04x} is not UTF-8; "
            "save the file as UTF-8"
        ) from error


def parse_document(text: str, source: str) -> tuple[object, Faults]:
    """
    Return a document's value, and the faults that it has so far.

    Mappings become dicts, lists tuples, scalars `str` or `Numeral`, and what is
    left empty (or is an unquoted `null`) None.

    Args:
        text: The document.

        source: What messages call it.

    Raises:
        StudyDefinitionError: It is not YAML, or uses what Grace refuses.
    """
    try:
        return _Builder(checked_events(text), source).build()
    except BadYaml as error:
        raise StudyDefinitionError(f"{error.place(source)}: {error.problem}") from error


class _Builder:
    def __init__(self, events: Iterator[Event], source: str) -> None:
        self._events = events
        self._source = source
        self._lines: dict[Place, int] = {}
        self._faults = Faults(source, self._lines)

    def build(self) -> tuple[object, Faults]:
        first = next(self._events, None)
        value = None if first is None else self._node(first, ())
        # What follows is an end or a fault.
        next(self._events, None)
        return value, self._faults

    def _node(self, event: Event, place: Place) -> object:
        self._lines.setdefault(place, event.start_mark.line + 1)
        if isinstance(event, ScalarEvent):
            return self._scalar(event, place)
        if isinstance(event, MappingStartEvent):
            return self._mapping(place)
        return self._sequence(place)

    def _scalar(self, event: ScalarEvent, place: Place) -> object:
        text: str = event.value
        forbidden = FORBIDDEN.search(text)
        if forbidden:
            self._faults.add(
                place, f"holds the character U+{ord(forbidden[0]):04X}; expected text: remove it"
            )
            return FORBIDDEN.sub("", text)
        if event.style:
            return text
        if text in _NULLS:
            return None
        return Numeral(text) if _NUMBER.fullmatch(text) and math.isfinite(float(text)) else text

    def _mapping(self, place: Place) -> dict[str, object]:
        mapping: dict[str, object] = {}
        for event in self._events:
            if isinstance(event, MappingEndEvent):
                break
            if not isinstance(event, ScalarEvent):
                line = event.start_mark.line + 1
                raise BadYaml(line, "a key is not plain text; expected `key: value`")
            key = FORBIDDEN.sub("", event.value)
            child = (*place, key)
            repeated = key in mapping
            self._lines.setdefault(child, event.start_mark.line + 1)
            if repeated:
                first = self._lines[child]
                line = event.start_mark.line + 1
                self._faults.add(
                    child, f"appears twice, on lines {first} and {line}; keep one of them"
                )
            value = self._node(next(self._events), child)
            if not repeated:
                mapping[key] = value
        return mapping

    def _sequence(self, place: Place) -> tuple[object, ...]:
        items: list[object] = []
        for event in self._events:
            if isinstance(event, SequenceEndEvent):
                break
            items.append(self._node(event, (*place, len(items))))
        return tuple(items)
