"""
Experiment 2: encoding candidate sets and asking for their log-probabilities.

What is stored of a query is all that was measured: the token log-probabilities
of every form, the best token that begins none, and, if asked, the probability
that an answer ends. Scores are made from it when tables are written.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum

from pydantic import JsonValue

from grace.engine.audit import Audit
from grace.engine.gathering import AskNextTokens, Gathering
from grace.engine.measuring import measure
from grace.engine.plan import ScoreQuery
from grace.engine.terminators import CONTROL_TOKEN, chat_terminators, line_terminators
from grace.errors import (
    BadReply,
    InferenceError,
    QueryRejected,
    ScoringError,
    ServerUnavailable,
    TokenBoundaryError,
    UnsupportedByServer,
)
from grace.inference.client import (
    Capabilities,
    InferenceClient,
    Rendered,
)
from grace.scoring.candidates import CandidateSet, SurfaceForm, continuation_tokens
from grace.studies.probes import CandidateProbe
from grace.studies.prompts import PLAIN, Convention, Message, Prompt, PromptMode, build_prompt

# Messages end up in tables: enough to see a seam, too little to read what somebody wrote.
_SHOWN_OF_PROMPT = 10
_NEIGHBOURS = ("a", ".", "\n", " ", "<", '"')


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

        convention: Where the model's answers begin and end.

        terminators: Whether to measure that an answer ends, too: one question
            more for each form.

        audit: Keeps the prompts, if they are to be kept.
    """

    def __init__(
        self,
        client: InferenceClient,
        mode: PromptMode,
        method: ScoringMethod,
        convention: Convention = PLAIN,
        *,
        terminators: bool = False,
        audit: Audit | None = None,
    ) -> None:
        self._client = client
        self._audit = audit
        self._terminators = terminators
        self._turn_end: tuple[int, ...] | str | None = None
        self._texts: dict[int, str] = {}
        self._mode = mode
        self._method = method
        self._convention = convention
        self._header: str | None = None
        self._header_ids: tuple[int, ...] = ()
        self._bare_header_ids: tuple[int, ...] = ()
        self._finding_header = asyncio.Lock()
        self._words: dict[str, str] = {}
        self._learnt: dict[str, tuple[int, ...]] = {}
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
        prompt, rendered, candidates = await self._encode(query)
        if self._audit is not None:
            await self._audit.note(self._client, prompt, query.probe.name, rendered.token_ids)
        ends, why_no_end = await self._ends(candidates, rendered)
        ask = ask or self._client.next_token_logprobs
        by_trie = self._method is ScoringMethod.TRIE
        try:
            measured = await measure(
                self._client, ask, rendered.token_ids, candidates, ends, by_trie=by_trie
            )
        except UnsupportedByServer as error:
            if not ends:
                raise
            # A server that takes text only may not take a control token after it.
            ends, why_no_end = {}, str(error)
            measured = await measure(
                self._client, ask, rendered.token_ids, candidates, ends, by_trie=by_trie
            )
        forms: list[JsonValue] = []
        for form in candidates.forms:
            held: dict[str, JsonValue] = {
                "label": form.label,
                "text": form.text,
                "token_ids": list(form.token_ids),
                "logprobs": list(measured.logprobs[form.token_ids]),
            }
            if form in ends:
                held["end_logprobs"] = list(measured.ends[form.token_ids])
            forms.append(held)
        value: dict[str, JsonValue] = {
            "forms": forms,
            "outside": await self._outside(candidates, measured.first),
            "prompt_sha256": prompt.sha256(),
            "prompt_tokens": len(rendered.token_ids),
        }
        if self._terminators:
            tokens = sorted({end for found in ends.values() for end in found})
            value["end"] = {"reason": why_no_end} if why_no_end else {"token_ids": list(tokens)}
        return value

    async def _outside(
        self, candidates: CandidateSet, first: Mapping[int, float]
    ) -> dict[str, JsonValue]:
        """Describe the most probable token that begins no answer, or say why it is not known."""
        if not self._client.capabilities.most_probable:
            return {"reason": "this server does not tell the most probable token"}
        inside = {form.token_ids[0] for form in candidates.forms}
        for token, logprob in first.items():
            if token not in inside:
                text = await self._text(token)
                return {"token_id": token, "text": text, "logprob": logprob}
        return {
            "leads": False,
            "reason": "the most probable token begins an answer, and this server tells no other",
        }

    async def _text(self, token: int) -> str:
        if token not in self._texts:
            try:
                text = await self._client.decode([token])
            except (QueryRejected, BadReply, UnsupportedByServer):
                text = ""
            # Some tokens have no text of their own.
            self._texts[token] = text or f"<token {token}>"
        return self._texts[token]

    async def _ends(
        self, candidates: CandidateSet, rendered: Rendered
    ) -> tuple[dict[SurfaceForm, tuple[int, ...]], str]:
        """Return the tokens that end each form; or none, and why."""
        if not self._terminators:
            return {}, ""
        if self._mode is PromptMode.CHAT:
            if self._turn_end is None:
                self._turn_end = await self._find_turn_end()
            if isinstance(self._turn_end, str):
                return {}, self._turn_end
            return dict.fromkeys(candidates.forms, self._turn_end), ""
        ends = {}
        for form in candidates.forms:
            try:
                ends[form] = await line_terminators(
                    self._client, rendered, form.token_ids, form.text
                )
            except TokenBoundaryError as error:
                return {}, str(error)
        return ends, ""

    async def _find_turn_end(self) -> tuple[int, ...] | str:
        try:
            return await chat_terminators(self._client, self._convention.end_of_turn)
        except ServerUnavailable:
            raise
        except (InferenceError, TokenBoundaryError) as error:
            return str(error)

    async def encode(self, query: ScoreQuery) -> tuple[Prompt, tuple[int, ...], CandidateSet]:
        """
        Return a query's prompt, its token ids, and the answers as they are cut after it.

        Raises:
            InferenceError: The server did not answer.

            ScoringError: The set cannot be scored exactly after this prompt.
        """
        prompt, rendered, candidates = await self._encode(query)
        return prompt, rendered.token_ids, candidates

    async def _encode(self, query: ScoreQuery) -> tuple[Prompt, Rendered, CandidateSet]:
        """Return prompt, tokens and answers; the text only where it had to be rendered."""
        probe = query.probe
        prompt = self.prompt_of(query)
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
                found = Rendered("", (*ids, *whole[len(bare) :]))
                return prompt, found, self._after_header[probe]
        rendered = await self._client.render(prompt)
        candidates = await self.encode_candidates(probe, prompt, rendered)
        ids = self._header_ids
        if header and rendered.text.endswith(header) and rendered.token_ids[-len(ids) :] == ids:
            self._after_header[probe] = candidates
        return prompt, rendered, candidates

    def prompt_of(self, query: ScoreQuery) -> Prompt:
        """Return the prompt after which a query's answers are scored."""
        return build_prompt([query.turn], [], self._mode, self._convention)

    async def form_logprobs(
        self, rendered: Rendered, candidates: CandidateSet
    ) -> list[tuple[float, ...]]:
        """
        Return the log-probability of each token of each form, in order.

        Raises:
            InferenceError: The server did not answer.
        """
        by_trie = self._method is ScoringMethod.TRIE
        ask = self._client.next_token_logprobs
        measured = await measure(
            self._client, ask, rendered.token_ids, candidates, {}, by_trie=by_trie
        )
        return [measured.logprobs[form.token_ids] for form in candidates.forms]

    async def encode_candidates(
        self, probe: CandidateProbe, prompt: Prompt, rendered: Rendered
    ) -> CandidateSet:
        """
        Encode a probe's answers after a prompt and check the set.

        Args:
            probe: The answers.

            prompt: What they follow.

            rendered: The same prompt as the model sees it.

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
                        f"{rendered.text[-_SHOWN_OF_PROMPT:]!r}: {error}"
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
            texts = [await self._rendered_word(word) for word in ("one", "two three")]
            shared = _common_suffix(*texts)
            match = CONTROL_TOKEN.search(shared)
            if match is not None:
                header = shared[match.start() :]
                bare = await self._learn("")
                ids = (await self._learn(header))[len(bare) :]
                control = (await self._learn(match.group()))[len(bare) :]
                if len(control) == 1 and ids[:1] == control:
                    # An ordinary token may look like a control token (`<b>`), but would be
                    # cut otherwise behind some of these.
                    sample = "".join(f"{before}{match.group()}" for before in _NEIGHBOURS)
                    found = (await self._learn(sample)).count(control[0])
                    if found != len(_NEIGHBOURS):
                        return ""
                    self._header_ids = ids
                    bare_header = header.removesuffix(self._convention.answer_prefix)
                    bare_ids = (await self._learn(bare_header))[len(bare) :]
                    if bare_ids and ids[: len(bare_ids)] == bare_ids:
                        self._bare_header_ids = bare_ids
                    return header
        return ""

    async def _rendered_word(self, word: str) -> str:
        # Finding the header takes a dozen requests. What came of those that were answered is
        # kept, so that a server that fails now and then does not make it begin again and again.
        if word not in self._words:
            prompt = Prompt(
                messages=(Message("user", word),), answer_prefix=self._convention.answer_prefix
            )
            self._words[word] = (await self._client.render(prompt)).text
        return self._words[word]

    async def _learn(self, text: str) -> tuple[int, ...]:
        if text not in self._learnt:
            self._learnt[text] = await self._client.encode(text)
        return self._learnt[text]


def _common_suffix(first: str, second: str) -> str:
    length = 0
    for one, other in zip(reversed(first), reversed(second), strict=False):
        if one != other:
            break
        length += 1
    return first[len(first) - length :]
