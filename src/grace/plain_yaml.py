"""
One YAML document of plain values, from a file that anybody may have written.

What makes a small file large (anchors, aliases), what makes objects (tags) and
what hides a value behind another (a repeated key) is refused, before anything is
built. Numbers, `true` and `null` are those of YAML 1.2; all else is text, as it
was written. Knows nothing of what a file is for.
"""

import re
from collections.abc import Iterator
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

from grace.errors import UsageError

MAX_BYTES = 1_000_000
MAX_DEPTH = 12
MAX_PARTS = 20_000

# C0 and C1 controls but for tab and line feed, and halves of surrogate pairs, which
# no file in UTF-8 can hold but an escape such as "\ud800" can make.
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

_LONGEST_NUMBER = 100
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_FLAGS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_WHOLE = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)")
_NOT_A_NUMBER = frozenset({".nan", ".NaN", ".NAN"})


class BadYaml(Exception):
    """
    A file is not what is read here; its reader words it as an error of its own.

    Args:
        line: Where, from 1; None if that is not known.

        problem: What is wrong, and what to do.
    """

    def __init__(self, line: int | None, problem: str) -> None:
        self.line = line
        self.problem = problem
        super().__init__(problem)

    def place(self, source: str) -> str:
        """Return file and line, for a message."""
        return source if self.line is None else f"{source}, line {self.line}"


def checked_events(text: str) -> Iterator[Event]:
    """
    Yield the nodes and the ends of a text's only document, as far as it is plain.

    Raises:
        BadYaml: It is not YAML, or uses what is refused.
    """
    depth = parts = documents = 0
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _refusal(event, "a second document begins; expected only one")
                if event.version or event.tags:
                    raise _refusal(event, "the file has a % directive; remove it")
            elif isinstance(event, NodeEvent):
                parts += 1
                _check_node(event, depth, parts)
                depth += isinstance(event, CollectionStartEvent)
                yield event
            elif isinstance(event, MappingEndEvent | SequenceEndEvent):
                depth -= 1
                yield event
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "cannot be understood"
        raise BadYaml(mark.line + 1 if mark else None, f"not valid YAML: {problem}") from error
    # ruamel lets ValueError through, for escapes beyond the last Unicode character.
    except (YAMLError, ValueError) as error:
        reason = (str(error).splitlines() or ["it cannot be read"])[0]
        raise BadYaml(None, f"not valid YAML: {reason}") from error


def _check_node(event: NodeEvent, depth: int, parts: int) -> None:
    if isinstance(event, AliasEvent) or getattr(event, "anchor", None) is not None:
        raise _refusal(event, "an anchor (&) or alias (*) is used; write the text out")
    tag = getattr(event, "tag", None)
    if tag is not None:
        raise _refusal(event, f"the tag {str(tag)[:60]!r} is used; remove it")
    if parts > MAX_PARTS:
        raise _refusal(event, f"has more than {MAX_PARTS:,} parts; such a file is small")
    if depth >= MAX_DEPTH and isinstance(event, CollectionStartEvent):
        raise _refusal(event, f"is nested more than {MAX_DEPTH} deep; such a file is flat")


def _refusal(event: Event, problem: str) -> BadYaml:
    return BadYaml(event.start_mark.line + 1, problem)


def read_plain_yaml(path: Path, kind: type[UsageError]) -> object:
    """
    Return a file's value: dicts, lists, text, numbers, flags and None.

    Args:
        path: The file.

        kind: The error that is raised.

    Raises:
        UsageError: It is missing, not text, not YAML, or not plain; of the *kind*
            that was asked for.
    """
    text = _text(path, kind)
    try:
        events = checked_events(text)
        first = next(events, None)
        value = None if first is None else _value(first, events)
        # What follows is an end or a fault.
        next(events, None)
    except BadYaml as error:
        raise kind(f"{error.place(str(path))}: {error.problem}; correct the YAML there") from error
    return value


def _text(path: Path, kind: type[UsageError]) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise kind(f"{path}: cannot be read: {reason}; check the path") from error
    if len(content) > MAX_BYTES:
        raise kind(f"{path}: is larger than {MAX_BYTES:,} bytes; such a file is small")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise kind(f"{path}: cannot be read: is not UTF-8 text; save it as UTF-8") from error


def _value(event: Event, events: Iterator[Event]) -> object:
    if isinstance(event, ScalarEvent):
        return _scalar(event)
    if isinstance(event, MappingStartEvent):
        return _mapping(events)
    return _sequence(events)


def _sequence(events: Iterator[Event]) -> list[object]:
    items: list[object] = []
    for event in events:
        if isinstance(event, SequenceEndEvent):
            break
        items.append(_value(event, events))
    return items


def _mapping(events: Iterator[Event]) -> dict[object, object]:
    mapping: dict[object, object] = {}
    for event in events:
        if isinstance(event, MappingEndEvent):
            break
        if not isinstance(event, ScalarEvent):
            raise _refusal(event, "a key is not plain text; expected `key: value`")
        key = _scalar(event)
        if key in mapping:
            raise _refusal(event, f"found duplicate key {str(key)[:60]!r}; keep one of them")
        mapping[key] = _value(next(events), events)
    return mapping


def _scalar(event: ScalarEvent) -> str | int | float | bool | None:
    text: str = event.value
    if forbidden := FORBIDDEN.search(text):
        raise _refusal(event, f"holds the character U+{ord(forbidden[0]):04X}; remove it")
    if event.style:
        return text
    if text in _NULLS:
        return None
    if text in _FLAGS:
        return _FLAGS[text]
    whole, number = _WHOLE.fullmatch(text), _NUMBER.fullmatch(text)
    if (whole or number) and len(text) > _LONGEST_NUMBER:
        raise _refusal(event, f"has a number of {len(text)} characters; shorten it, or quote it")
    if whole:
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if number:
        return float(text.replace(".inf", "inf").replace(".Inf", "inf").replace(".INF", "inf"))
    return float("nan") if text in _NOT_A_NUMBER else text
