"""
Whether the answers of a query can be scored exactly, and if not, what is wrong.

Scoring refuses at the first fault, because that is reason enough. Here all
faults of a query are collected and put into words, with the tokens and a remedy,
before anything is scored: only the server's template and tokenizer are asked.
"""

import contextlib
import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from grace.engine.plan import ScoreQuery
from grace.engine.score import Scorer
from grace.errors import (
    BadReply,
    InferenceError,
    QueryRejected,
    ScoringError,
    ServerUnavailable,
    TokenBoundaryError,
)
from grace.inference.client import InferenceClient, Rendered
from grace.inference.reading import TokenReader
from grace.inference.slots import shared_prefix
from grace.scoring.overlaps import overlaps
from grace.studies.probes import Answer, CandidateProbe
from grace.studies.prompts import Prompt

_SHOWN_END = 24
_DOUBLED_BOS = re.compile(r"(<[^<>\s]+>|\[[^\[\]\s]+\])\1")


class FaultKind(StrEnum):
    """What can be wrong with a query before it is asked."""

    REFUSED = "prompt refused"
    DOUBLED_BOS = "doubled BOS"
    ANSWER_PREFIX = "answer prefix"
    MERGE = "merge"
    EMPTY = "empty answer"
    OVERLAP = "overlap"
    TOO_LONG = "too long"


@dataclass(frozen=True, slots=True)
class Fault:
    """
    Why a query cannot be scored exactly.

    Attributes:
        kind: What it is.

        problem: The fault in words, naming answer and tokens.

        remedy: What to do.

        about: The answers at fault, if it is theirs; the same after every prompt.
    """

    kind: FaultKind
    problem: str
    remedy: str
    about: str = ""

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class InspectedForm:
    """
    One surface form after one prompt.

    Attributes:
        label: Its answer.

        text: The string, with what separates it from the prompt.

        token_ids: Its tokens; empty if it has none of its own.
    """

    label: str
    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Inspected:
    """
    What was found about one query.

    Attributes:
        query: The query.

        rendered: Its prompt as the model sees it; None if it was refused.

        forms: The surface forms of its answers.

        faults: All that is wrong; none means that it can be scored.
    """

    query: ScoreQuery
    rendered: Rendered | None
    forms: tuple[InspectedForm, ...]
    faults: tuple[Fault, ...]

    @property
    def sound(self) -> bool:
        """Whether the query can be scored exactly."""
        return not self.faults


class Inspector:
    """
    Inspects queries through a client.

    Args:
        client: The model; connected.

        scorer: Whose prompts and encodings are inspected.

        context_length: Most tokens of prompt and answer; None if unknown.
    """

    def __init__(self, client: InferenceClient, scorer: Scorer, context_length: int | None) -> None:
        self._client = client
        self._scorer = scorer
        self._context_length = context_length

    async def inspect(self, query: ScoreQuery) -> Inspected:
        """
        Render and encode a query, and collect its faults.

        Raises:
            ServerUnavailable: The server did not answer.
        """
        try:
            return await self._inspected(query, self._scorer.prompt_of(query))
        except ServerUnavailable:
            raise
        except InferenceError as error:
            fault = Fault(
                FaultKind.REFUSED,
                f"the server does not render or encode it: {error}",
                "see the server's messages, and `prompt_mode` of the model's catalogue entry",
            )
            return Inspected(query, None, (), (fault,))

    async def _inspected(self, query: ScoreQuery, prompt: Prompt) -> Inspected:
        try:
            rendered = await self._client.render(prompt)
        except ScoringError as error:
            return Inspected(query, None, (), (_prefix_fault(prompt, str(error)),))
        faults = [*await self._bos_faults(rendered), *await self._prefix_faults(prompt, rendered)]
        try:
            candidates = await self._scorer.encode_candidates(query.probe, prompt, rendered)
        except ScoringError:
            forms, wrong = await self._forms(query.probe, prompt, rendered)
            faults += wrong
        else:
            forms = [InspectedForm(f.label, f.text, f.token_ids) for f in candidates.forms]
        faults += self._length_faults(rendered, forms)
        return Inspected(query, rendered, tuple(forms), tuple(faults))

    async def encode_form(
        self, probe: CandidateProbe, label: str, text: str, prompt: Prompt, rendered: Rendered
    ) -> InspectedForm:
        """
        Encode one string as an answer to a probe, by itself.

        Raises:
            TokenBoundaryError: It has no tokens of its own after this prompt.

            InferenceError: The server did not answer.
        """
        alone = CandidateProbe(probe.name, probe.turn, (Answer(label, (text,)),))
        (form,) = (await self._scorer.encode_candidates(alone, prompt, rendered)).forms
        return InspectedForm(form.label, form.text, form.token_ids)

    async def _forms(
        self, probe: CandidateProbe, prompt: Prompt, rendered: Rendered
    ) -> tuple[list[InspectedForm], list[Fault]]:
        forms, faults = [], []
        for answer in probe.answers:
            for surface in answer.surface_forms:
                try:
                    form = await self.encode_form(probe, answer.label, surface, prompt, rendered)
                except TokenBoundaryError:
                    text = prompt.answer_separator + surface
                    form = InspectedForm(answer.label, text, ())
                    faults.append(await self._seam_fault(text, rendered))
                forms.append(form)
        for shorter, longer in overlaps([form.token_ids for form in forms]):
            faults.append(
                Fault(
                    FaultKind.OVERLAP,
                    f"the tokens of {forms[shorter].text!r} {_ids(forms[shorter].token_ids)} begin "
                    f"those of {forms[longer].text!r} {_ids(forms[longer].token_ids)}: the answers "
                    "do not exclude each other",
                    "give both an ending, such as % or a full stop",
                    about=f"{forms[shorter].text!r}, {forms[longer].text!r}",
                )
            )
        return forms, faults

    async def _seam_fault(self, text: str, rendered: Rendered) -> Fault:
        joined = await self._client.encode(rendered.text + text)
        kept = shared_prefix(rendered.token_ids, joined)
        if kept == len(rendered.token_ids):
            return Fault(
                FaultKind.EMPTY,
                f"the answer {text!r} adds no token to the prompt",
                "give it a form that is not empty",
                about=repr(text),
            )
        token = joined[kept]
        shown = ""
        if isinstance(self._client, TokenReader):
            with contextlib.suppress(QueryRejected, BadReply):
                shown = f" {(await self._client.token_texts([token]))[0]!r}"
        return Fault(
            FaultKind.MERGE,
            f"the answer {text!r} merges with the prompt's end {rendered.text[-_SHOWN_END:]!r}: "
            f"the token{shown} ({token}) belongs to both",
            "begin the answers otherwise, or end the prompt with what no token spans "
            "(`answer_prefix` of the model's catalogue entry)",
            about=repr(text),
        )

    async def _bos_faults(self, rendered: Rendered) -> list[Fault]:
        first, second = (*rendered.token_ids[:2], -1, -2)[:2]
        if first != second:
            return []
        bare = await self._client.encode("")
        if bare[:1] != (first,) and not _DOUBLED_BOS.match(rendered.text):
            return []
        return [
            Fault(
                FaultKind.DOUBLED_BOS,
                f"the prompt begins with the token {first} twice: template and tokenizer both "
                "write a beginning of text",
                "let the server add none to what its template has written",
            )
        ]

    async def _prefix_faults(self, prompt: Prompt, rendered: Rendered) -> list[Fault]:
        if not prompt.answer_prefix:
            return []
        bare = await self._client.render(dataclasses.replace(prompt, answer_prefix=""))
        if rendered.token_ids[: len(bare.token_ids)] == bare.token_ids:
            return []
        return [_prefix_fault(prompt, "they are not the same with it and without it")]

    def _length_faults(self, rendered: Rendered, forms: Sequence[InspectedForm]) -> list[Fault]:
        longest = max((len(form.token_ids) for form in forms), default=0)
        needed = len(rendered.token_ids) + longest
        if self._context_length is None or needed <= self._context_length:
            return []
        return [
            Fault(
                FaultKind.TOO_LONG,
                f"the prompt has {len(rendered.token_ids):,} tokens and the longest answer "
                f"{longest}, but the server's context holds {self._context_length:,}",
                "serve the model with a longer context, or shorten the text",
            )
        ]


def _prefix_fault(prompt: Prompt, words: str) -> Fault:
    return Fault(
        FaultKind.ANSWER_PREFIX,
        f"the answer prefix {prompt.answer_prefix!r} changes the prompt's own tokens ({words})",
        "begin and end it with a special token of the model (`answer_prefix` of the catalogue "
        "entry)",
    )


def _ids(token_ids: Sequence[int]) -> str:
    return f"({', '.join(map(str, token_ids))})"
