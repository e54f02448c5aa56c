"""
Keys and tokens: where they come from, and that nothing shows them.

A key is in an environment variable, or in a file that the variable with `_FILE`
behind its name names, as secrets are often mounted. It is never an argument: a
command line can be read by every user of a machine.
"""

import logging
import os
import re
import sys
import traceback
from pathlib import Path
from types import TracebackType

from grace.errors import UsageError
from grace.hiding import encodings, letters, unescaped, without

FILE_SUFFIX = "_FILE"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LONGEST_NAME = 64
_SHORTEST_LONG_NAME = 20
_LONGEST_KEY_BYTES = 16 * 1024
# Shorter than this, a key is made up for a server that wants none.
_SHORTEST_SECRET = 12
_SHORTEST_RUN = 8
_SHORTEST_SHOWN = 4
_ESCAPED_LETTER = re.compile(rb"\\u00[2-7]|%[2-7][0-9A-Fa-f]|&#")

_known: dict[str, None] = {}


def is_variable(name: str) -> bool:
    """
    Tell whether a text can be the name of a variable; a key seldom can.

    >>> is_variable("GRACE_API_KEY"), is_variable("sk-0123"), is_variable("hf_" + "aB1" * 9)
    (True, False, False)
    """
    if len(name) > _LONGEST_NAME or not _VARIABLE.fullmatch(name):
        return False
    # Keys may consist of letters and digits only; names of that length have words.
    mixed = any(map(str.islower, name)) and any(map(str.isupper, name))
    wordless = "_" not in name and any(map(str.isdigit, name))
    return len(name) < _SHORTEST_LONG_NAME or not (mixed or wordless)


def read_key(variable: str) -> str | None:
    """
    Return the key of a variable, or of the file that `VARIABLE_FILE` names.

    Args:
        variable: The variable's name.

    Returns:
        The key without white space around it, or None if neither is set.

    Raises:
        UsageError: Both are set, or the file holds no key. No message shows
            what is in either.
    """
    key = os.environ.get(variable, "").strip()
    named = os.environ.get(variable + FILE_SUFFIX, "").strip()
    if key and named:
        raise UsageError(f"{variable} and {variable}{FILE_SUFFIX} are both set; unset one of them")
    if named:
        key = _read_file(Path(named), f"{variable}{FILE_SUFFIX}")
    if not key:
        return None
    _known[key] = None
    return key


def known_keys() -> tuple[str, ...]:
    """Return every key that this process has read."""
    return tuple(_known)


def hide_keys(text: str, *keys: str) -> str:
    """
    Return a text without keys, however they are encoded in it.

    Args:
        text: What will be shown.

        keys: Those that must not be; by default all that were read.
    """
    for key in keys or known_keys():
        # Less than that is no secret, and stands in many words.
        if len(key) >= _SHORTEST_SHOWN:
            text = text.replace(key, "[key]")
    runs = [letters(key) for key in keys or known_keys()]
    return without(text, runs, "[key]", _SHORTEST_RUN)


class KeyFinder:
    """
    Finds a key in long replies, in the encodings that servers use.

    Args:
        key: The key. One that is short enough to be a word is not looked for.
    """

    def __init__(self, key: str) -> None:
        self._key = key if len(letters(key)) >= _SHORTEST_SECRET else ""
        self._needles = encodings(self._key) if self._key else ()

    def is_in(self, body: bytes) -> bool:
        """Tell whether a body holds the key."""
        if any(needle in body for needle in self._needles):
            return True
        if not self._key or not _ESCAPED_LETTER.search(body):
            return False
        return self._key in unescaped(body.decode("utf-8", "replace"))


def show_no_keys_in_logs() -> None:
    """Let this process print warnings of libraries without the keys that it has read."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_WithoutKeys())


def show_no_keys_in_tracebacks() -> None:
    """Let this process print unexpected errors without the keys that it has read."""

    def hook(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        lines = traceback.format_exception(kind, error, where)
        sys.stderr.write(hide_keys("".join(lines)))

    sys.excepthook = hook


class _WithoutKeys(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return hide_keys(super().format(record))


def _read_file(path: Path, variable: str) -> str:
    # The path is not shown: a key may have been put there by mistake.
    problem = f"the file that {variable} names"
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST_KEY_BYTES + 1)
        key = content.decode("utf-8").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(
            f"{problem} cannot be read: {reason}; expected the path of a file that holds the key"
        ) from None
    if len(content) > _LONGEST_KEY_BYTES:
        raise UsageError(f"{problem} is too long for a key")
    if not key:
        raise UsageError(f"{problem} is empty; write the key into it")
    return key
