"""
What the hostile server is underneath: a vLLM server or a llama.cpp server, in perfect health.

Both answer from the request alone: a server that was started again, or asked in
another order, answers the same.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import aiohttp

from benchmarks.null_model import FREE_TOKEN, NullModel
from benchmarks.null_server import NullServer, Refused
from fake_llamacpp import FakeLlamaCpp, reply_text
from grace.inference.toy import VOCABULARY

_SPECIAL = ("<|im_start|>", "<|im_end|>")
_PIECE = re.compile(r"<\|im_(?:start|end)\|>| ?[A-Za-z]{1,3}|.", re.DOTALL)
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_BASE = len(_LETTERS) + 1
_FIRST_SPECIAL, _FIRST_SYLLABLE, _FIRST_CHARACTER = 500, 1_000, 300_000


class SyllableModel(NullModel):
    """The null model with tokens that are computed: no text changes the ids of the next one."""

    def encode(self, text: str) -> list[int]:
        return [_token(piece) for piece in _PIECE.findall(text)]

    def decode(self, token_ids: Iterable[int]) -> str:
        return "".join(map(_text, token_ids))


class Face(Protocol):
    """A kind of server."""

    model: str
    version: str

    async def respond(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Answer a request with a status and a body."""
        ...

    def texts(self, body: bytes) -> list[str]:
        """Return what a request is about: the text of each of its prompts."""
        ...


class VllmFace(NullServer):
    """vLLM's dialect, with responses as well as scores."""

    def __init__(self, model: str = "null", version: str = "0.32.0") -> None:
        super().__init__(SyllableModel(), name=model, version=version)
        self._routes = {**self._routes, "/v1/chat/completions": self._chat}

    async def respond(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        return self.answer(path, body)

    def texts(self, body: bytes) -> list[str]:
        asked = json.loads(body) if body else {}
        if "messages" in asked:
            return [self._model.chat((one["role"], one["content"]) for one in asked["messages"])]
        prompts = asked.get("prompt", [])
        if isinstance(prompts, str):
            return [prompts]
        return [one if isinstance(one, str) else self._model.decode(one) for one in prompts]

    def _chat(self, asked: Any) -> object:
        if asked["model"] != self.model:
            raise Refused(f"the model {asked['model']} does not exist", 404)
        (text,) = self.texts(json.dumps(asked).encode())
        last = asked["messages"][-1]["content"]
        choice = {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": reply_text(f"{text}<|user|>{last}", asked["seed"]),
            },
            "finish_reason": "stop",
        }
        usage = {"prompt_tokens": 7, "completion_tokens": 3}
        return {"model": self.model, "choices": [choice], "usage": usage}


class LlamaCppFace:
    """llama.cpp's dialect: passes on what another server of this process says."""

    def __init__(self, url: str, behind: FakeLlamaCpp) -> None:
        self._url = url
        self._behind = behind
        self._session: aiohttp.ClientSession | None = None

    @property
    def model(self) -> str:
        return self._behind.model

    @model.setter
    def model(self, name: str) -> None:
        self._behind.model = name

    @property
    def version(self) -> str:
        return self._behind.build

    @version.setter
    def version(self, version: str) -> None:
        self._behind.build = version

    async def respond(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        headers = {"Content-Type": "application/json"}
        asked = self._session.request(method, self._url + path, data=body or None, headers=headers)
        async with asked as reply:
            return reply.status, await reply.read()

    def texts(self, body: bytes) -> list[str]:
        asked = json.loads(body) if body else {}
        if "messages" in asked:
            return [one["content"] for one in asked["messages"]]
        prompt: Sequence[int] = asked.get("prompt", [])
        return ["".join(VOCABULARY[token] for token in prompt)]


def _token(piece: str) -> int:
    if piece in _SPECIAL:
        return _FIRST_SPECIAL + _SPECIAL.index(piece)
    letters = piece.removeprefix(" ")
    if not letters or letters[0] not in _LETTERS:
        return _FIRST_CHARACTER + ord(piece)
    value = 0
    for letter in letters:
        value = value * _BASE + _LETTERS.index(letter) + 1
    return _FIRST_SYLLABLE + 2 * value + piece.startswith(" ")


def _text(token: int) -> str:
    if token >= _FIRST_CHARACTER:
        return chr(token - _FIRST_CHARACTER)
    if token >= _FIRST_SYLLABLE:
        value, space = divmod(token - _FIRST_SYLLABLE, 2)
        letters = ""
        while value:
            value, letter = divmod(value, _BASE)
            letters = _LETTERS[letter - 1] + letters
        return " " * space + letters
    if 0 <= token - _FIRST_SPECIAL < len(_SPECIAL):
        return _SPECIAL[token - _FIRST_SPECIAL]
    return "<free>" if token == FREE_TOKEN else f"<|{token}|>"
