"""
Words for what is wrong with a catalogue file: file, entry, field, value, remedy.

Translates pydantic's findings.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

_SHOWN = 60
# pydantic puts the tag of a union into a location; no file holds it there.
_UNION_TAGS = {"weights": ("hf", "pypi", "file")}


def as_json(entry: object) -> str:
    """
    Return an entry as JSON, for pydantic's strict mode.

    In JSON mode a list fits a tuple and a string an enumeration, while
    `count: "2"` stays wrong.
    """
    return json.dumps(entry)


def entry_faults(
    error: ValidationError,
    where: str,
    fields: Sequence[str],
    inner: Mapping[str, Sequence[str]] | None = None,
) -> list[str]:
    """
    Return one line for each fault that pydantic found in an entry.

    Args:
        error: What pydantic raised.

        where: File and entry, which begin each line.

        fields: The names that exist, to suggest one for a misspelt field.

        inner: The same of parts, by their place: `{"namespace": ("name", "create")}`;
            `*` stands for any key.
    """
    return [
        f"{where}: {_fault(finding, fields, inner or {})}"
        for finding in error.errors(include_url=False, include_context=True)
    ]


def shown(value: object) -> str:
    """Return a value for a message, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def did_you_mean(word: str, known: Sequence[str], count: int = 1) -> str:
    """
    Return "; did you mean …?", or nothing if no known word is near.

    >>> did_you_mean("gemma-2-2", ["gemma-2-2b", "gpt2"])
    '; did you mean gemma-2-2b?'
    """
    near = difflib.get_close_matches(word, known, n=count, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _fault(
    finding: Mapping[str, Any], fields: Sequence[str], inner: Mapping[str, Sequence[str]]
) -> str:
    location = tuple(finding["loc"])
    name = _field_name(location)
    kind = str(finding["type"])
    message = str(finding["msg"])
    if kind == "extra_forbidden":
        leaf = str(location[-1])
        known = fields if len(location) == 1 else _fields_of(location[:-1], inner)
        suggestion = did_you_mean(leaf, known)
        return f"{name} is not a field{suggestion or '; remove it'}"
    if kind == "missing":
        return f"{name} is missing; add it"
    if kind == "value_error":
        # Raised by a validator of ours, worded as a predicate or as a sentence of its own.
        text = message.removeprefix("Value error, ")
        return f"{name} {text}" if name else text
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        return f"{name} is {shown(finding['input'])}; expected a scheme: hf, pypi or file"
    expectation = message.removeprefix("Input should be ").removeprefix("Value should ")
    return f"{name} is {shown(finding['input'])}; expected {expectation}".strip()


def _fields_of(
    location: tuple[int | str, ...], inner: Mapping[str, Sequence[str]]
) -> Sequence[str]:
    """Return the fields of the part at a location; none if it is not known."""
    path = [step for step in location if isinstance(step, str)]
    for place, fields in inner.items():
        steps = place.split(".")
        if len(steps) == len(path) and all(
            known in {"*", step} for known, step in zip(steps, path, strict=True)
        ):
            return fields
    return ()


def _field_name(location: tuple[int | str, ...]) -> str:
    """Print a location as `gpus[0].count`."""
    name = ""
    for step in location:
        if isinstance(step, int):
            name += f"[{step}]"
        elif step not in _UNION_TAGS.get(name, ()):
            name += f".{step}" if name else step
    return name
