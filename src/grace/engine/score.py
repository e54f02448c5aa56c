"""Experiment 2: encoding candidate sets and asking for their log-probabilities."""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum

from pydantic import JsonValue

from grace.engine.gathering import AskNextTokens, Gathering
from grace.engine.plan import ScoreQuery
from grace.errors import ScoringError, TokenBoundaryError, UnsupportedByServer
from grace.inference.client import (
    Capabilities,
    InferenceClient,
    NextTokenQuestion,
    Rendered,
)
from grace.scoring.candidates import CandidateSet, SurfaceForm, continuation_tokens
from grace.scoring.trie import path_logprobs, token_trie
from grace.studies.probes import CandidateProbe
from grace.studies.prompts import Message, Prompt, PromptMode, build_prompt

_CONTROL_TOKEN = re.compile(r"<[^<>\s]+>")


class ScoringMethod(StrEnum):
    """
    How log-probabilities are asked for; both are exact.

    `trie` asks one next-token question for each inner node of the candidates'
    trie, `sequence` for each candidate as a whole.
    """

    TRIE = "trie"
    SEQUENCE = "sequence"


def choose_method(capabilities: Capabilities, wanted: ScoringMethod | None) -> ScoringMethod:
    """
    Return the scoring method to use on a server.

    Raises:
        UnsupportedByServer: The server cannot score exactly, or not so.
    """
    able = {
        ScoringMethod.TRIE: capabilities.next_token,
        ScoringMethod.SEQUENCE: capabilities.sequence,
    }
    preferred = ScoringMethod(capabilities.preferred_scoring)
    order = [wanted] if wanted is not None else [preferred, *ScoringMethod]
    for method in order:
        if capabilities.token_ids and able[method]:
            return method
    way = f" by {wanted.value}" if wanted is not None else ""
    raise UnsupportedByServer(
        f"this server gives no exact log-probabilities of fixed answers{way}; Experiment 2 needs "
        "vLLM, llama.cpp or TGI (Experiment 1 runs here: --experiment exp1)"
    )


class Scorer:
    """
    Scores candidate sets through a client.

    Args:
        client: The model; connected.

        mode: Chat or completion.

        method: See `ScoringMethod`.

        answer_prefix: What follows the chat template's header before an answer.
    """

    def __init__(
        self,
        client: InferenceClient,
        mode: PromptMode,
        method: ScoringMethod,
        answer_prefix: str = "",
    ) -> None:
        self._client = client
        self._mode = mode
        self._method = method
        self._answer_prefix = answer_prefix
        self._header: str | None = None
        self._header_ids: tuple[int, ...] = ()
        self._bare_header_ids: tuple[int, ...] = ()
        self._finding_header = asyncio.Lock()
        self._encoding = asyncio.Lock()
        self._encoded: dict[tuple[str, str], tuple[int, ...]] = {}
        self._after_header: dict[CandidateProbe, CandidateSet] = {}

    def gathering(
        self, members: int, on_too_large: Callable[[int], None] | None = None
    ) -> Gathering:
        """Return what several queries ask through, to travel in few requests."""
        return Gathering(self._client, members, on_too_large)

    @property
    def gathers(self) -> bool:
        """Whether queries that ask through one `Gathering` cost fewer requests."""
        able = self._client.capabilities.questions_together
        return able and self._method is ScoringMethod.TRIE

    async def score(
        self, query: ScoreQuery, ask: AskNextTokens | None = None
    ) -> Mapping[str, JsonValue]:
        """
        Return the forms of a query's answers with their token log-probabilities.

        Args:
            query: The query.

            ask: Sends its next-token questions, in company (see `gathering`);
                None sends them alone.

        Raises:
            InferenceError: The server did not answer.

            ScoringError: The set cannot be scored exactly after this prompt.
        """
        prompt, prompt_ids, candidates = await self.encode(query)
        continuations = [form.token_ids for form in candidates.forms]
        if self._method is ScoringMethod.SEQUENCE:
            logprobs = await self._client.sequence_logprobs(prompt_ids, continuations)
        else:
            nodes = token_trie(continuations)
            answers = await (ask or self._client.next_token_logprobs)(
                [NextTokenQuestion((*prompt_ids, *node.path), node.children) for node in nodes]
            )
            edges = {node.path: answer for node, answer in zip(nodes, answers, strict=True)}
            logprobs = [path_logprobs(continuation, edges) for continuation in continuations]
        return {
            "forms": [
                {
                    "label": form.label,
                    "text": form.text,
                    "token_ids": list(form.token_ids),
                    "logprobs": list(values),
                }
                for form, values in zip(candidates.forms, logprobs, strict=True)
            ],
            "prompt_sha256": prompt.sha256(),
            "prompt_tokens": len(prompt_ids),
        }

    async def encode(self, query: ScoreQuery) -> tuple[Prompt, tuple[int, ...], CandidateSet]:
        """
        Return a query's prompt, its token ids, and the answers as they are cut after it.

        Raises:
            InferenceError: The server did not answer.

            ScoringError: The set cannot be scored exactly after this prompt.
        """
        probe = query.probe
        prompt = build_prompt([query.turn], [], self._mode, self._answer_prefix)
        header = await self._generation_header()
        # Whole sequences may have to be sent as text, which only `render` gets to see.
        trie = self._method is ScoringMethod.TRIE
        if trie and probe in self._after_header and self._bare_header_ids:
            # No token spans the control token that begins the header, so a prompt that ends
            # with the header's ids has its answers cut as after the first such prompt, which
            # was decoded and encoded again. Its text is not needed.
            bare, whole = self._bare_header_ids, self._header_ids
            ids = await self._client.prompt_tokens(replace(prompt, answer_prefix=""))
            if ids[-len(bare) :] == bare:
                return prompt, (*ids, *whole[len(bare) :]), self._after_header[probe]
        rendered = await self._client.render(prompt)
        candidates = await self.encode_candidates(probe, prompt, rendered)
        ids = self._header_ids
        if header and rendered.text.endswith(header) and rendered.token_ids[-len(ids) :] == ids:
            self._after_header[probe] = candidates
        return prompt, rendered.token_ids, candidates

    async def encode_candidates(
        self, probe: CandidateProbe, prompt: Prompt, rendered: Rendered
    ) -> CandidateSet:
        """
        Encode a probe's answers after a prompt and check the set.

        Raises:
            ScoringError: An answer merges with the prompt, or answers overlap.
        """
        forms = []
        for answer in probe.answers:
            for surface in answer.surface_forms:
                text = prompt.answer_separator + surface
                try:
                    token_ids = await self._continuation(rendered, text)
                except TokenBoundaryError as error:
                    raise TokenBoundaryError(
                        f"probe {probe.name}, answer {surface!r} after "
                        f"{rendered.text[-20:]!r}: {error}"
                    ) from error
                forms.append(SurfaceForm(answer.label, text, token_ids))
        try:
            return CandidateSet(probe.labels, tuple(forms))
        except TokenBoundaryError:
            raise
        except ScoringError as error:
            raise ScoringError(f"probe {probe.name}: {error}") from error

    async def _continuation(self, rendered: Rendered, text: str) -> tuple[int, ...]:
        header = await self._generation_header()
        if not header or not rendered.text.endswith(header):
            joined = await self._client.encode(rendered.text + text)
            return continuation_tokens(rendered.token_ids, joined)
        # The header begins with a control token, which no token spans: what stands
        # before it cannot change how header and answer are cut. One encoding then
        # serves all prompts. The prompt's own ids must end with the header's.
        ids = self._header_ids
        if rendered.token_ids[-len(ids) :] != ids:
            joined = await self._client.encode(rendered.text + text)
            return continuation_tokens(rendered.token_ids, joined)
        key = (header, text)
        # Queries that begin together would all encode the same answers.
        async with self._encoding:
            if key not in self._encoded:
                joined = await self._client.encode(rendered.text + text)
                self._encoded[key] = continuation_tokens(rendered.token_ids, joined)
        return self._encoded[key]

    async def _generation_header(self) -> str:
        """Return what the chat template puts before every answer, if it begins with a control token."""
        if self._header is None:
            async with self._finding_header:
                if self._header is None:
                    self._header = await self._find_header()
        return self._header

    async def _find_header(self) -> str:
        if self._mode is PromptMode.CHAT:
            texts = [
                (
                    await self._client.render(
                        Prompt(messages=(Message("user", word),), answer_prefix=self._answer_prefix)
                    )
                ).text
                for word in ("one", "two three")
            ]
            shared = _common_suffix(*texts)
            match = _CONTROL_TOKEN.search(shared)
            if match is not None:
                header = shared[match.start() :]
                bare = await self._client.encode("")
                ids = (await self._client.encode(header))[len(bare) :]
                control = (await self._client.encode(match.group()))[len(bare) :]
                if len(control) == 1 and ids[:1] == control:
                    self._header_ids = ids
                    bare_header = header.removesuffix(self._answer_prefix)
                    bare_ids = (await self._client.encode(bare_header))[len(bare) :]
                    if bare_ids and ids[: len(bare_ids)] == bare_ids:
                        self._bare_header_ids = bare_ids
                    return header
        return ""


def _common_suffix(first: str, second: str) -> str:
    length = 0
    for one, other in zip(reversed(first), reversed(second), strict=False):
        if one != other:
            break
        length += 1
    return first[len(first) - length :]
