"""Scores as Grace makes them: its embedded server, its client, its scorer."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from exact.materials import CHAT, COMPLETION, Material
from grace.engine.plan import QueryKey, ScoreQuery
from grace.engine.score import Scorer, ScoringMethod, choose_method
from grace.inference.client import InferenceClient, Rendered
from grace.inference.llamacpp import LlamaCppClient
from grace.inference.transport import Transport
from grace.serving.embedded import EmbeddedSettings, embedded_server
from grace.studies.prompts import Prompt, PromptMode, build_prompt

TRIE, SEQUENCE = ScoringMethod.TRIE, ScoringMethod.SEQUENCE
AS_SHIPPED = EmbeddedSettings(slots=4, threads=1)
"""As in any run, with slots to ask side by side."""

IN_FP32 = EmbeddedSettings(slots=4, threads=1, tokens_at_once=512)
"""One token at a time would take four times as long with these weights."""


class Form(BaseModel):
    """One scored surface form."""

    label: str
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]

    @property
    def logprob(self) -> float:
        """The joint log-probability of all its tokens."""
        return sum(self.logprobs)


class _Scored(BaseModel):
    forms: tuple[Form, ...]


Scores = Mapping[QueryKey, tuple[Form, ...]]


@dataclass(frozen=True, slots=True)
class Measured:
    """
    What one server answered.

    Attributes:
        rendered: The prompts as the server gives them to the model.

        scores: One query at a time, by mode and method.

        preferred: The method that a run would use.

        cold: The repeated queries, each after an unrelated text.

        warm: The same, asked again at once.

        together: The queries that were asked side by side.
    """

    rendered: Mapping[PromptMode, Mapping[QueryKey, Rendered]]
    scores: Mapping[tuple[PromptMode, ScoringMethod], Scores]
    preferred: ScoringMethod
    cold: Scores
    warm: Scores
    together: Scores


async def measure(
    model: Path,
    material: Material,
    methods: Sequence[ScoringMethod] | None,
    settings: EmbeddedSettings,
) -> Measured:
    """
    Score the material on Grace's embedded server.

    Args:
        model: A GGUF file.

        material: The queries.

        methods: How; None for the way that a run would take.

        settings: How the server is run.
    """
    queries = {CHAT: material.chat, COMPLETION: material.completion}
    async with embedded_server(model, "exact", settings) as server:
        cold: dict[QueryKey, tuple[Form, ...]] = {}
        warm: dict[QueryKey, tuple[Form, ...]] = {}
        for query in material.repeated:
            # Connecting probes the server with a text of its own in the first slot, which
            # a new client takes first: nothing of what the slot held can be reused.
            async with _connected(server.url) as client:
                preferred = choose_method(client.capabilities, None)
                cold |= await score_with(client, [query], CHAT, preferred)
                warm |= await score_with(client, [query], CHAT, preferred)
        async with _connected(server.url) as client:
            preferred = choose_method(client.capabilities, None)
            rendered = {
                mode: {query.key: await client.render(prompt_of(query, mode)) for query in asked}
                for mode, asked in queries.items()
            }
            scores = {
                (mode, method): await score_with(client, asked, mode, method)
                for method in methods or [preferred]
                for mode, asked in queries.items()
            }
            together = await score_with(client, material.together, CHAT, preferred, settings.slots)
    return Measured(rendered, scores, preferred, cold, warm, together)


def prompt_of(query: ScoreQuery, mode: PromptMode) -> Prompt:
    """Return a query's prompt."""
    return build_prompt([query.turn], [], mode)


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[LlamaCppClient]:
    client = LlamaCppClient(Transport(url))
    try:
        await client.connect()
        yield client
    finally:
        await client.aclose()


async def score_with(
    client: InferenceClient,
    queries: Sequence[ScoreQuery],
    mode: PromptMode,
    method: ScoringMethod,
    at_once: int = 1,
) -> dict[QueryKey, tuple[Form, ...]]:
    """Return the scores of queries on a connected server, so many asked side by side."""
    scorer = Scorer(client, mode, method)
    scores: dict[QueryKey, tuple[Form, ...]] = {}
    pending = iter(queries)

    async def work() -> None:
        for query in pending:
            scores[query.key] = _Scored.model_validate(await scorer.score(query)).forms

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
    return scores
