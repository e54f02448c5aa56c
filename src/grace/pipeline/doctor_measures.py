"""
What `grace doctor` asks a server to compute: masses, next tokens, repetitions.

Everything is asked through the scorer, as a run would ask it. Nothing here
judges a number: see `grace.pipeline.diagnosis`.
"""

import asyncio
import contextlib
import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, JsonValue

from grace.engine.plan import ScoreQuery
from grace.engine.score import Scorer, ScoringMethod
from grace.engine.soundness import Inspected, InspectedForm, Inspector
from grace.errors import (
    BadReply,
    InferenceError,
    QueryRejected,
    ScoringError,
    ServerUnavailable,
    TokenBoundaryError,
)
from grace.inference.client import InferenceClient, NextTokenQuestion
from grace.inference.reading import TokenReader
from grace.pipeline.doctor_report import ForcedReport, RepeatReport, TokenReport
from grace.pipeline.patience import patiently
from grace.scoring.distribution import distribution
from grace.scoring.overlaps import excluded_by
from grace.scoring.variants import Variant, variants_of
from grace.studies.probes import Answer

NEXT_TOKENS = 20
"""Length of the list of what would come next; the most that servers give by default."""

LEAST_PROBABILITY = 0.0005
"""A variant whose first token alone has less is not measured: it can only have less still."""

_VARIANT_LABEL = "\x00variant"


class _ScoredForm(BaseModel):
    label: str
    logprobs: list[float]


class _Scored(BaseModel):
    forms: list[_ScoredForm]


class TokenTexts:
    """
    The texts of tokens, each asked for once.

    Args:
        client: The model; where it is no `TokenReader`, texts are None.
    """

    def __init__(self, client: InferenceClient) -> None:
        self._reader = client if isinstance(client, TokenReader) else None
        self._known: dict[int, str] = {}

    async def reports(self, token_ids: Sequence[int]) -> tuple[TokenReport, ...]:
        """Return tokens with their texts."""
        if self._reader is None:
            return tuple(TokenReport(id=token, text=None) for token in token_ids)
        unknown = [token for token in dict.fromkeys(token_ids) if token not in self._known]
        try:
            texts = await self._reader.token_texts(unknown) if unknown else ()
        except (QueryRejected, BadReply):
            # Old servers have no such path. Numbers will do.
            self._reader = None
            return await self.reports(token_ids)
        self._known |= dict(zip(unknown, texts, strict=True))
        return tuple(TokenReport(id=token, text=self._known[token]) for token in token_ids)


@dataclass(slots=True)
class Measured:
    """
    What was measured after one prompt.

    Attributes:
        query: The query.

        forms: Log-probability of each form of the set, in order.

        coverage: Probability of the set.

        variants: Log-probability of each variant outside the set.

        likeliest: The most probable next tokens.
    """

    query: ScoreQuery
    forms: list[float]
    coverage: float
    variants: dict[Variant, tuple[tuple[int, ...], float]] = field(default_factory=dict)
    likeliest: Mapping[int, float] = field(default_factory=dict)

    def probability(self, position: int) -> float:
        """Return the probability of a form."""
        return math.exp(self.forms[position])


@dataclass(slots=True)
class Measures:
    """Measures prompts through one client and scorer."""

    client: InferenceClient
    scorer: Scorer
    inspector: Inspector

    async def measure(self, inspected: Inspected) -> Measured:
        """
        Score a query's set, then its variants, and list what would come next.

        Raises:
            InferenceError, ScoringError: It cannot be scored.
        """
        query = inspected.query
        forms = _joint(await self.scorer.score(query))
        by_label: dict[str, list[float]] = {label: [] for label in query.probe.labels}
        for form, logprob in zip(inspected.forms, forms, strict=True):
            by_label[form.label].append(logprob)
        found = Measured(query, forms, distribution(query.probe.labels, by_label).coverage)
        if inspected.rendered is not None and isinstance(self.client, TokenReader):
            prefix = inspected.rendered.token_ids
            # A server may be started with a shorter list, or with none.
            with contextlib.suppress(QueryRejected, BadReply):
                found.likeliest = await self.client.likeliest(prefix, NEXT_TOKENS)
        found.variants = await self._variants(inspected, found.likeliest)
        return found

    async def _variants(
        self, inspected: Inspected, likeliest: Mapping[int, float]
    ) -> dict[Variant, tuple[tuple[int, ...], float]]:
        """Score the variants that exclude the set and are worth it, with the set, in one query."""
        query, rendered = inspected.query, inspected.rendered
        if rendered is None:
            return {}
        prompt = self.scorer.prompt_of(query)
        encoded: list[tuple[Variant, InspectedForm]] = []
        for answer in query.probe.answers:
            for variant in variants_of(answer.label, answer.surface_forms):
                try:
                    form = await self.inspector.encode_form(
                        query.probe, variant.label, variant.text, prompt, rendered
                    )
                except TokenBoundaryError:
                    continue
                if likeliest and not _worth_asking(form, likeliest):
                    continue
                encoded.append((variant, form))
        kept = excluded_by(
            [form.token_ids for _, form in encoded], [form.token_ids for form in inspected.forms]
        )
        if not kept:
            return {}
        chosen = [encoded[position] for position in kept]
        answers = (
            *query.probe.answers,
            Answer(_VARIANT_LABEL, tuple(variant.text for variant, _ in chosen)),
        )
        wider = dataclasses.replace(query, probe=dataclasses.replace(query.probe, answers=answers))
        scored = _joint(await self.scorer.score(wider))[-len(chosen) :]
        return {
            variant: (form.token_ids, logprob)
            for (variant, form), logprob in zip(chosen, scored, strict=True)
        }


async def repeats(
    measured: Sequence[Measured], scorer: Scorer, other: tuple[ScoringMethod, Scorer] | None
) -> list[RepeatReport]:
    """
    Ask scores again: one by one, side by side, and by the other scoring method.

    Args:
        measured: Their first answers.

        scorer: Who gave them.

        other: The other method and its scorer, where the server has both.

    Raises:
        InferenceError, ScoringError: A score cannot be had again.
    """
    if not measured:
        return []
    again = [await patiently(scorer.score, one.query) for one in reversed(measured)][::-1]
    together = await asyncio.gather(*(patiently(scorer.score, one.query) for one in measured))
    found = [
        _compared("asked again", measured, again),
        _compared("side by side", measured, together),
    ]
    if other is not None:
        others = [await patiently(other[1].score, one.query) for one in measured]
        found.append(_compared("trie and sequence", measured, others))
    return found


async def forced(
    inspected: Inspected,
    likeliest: Mapping[int, float],
    client: InferenceClient,
    method: ScoringMethod,
    texts: TokenTexts,
) -> ForcedReport | None:
    """
    Score an unlikely token after a prompt, as answers are scored.

    Raises:
        InferenceError: The server did not answer.
    """
    if inspected.rendered is None or not likeliest:
        return None
    token = min(likeliest, key=lambda one: likeliest[one])
    prefix = inspected.rendered.token_ids
    try:
        if method is ScoringMethod.TRIE:
            question = NextTokenQuestion(prefix, (token,))
            scored = (await client.next_token_logprobs([question]))[0][token]
        else:
            scored = (await client.sequence_logprobs(prefix, [(token,)]))[0][0]
    except ServerUnavailable:
        raise
    except (InferenceError, ScoringError):
        # TGI scores texts only, and this token came from none.
        return None
    (report,) = await texts.reports([token])
    return ForcedReport(token=report, listed=likeliest[token], scored=scored)


def mean_probabilities(measured: Sequence[Measured]) -> list[float]:
    """Return the mean probability of each form."""
    return [
        statistics.fmean(one.probability(position) for one in measured)
        for position in range(len(measured[0].forms))
    ]


def mean_variants(measured: Sequence[Measured]) -> dict[Variant, tuple[tuple[int, ...], float]]:
    """
    Return tokens and mean probability of each variant.

    After a prompt where it was not worth measuring it counts as 0, so that the
    mean may be too small by `LEAST_PROBABILITY` at most.
    """
    sums: dict[Variant, tuple[tuple[int, ...], list[float]]] = {}
    for one in measured:
        for variant, (token_ids, logprob) in one.variants.items():
            sums.setdefault(variant, (token_ids, []))[1].append(math.exp(logprob))
    return {
        variant: (token_ids, math.fsum(values) / len(measured))
        for variant, (token_ids, values) in sums.items()
    }


def mean_likeliest(measured: Sequence[Measured]) -> list[tuple[int, float]]:
    """
    Return what would come next, token and mean probability, the likeliest first.

    After a prompt where a token is not among the `NEXT_TOKENS` likeliest it counts
    as 0.
    """
    listed: dict[int, list[float]] = {}
    for one in measured:
        for token, logprob in one.likeliest.items():
            listed.setdefault(token, []).append(math.exp(logprob))
    means = {token: math.fsum(values) / len(measured) for token, values in listed.items()}
    return sorted(means.items(), key=lambda item: -item[1])


def _worth_asking(form: InspectedForm, likeliest: Mapping[int, float]) -> bool:
    first = likeliest.get(form.token_ids[0])
    return first is not None and math.exp(first) >= LEAST_PROBABILITY


def _scored(value: Mapping[str, JsonValue]) -> list[_ScoredForm]:
    return _Scored.model_validate(value).forms


def _joint(value: Mapping[str, JsonValue]) -> list[float]:
    return [math.fsum(form.logprobs) for form in _scored(value)]


def _compared(
    ways: str, measured: Sequence[Measured], values: Sequence[Mapping[str, JsonValue]]
) -> RepeatReport:
    largest, where = 0.0, ""
    for one, value in zip(measured, values, strict=True):
        for form, before in zip(_scored(value), one.forms, strict=True):
            difference = abs(before - math.fsum(form.logprobs))
            if difference >= largest:
                largest, where = difference, f"{one.query.probe.name}, {form.label}"
    return RepeatReport(ways=ways, queries=len(measured), largest_nats=largest, where=where)
