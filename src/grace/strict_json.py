"""
JSON in the narrow sense, for what comes from files and from others.

Python's own parser also takes NaN and Infinity, and the last of two equal keys for
both.
"""

import json
import math

from pydantic import JsonValue


def parse_json(text: str | bytes, *, finite: bool = False) -> JsonValue:
    """
    Return what a JSON text says.

    Args:
        text: The text.

        finite: Refuse numbers that are larger than any float as well, which are
            JSON, and would be infinite.

    Raises:
        ValueError: It is none, or says something that has two readings.

        RecursionError: It is nested too deeply.

    >>> parse_json('{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    """
    parsed: JsonValue = json.loads(
        text,
        parse_constant=_refuse,
        parse_float=_finite if finite else None,
        object_pairs_hook=_distinct,
    )
    return parsed


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large")
    return number


def _distinct(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key appears twice")
    return made
