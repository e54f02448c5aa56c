"""
The dialect of Hugging Face's Text Generation Inference (TGI).

Written from TGI's OpenAPI file (3.3.6-dev0) and the source of its router and
server at commit db931fcf (January 2026, in maintenance mode); no server was
run. What was read there and decides this module:

- `/generate` takes text, never token ids, and always adds the tokenizer's
  special tokens. A rendered chat goes there without the BOS that its template
  wrote, and the ids that come back must be the ids of the chat.
- A prompt's log-probabilities (`decoder_input_details`) need a server started
  with `--enable-prefill-logprobs`; otherwise the list is empty. They are a
  softmax of the raw logits in the model's own precision, which the identity
  records. Tokens chosen by the caller cannot be listed.
- A generated text keeps its stop string, which is cut here.
- `top_p` must be below 1 or absent, and `min_p` does not exist.
- In a chat, `model` names a LoRA adapter unless it is `tgi`; `top_k` does not exist.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from pydantic import JsonValue

from grace.errors import BadReply, QueryRejected, TokenBoundaryError, UnsupportedByServer
from grace.inference.client import (
    Capabilities,
    Generation,
    GenerationRequest,
    NextTokenQuestion,
    Rendered,
    ServerIdentity,
)
from grace.inference.dating import TemplateDate
from grace.inference.reply import checked_logprob, choose_model
from grace.inference.tgi_requests import RenderedChat, TgiRequests, precision, without_stops
from grace.inference.transport import Transport
from grace.inference.vllm_probes import PROBE_CHAT, PROBE_SCHEMA, PROBE_TEXT, is_constrained
from grace.studies.prompts import Prompt, PromptMode

_K = TypeVar("_K")
_V = TypeVar("_V")


class TgiClient:
    """
    The model of a TGI server.

    Args:
        transport: The server's address.

        model: The name that the server must serve; None for whichever it does.

        remembered_texts: How many encoded texts are kept. Scoring names token
            ids, and only their text can be sent.

        template_date: The date that the model's template writes, if it does.
            Such a model can be scored; it cannot answer, since TGI renders
            chats itself.
    """

    def __init__(
        self,
        transport: Transport,
        model: str | None = None,
        *,
        remembered_texts: int = 16_384,
        template_date: TemplateDate | None = None,
    ) -> None:
        self._transport = transport
        self._template_date = template_date
        self._requests = TgiRequests(transport)
        self._asked_model = model
        self._remembered_texts = remembered_texts
        self._prompts: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        self._texts: OrderedDict[tuple[int, ...], str] = OrderedDict()
        self._tails: OrderedDict[tuple[int, ...], str] = OrderedDict()
        self._bos_text = ""
        self._most_stops: int | None = None
        self._capabilities = Capabilities(
            token_ids=False, next_token=False, sequence=False, json_schema=False, seed=False
        )

    @property
    def capabilities(self) -> Capabilities:
        """What the probes of `connect` found."""
        return self._capabilities

    async def connect(self) -> ServerIdentity:
        """Reach the server and measure what it can do."""
        info = await self._requests.info()
        model = choose_model(self._asked_model, [info.model_id], self._transport.base_url)
        self._most_stops = info.max_stop_sequences
        chat = await self._probe_chat()
        ids = await self.encode(PROBE_TEXT)
        values = await self._probe_prefill(ids)
        self._capabilities = Capabilities(
            token_ids=True,
            next_token=False,
            sequence=bool(values),
            json_schema=await self._obeys_schema(),
            seed=await self._honours_seed(),
            preferred_scoring="sequence",
        )
        return ServerIdentity(
            dialect="tgi",
            version=info.version,
            model=model,
            details={
                "model_sha": info.model_sha,
                "server_sha": info.sha,
                "max_input_tokens": info.max_input_tokens,
                "max_total_tokens": info.max_total_tokens,
                "chat_probe_sha256": None
                if chat is None
                else _chat_hash(chat, self._template_date),
                "logprob_precision": precision(values) if values else None,
            },
        )

    async def identify(self) -> ServerIdentity:
        """Read what the server says of itself again."""
        info = await self._requests.info()
        return ServerIdentity(
            dialect="tgi",
            version=info.version,
            model=info.model_id,
            details={"model_sha": info.model_sha, "server_sha": info.sha},
        )

    async def render(self, prompt: Prompt) -> Rendered:
        """Let the server apply its template, and check that text alone gives the same tokens."""
        if prompt.mode is PromptMode.COMPLETION:
            rendered = Rendered(prompt.text, await self.encode(prompt.text))
        else:
            chat = await self._requests.chat(prompt.messages)
            joined = await self.encode(chat.text + prompt.answer_prefix)
            if joined[: len(chat.token_ids)] != chat.token_ids or (
                not prompt.answer_prefix and joined != chat.token_ids
            ):
                raise _chat_mismatch(prompt.answer_prefix)
            text = chat.text + prompt.answer_prefix
            if self._template_date is not None:
                text = self._template_date.pin(text, prompt.messages)
                joined = await self.encode(text)
            rendered = Rendered(text, joined)
        self._remember(self._prompts, rendered.text, rendered.token_ids)
        return rendered

    async def prompt_tokens(self, prompt: Prompt) -> tuple[int, ...]:
        """Render without the answer prefix."""
        return (await self.render(replace(prompt, answer_prefix=""))).token_ids

    async def encode(self, text: str) -> tuple[int, ...]:
        """Encode as `/generate` would, which adds the BOS itself, and remember the text."""
        sent = text.removeprefix(self._bos_text)
        token_ids = await self._requests.tokens(sent)
        self._remember(self._texts, token_ids, sent)
        for prompt_text, prompt_ids in self._prompts.items():
            if text.startswith(prompt_text) and token_ids[: len(prompt_ids)] == prompt_ids:
                tail = token_ids[len(prompt_ids) :]
                self._remember(self._tails, tail, text[len(prompt_text) :])
        return token_ids

    async def decode(self, token_ids: Sequence[int]) -> str:
        """Refuse: TGI takes text only."""
        raise UnsupportedByServer("TGI does not write out chosen tokens")

    async def generate(self, request: GenerationRequest) -> Generation:
        """Draw one response; the answer prefix is for scoring, and is not sent."""
        sampling = request.sampling
        chat = request.prompt.mode is PromptMode.CHAT
        self._check(request)
        parameters: dict[str, JsonValue] = {"seed": request.seed, "stop": list(request.stop)}
        if sampling.top_p < 1:
            parameters["top_p"] = sampling.top_p
        grammar: JsonValue = None
        if request.json_schema is not None:
            grammar = {"type": "json", "value": dict(request.json_schema)}
        if chat:
            parameters |= {"max_tokens": request.max_tokens, "temperature": sampling.temperature}
            if grammar is not None:
                parameters["response_format"] = grammar
            generation = await self._requests.answer_chat(request.prompt.messages, parameters)
        else:
            parameters |= {"max_new_tokens": request.max_tokens, "return_full_text": False}
            parameters["do_sample"] = sampling.temperature > 0
            if sampling.temperature > 0:
                parameters["temperature"] = sampling.temperature
            if sampling.top_k:
                parameters["top_k"] = sampling.top_k
            if grammar is not None:
                parameters["grammar"] = grammar
            generation = await self._requests.continue_text(request.prompt.text, parameters)
        return without_stops(generation, request.stop)

    async def next_token_logprobs(
        self, questions: Sequence[NextTokenQuestion]
    ) -> list[dict[int, float]]:
        """Refuse: TGI lists the most probable tokens only."""
        raise UnsupportedByServer("TGI does not report the probability of chosen tokens")

    async def sequence_logprobs(
        self, prompt: tuple[int, ...], continuations: Sequence[tuple[int, ...]]
    ) -> list[tuple[float, ...]]:
        """Send the text of prompt and continuation, and check that its tokens are the same."""
        if not self._capabilities.sequence:
            raise UnsupportedByServer(
                "this TGI server reports no log-probabilities of a prompt; start it with "
                "--enable-prefill-logprobs"
            )
        if not prompt or not all(continuations):
            raise ValueError("a prompt and each of its continuations need at least one token")
        scores = []
        for ids in continuations:
            text = self._texts.get(prompt + ids)
            if text is None and prompt in self._texts and ids in self._tails:
                text = self._texts[prompt] + self._tails[ids]
            if text is None:
                raise UnsupportedByServer("TGI takes text, and these tokens came from no text")
            values = await self._prefill(text, prompt + ids)
            scores.append(tuple(values[len(prompt) :]))
        return scores

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    def _check(self, request: GenerationRequest) -> None:
        """Refuse what TGI would ignore."""
        chat = request.prompt.mode is PromptMode.CHAT
        if chat and self._template_date is not None:
            raise UnsupportedByServer(
                "TGI writes the current date into this model's chats and hides the tokens of its "
                "channels; use vLLM or llama.cpp for Experiment 1"
            )
        sampling = request.sampling
        if sampling.min_p or (chat and sampling.top_k):
            raise UnsupportedByServer(
                f"min_p is {sampling.min_p} and top_k is {sampling.top_k}: TGI takes no min_p, and "
                "no top_k in a chat; set both to 0"
            )
        if self._most_stops is not None and len(request.stop) > self._most_stops:
            raise UnsupportedByServer(
                f"{len(request.stop)} stop strings; this TGI server takes {self._most_stops}"
            )

    async def _probe_chat(self) -> RenderedChat | None:
        """Find the BOS that the template writes and that `/generate` would write again."""
        try:
            chat = await self._requests.chat(PROBE_CHAT)
        except (QueryRejected, BadReply):
            return None
        if await self._requests.tokens(chat.text) == chat.token_ids:
            return chat
        end = chat.first_token_end
        for bos in (chat.text[:end], chat.text.encode()[:end].decode("utf-8", "ignore")):
            if bos and await self._requests.tokens(chat.text.removeprefix(bos)) == chat.token_ids:
                self._bos_text = bos
                break
        return chat

    async def _probe_prefill(self, token_ids: tuple[int, ...]) -> list[float]:
        try:
            return await self._prefill(self._texts[token_ids], token_ids)
        except (QueryRejected, BadReply, TokenBoundaryError):
            return []

    async def _prefill(self, text: str, token_ids: tuple[int, ...]) -> list[float]:
        """Return the log-probability of every token; 0 for the first, which has none."""
        prefill = await self._requests.prefill(text)
        if not prefill:
            raise BadReply("TGI /generate: the prompt's tokens are missing")
        found = tuple(token for token, _ in prefill)
        if found != token_ids:
            raise TokenBoundaryError(
                f"TGI cuts the text that ends with {text[-10:]!r} into {len(found)} other tokens than the "
                f"{len(token_ids)} to be scored"
            )
        return [
            0.0,
            *(
                checked_logprob(value, f"TGI /generate: token {token}")
                for token, value in prefill[1:]
            ),
        ]

    async def _obeys_schema(self) -> bool:
        grammar: JsonValue = {"type": "json", "value": dict(PROBE_SCHEMA)}
        try:
            generation = await self._requests.continue_text(
                PROBE_TEXT, {"max_new_tokens": 48, "do_sample": False, "grammar": grammar}
            )
        except (QueryRejected, BadReply):
            return False
        return is_constrained(generation.text)

    async def _honours_seed(self) -> bool:
        parameters: dict[str, JsonValue] = {
            "max_new_tokens": 8,
            "do_sample": True,
            "temperature": 2.0,
            "seed": 20_261_123,
        }
        try:
            first = await self._requests.continue_text(PROBE_TEXT, parameters)
            second = await self._requests.continue_text(PROBE_TEXT, parameters)
        except (QueryRejected, BadReply):
            return False
        return first.text == second.text

    def _remember(self, memory: OrderedDict[_K, _V], key: _K, value: _V) -> None:
        memory[key] = value
        memory.move_to_end(key)
        while len(memory) > self._remembered_texts:
            memory.popitem(last=False)


def _chat_hash(chat: RenderedChat, template_date: TemplateDate | None) -> str:
    shown: list[JsonValue] = [chat.text, list(chat.token_ids)]
    if template_date is not None:
        # The hash belongs to the identity, which must not change overnight.
        shown = [template_date.pin(chat.text, PROBE_CHAT)]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()


def _chat_mismatch(answer_prefix: str) -> UnsupportedByServer | TokenBoundaryError:
    if answer_prefix:
        return TokenBoundaryError(
            f"the answer prefix {answer_prefix!r} changes the prompt's own tokens"
        )
    return UnsupportedByServer("TGI would encode the rendered chat to other tokens than its own")
