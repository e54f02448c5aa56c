"""
Typed requests to a TGI server: one method for each way of asking.

It does not know what an answer is for, nor whether its number may be believed.
"""

import dataclasses
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field, JsonValue

from grace.inference.client import Generation
from grace.inference.reply import (
    Reply,
    chat_generation,
    finish_reason,
    parse,
    set_reasoning_apart,
)
from grace.inference.transport import Transport
from grace.studies.prompts import Message

_CHAT = "/v1/chat/completions"


class Info(Reply):
    """What the server says of itself."""

    model_id: str
    version: str
    model_sha: str | None = None
    sha: str | None = None
    max_input_tokens: int | None = None
    max_total_tokens: int | None = None
    max_stop_sequences: int | None = None


class _Token(Reply):
    id: int
    stop: int


class _TokenList(Reply):
    tokens: list[_Token]


class _ChatTokens(Reply):
    tokenize_response: list[_Token]
    templated_text: str


class _PrefillToken(Reply):
    id: int
    logprob: float | None = None


class _Details(Reply):
    finish_reason: str
    generated_tokens: int
    prefill: tuple[_PrefillToken, ...] = Field(default=(), strict=False)


class _Generated(Reply):
    generated_text: str
    details: _Details


@dataclass(frozen=True, slots=True)
class RenderedChat:
    """
    A chat under the server's template.

    Attributes:
        text: With the special tokens that the template wrote, and no others.

        token_ids: Of exactly that text.

        first_token_end: Where the first token ends, in characters or bytes:
            tokenizers differ.
    """

    text: str
    token_ids: tuple[int, ...]
    first_token_end: int


class TgiRequests:
    """
    Requests about the server's only model.

    Args:
        transport: The server's address.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def info(self) -> Info:
        """Return what the server says of itself."""
        return parse(Info, await self._transport.get("/info"), "TGI /info")

    async def tokens(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text as `/generate` would: special tokens are added."""
        reply = await self._transport.post("/tokenize", {"inputs": text})
        listed = parse(_TokenList, {"tokens": reply}, "TGI /tokenize")
        return tuple(token.id for token in listed.tokens)

    async def chat(self, messages: Sequence[Message]) -> RenderedChat:
        """Return a chat, ready for the assistant's answer."""
        reply = await self._transport.post("/chat_tokenize", {"messages": _messages(messages)})
        chat = parse(_ChatTokens, reply, "TGI /chat_tokenize")
        listed = chat.tokenize_response
        return RenderedChat(
            text=chat.templated_text,
            token_ids=tuple(token.id for token in listed),
            first_token_end=listed[0].stop if listed else 0,
        )

    async def prefill(self, text: str) -> list[tuple[int, float | None]]:
        """Return each token of a text with its log-probability; empty if switched off."""
        generated = await self._generate(
            text,
            {
                "max_new_tokens": 1,
                "do_sample": False,
                "details": True,
                "decoder_input_details": True,
            },
        )
        return [(token.id, token.logprob) for token in generated.details.prefill]

    async def continue_text(self, text: str, parameters: Mapping[str, JsonValue]) -> Generation:
        """Draw a continuation of a text."""
        generated = await self._generate(text, {**parameters, "details": True})
        reasoning, answer = set_reasoning_apart(generated.generated_text)
        return Generation(
            text=answer,
            finish_reason=finish_reason(generated.details.finish_reason, "TGI /generate"),
            prompt_tokens=None,
            completion_tokens=generated.details.generated_tokens,
            reasoning=reasoning,
        )

    async def answer_chat(
        self, messages: Sequence[Message], parameters: Mapping[str, JsonValue]
    ) -> Generation:
        """Draw an answer to a chat."""
        # Any other name would be taken for a LoRA adapter.
        payload = {"model": "tgi", "messages": _messages(messages), "stream": False, **parameters}
        return chat_generation(await self._transport.post(_CHAT, payload), f"TGI {_CHAT}")

    async def _generate(self, text: str, parameters: Mapping[str, JsonValue]) -> _Generated:
        payload: dict[str, JsonValue] = {"inputs": text, "parameters": dict(parameters)}
        return parse(_Generated, await self._transport.post("/generate", payload), "TGI /generate")


def precision(values: Sequence[float]) -> str:
    """
    Name the narrowest floating-point type that holds all of *values*.

    >>> precision([-1.5, -12.3125]), precision([-0.1])
    ('bfloat16', 'float32')
    """
    if all(struct.pack("<f", value)[:2] == b"\0\0" for value in values):
        return "bfloat16"
    # Servers print the shortest decimals, so compare as 32-bit numbers.
    if all(_single(struct.unpack("<e", struct.pack("<e", v))[0]) == _single(v) for v in values):
        return "float16"
    return "float32"


def without_stops(generation: Generation, stops: Sequence[str]) -> Generation:
    """Cut a response where its first stop string begins."""
    found = [generation.text.find(stop) for stop in stops if stop in generation.text]
    if not found:
        return generation
    return dataclasses.replace(generation, text=generation.text[: min(found)], finish_reason="stop")


def _single(value: float) -> bytes:
    return struct.pack("<f", value)


def _messages(messages: Sequence[Message]) -> list[JsonValue]:
    return [{"role": message.role, "content": message.content} for message in messages]
