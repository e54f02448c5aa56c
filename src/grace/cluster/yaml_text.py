"""
Plain data as YAML text that every reader takes for the same data.

YAML 1.1, YAML 1.2 and the reader inside kubectl disagree on what is a number, a
flag or nothing: `y`, `off`, `1e5`, `0o17`, `12:30`. Text is left unquoted only
where none of them could take it for something else. The same data always gives
the same text, on every machine: PyYAML's two emitters do not (decision record
22).
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence

_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"})
# A letter first: numbers, dates, times and all that has a meaning of its own begin otherwise.
_BARE = re.compile(r"(?:--)?[A-Za-z_/](?:[-\w./@+=%,()]|:(?=\S)| (?=[-\w./@+=%,()]))*", re.ASCII)
# In quotes, all that is no printable character, or a line break to some reader.
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_UNPRINTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def yaml_text(value: Mapping[str, object]) -> str:
    r"""
    Return a mapping as one YAML document, in its order.

    Args:
        value: Holds mappings, sequences, text, numbers, flags and None.

    Raises:
        ValueError: A number is not finite.

        TypeError: A value is something else.

    >>> print(yaml_text({"answer": "y", "port": 8000, "text": "two\nlines\n"}), end="")
    answer: "y"
    port: 8000
    text: |
      two
      lines
    """
    lines = _mapping(value, "") if value else iter(["{}"])
    return "".join(f"{line}\n" for line in lines)


def _mapping(value: Mapping[str, object], indent: str) -> Iterator[str]:
    for key, below in value.items():
        yield from _entry(f"{indent}{_scalar(key)}:", below, indent, deeper=f"{indent}  ")


def _sequence(value: Sequence[object], indent: str) -> Iterator[str]:
    for below in value:
        if isinstance(below, Mapping) and below:
            # The first key stands behind the dash, the others below it.
            lines = _mapping(below, f"{indent}  ")
            yield f"{indent}- {next(lines)[len(indent) + 2 :]}"
            yield from lines
        else:
            yield from _entry(f"{indent}-", below, f"{indent}  ", deeper=f"{indent}  ")


def _entry(begin: str, value: object, indent: str, *, deeper: str) -> Iterator[str]:
    """Write a value behind a key or a dash, or below it."""
    if isinstance(value, str) and _is_block(value):
        yield f"{begin} {'|' if value.endswith(chr(10)) else '|-'}"
        # An empty line has no indentation, so that no line ends with a space.
        yield from (f"{deeper}{line}" if line else "" for line in _block_lines(value))
    elif isinstance(value, Mapping) and value:
        yield begin
        yield from _mapping(value, deeper)
    elif isinstance(value, list | tuple) and value:
        yield begin
        yield from _sequence(value, indent)
    else:
        yield f"{begin} {_scalar(value)}"


def _is_block(text: str) -> bool:
    """Whether text can be written as lines: as it is, and nothing at its edges is lost."""
    lines = _block_lines(text)
    return (
        "\n" in text
        and lines[0] != ""
        and lines[-1] != ""
        and not lines[0][0].isspace()
        and not any(line[-1:].isspace() for line in lines)
        and not _UNPRINTED.search(text)
    )


def _block_lines(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n")


def _scalar(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(int(value))
        case float():
            return _number(value)
        case str():
            return _inline(value)
        case Mapping() if not value:
            return "{}"
        case list() | tuple() if not value:
            return "[]"
        case _:
            raise TypeError(f"{type(value).__name__} is not plain data: {value!r:.80}")


def _number(value: float) -> str:
    if not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    mantissa, e, exponent = repr(float(value)).partition("e")
    # YAML 1.1 takes 1e-05 for text; with a point and a sign it is a number to all.
    point = "" if "." in mantissa else ".0"
    sign = "+" if e and exponent[0] not in "+-" else ""
    return f"{mantissa}{point}{e}{sign}{exponent}"


def _inline(text: str) -> str:
    if _BARE.fullmatch(text) and text.lower() not in _WORDS:
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)
