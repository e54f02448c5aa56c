"""
A record: how one query ended, and its line in a journal.

Lines are strict JSON in ASCII. Knows nothing of files.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import JsonValue

from grace.engine.queries import QueryKey
from grace.errors import CorruptJournal
from grace.strict_json import parse_json

_DIGEST = re.compile(r"[0-9a-f]{64}")
_ENCODER = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Record:
    """
    How one query ended.

    Attributes:
        key: The query.

        stage: `respond`, `extract`, `score` or `recheck`.

        probe: Name of the probe, for people.

        status: `answered` or `failed`.

        value: The answer as JSON; empty if failed.

        error_type, error: Why it failed; empty if answered.

        attempts: How many times it was sent.

        seconds: From the first attempt to the end.

        finished: Moment of the end, UTC, ISO 8601.
    """

    key: QueryKey
    stage: str
    probe: str
    status: Literal["answered", "failed"]
    value: Mapping[str, JsonValue]
    error_type: str
    error: str
    attempts: int
    seconds: float
    finished: str


# Checked by hand: a journal may have a line for each of a million queries.
_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "key": str,
    "stage": str,
    "probe": str,
    "status": str,
    "value": dict,
    "error_type": str,
    "error": str,
    "attempts": int,
    "seconds": (int, float),
    "finished": str,
}


def encode(record: Record) -> bytes:
    """
    Return a record's line.

    Raises:
        ValueError: It holds a number that is not finite.
    """
    return _ENCODER.encode({name: getattr(record, name) for name in _FIELDS}).encode() + b"\n"


def decode(line: bytes) -> Record:
    """
    Read a record from its line.

    Raises:
        ValueError, RecursionError: It is not one.
    """
    # Not pydantic's JSON parser: it refuses halves of surrogate pairs, which servers do
    # send and which are written here as escapes, and it takes NaN for a number.
    fields: Any = parse_json(line, finite=True)
    if not isinstance(fields, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004
    for name, kind in _FIELDS.items():
        if name not in fields:
            raise ValueError(f"it has no {name}")
        if not isinstance(fields[name], kind) or isinstance(fields[name], bool):
            raise ValueError(f"its {name} is {str(fields[name])[:40]!r}")  # noqa: TRY004
    if unknown := fields.keys() - _FIELDS.keys():
        raise ValueError(f"it has {min(unknown)[:40]!r}, which no record has")
    if fields["status"] not in {"answered", "failed"}:
        raise ValueError(f"its status is {fields['status'][:40]!r}")
    return Record(**fields)


def value_text(record: Record, name: str) -> str:
    """
    Return a text that an answered record must hold.

    Raises:
        CorruptJournal: It does not.
    """
    text = record.value.get(name)
    if not isinstance(text, str):
        raise corrupt(record, f"{name} is {str(text)[:40]!r}; expected text")
    return text


def value_digest(record: Record, name: str) -> bytes:
    """
    Return a SHA-256 digest that an answered record must hold.

    Raises:
        CorruptJournal: It does not.
    """
    text = value_text(record, name)
    if not _DIGEST.fullmatch(text):
        raise corrupt(record, f"{name} is {text[:40]!r}; expected 64 hexadecimal digits")
    return bytes.fromhex(text)


def corrupt(record: Record, problem: str) -> CorruptJournal:
    """Return the error for a record whose value Grace did not write."""
    return CorruptJournal(
        f"the journal's answer to {record.stage[:20]!r} {record.probe[:60]!r} "
        f"({record.key[:40]!r}): "
        f"{problem}. Something else wrote to the journal: restore it, or start another run with "
        "--new"
    )
