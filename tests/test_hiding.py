import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.hiding import encodings, letters, unescaped, without

STORY = 'Ann said: "Ünder the Café\'s table\nare 3 of the 3 keys / cards," and left <at once>.'
CODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "json": json.dumps,
    "json of json": lambda text: json.dumps(json.dumps(text)),
    "json with unicode": lambda text: json.dumps(text, ensure_ascii=False),
    "every letter escaped": lambda text: "".join(f"\\u{ord(one):04x}" for one in text),
    "python": repr,
    "python bytes": lambda text: repr(text.encode()),
    "percent": quote,
    "every letter in percent": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "percent twice": lambda text: quote(quote(text)),
    "html": html.escape,
    "html numbers": lambda text: "".join(f"&#{ord(one)};" for one in text),
    "upper case": str.upper,
    "spaced out": " ".join,
    "broken over lines": "\n".join,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for urls": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "base64, out of step": lambda text: base64.b64encode(b"x: " + text.encode()).decode()[1:],
    "hexadecimal": lambda text: text.encode().hex(),
}


@pytest.mark.parametrize("coding", CODINGS.values(), ids=CODINGS)
def test_a_text_is_found_in_every_encoding_and_the_rest_stays(coding: Callable[[str], str]) -> None:
    message = f"HTTP 400: bad value {coding(STORY)} at position 7"
    shown = without(message, [letters(STORY)], "[prompt]", 12)
    assert shown.startswith("HTTP 400: bad value")
    assert "[prompt]" in shown
    assert shown.endswith("at position 7")
    for word in ("table", "cards", "once", "keys"):
        assert word not in letters(shown)


def test_a_text_without_an_echo_is_not_touched() -> None:
    message = r"maximum context length is 4096 tokens, 100%25 sure: \"no\""
    assert without(message, [letters(STORY)], "[prompt]", 12) is message


def test_short_coincidences_stay() -> None:
    message = "cannot use the table"
    assert without(message, [letters("under the table")], "[prompt]", 12) == message


@given(
    st.text("abcdef", min_size=0, max_size=40),
    st.text("abcdef", min_size=12, max_size=40),
    st.text("abcdef", min_size=0, max_size=40),
)
def test_no_run_of_twelve_letters_is_left(before: str, text: str, after: str) -> None:
    shown = without(f"{before}{text}{after}", [text], "|", 12)
    for start in range(len(text) - 11):
        assert text[start : start + 12] not in shown


@given(st.text(max_size=60))
def test_any_text_can_be_unescaped(text: str) -> None:
    assert isinstance(unescaped(text), str)
    assert isinstance(unescaped("\\ud83d" + text), str)


@given(st.binary(max_size=7), st.text("abcXYZ019-_/+.", min_size=12, max_size=40), st.binary())
def test_base64_around_a_secret_shows_it_at_any_offset(
    before: bytes, secret: str, after: bytes
) -> None:
    body = base64.b64encode(before + secret.encode() + after)
    assert any(needle in body for needle in encodings(secret))
