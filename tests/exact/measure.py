"""Scores as Grace makes them: its embedded server, its client, its scorer."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from grace.engine.plan import QueryKey, ScoreQuery
from grace.engine.score import Scorer, ScoringMethod
from grace.inference.client import Rendered
from grace.inference.llamacpp import LlamaCppClient
from grace.inference.transport import Transport
from grace.scoring.distribution import Distribution, distribution
from grace.serving.embedded import EmbeddedServer, EmbeddedSettings, embedded_server
from grace.studies.prompts import Prompt, PromptMode, build_prompt

SLOTS = EmbeddedSettings().slots


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
class Server:
    """A running embedded server and a client of it."""

    address: EmbeddedServer
    client: LlamaCppClient

    @asynccontextmanager
    async def emptied(self) -> AsyncIterator["Server"]:
        """
        Return the server with nothing in its first slot that a prompt could reuse.

        Connecting probes the server with a text of its own in the first slot,
        and a new client takes that slot first.
        """
        client = LlamaCppClient(Transport(self.address.url), self.address.details)
        try:
            await client.connect()
            yield Server(self.address, client)
        finally:
            await client.aclose()

    async def scores(
        self,
        queries: Sequence[ScoreQuery],
        method: ScoringMethod,
        *,
        mode: PromptMode = PromptMode.CHAT,
        at_once: int = SLOTS,
    ) -> Scores:
        """Score queries, *at_once* of them side by side."""
        scorer = Scorer(self.client, mode, method)
        scores: dict[QueryKey, tuple[Form, ...]] = {}
        pending = iter(queries)

        async def work() -> None:
            for query in pending:
                scores[query.key] = _Scored.model_validate(await scorer.score(query)).forms

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(work())
        return scores

    async def rendered(
        self, queries: Sequence[ScoreQuery], mode: PromptMode
    ) -> dict[QueryKey, Rendered]:
        """Return the prompts as the server gives them to the model."""
        return {query.key: await self.client.render(prompt_of(query, mode)) for query in queries}


@asynccontextmanager
async def serving(model: Path) -> AsyncIterator[Server]:
    """Run Grace's embedded server as for any run, but on one thread."""
    async with embedded_server(model, "exact", EmbeddedSettings(threads=1)) as running:
        client = LlamaCppClient(Transport(running.url), running.details)
        try:
            await client.connect()
            yield Server(running, client)
        finally:
            await client.aclose()


def prompt_of(query: ScoreQuery, mode: PromptMode) -> Prompt:
    """Return a query's prompt."""
    return build_prompt([query.turn], [], mode)


def distribution_of(query: ScoreQuery, forms: Sequence[Form]) -> Distribution:
    """Return the distribution over a query's answers."""
    by_label: dict[str, list[float]] = {}
    for form in forms:
        by_label.setdefault(form.label, []).append(form.logprob)
    return distribution(query.probe.labels, by_label)
