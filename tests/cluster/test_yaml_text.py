from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from grace.cluster.yaml_text import yaml_text
from strategies import writable_text

texts = writable_text | st.text("abcyn \n:#-0123456789.|>'\"\\", max_size=12)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(texts, below, max_size=4),
    max_leaves=12,
)
documents = st.dictionaries(texts, plain, max_size=5)


@given(documents)
@example({"a": "x\x85y", "b": "x\u2028y", "c": "\ufeffbom", "d": "a\r\nb\r\n", "e": "\t"})
@example({"a": "one\n  two\n\nthree", "b": "one\n\n", "c": "\none", "d": " one\ntwo", "e": "a \nb"})
@example({"a": [[], [["x"]], {}, [{"b": {"c": ["one\ntwo\n"]}}], "one\ntwo"]})
def test_what_was_written_is_read_again(value: dict[str, Any]) -> None:
    assert yaml.safe_load(yaml_text(value)) == value


@given(documents)
def test_readers_of_yaml_1_2_read_the_same(value: dict[str, Any]) -> None:
    reader = YAML(typ="safe", pure=True)
    assert reader.load(yaml_text(value)) == value


@pytest.mark.parametrize(
    "text",
    [
        *("y", "n", "Y", "N", "yes", "No", "ON", "off", "true", "False", "null", "~", ""),
        *("1", "-1", "1e5", "0o17", "0x1F", "1_000", "12:30", "2026-01-31", ".5", ".inf", "+.NaN"),
        *(
            "-",
            "--",
            "---",
            "=",
            "<<",
            "#x",
            "&a",
            "*a",
            "!t",
            "%d",
            "@x",
            "`x",
            "? a",
            "a: b",
            "a:",
        ),
    ],
)
def test_text_that_some_reader_takes_for_something_else_is_quoted(text: str) -> None:
    assert yaml_text({"key": text, text: "value"}).count('"') == 4


@pytest.mark.parametrize(
    "text",
    ["gemma-2-2b", "--host", "/grace/results", "http://model-x:8000", "a/b:v1", "IfNotPresent"],
)
def test_ordinary_text_is_not_quoted(text: str) -> None:
    assert yaml_text({"key": text}) == f"key: {text}\n"


def test_lines_stay_lines() -> None:
    assert yaml_text({"a": {"b": "one\n  two\n\nthree\n"}}) == (
        "a:\n  b: |\n    one\n      two\n\n    three\n"
    )


def test_the_order_is_that_of_the_data() -> None:
    assert yaml_text({"b": 1, "a": 2}) == "b: 1\na: 2\n"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="is not a finite number"):
        yaml_text({"a": value})


def test_what_is_not_plain_is_refused() -> None:
    with pytest.raises(TypeError, match="set is not plain data"):
        yaml_text({"a": {1}})
