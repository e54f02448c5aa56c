"""
A deterministic language model with a tiny vocabulary, in this process.

It serves unit tests and dry runs: a real client, with real distributions that
sum to one, no network and no weights. Its tokens are single characters and a
few merged pairs, so that seams can fall inside tokens, as in real vocabularies.
Its numbers mean nothing, and everything it makes is labelled `toy`.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from grace.errors import QueryRejected
from grace.inference.client import (
    Capabilities,
    Generation,
    GenerationRequest,
    NextTokenQuestion,
    Rendered,
    ServerIdentity,
)
from grace.studies.prompts import Prompt, PromptMode

MERGES = (":n", "wa", "sn", "'t", "It", " w", "oo", "00")
_SPECIAL = ("<|user|>", "<|assistant|>", "<|end|>")
_CHARACTERS = [chr(code) for code in (10, *range(32, 127))]
VOCABULARY: tuple[str, ...] = (*_SPECIAL, *MERGES, *_CHARACTERS, "<unknown>")

_RESPONSES: tuple[str, ...] = (
    "3",
    "0: $0, 1: $10, 2: $30, 3: $60",
    "Yes.",
    "It wasn't bad.",
    "I am not sure.",
)


class ToyClient:
    """
    The toy model as an inference client.

    Args:
        max_tokens: Longest prompt, to exercise refusals; None for no limit.

        responses: What `generate` draws from; by the request's seed and prompt.
    """

    def __init__(
        self, max_tokens: int | None = None, responses: Sequence[str] = _RESPONSES
    ) -> None:
        self._max_tokens = max_tokens
        self._responses = tuple(responses)
        self._ids = {text: index for index, text in enumerate(VOCABULARY)}
        self._longest = sorted(
            (text for text in VOCABULARY if text != "<unknown>"), key=len, reverse=True
        )
        self.requests = 0

    @property
    def capabilities(self) -> Capabilities:
        """Everything but a JSON schema."""
        return Capabilities(
            token_ids=True,
            next_token=True,
            sequence=True,
            json_schema=False,
            seed=True,
            most_probable=True,
        )

    async def connect(self) -> ServerIdentity:
        """Say who this is."""
        return await self.identify()

    async def identify(self) -> ServerIdentity:
        """Say who this is."""
        return ServerIdentity(
            dialect="toy",
            version="1",
            model="toy",
            details={
                "vocabulary": len(VOCABULARY),
                "chat_template_sha256": "toy",
                **({} if self._max_tokens is None else {"context_length": self._max_tokens}),
            },
        )

    async def render(self, prompt: Prompt) -> Rendered:
        """Render messages with the toy's template, or plain text as it is."""
        if prompt.mode is PromptMode.CHAT:
            turns = [
                f"<|{'assistant' if m.role == 'assistant' else 'user'}|>{m.content}<|end|>"
                for m in prompt.messages
            ]
            text = "".join(turns) + "<|assistant|>" + prompt.answer_prefix
        else:
            text = prompt.text
        return Rendered(text=text, token_ids=await self.encode(text))

    async def prompt_tokens(self, prompt: Prompt) -> tuple[int, ...]:
        """Render without the answer prefix."""
        return (await self.render(replace(prompt, answer_prefix=""))).token_ids

    async def encode(self, text: str) -> tuple[int, ...]:
        """Encode greedily by the longest token that fits."""
        ids: list[int] = []
        position = 0
        while position < len(text):
            for token in self._longest:
                if text.startswith(token, position):
                    ids.append(self._ids[token])
                    position += len(token)
                    break
            else:
                ids.append(len(VOCABULARY) - 1)
                position += 1
        return tuple(ids)

    async def decode(self, token_ids: Sequence[int]) -> str:
        """Join the tokens' texts."""
        return "".join(VOCABULARY[token] for token in token_ids)

    async def generate(self, request: GenerationRequest) -> Generation:
        """Draw one of the fixed responses, by prompt and seed."""
        rendered = await self.render(request.prompt)
        self._count(rendered.token_ids)
        seed = 0 if request.sampling.temperature == 0 else request.seed
        draw = _fraction(["generate", seed, rendered.text])
        text = self._responses[int(draw * len(self._responses))]
        return Generation(
            text=text,
            finish_reason="stop",
            prompt_tokens=len(rendered.token_ids),
            completion_tokens=len(await self.encode(text)),
        )

    async def next_token_logprobs(
        self, questions: Sequence[NextTokenQuestion]
    ) -> list[dict[int, float]]:
        """Return the toy's log-probabilities of the tokens asked about."""
        answers = []
        for question in questions:
            self._count(question.prefix)
            logprobs = _next_logprobs(question.prefix)
            tokens = list(question.tokens)
            if question.best_other:
                others = set(range(len(VOCABULARY))).difference(tokens)
                tokens += sorted(others, key=lambda token: (-logprobs[token], token))[:1]
            answers.append({token: logprobs[token] for token in tokens})
        return answers

    async def sequence_logprobs(
        self, prompt: tuple[int, ...], continuations: Sequence[tuple[int, ...]]
    ) -> list[tuple[float, ...]]:
        """Return the toy's log-probability of each token of each continuation."""
        scored = []
        for continuation in continuations:
            self._count((*prompt, *continuation))
            scored.append(
                tuple(
                    _next_logprobs((*prompt, *continuation[:depth]))[token]
                    for depth, token in enumerate(continuation)
                )
            )
        return scored

    async def token_texts(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        """Return the texts of tokens."""
        return tuple(VOCABULARY[token] for token in token_ids)

    async def likeliest(self, prefix: tuple[int, ...], count: int) -> Mapping[int, float]:
        """Return the toy's most probable next tokens."""
        self._count(prefix)
        logprobs = _next_logprobs(prefix)
        best = sorted(range(len(logprobs)), key=lambda token: -logprobs[token])[:count]
        return {token: logprobs[token] for token in best}

    async def aclose(self) -> None:
        """Nothing to release."""

    def _count(self, token_ids: Sequence[int]) -> None:
        self.requests += 1
        if self._max_tokens is not None and len(token_ids) > self._max_tokens:
            raise QueryRejected(
                f"toy: {len(token_ids)} tokens exceed the context of {self._max_tokens}"
            )


def _next_logprobs(prefix: Sequence[int]) -> list[float]:
    # One hash per prefix seeds a cheap generator; hashing per token would cost 100 times more.
    state = int.from_bytes(hashlib.sha256(json.dumps(list(prefix)).encode()).digest()[:8], "big")
    logits = []
    for _ in VOCABULARY:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        logits.append(8 * (state >> 11) / 2**53)
    highest = max(logits)
    total = highest + math.log(math.fsum(math.exp(value - highest) for value in logits))
    return [value - total for value in logits]


def _fraction(content: list[str | int]) -> float:
    digest = hashlib.sha256(json.dumps(content).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56
