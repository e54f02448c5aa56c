"""
The stages of a cell that ask a model: respond, extract, score, recheck.

Each continues where the journal ends.
"""

import asyncio
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

from pydantic import JsonValue

from grace.engine.audit import Audit
from grace.engine.execute import Asker, nothing
from grace.engine.forecast import (
    MOST_QUERIES_TOGETHER,
    Forecast,
    estimated,
    forecast_responses,
    forecast_scores,
)
from grace.engine.journal import JournalWriter, Record
from grace.engine.pace import Pace
from grace.engine.plan import Dialogue, QueryKey, ResponsePlan, ScorePlan, ScoreQuery
from grace.engine.recheck import plan_recheck
from grace.engine.respond import Respondent
from grace.engine.score import Scorer, ScoringMethod
from grace.engine.workers import run_workers
from grace.extraction.extract import OpenExtraction, RowText, plan_extraction
from grace.extraction.model_extractor import ModelExtractor
from grace.inference.client import GenerationRequest, Sampling
from grace.pipeline.cell import Cell, sampling_of
from grace.pipeline.connection import Connection
from grace.pipeline.meter import Meter
from grace.pipeline.patience import patience_of
from grace.pipeline.stages import Stage, shown_name
from grace.runs.scored import ANSWERED
from grace.runs.tables import row_responses
from grace.studies.probes import Turn
from grace.studies.prompts import PromptMode, build_prompt
from grace.studies.study import Study

_U = TypeVar("_U")


class Stopped(Exception):
    """A stop was asked for; everything finished is in the journal."""


async def respond(cell: Cell, connection: Connection) -> None:
    """
    Run the stage `respond`: ask all dialogues.

    Raises:
        Stopped: A stop was asked for.

        ServerUnavailable: The server is lost.
    """
    with _auditing(cell, Stage.RESPOND) as audit:
        respondent = Respondent(
            connection.client, cell.use.mode, sampling_of(cell.settings), cell.use.reasoning, audit
        )
        await _respond(cell, connection, respondent)


async def _respond(cell: Cell, connection: Connection, respondent: Respondent) -> None:
    for plan in cell.asked_responses():

        def expected(asker: Asker, block_size: int, plan: ResponsePlan = plan) -> Forecast:
            todo = (
                dialogue
                for dialogue in plan.dialogues
                if not all(asker.is_finished(query.key) for query in dialogue.queries)
            )
            dialect = connection.server.dialect
            return forecast_responses(todo, cell.use.mode, dialect, block_size=block_size)

        asking = _asking(
            cell,
            Stage.RESPOND,
            plan.trials.study,
            plan.query_keys,
            connection,
            cell.use.mode,
            forecast=expected,
            remember=plan.shares,
        )
        async with asking as asker:
            pending = (
                dialogue
                for dialogue in plan.dialogues
                if not all(asker.is_finished(query.key) for query in dialogue.queries)
            )

            async def work(batch: Sequence[Dialogue], asker: Asker = asker) -> None:
                for dialogue in batch:
                    await respondent.hold(dialogue, asker, cell.stop)

            await _work_off(cell, asker, pending, work)


async def extract(cell: Cell, connection: Connection) -> None:
    """
    Run the stage `extract`: ask a model for what the rules leave open.

    Raises:
        Stopped: A stop was asked for.

        ServerUnavailable: The server is lost.
    """
    choice = cell.extractor
    with _auditing(cell, Stage.EXTRACT) as audit:
        extractor = ModelExtractor(
            choice.name, connection.client, choice.mode, choice.convention, audit
        )
        await _extract(cell, connection, extractor)


async def _extract(cell: Cell, connection: Connection, extractor: ModelExtractor) -> None:
    choice = cell.extractor
    records = cell.records()
    for plan in cell.response_plans():
        study = plan.trials.study
        left = plan_extraction(
            study, row_texts(plan, records), choice.name, rules_first=choice.rules_first
        )
        todo = [one for one in left if cell.asks(one.key)]
        keys = [one.key for one in todo]
        asking = _asking(cell, Stage.EXTRACT, study, keys, connection, choice.mode)
        async with asking as asker:
            pending = (one for one in todo if not asker.is_finished(one.key))

            async def work(
                batch: Sequence[OpenExtraction], asker: Asker = asker, study: Study = study
            ) -> None:
                for one in batch:

                    async def call(one: OpenExtraction = one) -> Mapping[str, JsonValue]:
                        return await extractor.extract(study, one.responses)

                    await asker.ask(one.key, "extraction", call)

            await _work_off(cell, asker, pending, work)


async def score(cell: Cell, connection: Connection, method: ScoringMethod) -> None:
    """
    Run the stage `score`: ask all distributions.

    Raises:
        Stopped: A stop was asked for.

        ServerUnavailable: The server is lost.
    """
    with _auditing(cell, Stage.SCORE) as audit:
        scorer = _scorer(cell, connection, method, audit)
        await _score(cell, connection, scorer, method)


async def _score(cell: Cell, connection: Connection, scorer: Scorer, method: ScoringMethod) -> None:
    for plan in cell.asked_scores():
        largest = MOST_QUERIES_TOGETHER if scorer.gathers else 1

        def expected(asker: Asker, block_size: int, plan: ScorePlan = plan) -> Forecast:
            todo = (query for query in plan.queries if not asker.is_finished(query.key))
            return forecast_scores(
                estimated(todo, cell.use.mode), connection.server.dialect, block_size=block_size
            )

        asking = _asking(
            cell,
            Stage.SCORE,
            plan.trials.study,
            plan.query_keys,
            connection,
            cell.use.mode,
            largest,
            expected if method is ScoringMethod.TRIE else None,
        )
        async with asking as asker:
            pending = (query for query in plan.queries if not asker.is_finished(query.key))

            async def work(batch: Sequence[ScoreQuery], asker: Asker = asker) -> None:
                await score_together(scorer, asker, batch)

            await _work_off(cell, asker, pending, work)


async def score_together(scorer: Scorer, asker: Asker, batch: Sequence[ScoreQuery]) -> None:
    """
    Ask for several distributions in few requests; each is a query of its own.

    Raises:
        ServerUnavailable: See `Asker.ask`.
    """
    if len(batch) == 1:
        (query,) = batch
        await asker.ask(query.key, query.probe.name, lambda: scorer.score(query))
        return
    gathering = scorer.gathering(len(batch), asker.pace.too_large)

    async def one(member: int, query: ScoreQuery) -> None:
        async def call() -> Mapping[str, JsonValue]:
            try:
                return await scorer.score(query, gathering.questions_of(member))
            finally:
                gathering.leave(member)

        await asker.ask(query.key, query.probe.name, call)

    async with asyncio.TaskGroup() as group:
        for member, query in enumerate(batch):
            group.create_task(one(member, query))


async def recheck(cell: Cell, connection: Connection, method: ScoringMethod) -> None:
    """
    Run the stage `recheck`: score a sample of the distributions again, in another order.

    Raises:
        Stopped: A stop was asked for.

        ServerUnavailable: The server is lost.
    """
    with _auditing(cell, Stage.RECHECK) as audit:
        await _recheck(cell, connection, _scorer(cell, connection, method, audit))


async def _recheck(cell: Cell, connection: Connection, scorer: Scorer) -> None:
    settings = cell.settings
    for plan in cell.score_plans():
        again = [
            one.query
            for one in plan_recheck(
                plan, cell.records(), percent=settings.recheck, seed=settings.seed
            )
            if cell.asks(one.query.key)
        ]
        keys = [query.key for query in again]
        largest = MOST_QUERIES_TOGETHER if scorer.gathers else 1
        study = plan.trials.study
        asking = _asking(cell, Stage.RECHECK, study, keys, connection, cell.use.mode, largest)
        async with asking as asker:
            pending = [query for query in again if not asker.is_finished(query.key)]

            async def work(batch: Sequence[ScoreQuery], asker: Asker = asker) -> None:
                await score_together(scorer, asker, batch)

            await _work_off(cell, asker, pending, work)


@contextmanager
def _auditing(cell: Cell, stage: Stage) -> Iterator[Audit | None]:
    """Keep a stage's prompts, if that was asked for."""
    if not cell.settings.audit:
        yield None
        return
    with Audit(cell.folder.audit, stage, cell.writer) as audit:
        yield audit


def _scorer(
    cell: Cell, connection: Connection, method: ScoringMethod, audit: Audit | None
) -> Scorer:
    return Scorer(
        connection.client,
        cell.use.mode,
        method,
        cell.use.convention,
        terminators=cell.settings.terminators,
        audit=audit,
    )


def row_texts(plan: ResponsePlan, records: Mapping[QueryKey, Record]) -> Iterator[RowText]:
    """Yield each row's responses, or why they are not all there."""
    for row in plan.rows:
        responses = row_responses(row, records)
        reason = "" if responses.status == ANSWERED else f"no response: {responses.error}"
        yield RowText(responses.texts, reason)


@asynccontextmanager
async def _asking(
    cell: Cell,
    stage: Stage,
    study: Study,
    keys: Sequence[QueryKey],
    connection: Connection,
    mode: PromptMode,
    largest: int = 1,
    forecast: Callable[[Asker, int], Forecast] | None = None,
    *,
    remember: bool = False,
) -> AsyncIterator[Asker]:
    name = shown_name(study.key, stage)
    records = cell.records()
    if cell.settings.retry_failed:
        records = records.answers()
    started = time.monotonic()
    pace = Pace(
        connection.concurrency,
        largest,
        adaptive=connection.adaptive,
        on_change=lambda requests, queries: cell.hook.pace_changed(name, requests, queries),
    )
    with JournalWriter(cell.folder.journal, stage, cell.writer) as writer:
        asker = Asker(
            name,
            stage,
            records,
            keys,
            writer,
            cell.hook,
            patience_of(cell.settings),
            pace,
            confirm=_confirmation(connection),
            sign_of_life=_sign_of_life(connection, mode),
            remember=remember,
        )
        counts = asker.counts
        cell.hook.stage_started(name, counts.planned, counts.answered + counts.failed)
        meter = await Meter.start(connection)
        expected = forecast(asker, meter.block_size) if forecast is not None else None
        try:
            yield asker
            cost = await meter.cost(asker, expected)
            await asker.close()
        finally:
            cell.tally[name] = asker.counts
    cell.hook.stage_finished(name, asker.counts)
    spent = time.monotonic() - started
    cell.seconds[stage] = round(cell.seconds.get(stage, 0.0) + spent, 3)
    if cost.queries:
        cell.costs[name] = cost


def _confirmation(connection: Connection) -> Callable[[], Awaitable[object]]:
    """Return a call that makes sure that the server is still the same one."""
    return connection.vigil.confirm if connection.vigil is not None else nothing


def _sign_of_life(connection: Connection, mode: PromptMode) -> Callable[[], Awaitable[object]]:
    """Return a call that asks the server for one token."""
    request = GenerationRequest(
        prompt=build_prompt([Turn(question="Are you there?")], [], mode),
        sampling=Sampling(temperature=0),
        max_tokens=1,
        seed=0,
    )
    return lambda: connection.client.generate(request)


async def _work_off(
    cell: Cell,
    asker: Asker,
    pending: Iterable[_U],
    work: Callable[[Sequence[_U]], Awaitable[None]],
) -> None:
    await run_workers(pending, work, pace=asker.pace, stop=cell.stop)
    if cell.stop.requested and asker.counts.not_asked:
        raise Stopped
