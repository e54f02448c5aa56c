"""
Words for what is wrong with a catalogue file: file, entry, field, value, remedy.

Translates pydantic's findings and YAML's complaints.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from grace.errors import CatalogueError

_SHOWN = 60
# pydantic puts the tag of a union into a location; no file holds it there.
_UNION_TAGS = {"weights": ("hf", "pypi", "file")}


def read_yaml(path: Path, text: str | None = None) -> object:
    """
    Read one YAML 1.2 document; a key that occurs twice is an error.

    Args:
        path: The file; its name goes into messages.

        text: Its contents if they were read already.

    Raises:
        CatalogueError: The file is missing, is not text or is not YAML.
    """
    try:
        content = path.read_text("utf-8") if text is None else text
        return YAML(typ="safe", pure=True).load(content)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CatalogueError(f"{path}: cannot be read: {reason}; check the path") from error
    except UnicodeDecodeError as error:
        raise CatalogueError(f"{path}: is not UTF-8 text; save it as UTF-8") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = error.problem or error.context or "cannot be understood"
        raise CatalogueError(f"{path}{line}: {problem}; correct the YAML there") from error
    except (YAMLError, ValueError, RecursionError) as error:
        # ValueError: ruamel lets through what a malformed number or date raises.
        raise CatalogueError(f"{path}: is not YAML: {_first_line(error)}") from error


def as_json(entry: object) -> str:
    """
    Return an entry as JSON, for pydantic's strict mode.

    In JSON mode a list fits a tuple and a string an enumeration, while
    `count: "2"` stays wrong. A date, which YAML reads from a bare 2026-01-01,
    becomes its text.
    """
    return json.dumps(entry, default=str)


def entry_faults(error: ValidationError, where: str, fields: Sequence[str]) -> list[str]:
    """
    Return one line for each fault that pydantic found in an entry.

    Args:
        error: What pydantic raised.

        where: File and entry, which begin each line.

        fields: The names that exist, to suggest one for a misspelt field.
    """
    return [
        f"{where}: {_fault(finding, fields)}"
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


def _fault(finding: Mapping[str, Any], fields: Sequence[str]) -> str:
    location = tuple(finding["loc"])
    name = _field_name(location)
    kind = str(finding["type"])
    message = str(finding["msg"])
    if kind == "extra_forbidden":
        leaf = str(location[-1])
        suggestion = did_you_mean(leaf, fields) if len(location) == 1 else ""
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


def _field_name(location: tuple[int | str, ...]) -> str:
    """Print a location as `gpus[0].count`."""
    name = ""
    for step in location:
        if isinstance(step, int):
            name += f"[{step}]"
        elif step not in _UNION_TAGS.get(name, ()):
            name += f".{step}" if name else step
    return name


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
