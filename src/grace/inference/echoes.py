"""
What a server says back, as far as it may be shown.

Error bodies repeat requests: the key in a header, the prompt in the body. Both
are taken out before anything becomes a message, because messages end up in
tables, journals and logs. A prompt may be sent as text first, to be tokenized,
and come back in a later error: so the last texts are remembered.
"""

import re
from collections import deque
from collections.abc import Mapping

from pydantic import JsonValue

from grace.hiding import letters, printable, without
from grace.keys import KeyFinder, hide_keys

SHORTEST_RUN = 12
"""Letters and digits that a message may not have in common with a prompt."""

_SHOWN = 300
_LOOKED_AT = 4 * _SHOWN
_MOST_TEXTS = 1024
_MOST_CHARACTERS = 500_000
_TOKEN_IDS = re.compile(r"\d+(?:\s*,\s*\d+){7,}")


class Echoes:
    """
    Knows what was sent to a server, to keep it out of messages.

    Args:
        secrets: The key, and whatever else must never be shown.
    """

    def __init__(self, *secrets: str) -> None:
        self._secrets = tuple(secret for secret in secrets if secret)
        self._finders = [KeyFinder(secret) for secret in self._secrets]
        self._texts: deque[str] = deque(maxlen=_MOST_TEXTS)
        self._letters: dict[str, str] = {}
        self._characters = 0

    def sent(self, payload: Mapping[str, JsonValue]) -> None:
        """Note the texts of a request."""
        for name in ("messages", "prompt", "content", "inputs"):
            value = payload.get(name)
            if isinstance(value, str):
                self._remember(value)
            elif isinstance(value, list) and value and isinstance(value[0], str | dict):
                for part in value:
                    text = part.get("content") if isinstance(part, dict) else part
                    if isinstance(text, str):
                        self._remember(text)

    def hold_a_key(self, body: bytes) -> bool:
        """Tell whether a reply repeats the key."""
        return any(finder.is_in(body) for finder in self._finders)

    def shown(self, body: bytes | str) -> str:
        """Return the beginning of what a server said, in one line, without keys and prompts."""
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
        text = " ".join(text[: 1 << 20].split())
        if self._secrets:
            text = hide_keys(text[: 2 * _LOOKED_AT], *self._secrets)
        # Cut only after keys are out: half a key would not be found.
        text = text[:_LOOKED_AT]
        text = without(text, self._remembered(), "[prompt]", SHORTEST_RUN)
        text = _TOKEN_IDS.sub("[tokens]", text)
        text = printable(text)
        return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"

    def _remember(self, text: str) -> None:
        if len(text) < SHORTEST_RUN:
            return
        if len(self._texts) == _MOST_TEXTS:
            self._forget()
        self._texts.append(text)
        self._characters += len(text)
        while self._characters > _MOST_CHARACTERS and len(self._texts) > 1:
            self._forget()

    def _forget(self) -> None:
        text = self._texts.popleft()
        self._characters -= len(text)
        self._letters.pop(text, None)

    def _remembered(self) -> list[str]:
        for text in self._texts:
            if text not in self._letters:
                self._letters[text] = letters(text)
        # The newest first: a message mostly repeats its own request.
        return list(dict.fromkeys(self._letters[text] for text in reversed(self._texts)))
