"""
The dialect of llama.cpp's server.

It reports the log-probability of the tokens that it generates, under the raw
logits, before bias, grammar and samplers, whatever their rank. A grammar of
token ids forces a candidate's path, and a bias a single token, so its exact
score comes back. The list of most probable tokens at each step of that path
answers for its siblings too, so a set usually needs a few requests only; what is
not in a list is forced in turn.

The server ignores `echo` and `prompt_logprobs` without a word: neither is used.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field, JsonValue

from grace.errors import BadReply, QueryRejected, ServerUnavailable, UnsupportedByServer
from grace.inference.client import (
    Capabilities,
    Generation,
    GenerationRequest,
    NextTokenQuestion,
    Rendered,
    ServerIdentity,
)
from grace.inference.dating import TemplateDate
from grace.inference.reply import Reply, SameModel, parse
from grace.inference.slots import SlotPool
from grace.inference.transport import Transport
from grace.studies.prompts import Prompt, PromptMode

# Wide enough to hold the siblings of most candidates; the rest is forced, so
# the width changes the cost and never the result.
_LISTED_TOKENS = 200
_LOWEST = -1e4
# Added to a logit before sampling and after the reported numbers are taken.
_CERTAIN = 1e4
_ROUNDING = 1e-4


class _Tokens(Reply):
    tokens: list[int]


class _Text(Reply):
    content: str


class _Template(Reply):
    prompt: str


class _DefaultSettings(Reply):
    n_ctx: int = 0


# A number beyond is no number of slots, and would be allocated.
_MOST_SLOTS = 1 << 16


class _Props(Reply):
    default_generation_settings: _DefaultSettings
    total_slots: int = Field(ge=0, le=_MOST_SLOTS)
    chat_template: str = ""
    bos_token: str = ""
    model_ftype: str = ""
    build_info: str = ""


class _Model(Reply):
    id: str


class _Models(Reply):
    data: list[_Model]


class _Alternative(Reply):
    id: int
    logprob: float | None


class _Step(Reply):
    id: int
    logprob: float | None
    top_logprobs: list[_Alternative] = Field(default_factory=list)


class _Timings(Reply):
    cache_n: int | None = None


class _Completion(Reply):
    content: str
    tokens: list[int] = Field(default_factory=list)
    stop_type: str = ""
    tokens_predicted: int
    tokens_evaluated: int
    completion_probabilities: list[_Step] = Field(default_factory=list)
    timings: _Timings | None = None


class LlamaCppClient:
    """
    A llama.cpp server as an inference client.

    Args:
        transport: The server's address.

        details: What the caller knows of the server beyond what it tells
            (the embedded server's cache type and attention); joins the identity.

        template_date: The date that the model's template writes, if it does.
    """

    def __init__(
        self,
        transport: Transport,
        details: Mapping[str, JsonValue] | None = None,
        template_date: TemplateDate | None = None,
    ) -> None:
        self._transport = transport
        self._template_date = template_date
        self._details = dict(details or {})
        self._capabilities = Capabilities(
            token_ids=False, next_token=False, sequence=False, json_schema=False, seed=False
        )
        self._slots = SlotPool(1)
        self._same = SameModel()
        self._bos: tuple[int, ...] = ()

    @property
    def capabilities(self) -> Capabilities:
        """What the probes of `connect` found."""
        return self._capabilities

    async def connect(self) -> ServerIdentity:
        """Reach the server, read its properties, and probe forced scoring."""
        self._same = SameModel()
        props, told = await self._properties()
        self._slots = SlotPool(max(1, props.total_slots))
        if props.bos_token:
            self._bos = tuple(await self._tokenize(props.bos_token, add_special=False))
        raw = await self._forced_scores_are_raw()
        self._capabilities = Capabilities(
            token_ids=True,
            next_token=raw,
            sequence=raw,
            json_schema=True,
            seed=True,
            preferred_scoring="trie",
            most_probable=raw,
        )
        logprobs = {"logprobs": "raw" if raw else "processed"}
        return replace(told, details={**told.details, **logprobs, **self._details})

    async def identify(self) -> ServerIdentity:
        """Read the properties again."""
        return (await self._properties())[1]

    async def _properties(self) -> tuple[_Props, ServerIdentity]:
        props = parse(_Props, await self._transport.get("/props"), "/props")
        models = parse(_Models, await self._transport.get("/v1/models"), "/v1/models")
        return props, ServerIdentity(
            dialect="llamacpp",
            version=props.build_info,
            model=models.data[0].id if models.data else "",
            details={
                "quantisation": props.model_ftype,
                "context_length": props.default_generation_settings.n_ctx,
                "chat_template_sha256": hashlib.sha256(
                    props.chat_template.encode("utf-8", "surrogatepass")
                ).hexdigest(),
            },
        )

    async def render(self, prompt: Prompt) -> Rendered:
        """Apply the server's own chat template, and encode."""
        if prompt.mode is PromptMode.CHAT:
            reply = await self._transport.post(
                "/apply-template",
                {"messages": [{"role": m.role, "content": m.content} for m in prompt.messages]},
            )
            text = parse(_Template, reply, "/apply-template").prompt
            if self._template_date is not None:
                text = self._template_date.pin(text, prompt.messages)
            text += prompt.answer_prefix
        else:
            text = prompt.text
        return Rendered(text=text, token_ids=await self.encode(text))

    async def prompt_tokens(self, prompt: Prompt) -> tuple[int, ...]:
        """Render without the answer prefix."""
        return (await self.render(replace(prompt, answer_prefix=""))).token_ids

    async def encode(self, text: str) -> tuple[int, ...]:
        """Encode; a BOS that the template wrote already is not doubled."""
        ids = tuple(await self._tokenize(text, add_special=True))
        bos = self._bos
        if len(bos) == 1 and ids[:2] == bos * 2:
            return ids[1:]
        return ids

    async def decode(self, token_ids: Sequence[int]) -> str:
        """Let the server write the tokens out."""
        reply = await self._transport.post("/detokenize", {"tokens": list(token_ids)})
        return parse(_Text, reply, "/detokenize").content

    async def generate(self, request: GenerationRequest) -> Generation:
        """Draw one response from the rendered prompt."""
        rendered = await self.render(request.prompt)
        sampling = request.sampling
        payload: dict[str, JsonValue] = {
            "n_predict": request.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "seed": request.seed,
            "stop": list(request.stop),
            # The server's defaults for these would change what is drawn.
            "samplers": ["top_k", "top_p", "min_p", "temperature"],
            "repeat_penalty": 1.0,
        }
        if request.json_schema is not None:
            payload["json_schema"] = dict(request.json_schema)
        if request.control_tokens:
            # Left out of the text otherwise, and with them where the reasoning ends.
            payload["preserved_tokens"] = list(request.control_tokens)
        completion = await self._complete(rendered.token_ids, payload)
        return Generation(
            text=completion.content,
            finish_reason=_finish_reason(completion.stop_type),
            prompt_tokens=len(rendered.token_ids),
            completion_tokens=completion.tokens_predicted,
        )

    async def next_token_logprobs(
        self, questions: Sequence[NextTokenQuestion]
    ) -> list[dict[int, float]]:
        """Score each question's tokens as continuations of one token."""
        answers = []
        for question in questions:
            known = await self._measure(question.prefix, [(token,) for token in question.tokens])
            listed = known[()]
            tokens = list(question.tokens)
            if question.best_other:
                # A list is of the most probable tokens: the best of it is the best of all.
                others = listed.keys() - set(tokens)
                tokens += sorted(others, key=lambda token: (-listed[token], token))[:1]
            answers.append({token: listed[token] for token in tokens})
        return answers

    async def sequence_logprobs(
        self, prompt: tuple[int, ...], continuations: Sequence[tuple[int, ...]]
    ) -> list[tuple[float, ...]]:
        """Force paths until every token of every continuation is measured."""
        known = await self._measure(prompt, continuations)
        return [
            tuple(known[ids[:depth]][token] for depth, token in enumerate(ids))
            for ids in continuations
        ]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def _measure(
        self, prompt: tuple[int, ...], continuations: Sequence[tuple[int, ...]]
    ) -> dict[tuple[int, ...], dict[int, float]]:
        if not self._capabilities.sequence:
            raise UnsupportedByServer(
                "this llama.cpp server does not report raw log-probabilities of forced tokens"
            )
        known: dict[tuple[int, ...], dict[int, float]] = {}
        async with self._slots.slot_for(prompt) as slot:
            for continuation in sorted(continuations, key=lambda ids: (-len(ids), ids)):
                if not _is_known(continuation, known):
                    await self._force(prompt, continuation, known, slot)
        return known

    async def token_texts(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        """Decode each token by itself."""
        return tuple([await self.decode([token]) for token in token_ids])

    async def likeliest(self, prefix: tuple[int, ...], count: int) -> Mapping[int, float]:
        """List the most probable next tokens, before any sampler."""
        completion = await self._complete(
            prefix, {"n_predict": 1, "n_probs": count, "temperature": 0}
        )
        if not completion.completion_probabilities:
            raise BadReply("/completion: has no log-probabilities")
        listed = completion.completion_probabilities[0].top_logprobs
        return {token.id: _logprob(token.logprob) for token in listed}

    async def _force(
        self,
        prompt: tuple[int, ...],
        path: tuple[int, ...],
        known: dict[tuple[int, ...], dict[int, float]],
        slot: int,
    ) -> None:
        completion = await self._post_completion(
            prompt,
            slot,
            {
                "n_predict": len(path),
                "n_probs": _LISTED_TOKENS,
                "temperature": 0,
                **_forcing(path),
                "return_tokens": True,
            },
        )
        steps = completion.completion_probabilities
        if tuple(step.id for step in steps) != path:
            raise BadReply(
                f"/completion: forced tokens {list(path)}, got {[step.id for step in steps]}"
            )
        for depth, step in enumerate(steps):
            node = known.setdefault(path[:depth], {})
            for alternative in step.top_logprobs:
                # Tokens of probability zero are listed with a placeholder by some builds;
                # only what is a log-probability is taken from the list.
                if alternative.logprob is not None and _is_logprob(alternative.logprob):
                    node.setdefault(alternative.id, min(0.0, alternative.logprob))
            node.setdefault(step.id, _logprob(step.logprob))

    async def _complete(
        self, prompt: tuple[int, ...], payload: Mapping[str, JsonValue]
    ) -> _Completion:
        async with self._slots.slot_for(prompt) as slot:
            return await self._post_completion(prompt, slot, payload)

    async def _post_completion(
        self, prompt: tuple[int, ...], slot: int, payload: Mapping[str, JsonValue]
    ) -> _Completion:
        if not prompt:
            raise QueryRejected("the prompt has no tokens")
        reply = await self._transport.post(
            "/completion",
            {"prompt": list(prompt), "cache_prompt": True, "id_slot": slot, **payload},
        )
        self._same.check(reply, "/completion")
        completion = parse(_Completion, reply, "/completion")
        self._transport.usage.add(
            prompts=1,
            prompt_tokens=len(prompt),
            generated_tokens=completion.tokens_predicted,
            cached_tokens=completion.timings.cache_n if completion.timings else None,
        )
        return completion

    async def _tokenize(self, text: str, *, add_special: bool) -> list[int]:
        reply = await self._transport.post(
            "/tokenize", {"content": text, "add_special": add_special, "parse_special": True}
        )
        return parse(_Tokens, reply, "/tokenize").tokens

    async def _forced_scores_are_raw(self) -> bool:
        """Force the least probable of the listed tokens: a masked score would be 0."""
        prompt = tuple(await self._tokenize("The capital of France is", add_special=True))
        free = await self._post_completion(
            prompt, 0, {"n_predict": 1, "n_probs": 20, "temperature": 0}
        )
        if not free.completion_probabilities:
            return False
        listed = free.completion_probabilities[0].top_logprobs
        unlikely = min(listed, key=lambda token: _logprob(token.logprob), default=None)
        if unlikely is None:
            return False
        known: dict[tuple[int, ...], dict[int, float]] = {}
        try:
            await self._force(prompt, (unlikely.id,), known, 0)
        except (BadReply, QueryRejected):
            return False
        return abs(known[()][unlikely.id] - _logprob(unlikely.logprob)) < 0.2


def _finish_reason(stop_type: str) -> Literal["stop", "length"]:
    match stop_type:
        case "eos" | "word":
            return "stop"
        case "limit":
            return "length"
        case _:
            raise BadReply(f"/completion: stop_type is {stop_type[:60]!r}; expected eos or limit")


def _forcing(path: tuple[int, ...]) -> dict[str, JsonValue]:
    if len(path) == 1:
        # A grammar never allows a token that ends the text; a bias does.
        return {"logit_bias": [[path[0], _CERTAIN]]}
    return {"grammar": "root ::= " + " ".join(f"<[{token}]>" for token in path)}


def _is_known(path: tuple[int, ...], known: Mapping[tuple[int, ...], Mapping[int, float]]) -> bool:
    return all(token in known.get(path[:depth], ()) for depth, token in enumerate(path))


def _is_logprob(value: float) -> bool:
    # llama.cpp writes the lowest 32-bit float for the logarithm of 0.
    return _LOWEST < value <= _ROUNDING


def _logprob(value: float | None) -> float:
    if value is None or not _is_logprob(value):
        raise BadReply(f"/completion: {value} is not a log-probability")
    return min(0.0, value)


async def wait_until_ready(transport: Transport) -> None:
    """
    Check that the server has loaded its model.

    Raises:
        ServerUnavailable: It has not, or does not answer.
    """
    reply = await transport.get("/health")
    if not isinstance(reply, dict) or reply.get("status") != "ok":
        raise ServerUnavailable(f"{transport.base_url}: not ready: {reply}")
