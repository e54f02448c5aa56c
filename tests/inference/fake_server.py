"""
Servers over real HTTP with a tiny model, which misbehave when told to.

They answer as `facts/serving.md` found vLLM 0.32 to answer, and as TGI's
source says. Fields that they do not know are ignored without a word, as there.
"""

import asyncio
import json
import math
import random
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from grace.inference.transport import Transport
from grace.inference.vllm import VllmClient

SPECIAL = ("<s>", "<|user|>", "<|assistant|>", "<|end|>")
_MERGES = ("yes", "no", "Yes", "No", "The", " capital", "10", "00", ":n", "one", " zebra", "think")
_CHARACTERS = tuple(chr(code) for code in (10, *range(32, 127)))
_FILLER = tuple(f"<unused{number}>" for number in range(60))
BOS = 0


class TinyModel:
    """A deterministic distribution over a small vocabulary that merges across seams."""

    def __init__(self, *, adds_bos: bool = True, header: str = "<|assistant|>") -> None:
        self.adds_bos = adds_bos
        self.header = header
        self.vocabulary = (*SPECIAL, *_MERGES, *_CHARACTERS, *_FILLER)
        self._ids = {text: number for number, text in enumerate(self.vocabulary)}
        self._longest_first = sorted(self.vocabulary, key=len, reverse=True)

    def encode(self, text: str, *, special: bool) -> list[int]:
        ids = [BOS] if special and self.adds_bos else []
        while text:
            piece = next(piece for piece in self._longest_first if text.startswith(piece))
            ids.append(self._ids[piece])
            text = text[len(piece) :]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.vocabulary[token] for token in ids)

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        turns = [f"<|{turn['role']}|>{turn['content']}<|end|>" for turn in messages]
        return ("<s>" if self.adds_bos else "") + "".join(turns) + self.header

    def logits(self, prefix: Sequence[int]) -> list[float]:
        state = zlib.crc32(repr(list(prefix[-6:])).encode())
        return [
            2 + (zlib.crc32(f"{state} {token}".encode()) % 12_000) / 1_000
            for token in range(len(self.vocabulary))
        ]

    def logprobs(self, prefix: Sequence[int]) -> list[float]:
        logits = self.logits(prefix)
        total = math.log(math.fsum(math.exp(value) for value in logits))
        return [value - total for value in logits]

    def sequence(self, prompt: Sequence[int], continuation: Sequence[int]) -> list[float]:
        joined = [*prompt, *continuation]
        return [self.logprobs(joined[:end])[joined[end]] for end in range(len(prompt), len(joined))]

    def draw(self, prompt: Sequence[int], count: int, seed: float | None) -> list[int]:
        """Draw tokens; None is greedy. Special tokens are not drawn."""
        generator = random.Random(seed)  # noqa: S311
        drawn: list[int] = []
        for _ in range(count):
            values = self.logprobs([*prompt, *drawn])[len(SPECIAL) :]
            weights = [math.exp(value) for value in values]
            place = (
                values.index(max(values))
                if seed is None
                else generator.choices(range(len(values)), weights)[0]
            )
            drawn.append(place + len(SPECIAL))
        return drawn


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """Serve on a free port and yield the address."""
    runner = web.AppRunner(app, shutdown_timeout=0.05)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def replying(*replies: web.StreamResponse | Callable[[], web.StreamResponse]) -> web.Application:
    """An application that gives the replies in turn, whatever is asked; the last one for ever."""
    left = list(replies)

    async def answer(_: web.Request) -> web.StreamResponse:
        reply = left.pop(0) if len(left) > 1 else left[0]
        return reply() if callable(reply) else reply

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    return app


async def hang(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(30)
    return web.Response()


def as_json(value: Any, status: int = 200) -> web.Response:
    # Unlike web.json_response, this writes NaN, as careless servers do.
    return web.Response(text=json.dumps(value), content_type="application/json", status=status)


def _error(message: str, status: int = 400) -> web.Response:
    return as_json({"error": {"message": message, "code": status}}, status)


@dataclass
class FakeVllm:
    """A vLLM server; each field is something that real ones differ in."""

    model: TinyModel = field(default_factory=TinyModel)
    names: tuple[str, ...] = ("tiny",)
    root: str = "org/tiny"
    version: str | None = "0.32.0"
    most_listed: int = 128
    knows_listed: bool = True
    knows_forcing: bool = True
    knows_prompt_logprobs: bool = True
    knows_schema: bool = True
    knows_seed: bool = True
    mode: str = "raw"
    has_template: bool = True
    has_tokenizer: bool = True
    loses_double_spaces: bool = False
    rejects: frozenset[str] = frozenset()
    mangle: Callable[[Any], Any] = lambda reply: reply
    chat_reply: Mapping[str, Any] | None = None
    requests: list[tuple[str, Any]] = field(default_factory=list)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        if self.version is not None:
            app.router.add_get("/version", self._version)
        if self.has_tokenizer:
            app.router.add_post("/tokenize", self._tokenize)
            app.router.add_post("/detokenize", self._detokenize)
        app.router.add_post("/v1/completions", self._completions)
        app.router.add_post("/v1/chat/completions", self._chat)
        return app

    def asked(self, path: str) -> list[Any]:
        return [payload for asked, payload in self.requests if asked == path]

    async def _payload(self, request: web.Request) -> Any:
        payload = await request.json()
        self.requests.append((request.path, payload))
        return payload

    async def _models(self, _: web.Request) -> web.Response:
        cards = [
            {"id": name, "owned_by": "vllm", "root": self.root, "max_model_len": 512}
            for name in self.names
        ]
        return as_json({"object": "list", "data": cards})

    async def _version(self, _: web.Request) -> web.Response:
        return as_json({"version": self.version})

    async def _tokenize(self, request: web.Request) -> web.Response:
        payload = await self._payload(request)
        if "messages" in payload:
            if not self.has_template:
                return _error("no chat template")
            ids = self.model.encode(self.model.chat(payload["messages"]), special=False)
        else:
            ids = self.model.encode(payload["prompt"], special=payload["add_special_tokens"])
        return as_json({"tokens": ids, "count": len(ids), "max_model_len": 512})

    async def _detokenize(self, request: web.Request) -> web.Response:
        payload = await self._payload(request)
        text = self.model.decode(payload["tokens"])
        return as_json({"prompt": text.replace("  ", " ") if self.loses_double_spaces else text})

    async def _completions(self, request: web.Request) -> web.Response:
        payload = await self._payload(request)
        prompt = payload["prompt"]
        prompts = [self.model.encode(prompt, special=True)] if isinstance(prompt, str) else prompt
        if self.rejects & set(payload):
            return _error("extra inputs are not permitted")
        ids = payload.get("logprob_token_ids") if self.knows_listed else None
        if ids is not None and len(ids) != payload["logprobs"]:
            return _error("logprobs must equal len(logprob_token_ids)")
        if ids is not None and (
            len(ids) > self.most_listed or max(ids) >= len(self.model.vocabulary)
        ):
            return _error("too many, or out of the vocabulary")
        choices = [self._choice(index, prompt, payload) for index, prompt in enumerate(prompts)]
        usage = {"prompt_tokens": sum(map(len, prompts)), "completion_tokens": len(prompts)}
        return as_json(self.mangle({"choices": choices, "usage": usage}))

    def _choice(self, index: int, prompt: list[int], payload: Any) -> dict[str, Any]:
        greedy = payload["temperature"] == 0
        seed = payload.get("seed") if self.knows_seed else random.random()  # noqa: S311
        drawn = self.model.draw(prompt, payload["max_tokens"], None if greedy else seed)
        text = self.model.decode(drawn)
        if self.knows_schema and "response_format" in payload:
            schema = payload["response_format"]["json_schema"]["schema"]
            word = schema["properties"]["probe"]["enum"][0]
            text = json.dumps({"probe": word}, indent=2)
        choice: dict[str, Any] = {"index": index, "text": text, "finish_reason": "length"}
        if payload.get("logprobs"):
            steps: list[dict[str, float]] = []
            sampled: list[int] = []
            for _ in range(payload["max_tokens"] if self.knows_forcing else 1):
                listed, token = self._listed([*prompt, *sampled], payload)
                steps.append(listed)
                sampled.append(token)
            names = [f"token_id:{token}" for token in sampled]
            choice["logprobs"] = {"top_logprobs": steps, "tokens": names}
        if self.knows_prompt_logprobs and "prompt_logprobs" in payload:
            choice["prompt_logprobs"] = [
                None,
                *(
                    {str(prompt[end]): {"logprob": self._values(prompt[:end])[prompt[end]]}}
                    for end in range(1, len(prompt))
                ),
            ]
        return choice

    def _values(self, prefix: Sequence[int]) -> list[float]:
        return self.model.logits(prefix) if self.mode == "logits" else self.model.logprobs(prefix)

    def _listed(self, prompt: list[int], payload: Any) -> tuple[dict[str, float], int]:
        values = self._values(prompt)
        allowed = payload.get("allowed_token_ids")
        if allowed and self.mode == "processed":
            values = [0.0 if token in allowed else -math.inf for token in range(len(values))]
        sampled = max(allowed or range(len(values)), key=lambda token: values[token])
        listed = payload.get("logprob_token_ids") if self.knows_listed else None
        if listed is None:
            most_probable = sorted(range(len(values)), key=lambda token: -values[token])
            listed = most_probable[: payload["logprobs"]]
        found = {f"token_id:{token}": max(values[token], -9999.0) for token in [sampled, *listed]}
        return found, sampled

    async def _chat(self, request: web.Request) -> web.Response:
        payload = await self._payload(request)
        if self.chat_reply is not None:
            return as_json(self.chat_reply)
        prompt = self.model.encode(self.model.chat(payload["messages"]), special=False)
        greedy = payload["temperature"] == 0
        drawn = self.model.draw(prompt, payload["max_tokens"], None if greedy else payload["seed"])
        return as_json(chat_reply(self.model.decode(drawn)))


def chat_reply(
    content: str | None, finish_reason: str | None = "stop", **message: Any
) -> dict[str, Any]:
    """What `/v1/chat/completions` replies."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": content, **message},
        "finish_reason": finish_reason,
    }
    return {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}


@asynccontextmanager
async def vllm_client(
    server: FakeVllm, *, prompts_per_request: int = 64, tokens_per_request: int = 65_536
) -> AsyncIterator[VllmClient]:
    """Serve *server* and connect to it; what connecting asked is forgotten."""
    async with serving(server.app()) as url:
        client = VllmClient(
            Transport(url, timeout_seconds=5),
            prompts_per_request=prompts_per_request,
            tokens_per_request=tokens_per_request,
        )
        try:
            await client.connect()
            server.requests.clear()
            yield client
        finally:
            await client.aclose()


@dataclass
class FakeTgi:
    """A TGI server, as its source says."""

    model: TinyModel = field(default_factory=TinyModel)
    knows_prefill: bool = True
    has_template: bool = True
    half_precision: bool = False
    mangle: Callable[[Any], Any] = lambda reply: reply
    requests: list[tuple[str, Any]] = field(default_factory=list)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/info", self._info)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/tokenize", self._tokenize)
        app.router.add_post("/chat_tokenize", self._chat_tokenize)
        app.router.add_post("/generate", self._generate)
        app.router.add_post("/v1/chat/completions", self._chat)
        return app

    def asked(self, path: str) -> list[Any]:
        return [payload for asked, payload in self.requests if asked == path]

    async def _payload(self, request: web.Request) -> Any:
        payload = await request.json()
        self.requests.append((request.path, payload))
        return payload

    async def _info(self, _: web.Request) -> web.Response:
        return as_json(
            {
                "model_id": "org/tiny",
                "model_sha": "abc",
                "version": "3.3.6",
                "router": "text-generation-router",
                "max_stop_sequences": 4,
                "max_input_tokens": 511,
                "max_total_tokens": 512,
            }
        )

    async def _models(self, _: web.Request) -> web.Response:
        return as_json({"data": [{"id": "org/tiny", "owned_by": "org/tiny"}]})

    def _listed(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        places = []
        start = 0
        for token in ids:
            text = self.model.decode([token])
            places.append({"id": token, "text": text, "start": start, "stop": start + len(text)})
            start += len(text)
        return places

    async def _tokenize(self, request: web.Request) -> web.Response:
        payload = await self._payload(request)
        return as_json(self._listed(self.model.encode(payload["inputs"], special=True)))

    async def _chat_tokenize(self, request: web.Request) -> web.Response:
        payload = await self._payload(request)
        if not self.has_template:
            return as_json({"error": "Template error", "error_type": "template_error"}, 422)
        text = self.model.chat(payload["messages"])
        ids = self.model.encode(text, special=False)
        return as_json({"tokenize_response": self._listed(ids), "templated_text": text})

    async def _generate(self, request: web.Request) -> web.Response:
        payload = await self._payload(request)
        parameters = payload["parameters"]
        if not 0 < parameters.get("top_p", 0.5) < 1:
            return as_json({"error": "top_p must be > 0.0 and < 1.0"}, 422)
        prompt = self.model.encode(payload["inputs"], special=True)
        seed = parameters["seed"] if parameters["do_sample"] else None
        text = self.model.decode(self.model.draw(prompt, parameters["max_new_tokens"], seed))
        if "grammar" in parameters:
            text = json.dumps(
                {"probe": parameters["grammar"]["value"]["properties"]["probe"]["enum"][0]}
            )
        prefill: list[dict[str, Any]] = []
        if self.knows_prefill and parameters.get("decoder_input_details"):
            values = [None, *self.model.sequence(prompt[:1], prompt[1:])]
            prefill = [
                {"id": token, "text": "", "logprob": self._rounded(value)}
                for token, value in zip(prompt, values, strict=True)
            ]
        details = {
            "finish_reason": "length",
            "generated_tokens": 1,
            "prefill": prefill,
            "tokens": [],
        }
        return as_json(self.mangle({"generated_text": text, "details": details}))

    def _rounded(self, value: float | None) -> float | None:
        return round(value * 4) / 4 if self.half_precision and value is not None else value

    async def _chat(self, request: web.Request) -> web.Response:
        payload = await self._payload(request)
        if payload.get("model") != "tgi":
            return as_json({"error": "no such adapter"}, 422)
        return as_json(self.mangle(chat_reply("It wasn't bad.", "stop")))
