"""
The dialect of vLLM's OpenAI-style server.

Exact scoring has two ways here. `logprob_token_ids` reports chosen tokens at
the next position, many prompts a request, and uses the prefix cache; it is
recent, and an older server ignores it without a word. `prompt_logprobs`
reports every token of a prompt, and computes the whole prompt again. What a
server can do is measured on connecting, and every reply is checked again.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from grace.errors import TokenBoundaryError, UnsupportedByServer
from grace.inference.client import (
    Capabilities,
    Generation,
    GenerationRequest,
    NextTokenQuestion,
    Rendered,
    ServerIdentity,
)
from grace.inference.dating import TemplateDate
from grace.inference.pairs import Pairing, pair_places
from grace.inference.reply import checked_logprob
from grace.inference.transport import Transport
from grace.inference.vllm_probes import find_again, find_server, probe
from grace.inference.vllm_requests import VllmRequests
from grace.studies.prompts import Prompt, PromptMode


@dataclass(slots=True)
class _Batch:
    """Questions that travel in one request, and the union of their tokens."""

    questions: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    tokens: set[int] = field(default_factory=set)
    prompt_tokens: int = 0


class VllmClient:
    """
    One model on a vLLM server.

    Args:
        transport: The server's address.

        model: The model's name on the server; None for the only one.

        prompts_per_request: Most prompts in one request for log-probabilities.

        tokens_per_request: Most prompt tokens in one such request, unless a
            single prompt is longer.

        template_date: The date that the model's template writes, if it does.
            Such chats are rendered here and sent as tokens.
    """

    def __init__(
        self,
        transport: Transport,
        model: str | None = None,
        *,
        prompts_per_request: int = 512,
        tokens_per_request: int = 65_536,
        template_date: TemplateDate | None = None,
    ) -> None:
        self._transport = transport
        self._asked_model = model
        self._model = model or ""
        self._prompts_per_request = prompts_per_request
        self._tokens_per_request = tokens_per_request
        self._template_date = template_date
        self._requests = VllmRequests(transport, model or "")
        self._listed_tokens = 0
        self._forces = False
        self._bos = Rendered("", ())
        self._capabilities = Capabilities(
            token_ids=False, next_token=False, sequence=False, json_schema=False, seed=False
        )

    @property
    def capabilities(self) -> Capabilities:
        """What the probes of `connect` found."""
        return self._capabilities

    async def connect(self) -> ServerIdentity:
        """Reach the server, choose the model, and measure what the server can do."""
        server = await find_server(self._transport, self._asked_model)
        self._requests = VllmRequests(self._transport, server.model)
        found = await probe(self._requests, self._template_date)
        self._bos = found.bos
        self._listed_tokens = found.listed_tokens
        self._forces = found.forces
        self._capabilities = found.capabilities
        self._model = server.model
        details = {**server.details, **found.details}
        if self._requests.answers_as not in {"", server.model}:
            details["answers_as"] = self._requests.answers_as
        return ServerIdentity("vllm", server.version, server.model, details)

    async def identify(self) -> ServerIdentity:
        """Read version and models again."""
        server = await find_again(self._transport, self._model)
        return ServerIdentity("vllm", server.version, server.model, server.details)

    async def render(self, prompt: Prompt) -> Rendered:
        """Let the server apply its template; decode its tokens and encode them again."""
        token_ids = await self._template_tokens(prompt)
        if prompt.mode is PromptMode.CHAT:
            text = await self._requests.text(token_ids)
        else:
            text = self._bos.text + prompt.text
        joined = await self.encode(text + prompt.answer_prefix)
        if not prompt.answer_prefix and joined != token_ids:
            raise UnsupportedByServer(
                "the tokens of the rendered prompt change when they are decoded and encoded again: "
                f"the server has {len(token_ids)}, encoding gives {len(joined)}"
            )
        if joined[: len(token_ids)] != token_ids:
            raise TokenBoundaryError(
                f"the answer prefix {prompt.answer_prefix!r} changes the prompt's own tokens"
            )
        text += prompt.answer_prefix
        if self._template_date is not None and prompt.mode is PromptMode.CHAT:
            text = self._template_date.pin(text, prompt.messages)
            joined = await self.encode(text)
        return Rendered(text=text, token_ids=joined)

    async def prompt_tokens(self, prompt: Prompt) -> tuple[int, ...]:
        """Let the server apply its template and encode."""
        if self._template_date is not None and prompt.mode is PromptMode.CHAT:
            # The date is changed in the text.
            return (await self.render(replace(prompt, answer_prefix=""))).token_ids
        return await self._template_tokens(prompt)

    async def _template_tokens(self, prompt: Prompt) -> tuple[int, ...]:
        if prompt.mode is PromptMode.CHAT:
            token_ids = await self._requests.chat_tokens(prompt.messages)
        else:
            token_ids = await self._requests.tokens(prompt.text, add_special_tokens=True)
        if self._bos.token_ids and token_ids[:2] == self._bos.token_ids * 2:
            raise UnsupportedByServer("the rendered prompt begins with two BOS tokens")
        return token_ids

    async def encode(self, text: str) -> tuple[int, ...]:
        """Encode a rendered text: its BOS is in the text, so none is added."""
        return await self._requests.tokens(text, add_special_tokens=False) if text else ()

    async def decode(self, token_ids: Sequence[int]) -> str:
        """Let the server write the tokens out."""
        return await self._requests.text(token_ids)

    async def generate(self, request: GenerationRequest) -> Generation:
        """
        Draw one response.

        A chat goes to the server as messages, without the answer prefix. One
        with a fixed date goes as the tokens of `render`, prefix included, and
        control tokens are left in the response.
        """
        if request.json_schema is not None and not self._capabilities.json_schema:
            raise UnsupportedByServer("this vLLM server does not obey a JSON schema")
        if self._template_date is None or request.prompt.mode is PromptMode.COMPLETION:
            return await self._requests.generate(request)
        rendered = await self.render(request.prompt)
        return await self._requests.continue_tokens(request, rendered.token_ids)

    async def next_token_logprobs(
        self, questions: Sequence[NextTokenQuestion]
    ) -> list[dict[int, float]]:
        """
        Ask many questions a request, all about the union of their tokens.

        A question about the place one token after another's is answered with it,
        by drawing that token, if one token leads to many of them.
        """
        if not self._capabilities.next_token:
            raise UnsupportedByServer("this vLLM server does not report chosen tokens exactly")
        pairing = self._pairing(questions)
        paired = {*pairing.seconds, *pairing.seconds.values()}
        answers: list[dict[int, float]] = [{} for _ in questions]
        most_probable: list[tuple[float, int]] = [(-math.inf, 0) for _ in questions]
        # First what stands alone: the prompts themselves, whose blocks the others then share.
        for batch in self._batches(questions, paired):
            prefixes = [questions[index].prefix for index, _ in batch.questions]
            listed = await self._requests.listed_logprobs(prefixes, sorted(batch.tokens))
            for (index, tokens), values in zip(batch.questions, listed, strict=True):
                for token in tokens:
                    where = f"vLLM: question {index}, token {token}"
                    answers[index][token] = checked_logprob(values[token], where)
                best = max(values, key=lambda token: values[token])
                most_probable[index] = max(most_probable[index], (values[best], best))
        await self._ask_pairs(questions, pairing, answers)
        for question, answer, (value, token) in zip(questions, answers, most_probable, strict=True):
            # The rest of a list is what other questions asked about: of the tokens that this one
            # did not ask about, only the most probable of all is known to be the best.
            if question.best_other and token not in question.tokens:
                answer[token] = checked_logprob(value, f"vLLM: token {token}")
        return answers

    async def sequence_logprobs(
        self, prompt: tuple[int, ...], continuations: Sequence[tuple[int, ...]]
    ) -> list[tuple[float, ...]]:
        """Send each continuation behind the prompt and read the prompt's own tokens."""
        if not self._capabilities.sequence:
            raise UnsupportedByServer("this vLLM server does not report a prompt's tokens exactly")
        if not prompt or not all(continuations):
            raise ValueError("a prompt and each of its continuations need at least one token")
        longest = len(prompt) + max(map(len, continuations), default=0)
        size = min(self._prompts_per_request, max(1, self._tokens_per_request // longest))
        scores: list[tuple[float, ...]] = []
        for start in range(0, len(continuations), size):
            part = continuations[start : start + size]
            scores += await self._requests.tail_logprobs(prompt, part)
        return scores

    async def token_texts(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        """Decode each token behind another one: some decoders drop a space that comes first."""
        anchor = await self._requests.tokens("a", add_special_tokens=False)
        before = await self._requests.text(anchor)
        texts = [await self._requests.text((*anchor, token)) for token in token_ids]
        return tuple(text[len(before) :] for text in texts)

    async def likeliest(self, prefix: tuple[int, ...], count: int) -> Mapping[int, float]:
        """List the most probable next tokens."""
        return await self._requests.top_logprobs(prefix, count)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    def _pairing(self, questions: Sequence[NextTokenQuestion]) -> Pairing:
        if not self._forces:
            return Pairing()
        tokens = {token for question in questions for token in question.tokens}
        prefixes = [question.prefix for question in questions]
        if len(tokens) > self._listed_tokens or len(set(prefixes)) < len(prefixes):
            return Pairing()
        # Where a token is forced, the most probable one is not drawn, and not told.
        alone = [index for index, question in enumerate(questions) if question.best_other]
        return pair_places(prefixes, alone)

    async def _ask_pairs(
        self,
        questions: Sequence[NextTokenQuestion],
        pairing: Pairing,
        answers: Sequence[dict[int, float]],
    ) -> None:
        """Answer the paired questions, each two with one prompt."""
        if pairing.token is None:
            return
        pairs = list(pairing.seconds.items())
        tokens = sorted(
            {token for pair in pairs for one in pair for token in questions[one].tokens}
        )
        longest = max(len(questions[first].prefix) for first, _ in pairs) + 1
        size = min(self._prompts_per_request, max(1, self._tokens_per_request // longest))
        for start in range(0, len(pairs), size):
            part = pairs[start : start + size]
            prefixes = [questions[first].prefix for first, _ in part]
            listed = await self._requests.forced_logprobs(prefixes, tokens, pairing.token)
            for pair, places in zip(part, listed, strict=True):
                for index, values in zip(pair, places, strict=True):
                    for token in questions[index].tokens:
                        where = f"vLLM: question {index}, token {token}"
                        answers[index][token] = checked_logprob(values[token], where)

    def _batches(
        self, questions: Sequence[NextTokenQuestion], paired: Collection[int] = ()
    ) -> Iterator[_Batch]:
        batches: list[_Batch] = []
        for index, question in enumerate(questions):
            if not question.prefix or not question.tokens:
                raise ValueError("a question needs a prefix and at least one token")
            if index in paired:
                continue
            for start in range(0, len(question.tokens), self._listed_tokens):
                tokens = question.tokens[start : start + self._listed_tokens]
                fitting = (b for b in batches if self._fits(b, question.prefix, tokens))
                batch = next(fitting, None)
                if batch is None:
                    batch = _Batch()
                    batches.append(batch)
                batch.questions.append((index, tokens))
                batch.tokens.update(tokens)
                batch.prompt_tokens += len(question.prefix)
        yield from batches

    def _fits(self, batch: _Batch, prefix: tuple[int, ...], tokens: tuple[int, ...]) -> bool:
        return (
            len(batch.questions) < self._prompts_per_request
            and batch.prompt_tokens + len(prefix) <= self._tokens_per_request
            and len(batch.tokens.union(tokens)) <= self._listed_tokens
        )
