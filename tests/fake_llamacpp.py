"""
A server that answers as llama.cpp's does, with the toy model's distribution.

It speaks real HTTP, remembers what it was asked, can be slow, and misbehaves
when told to. Its answers depend on what is asked and on nothing else, so that
two runs through it can be compared byte by byte.
"""

import asyncio
import hashlib
import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohttp import web

from grace.inference.client import NextTokenQuestion
from grace.inference.toy import VOCABULARY, ToyClient

_ALL_TOKENS = tuple(range(len(VOCABULARY)))
_UNKNOWN = len(VOCABULARY) - 1
_IDS = {text: token for token, text in enumerate(VOCABULARY[:_UNKNOWN])}
# The longest token that fits, as the toy itself does it, but many times faster.
_PIECE = re.compile(
    "|".join(re.escape(text) for text in sorted(_IDS, key=len, reverse=True)) + "|.", re.DOTALL
)
_BETS = ("0: $0, 1: $10, 2: $30, 3: $60", "0: $25, 1: $25, 2: $25, 3: $25", "I would not bet.")
_UTTERANCES = ("It wasn't bad.", "It was amazing.", "It was good.", "What a day!")


class Served(Protocol):
    """What can be served."""

    def app(self) -> web.Application:
        """Return the application."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for a completion: what makes it the same as another one."""

    kind: str
    prompt: tuple[int, ...]
    seed: int | None
    path: tuple[int, ...]
    slot: int


def reply_text(prompt: str, seed: int) -> str:
    """Draw a response that suits the last question of a prompt."""
    question = prompt.rsplit("<|user|>", 1)[-1]
    if "$100" in question:
        choices: Sequence[str] = _BETS
    elif "hearts" in question:
        choices = _UTTERANCES
    elif "yes or no" in question:
        choices = ("Yes.", "No.", "It cannot be said.")
    else:
        choices = ("3", "2", "I think 1.")
    digest = hashlib.sha256(json.dumps([prompt, seed]).encode()).digest()
    return choices[digest[0] % len(choices)]


@dataclass
class FakeLlamaCpp:
    """
    A llama.cpp server; each field is something that real ones differ in.

    Attributes:
        trouble: Looks at each payload for `/completion`, with the number of the
            request, and returns a reply to send instead, or None.

        mangle: Changes the reply of `/completion`.

        extract: Answers requests with a JSON schema: from its fields and the
            prompt to the text.

        asked: Every request for a completion, in order of arrival.

        most_at_once: The most completions that were in work at a time.

        shared_slots: How often two requests were in the same slot at once.

        tokenized: How many texts were encoded.
    """

    slots: int = 4
    build: str = "b11549"
    template: str = "{{ toy }}"
    model: str = "tiny"
    context: int = 2048
    bos: str = ""
    raw: bool = True
    decodes: bool = True
    listed: int | None = None
    delay_seconds: float = 0.0
    healthy: bool = True
    trouble: Callable[[int, Mapping[str, Any]], web.Response | None] = lambda _number, _payload: (
        None
    )
    mangle: Callable[[Any], Any] = lambda reply: reply
    extract: Callable[[Sequence[str], str], str] = lambda fields, _prompt: json.dumps(
        dict.fromkeys(fields)
    )
    asked: list[Asked] = field(default_factory=list)
    most_at_once: int = 0
    shared_slots: int = 0
    tokenized: int = 0
    _working: list[int] = field(default_factory=list)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/health", self._health)
        app.router.add_get("/props", self._props)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/apply-template", self._apply_template)
        app.router.add_post("/tokenize", self._tokenize)
        if self.decodes:
            app.router.add_post("/detokenize", self._detokenize)
        app.router.add_post("/completion", self._completion)
        return app

    def seeds(self) -> list[int]:
        """The seeds of all requests for a response, in order."""
        return [one.seed for one in self.asked if one.kind == "generate" and one.seed is not None]

    async def _health(self, _: web.Request) -> web.Response:
        return _json({"status": "ok"} if self.healthy else {"status": "loading model"})

    async def _props(self, _: web.Request) -> web.Response:
        return _json(
            {
                "default_generation_settings": {"n_ctx": self.context},
                "total_slots": self.slots,
                "chat_template": self.template,
                "bos_token": self.bos,
                "model_ftype": "Q4_1",
                "build_info": self.build,
            }
        )

    async def _models(self, _: web.Request) -> web.Response:
        return _json({"data": [{"id": self.model, "owned_by": "llamacpp"}]})

    async def _apply_template(self, request: web.Request) -> web.Response:
        messages = (await request.json())["messages"]
        turns = [
            f"<|{'assistant' if turn['role'] == 'assistant' else 'user'}|>{turn['content']}<|end|>"
            for turn in messages
        ]
        return _json({"prompt": self.bos + "".join(turns) + "<|assistant|>"})

    async def _tokenize(self, request: web.Request) -> web.Response:
        payload = await request.json()
        self.tokenized += 1
        ids = [_IDS.get(piece, _UNKNOWN) for piece in _PIECE.findall(payload["content"])]
        if payload["add_special"] and self.bos:
            ids = [VOCABULARY.index(self.bos), *ids]
        return _json({"tokens": ids})

    async def _detokenize(self, request: web.Request) -> web.Response:
        return _json({"content": _decode((await request.json())["tokens"])})

    async def _completion(self, request: web.Request) -> web.Response:
        payload = await request.json()
        slot = payload["id_slot"]
        self.asked.append(_asked(payload))
        number = len(self.asked)
        self.shared_slots += slot in self._working
        self._working.append(slot)
        self.most_at_once = max(self.most_at_once, len(self._working))
        try:
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            refusal = self.trouble(number, payload)
            if refusal is not None:
                return refusal
            reply = (
                await self._scored(payload) if payload.get("n_probs") else self._generated(payload)
            )
            return _json(self.mangle(reply))
        finally:
            self._working.remove(slot)

    def _generated(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        if "json_schema" in payload:
            fields = list(payload["json_schema"]["properties"])
            text = self.extract(fields, _decode(payload["prompt"]))
        else:
            text = reply_text(_decode(payload["prompt"]), payload["seed"])
        return {
            "content": text,
            "model": self.model,
            "stop_type": "eos",
            "tokens_predicted": len(text),
            "tokens_evaluated": len(payload["prompt"]),
        }

    async def _scored(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        prompt = tuple(payload["prompt"])
        # Without a path: greedy, one token.
        path = _path(payload) or (next(iter(await _ranked(prompt))),)
        steps = []
        for depth, token in enumerate(path):
            values = await _ranked((*prompt, *path[:depth]))
            if _path(payload) and not self.raw:
                # After the mask, the forced token is all there is.
                values = {token: 0.0}
            best = list(values)[: self.listed or payload["n_probs"]]
            steps.append(
                {
                    "id": token,
                    "logprob": values[token],
                    "top_logprobs": [{"id": one, "logprob": values[one]} for one in best],
                }
            )
        return {
            "content": _decode(path),
            "model": self.model,
            "tokens": list(path),
            "stop_type": "limit",
            "tokens_predicted": len(path),
            "tokens_evaluated": len(prompt),
            "completion_probabilities": steps,
        }


_RANKED: dict[tuple[int, ...], dict[int, float]] = {}


async def _ranked(prefix: tuple[int, ...]) -> dict[int, float]:
    """Return the toy's log-probabilities of all tokens, the most probable first."""
    # Tests ask the same again and again; the toy is slow.
    if prefix not in _RANKED:
        if len(_RANKED) >= 4000:
            _RANKED.clear()
        question = NextTokenQuestion(prefix, _ALL_TOKENS)
        (values,) = await ToyClient().next_token_logprobs([question])
        best = sorted(values, key=lambda token: -values[token])
        _RANKED[prefix] = {token: values[token] for token in best}
    return _RANKED[prefix]


def refuse(status: int, headers: Mapping[str, str] | None = None) -> web.Response:
    """An error as llama.cpp words it."""
    return web.json_response(
        {"error": {"message": "as told", "code": status}}, status=status, headers=headers
    )


@asynccontextmanager
async def serving(app: web.Application, port: int = 0) -> AsyncIterator[str]:
    """Serve on a port, by default a free one, in this loop, and yield the address."""
    runner = web.AppRunner(app, shutdown_timeout=0.05)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    try:
        host, bound = runner.addresses[0][:2]
        yield f"http://{host}:{bound}"
    finally:
        await runner.cleanup()


@contextmanager
def served(server: Served, port: int = 0) -> Iterator[str]:
    """Serve in a thread, so that a command line can run in this one."""
    started: list[str] = []
    ready = threading.Event()
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stop))
        async with serving(server.app(), port) as url:
            started.append(url)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(30)
    try:
        yield started[0]
    finally:
        loop, stop = loops[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def _json(value: Any) -> web.Response:
    return web.Response(text=json.dumps(value), content_type="application/json")


def _decode(ids: Sequence[int]) -> str:
    return "".join(VOCABULARY[token] for token in ids)


def _path(payload: Mapping[str, Any]) -> tuple[int, ...]:
    if "logit_bias" in payload:
        return tuple(token for token, _ in payload["logit_bias"])
    return tuple(int(token) for token in re.findall(r"<\[(\d+)\]>", payload.get("grammar", "")))


def _asked(payload: Mapping[str, Any]) -> Asked:
    kind = "score" if payload.get("n_probs") else "generate"
    if "json_schema" in payload:
        kind = "extract"
    return Asked(
        kind, tuple(payload["prompt"]), payload.get("seed"), _path(payload), payload["id_slot"]
    )
