"""
Mutations of valid files: what careless programs, people and attackers do to them.

Hypothesis draws short lists of changes, which are then made to a valid text: a
change that says "a thousand times" costs Hypothesis nothing, and the shape of the
file survives most of them, so that the faults reach deep into a parser.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from hypothesis import strategies as st
from pydantic import JsonValue

MOST_BYTES = 10_000_000
"""No change makes a file larger than this."""

_PLACES = st.integers(0, 0xFFFF)
# Large inputs are rare, or they would take all of the time.
_TIMES = st.sampled_from([1] * 120 + [2] * 30 + [3] * 30 + [40] * 12 + [1_000] * 6 + [100_000])

TOKENS: tuple[bytes, ...] = (
    *(b"\0", b"\r", b"\n", b"\r\n", b"\n\n", b"\t", b'"', b'""', b"'", b",", b";", b"\\"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xe9", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80"),
    *("\u2028".encode(), "\x85".encode(), "\ufeff".encode(), "\U0001f600".encode(), b"\x1a"),
    *(b"=1+1", b"+1", b"-1", b"@SUM(A1)", b"\t=1", b"\r=1", b"=cmd|' /C calc'!A0"),
    *(b"0", b"-0", b"1e999", b"NaN", b"Infinity", b"-Infinity", b"1_0", b"0x10", b"0o17", b"1e5"),
    *(b"9" * 5_000, b"-" + b"9" * 400, b"1." + b"0" * 400, b"true", b"null", b"None", b"{}", b"[]"),
    *("\u0663".encode(), "\uff13".encode(), b"2026-01-02", b"12:30:45", b"../../etc/passwd"),
    *(b"[" * 2_000, b"{" * 2_000, b"(" * 2_000, b"{a: " * 500, b'{"a":' * 500, b"- " * 500),
)
"""What has broken parsers before."""


@dataclass(frozen=True, slots=True)
class Change:
    """
    One change to a text.

    Attributes:
        kind: What is done.

        start, end: Where, in parts of 65,536.

        token: What is put there.

        times: How often.
    """

    kind: str
    start: int
    end: int
    token: bytes
    times: int

    def made(self, content: bytes) -> bytes:
        """Return *content*, changed."""
        first, last = sorted(place * len(content) // 0xFFFF for place in (self.start, self.end))
        # Most faults are small; a slice of half the file leaves nothing to parse.
        last = min(last, first + 200) if self.times < 40 else last
        before, inside, after = content[:first], content[first:last], content[last:]
        match self.kind:
            case "insert":
                inside = self._often(self.token) + inside
            case "replace":
                inside = self._often(self.token)
            case "drop":
                inside = b""
            case "repeat":
                inside = self._often(inside) + inside
            case "flip":
                inside = bytes([inside[0] ^ (1 << self.times % 8)]) + inside[1:] if inside else b""
            case _:
                after = b""
        return (before + inside + after)[:MOST_BYTES]

    def _often(self, part: bytes) -> bytes:
        return part * min(self.times, MOST_BYTES // max(1, len(part)))


def changes(
    kinds: Sequence[str] = ("insert", "replace", "drop", "repeat", "flip", "cut"),
) -> st.SearchStrategy[Change]:
    """Draw one change."""
    tokens = st.sampled_from(TOKENS) | st.binary(min_size=1, max_size=4)
    return st.builds(Change, st.sampled_from(kinds), _PLACES, _PLACES, tokens, _TIMES)


@dataclass(frozen=True, slots=True, repr=False)
class Recipe:
    """
    How an input is made; what Hypothesis draws, so that it never holds the input.

    Attributes:
        begin: Makes the file that is changed.

        changes: What is done to its bytes.
    """

    begin: Callable[[], bytes]
    changes: Sequence[Change]

    def made(self) -> bytes:
        """Return the input."""
        content = self.begin()
        for change in self.changes:
            content = change.made(content)
        return content


Shaped = st.SearchStrategy[Callable[[bytes], bytes]]


def mutated(valid: Sequence[bytes], shaped: Shaped) -> st.SearchStrategy[Recipe]:
    """
    Draw a valid file, changed in a few places.

    Args:
        valid: Files to begin from.

        shaped: Changes that know the file's grammar; they come first.
    """
    begun = st.builds(
        lambda content, change: partial(change, content), st.sampled_from(valid), shaped
    )
    return recipes(begun)


def recipes(begun: st.SearchStrategy[Callable[[], bytes]]) -> st.SearchStrategy[Recipe]:
    """Draw an input, and a few changes to its bytes in half of the cases."""
    return st.builds(Recipe, begun, st.just([]) | st.lists(changes(), max_size=3))


@dataclass(frozen=True, slots=True)
class LineChange:
    """One change to a file of lines, such as YAML."""

    kind: str
    place: int
    other: int
    token: str

    def made(self, lines: list[str]) -> list[str]:
        """Return *lines*, changed."""
        if not lines:
            return [self.token]
        at, other = self.place % len(lines), self.other % len(lines)
        line = lines[at]
        name, colon, _ = line.partition(": ")
        changed = {
            "drop": [],
            "twice": [line, line],
            "token": [line, self.token],
            "value": [f"{name}: {self.token}"] if colon else [f"{line} {self.token}"],
            "key": [line.replace(name.strip(), self.token, 1) if name.strip() else self.token],
            "deeper": [f"  {line}"],
            "shallower": [line.removeprefix("  ")],
            "quoted": [f'{name}: "{self.token}"'],
        }
        if self.kind == "swap":
            swapped = list(lines)
            swapped[at], swapped[other] = swapped[other], swapped[at]
            return swapped
        return [*lines[:at], *changed[self.kind], *lines[at + 1 :]]


YAML_TOKENS = (
    *("!!python/object/apply:os.system [id]", "!!binary aGk=", "!!set {a, b}", "!!timestamp 2026"),
    *("!!omap [a: 1]", "!!float 1", "!!str 5", "!local x", "! x", "&a x", "*a", "&a [*a, *a]"),
    *(
        "<<: *a",
        "<<: {a: 1}",
        "? a",
        "? [a]\n: b",
        "{[a]: b}",
        "- - - -",
        "--- a",
        "...",
        "%YAML 1.1",
    ),
    *("%TAG ! tag:x,2000:", "| ", "> ", "|9\n  x", ">-\n", "#", "a: b: c", "@a", "`a", "\tx", "'"),
    *(
        "2026-01-02",
        "2026-99-99",
        "2001-12-14t21:59:43.10-05:00",
        "12:30:45",
        "0o17",
        "0x1F",
        "1_000",
    ),
    *(".nan", ".inf", "-.inf", "1e999", "1e-999", "9" * 5_000, "-" + "9" * 30, "0.1", "1.0", "-0"),
    *("yes", "no", "on", "true", "True", "~", "null", "", '""', "''", "[]", "{}", "[1, [2, [3]]]"),
    *(
        "[" * 1_000,
        "{a: " * 1_000,
        "[" * 300 + "]" * 300,
        "x" * 100_000,
        "\\ud800",
        "\u2028",
        "\x7f",
    ),
    *(
        '"\\ud800"',
        '"\\U00110000"',
        '"\\x00"',
        "a\x00b",
        "é",
        "=1",
        "(a+)+$",
        "{x}",
        "{",
        "}}",
        "{a.b}",
    ),
    *(
        "exp1",
        "study1",
        "a.yaml",
        "file:///x",
        "hf://a/b",
        "pypi://a==1/b",
        "file://\x00",
        "//[",
        "::",
    ),
)
"""What a line of YAML may hold that a file of ours never should."""


def yaml_lines() -> Shaped:
    """Draw changes to the lines of a YAML file."""
    kinds = (
        *("drop", "twice", "token", "value", "value", "value", "key", "deeper", "shallower"),
        *("quoted", "swap"),
    )
    change = st.builds(
        LineChange,
        st.sampled_from(kinds),
        st.integers(0, 400),
        st.integers(0, 400),
        st.sampled_from(YAML_TOKENS) | st.text(max_size=6),
    )
    return st.lists(change, max_size=4).map(lambda drawn: partial(_lines_changed, drawn))


def _lines_changed(drawn: Sequence[LineChange], content: bytes) -> bytes:
    lines = content.decode().split("\n")
    for one in drawn:
        lines = one.made(lines)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


class Raw(str):
    """A piece of JSON as it is written, which no JSON encoder would write."""

    __slots__ = ()


JSON_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**53 + 1, -(2**63), 10**30, 0.0, 0.5, -0.5, 1.5, 1e308),
    *(
        -9999.0,
        -10000.0,
        1e-5,
        100,
        "",
        " ",
        "0",
        "1",
        "-0.5",
        "true",
        "x",
        "\ud800",
        "\0",
        "\u2028",
    ),
    *(
        "x" * 1_000_000,
        "=1+1",
        "stop",
        "length",
        "answered",
        "failed",
        "exp1",
        "../../x",
        "a/b" * 99,
    ),
    *([], {}, [None], [[]], {"": None}, [1, "1", 1.0, True], {"a": {"b": {"c": []}}}),
    *(Raw("NaN"), Raw("Infinity"), Raw("-Infinity"), Raw("1e999"), Raw("-1e999"), Raw("9" * 400)),
    *(Raw("9" * 5_000), Raw("-" + "9" * 400), Raw("1" * 400 + ".5"), Raw("1E400"), Raw("-0")),
    *(Raw("[" * 200 + "]" * 200), Raw('{"a":' * 200 + "1" + "}" * 200), Raw("[" * 100_000)),
    *(Raw('{"a":1,"a":2}'), Raw('"\\ud83d"'), Raw("01"), Raw("+1"), Raw("undefined"), Raw("")),
)
"""Values that are not what stands in a valid reply or record."""


@dataclass(frozen=True, slots=True)
class JsonChange:
    """One change to a JSON value: its *place*-th part becomes something else."""

    kind: str
    place: int
    value: JsonValue

    def made(self, value: JsonValue) -> JsonValue:
        """Return *value*, changed; what was there is left alone."""
        paths = _paths(value)
        # Deep parts are many and alike: half of the changes are made near the root.
        near = len(paths) if self.place % 2 else min(len(paths), 12)
        return self._changed(value, paths[self.place // 2 % near])

    def _changed(self, value: JsonValue, path: Sequence[str | int]) -> JsonValue:
        if not path:
            return self.value
        step, deeper = path[0], path[1:]
        if isinstance(value, list) and isinstance(step, int):
            inner = value[step]
            made = [self._changed(inner, deeper)]
            if not deeper and self.kind == "drop":
                made = []
            elif not deeper and self.kind == "twice":
                made = [inner, inner]
            return [*value[:step], *made, *value[step + 1 :]]
        if isinstance(value, dict) and isinstance(step, str):
            if deeper or self.kind not in ("drop", "rename", "more"):
                return {**value, step: self._changed(value[step], deeper)}
            if self.kind == "more":
                return {**value, "unknown": self.value}
            rest = {name: inner for name, inner in value.items() if name != step}
            return rest if self.kind == "drop" else {**rest, f"{step}_": value[step]}
        return self.value


def _paths(value: JsonValue) -> list[tuple[str | int, ...]]:
    """Return where the parts of a value are, those near the root first."""
    found: list[tuple[str | int, ...]] = [()]
    held = [value]
    for path, inner in zip(found, held, strict=False):
        steps: Iterable[tuple[str | int, JsonValue]] = ()
        if isinstance(inner, dict):
            steps = inner.items()
        elif isinstance(inner, list):
            steps = enumerate(inner)
        for step, part in steps:
            found.append((*path, step))
            held.append(part)
    return found


def json_changes() -> st.SearchStrategy[JsonChange]:
    """Draw one change to a JSON value."""
    kinds = st.sampled_from(["value", "value", "drop", "twice", "rename", "more"])
    return st.builds(JsonChange, kinds, st.integers(0, 2_000), st.sampled_from(JSON_VALUES))


def written(value: JsonValue) -> bytes:
    """Write JSON, `Raw` pieces as they are."""
    pieces: list[str] = []

    def marked(inner: JsonValue) -> JsonValue:
        if isinstance(inner, Raw):
            pieces.append(str(inner))
            return f"\uf8ff{len(pieces) - 1}\uf8ff"
        if isinstance(inner, dict):
            return {name: marked(one) for name, one in inner.items()}
        return [marked(one) for one in inner] if isinstance(inner, list) else inner

    text = json.dumps(marked(value))
    for number, piece in enumerate(pieces):
        text = text.replace(f'"\\uf8ff{number}\\uf8ff"', piece)
    return text.encode()


def json_parts() -> Shaped:
    """Draw changes to the parts of a JSON file."""
    return st.lists(json_changes(), max_size=3).map(lambda drawn: partial(_parts_changed, drawn))


def _parts_changed(drawn: Sequence[JsonChange], content: bytes) -> bytes:
    value: JsonValue = json.loads(content)
    for one in drawn:
        value = one.made(value)
    return written(value)
