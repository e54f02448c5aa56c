import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from grace.errors import UsageError
from grace.keys import KeyFinder, hide_keys, read_key

KEY = "sk-canary/4f+7Q2=zz0192837465"


def test_a_key_comes_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", f" {KEY}\n")
    assert read_key("SOME_KEY") == KEY


def test_a_key_comes_from_the_file_that_its_variable_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    monkeypatch.setenv("SOME_KEY_FILE", str(tmp_path / "key"))
    assert read_key("SOME_KEY") == KEY


@pytest.mark.parametrize("value", ["", "  \n"])
def test_an_empty_variable_is_no_key(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SOME_KEY", value)
    assert read_key("SOME_KEY") is None
    assert read_key("OTHER_KEY") is None


def test_two_sources_of_a_key_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    monkeypatch.setenv("SOME_KEY_FILE", str(tmp_path))
    with pytest.raises(UsageError, match="SOME_KEY and SOME_KEY_FILE are both set") as caught:
        read_key("SOME_KEY")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read: No such file"),
        (b" \n", "is empty; write the key into it"),
        (b"\xff\xfe", "it is not text"),
        (b"k" * 20_000, "is too long for a key"),
    ],
)
def test_a_file_without_a_key_is_told_by_its_variable_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, problem: str
) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("SOME_KEY_FILE", str(path))
    with pytest.raises(UsageError, match=problem) as caught:
        read_key("SOME_KEY")
    assert str(caught.value).startswith("the file that SOME_KEY_FILE names ")
    assert "kkk" not in str(caught.value)


@pytest.mark.parametrize("pasted", [KEY, "x" * 5000])
def test_a_key_in_place_of_its_file_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, pasted: str
) -> None:
    monkeypatch.setenv("SOME_KEY_FILE", pasted)
    with pytest.raises(UsageError, match="the path of a file that holds the key") as caught:
        read_key("SOME_KEY")
    assert pasted not in str(caught.value)


ENCODED = {
    "plain": KEY,
    "in a header": f"Authorization: Bearer {KEY}",
    "json": json.dumps(KEY),
    "json with slashes": KEY.replace("/", "\\/"),
    "escapes": "".join(f"\\u{ord(one):04x}" for one in KEY),
    "one escape": KEY.replace("c", "\\u0063", 1),
    "percent": quote(KEY, safe=""),
    "percent in small letters": quote(KEY, safe="").replace("%2F", "%2f").replace("%2B", "%2b"),
    "all percent": "".join(f"%{ord(one):02x}" for one in KEY),
    "html": "".join(f"&#{ord(one)};" for one in KEY),
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 of a header": base64.b64encode(f"Authorization: Bearer {KEY}".encode()).decode(),
    "basic": base64.b64encode(f"user:{KEY}".encode()).decode(),
    "hexadecimal": KEY.encode().hex(),
}


@pytest.mark.parametrize("text", ENCODED.values(), ids=ENCODED)
def test_a_key_is_hidden_however_it_is_encoded(text: str) -> None:
    shown = hide_keys(f"refused: {text} (code 7)", KEY)
    assert shown.startswith("refused: ")
    assert shown.endswith("(code 7)")
    assert "[key]" in shown
    assert text not in shown
    assert KeyFinder(KEY).is_in(f'{{"text": "{text}"}}'.encode())


def test_the_larger_part_of_a_key_is_hidden_too() -> None:
    assert hide_keys(f"wrong key {KEY[:20]}…", KEY) == "wrong key [key]…"


def test_a_reply_without_the_key_is_left_alone() -> None:
    finder = KeyFinder(KEY)
    assert not finder.is_in(b'{"text": "\\u0041 100%25 of it &#65; sk-canary"}')
    # Servers that want no key are often given a word for one.
    assert not KeyFinder("EMPTY").is_in(b'{"text": "EMPTY"}')


CRASH = """
import asyncio, sys
from grace.cli import main
from grace.inference.transport import Transport

async def fails(self, *arguments):
    secret = self._api_key
    raise RuntimeError(f"holding {secret} while asking")

Transport._exchange = fails
sys.argv = ["grace", *sys.argv[1:]]
main.main()
"""


def crashed(script: str, out: Path) -> subprocess.CompletedProcess[str]:
    flags = ["run", "--limit", "1", "--endpoint", "http://127.0.0.1:9", "--out", str(out)]
    return subprocess.run(  # noqa: S603
        [sys.executable, "-c", script, *flags],
        capture_output=True,
        text=True,
        env={**os.environ, "GRACE_API_KEY": KEY},
        check=False,
    )


def test_a_crash_in_the_middle_of_a_request_shows_where_but_not_the_key(tmp_path: Path) -> None:
    done = crashed(CRASH, tmp_path)
    assert done.returncode == 1
    assert "RuntimeError: holding [key] while asking" in done.stderr
    # Files and lines, but no variables with their values.
    assert "detect.py" in done.stderr
    assert "locals" not in done.stderr
    assert KEY not in done.stderr + done.stdout


def test_a_warning_of_a_library_does_not_show_the_key(tmp_path: Path) -> None:
    logging = "import logging; logging.getLogger('asyncio').error('%s', secret, exc_info=True)"
    done = crashed(
        CRASH.replace("raise RuntimeError(", f"{logging}\n    raise RuntimeError("), tmp_path
    )
    assert "\n[key]\n" in done.stderr
    assert KEY not in done.stderr + done.stdout
