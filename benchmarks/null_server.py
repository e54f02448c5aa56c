"""
An HTTP server that speaks vLLM's dialect and costs as little as Python allows.

Clients are measured against it: whatever time they take is their own. It
answers at once, keeps connections open, and counts what it was asked. Run it
as a process of its own: `python -m benchmarks.null_server`; the first line of
its output is its address.
"""

import asyncio
import contextlib
import json
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.null_model import FREE_LOGPROB, FREE_TOKEN, NullModel, edge_logprob, state_of

MODEL = "null"
_MOST_LISTED = 128
# An answer to every turn of Study 1; with a number, since no two samples of a model are alike.
_SAID = "Yes. 0: $0, 1: $0, 2: $0, 3: $100."
_HEAD_END = b"\r\n\r\n"


class Refused(Exception):
    """What is answered with an HTTP status that refuses it; 400 unless told."""

    def __init__(self, reason: str, status: int = 400) -> None:
        self.status = status
        super().__init__(reason)


class NullServer:
    """
    Answers to requests, and what they added up to.

    Args:
        numbers: The model behind it.

        name: The model's name.

        version: The server's version.

    Attributes:
        counts: Requests by path; `prompts` and `prompt_tokens` of completions.

        model, version: See the arguments; they may change.
    """

    def __init__(
        self, numbers: NullModel | None = None, *, name: str = MODEL, version: str = "null"
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.model = name
        self.version = version
        self._model = numbers or NullModel()
        self._routes: Mapping[str, Callable[[Any], object]] = {
            "/v1/models": lambda _: {
                "data": [{"id": self.model, "owned_by": "vllm", "root": self.model}]
            },
            "/version": lambda _: {"version": self.version},
            "/health": lambda _: {},
            "/counts": lambda _: dict(self.counts),
            "/tokenize": self._tokenize,
            "/detokenize": lambda asked: {"prompt": self._model.decode(asked["tokens"])},
            "/v1/completions": self._complete,
            "/v1/chat/completions": self._chat,
        }

    def answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Return the status and the body of the answer to a request."""
        route = self._routes.get(path)
        if route is None:
            return 404, b'{"error": "no such path"}'
        if path != "/counts":
            self.counts[path] += 1
        try:
            return 200, json.dumps(route(json.loads(body) if body else None)).encode()
        except Refused as error:
            return error.status, json.dumps({"error": str(error)}).encode()
        except (ValueError, KeyError, TypeError) as error:
            return 400, json.dumps({"error": f"{type(error).__name__}: {error}"}).encode()

    def _tokenize(self, asked: Any) -> object:
        if "messages" in asked:
            text = self._model.chat((turn["role"], turn["content"]) for turn in asked["messages"])
        else:
            text = asked["prompt"]
        tokens = self._model.encode(text)
        return {"count": len(tokens), "max_model_len": 8192, "tokens": tokens}

    def _chat(self, asked: Any) -> object:
        text = f"{_SAID} My number is {asked['seed']}."
        return {
            "id": "chat-null",
            "object": "chat.completion",
            "created": 0,
            "model": MODEL,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        }

    def _complete(self, asked: Any) -> object:
        if asked.get("model", self.model) != self.model:
            raise Refused(f"the model {asked['model']} does not exist", 404)
        prompts = asked["prompt"]
        if isinstance(prompts, str) or (prompts and isinstance(prompts[0], int)):
            prompts = [prompts]
        prompts = [
            self._model.encode(prompt) if isinstance(prompt, str) else prompt for prompt in prompts
        ]
        self.counts["prompts"] += len(prompts)
        self.counts["prompt_tokens"] += sum(map(len, prompts))
        listed = asked.get("logprob_token_ids")
        if listed is not None and len(listed) > _MOST_LISTED:
            raise Refused(f"{len(listed)} tokens are listed; at most {_MOST_LISTED} may be")
        if listed is not None:
            choices = [_listed(index, prompt, listed) for index, prompt in enumerate(prompts)]
        elif asked.get("echo"):
            choices = [self._echoed(index, prompt) for index, prompt in enumerate(prompts)]
        elif asked.get("prompt_logprobs") is not None:
            choices = [_of_prompt(index, prompt) for index, prompt in enumerate(prompts)]
        else:
            choices = [_choice(index) for index in range(len(prompts))]
        tokens = sum(map(len, prompts))
        usage = {"prompt_tokens": tokens, "total_tokens": tokens + len(prompts)}
        return {
            "id": "cmpl-null",
            "object": "text_completion",
            "created": 0,
            "model": self.model,
            "choices": choices,
            "usage": {**usage, "completion_tokens": len(prompts)},
        }

    def _echoed(self, index: int, prompt: list[int]) -> dict[str, object]:
        values = _prompt_values(prompt)
        pieces = [self._model.decode([token]) for token in prompt]
        tops = [
            None if value is None else {piece: value, "<free>": FREE_LOGPROB}
            for piece, value in zip(pieces, values, strict=True)
        ]
        return {
            **_choice(index),
            "logprobs": {
                "token_logprobs": [*values, FREE_LOGPROB],
                "tokens": [*pieces, "<free>"],
                "top_logprobs": [*tops, {"<free>": FREE_LOGPROB}],
            },
        }


def _choice(index: int) -> dict[str, object]:
    return {"index": index, "text": "<free>", "finish_reason": "length", "logprobs": None}


def _listed(index: int, prompt: list[int], tokens: list[int]) -> dict[str, object]:
    state = state_of(prompt)
    found = {f"token_id:{token}": edge_logprob(state, token) for token in tokens}
    found[f"token_id:{FREE_TOKEN}"] = FREE_LOGPROB
    logprobs = {
        "text_offset": [0],
        "token_logprobs": [FREE_LOGPROB],
        "tokens": [f"token_id:{FREE_TOKEN}"],
        "top_logprobs": [found],
    }
    return {**_choice(index), "logprobs": logprobs}


def _of_prompt(index: int, prompt: list[int]) -> dict[str, object]:
    places = [
        None if value is None else {str(token): {"logprob": value, "rank": 9}}
        for token, value in zip(prompt, _prompt_values(prompt), strict=True)
    ]
    return {**_choice(index), "prompt_logprobs": places}


def _prompt_values(prompt: list[int]) -> list[float | None]:
    return [
        None,
        *(
            edge_logprob(state_of(prompt[max(0, end - 3) : end]), prompt[end])
            for end in range(1, len(prompt))
        ),
    ]


class _Connection(asyncio.Protocol):
    """HTTP/1.1 as far as JSON clients speak it: bodies with a length, one after another."""

    def __init__(self, server: NullServer) -> None:
        self._server = server
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(_HEAD_END)) >= 0:
            head = bytes(self._received[:end])
            start = end + len(_HEAD_END)
            whole = start + _body_length(head)
            if len(self._received) < whole:
                return
            body = bytes(self._received[start:whole])
            del self._received[:whole]
            path = head.split(b" ", 2)[1].decode("ascii", "replace")
            status, answer = self._server.answer(path, body)
            if self._transport is not None:
                self._transport.write(
                    b"HTTP/1.1 %d -\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                    % (status, len(answer))
                    + answer
                )


def _body_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def serve(server: NullServer, *, announce: Callable[[str], None]) -> None:
    """
    Serve on a free port of this machine until cancelled.

    Args:
        server: What answers.

        announce: Is told the address once connections are taken.
    """
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: _Connection(server), "127.0.0.1", 0, backlog=1024)
    async with listening:
        announce(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        await listening.serve_forever()


async def _until_signalled() -> None:
    task = asyncio.ensure_future(
        serve(NullServer(), announce=lambda url: print(url, flush=True))  # noqa: T201
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_until_signalled())
