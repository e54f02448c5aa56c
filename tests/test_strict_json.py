"""JSON has one reading, or none."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.strict_json import parse_json

_NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
_VALUES = st.recursive(
    st.none() | st.booleans() | _NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(_VALUES)
def test_what_was_written_is_read(value: Any) -> None:
    assert parse_json(json.dumps(value, allow_nan=False)) == value


@given(_VALUES, st.sampled_from([math.nan, math.inf, -math.inf]))
def test_what_is_no_number_is_refused_wherever_it_is(value: Any, odd: float) -> None:
    with pytest.raises(ValueError, match=r"(NaN|Infinity) is not JSON"):
        parse_json(json.dumps([value, {"a": odd}]))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "b": 2, "a": 1}', "a key appears twice"),
        ('[{"": {}, "": {}}]', "a key appears twice"),
        (b"\xff", "decode"),
        ("", "Expecting value"),
    ],
)
def test_what_has_two_readings_or_none_is_refused(text: str | bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(text)


def test_a_number_that_no_float_holds_is_json_and_may_be_refused() -> None:
    assert parse_json("[-1e999]") == [-math.inf]
    with pytest.raises(ValueError, match="-1e999 is too large"):
        parse_json("[-1e999]", finite=True)
    assert parse_json("[1e308, 1]", finite=True) == [1e308, 1]


def test_a_text_nested_too_deeply_is_refused() -> None:
    with pytest.raises(RecursionError):
        parse_json("[" * 200_000)
