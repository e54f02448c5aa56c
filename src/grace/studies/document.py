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

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
)

from grace.errors import StudyDefinitionError

Place = tuple[str | int, ...]

MAX_BYTES = 1_000_000
MAX_DEPTH = 12
MAX_PARTS = 10_000
MAX_FAULTS_SHOWN = 100

_NULLS = ("", "~", "null", "Null", "NULL")
_NUMBER = re.compile(r"[-+]?[0-9]{1,18}(\.[0-9]{1,18})?([eE][-+]?[0-9]{1,3})?")
# C0 and C1 controls but for tab and line feed, and halves of surrogate pairs, which
# no file in UTF-8 can hold but an escape such as "\ud800" can make.
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


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
        self._found.append((line, f"{self.source}, line {line}: {named} {problem}"))

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
    if path.exists() and not path.is_file():
        raise StudyDefinitionError(f"{path}: is not a file; expected a study in YAML")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise StudyDefinitionError(
            f"{path}: no such file; give the path of a study in YAML"
        ) from error
    except OSError as error:
        raise StudyDefinitionError(f"{path}: cannot be read: {error.strerror}") from error
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
        return _Builder(YAML(typ="safe", pure=True).parse(text), source).build()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise StudyDefinitionError(f"{source}{where}: not valid YAML: {error.problem}") from error
    # ruamel lets ValueError through, for escapes beyond the last Unicode character.
    except (YAMLError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise StudyDefinitionError(f"{source}: not valid YAML: {reason}") from error


class _Builder:
    def __init__(self, events: Iterator[Event], source: str) -> None:
        self._events = events
        self._source = source
        self._lines: dict[Place, int] = {}
        self._faults = Faults(source, self._lines)

    def build(self) -> tuple[object, Faults]:
        value: object = None
        documents = 0
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._refusal(event, "a second document begins; expected only one")
                if event.version or event.tags:
                    raise self._refusal(event, "the file has a % directive; remove it")
            elif isinstance(event, NodeEvent):
                value = self._node(event, ())
        return value, self._faults

    def _refusal(self, event: Event, problem: str) -> StudyDefinitionError:
        return StudyDefinitionError(f"{self._source}, line {event.start_mark.line + 1}: {problem}")

    def _node(self, event: Event, place: Place) -> object:
        if isinstance(event, AliasEvent) or getattr(event, "anchor", None) is not None:
            raise self._refusal(event, "an anchor (&) or alias (*) is used; write the text out")
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise self._refusal(event, f"the tag {tag!r} is used; remove it")
        self._lines.setdefault(place, event.start_mark.line + 1)
        if len(self._lines) > MAX_PARTS:
            raise self._refusal(event, f"has more than {MAX_PARTS:,} parts; keep data in the CSV")
        if isinstance(event, ScalarEvent):
            return self._scalar(event, place)
        if len(place) >= MAX_DEPTH and isinstance(event, CollectionStartEvent):
            raise self._refusal(event, f"is nested more than {MAX_DEPTH} deep; a study is flat")
        if isinstance(event, MappingStartEvent):
            return self._mapping(place)
        return self._sequence(place)

    def _scalar(self, event: ScalarEvent, place: Place) -> object:
        text: str = event.value
        forbidden = _FORBIDDEN.search(text)
        if forbidden:
            self._faults.add(
                place, f"holds the character U+{ord(forbidden[0]):04X}; expected text: remove it"
            )
            return _FORBIDDEN.sub("", text)
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
                raise self._refusal(event, "a key is not plain text; expected `key: value`")
            key = _FORBIDDEN.sub("", event.value)
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
