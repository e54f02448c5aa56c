"""
From a request for a distribution to its numbers, on one connected model.

Knows nothing of HTTP. Every number comes from the server's reply; whatever
cannot be measured raises.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from grace.engine.score import Scorer, ScoringMethod, choose_method
from grace.errors import IdentityMismatch, ScoringError, ServerUnavailable, UnsupportedByServer
from grace.inference.client import InferenceClient, Rendered, ServerIdentity
from grace.scoring.candidates import CandidateSet
from grace.scoring.distribution import Distribution, distribution
from grace.serving.gateway.messages import (
    CandidateResult,
    ChatRequest,
    CompletionRequest,
    DistributionReply,
    FormDetail,
    ModelDetail,
    PromptDetail,
    ServerDetail,
    TokenDetail,
)
from grace.serving.gateway.problems import UnscorableCandidates
from grace.serving.gateway.request import Question, read_request
from grace.serving.gateway.unscorable import find_faults
from grace.studies.prompts import PLAIN, Convention, PromptMode

_READY_TEXT = "a"
_REMEMBERED_TOKENS = 100_000
_REMEMBERED_SCORERS = 16
# A scorer remembers every form that it encoded: it is let go after so many.
_FORMS_PER_SCORER = 20_000


@dataclass(frozen=True, slots=True)
class ServedModel:
    """
    How the model behind a gateway is prompted, and which it is.

    Attributes:
        key: Its catalogue key.

        mode: Chat for a model with a chat template, completion for a base model.

        convention: Where its answers begin.

        system_role: Whether its chat template knows a system role.

        pinned: Whether its weights are fixed by a revision or hash.
    """

    key: str
    mode: PromptMode
    convention: Convention = PLAIN
    system_role: bool = False
    pinned: bool = False


class DistributionService:
    """
    Answers requests for distributions through a connected client.

    Args:
        client: The model; connected.

        server: What `connect` said.

        model: How the model is prompted.

    Raises:
        UnsupportedByServer: The server cannot score exactly at all.
    """

    def __init__(self, client: InferenceClient, server: ServerIdentity, model: ServedModel) -> None:
        choose_method(client.capabilities, None)
        self._client = client
        self._server = server
        self.model = model
        self._scorers: OrderedDict[
            tuple[PromptMode, ScoringMethod, Convention], tuple[Scorer, int]
        ] = OrderedDict()
        self._texts: OrderedDict[int, str | None] = OrderedDict()
        self._shows_texts = True
        self._doubtful = False
        self._reconnecting = asyncio.Lock()

    @property
    def methods(self) -> tuple[ScoringMethod, ...]:
        """The ways in which the server can be asked."""
        able = self._client.capabilities
        return tuple(
            method
            for method, can in (
                (ScoringMethod.TRIE, able.next_token),
                (ScoringMethod.SEQUENCE, able.sequence),
            )
            if can
        )

    def model_detail(self) -> ModelDetail:
        """Return what replies say of the model."""
        return ModelDetail(
            key=self.model.key,
            prompt_mode=self.model.mode.value,
            answer_prefix=self.model.convention.answer_prefix,
            pinned=self.model.pinned,
        )

    def server_detail(self) -> ServerDetail:
        """Return what replies say of the server."""
        server = self._server
        return ServerDetail(
            dialect=server.dialect,
            version=server.version,
            model=server.model,
            details=dict(server.details),
        )

    async def check(self) -> None:
        """
        Ask the server for something small.

        Raises:
            InferenceError: It does not answer.

            IdentityMismatch: It is another one than before.
        """
        try:
            await self._reconnect()
            await self._client.encode(_READY_TEXT)
        except ServerUnavailable as error:
            self._doubt(error)
            raise

    async def answer(self, request: CompletionRequest | ChatRequest) -> DistributionReply:
        """
        Measure a distribution.

        Raises:
            RefusedRequest: The request does not fit itself or the model.

            UnscorableCandidates: The set cannot be scored exactly.

            ScoringError: The server's numbers do not fit together.

            InferenceError: The server did not answer, or not so.

            IdentityMismatch: Another server or model answers than before.
        """
        question = read_request(request, self.model)
        wanted = request.options.method
        method = choose_method(
            self._client.capabilities, None if wanted == "auto" else ScoringMethod(wanted)
        )
        try:
            await self._reconnect()
            return await self._measure(question, method, detail=request.options.token_detail)
        except ServerUnavailable as error:
            self._doubt(error)
            raise

    async def _measure(
        self, question: Question, method: ScoringMethod, *, detail: bool
    ) -> DistributionReply:
        scorer = self._scorer(question, method)
        rendered = await self._client.render(question.prompt)
        candidates = await self._encoded(scorer, question, rendered)
        logprobs = await scorer.form_logprobs(rendered, candidates)
        joint: dict[str, list[float]] = {}
        for form, values in zip(candidates.forms, logprobs, strict=True):
            joint.setdefault(form.label, []).append(sum(values))
        measured = distribution(candidates.labels, joint)
        forms = await self._form_details(candidates, logprobs, detail=detail)
        values_of = [answer.value for answer in question.probe.answers]
        numbers = [value for value in values_of if value is not None]
        return DistributionReply(
            candidates=_results(measured, values_of, forms),
            coverage=measured.coverage,
            entropy_bits=measured.entropy_bits(),
            mean=measured.mean(numbers) if numbers else None,
            std=measured.std(numbers) if numbers else None,
            method=method.value,
            prompt=PromptDetail(
                mode=question.prompt.mode.value,
                sha256=hashlib.sha256(rendered.text.encode("utf-8")).hexdigest(),
                content_sha256=question.prompt.sha256(),
                tokens=len(rendered.token_ids),
                answer_prefix=question.prompt.answer_prefix,
                answer_separator=question.prompt.answer_separator,
            ),
            model=self.model_detail(),
            server=self.server_detail(),
        )

    def _scorer(self, question: Question, method: ScoringMethod) -> Scorer:
        prompt = question.prompt
        convention = Convention(prompt.answer_prefix, prompt.answer_separator)
        key = (prompt.mode, method, convention)
        scorer, used = self._scorers.pop(key, (None, 0))
        used += len(question.forms)
        if scorer is None or used > _FORMS_PER_SCORER:
            scorer, used = Scorer(self._client, *key), len(question.forms)
        self._scorers[key] = (scorer, used)
        while len(self._scorers) > _REMEMBERED_SCORERS:
            self._scorers.popitem(last=False)
        return scorer

    async def _encoded(
        self, scorer: Scorer, question: Question, rendered: Rendered
    ) -> CandidateSet:
        try:
            return await scorer.encode_candidates(question.probe, question.prompt, rendered)
        except ScoringError as error:
            faults = await find_faults(self._client, rendered, question.forms, self._token_text)
            if not faults:
                raise
            raise UnscorableCandidates(faults) from error

    async def _form_details(
        self, candidates: CandidateSet, logprobs: Sequence[tuple[float, ...]], *, detail: bool
    ) -> dict[str, list[FormDetail]]:
        found: dict[str, list[FormDetail]] = {}
        for form, values in zip(candidates.forms, logprobs, strict=True):
            tokens = None
            if detail:
                tokens = [
                    TokenDetail(id=token, text=await self._token_text(token), logprob=value)
                    for token, value in zip(form.token_ids, values, strict=True)
                ]
            found.setdefault(form.label, []).append(
                FormDetail(text=form.text, n_tokens=len(values), logprob=sum(values), tokens=tokens)
            )
        return found

    async def _token_text(self, token: int) -> str | None:
        if token in self._texts:
            self._texts.move_to_end(token)
            return self._texts[token]
        text = None
        if self._shows_texts:
            try:
                text = await self._client.decode([token])
            except UnsupportedByServer:
                self._shows_texts = False
        self._texts[token] = text
        while len(self._texts) > _REMEMBERED_TOKENS:
            self._texts.popitem(last=False)
        return text

    def _doubt(self, error: ServerUnavailable) -> None:
        # A server that asks for patience is the same one; one that vanished may come back changed.
        if error.retry_after_seconds is None:
            self._doubtful = True

    async def _reconnect(self) -> None:
        """After a server was gone, see that the same one came back before its numbers are used."""
        if not self._doubtful:
            return
        async with self._reconnecting:
            if not self._doubtful:
                return
            now = await self._client.connect()
            differences = self._server.differences_to(now)
            if differences:
                raise IdentityMismatch(
                    "the model server came back as another one than the gateway began with",
                    differences,
                )
            self._doubtful = False


def _results(
    measured: Distribution, values: Sequence[float | None], forms: dict[str, list[FormDetail]]
) -> list[CandidateResult]:
    return [
        CandidateResult(
            label=label, value=value, logprob=logprob, probability=probability, forms=forms[label]
        )
        for label, value, logprob, probability in zip(
            measured.labels, values, measured.logprobs, measured.probabilities, strict=True
        )
    ]
