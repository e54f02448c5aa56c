"""
The stages of a cell that ask a model: respond, extract, score.

Each continues where the journal ends.
"""

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from grace.engine.execute import Asker, RetryPolicy, run_workers
from grace.engine.journal import JournalWriter, Record
from grace.engine.plan import Dialogue, QueryKey, ResponsePlan, ScoreQuery
from grace.engine.respond import Respondent
from grace.engine.score import Scorer, ScoringMethod
from grace.extraction.extract import OpenExtraction, RowText, plan_extraction
from grace.extraction.model_extractor import ModelExtractor
from grace.pipeline.cell import Cell, sampling_of
from grace.pipeline.connection import Connection
from grace.pipeline.stages import Stage
from grace.runs.tables import ANSWERED, row_responses
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
    respondent = Respondent(
        connection.client, cell.use.mode, sampling_of(cell.settings), cell.use.reasoning
    )
    for plan in cell.response_plans():
        name = f"{plan.trials.study.key} responses"
        with _asking(cell, Stage.RESPOND, name, plan.query_keys) as asker:
            pending = [
                dialogue
                for dialogue in plan.dialogues
                if any(query.key not in asker.records for query in dialogue.queries)
            ]

            async def work(dialogue: Dialogue, asker: Asker = asker) -> None:
                await respondent.hold(dialogue, asker, cell.stop)

            await _work_off(cell, asker, pending, work, connection.concurrency)


async def extract(cell: Cell, connection: Connection) -> None:
    """
    Run the stage `extract`: ask a model for what the rules leave open.

    Raises:
        Stopped: A stop was asked for.

        ServerUnavailable: The server is lost.
    """
    choice = cell.extractor
    extractor = ModelExtractor(choice.name, connection.client, choice.mode, choice.convention)
    records = cell.records()
    for plan in cell.response_plans():
        study = plan.trials.study
        todo = plan_extraction(
            study, row_texts(plan, records), choice.name, rules_first=choice.rules_first
        )
        with _asking(
            cell, Stage.EXTRACT, f"{study.key} extraction", [one.key for one in todo]
        ) as asker:
            pending = [one for one in todo if one.key not in asker.records]

            async def work(one: OpenExtraction, asker: Asker = asker, study: Study = study) -> None:
                await asker.ask(
                    one.key, "extraction", lambda: extractor.extract(study, one.responses)
                )

            await _work_off(cell, asker, pending, work, connection.concurrency)


async def score(cell: Cell, connection: Connection, method: ScoringMethod) -> None:
    """
    Run the stage `score`: ask all distributions.

    Raises:
        Stopped: A stop was asked for.

        ServerUnavailable: The server is lost.
    """
    scorer = Scorer(connection.client, cell.use.mode, method, cell.use.convention)
    for plan in cell.score_plans():
        name = f"{plan.trials.study.key} probabilities"
        with _asking(cell, Stage.SCORE, name, plan.query_keys) as asker:
            pending = [query for query in plan.queries if query.key not in asker.records]

            async def work(query: ScoreQuery, asker: Asker = asker) -> None:
                await asker.ask(query.key, query.probe.name, lambda: scorer.score(query))

            await _work_off(cell, asker, pending, work, connection.concurrency)


def row_texts(plan: ResponsePlan, records: Mapping[QueryKey, Record]) -> list[RowText]:
    """Return each row's responses, or why they are not all there."""
    texts = []
    for row in plan.rows:
        responses = row_responses(row, records)
        reason = "" if responses.status == ANSWERED else f"no response: {responses.error}"
        texts.append(RowText(responses.texts, reason))
    return texts


@contextmanager
def _asking(cell: Cell, stage: Stage, name: str, keys: Sequence[QueryKey]) -> Iterator[Asker]:
    records = cell.records()
    if cell.settings.retry_failed:
        records = {key: record for key, record in records.items() if record.status == ANSWERED}
    started = time.monotonic()
    with JournalWriter(cell.folder.journal, stage) as writer:
        asker = Asker(name, stage, records, keys, writer, cell.hook, RetryPolicy())
        counts = asker.counts
        cell.hook.stage_started(name, counts.planned, counts.answered + counts.failed)
        yield asker
        asker.close()
    cell.hook.stage_finished(name, asker.counts)
    spent = time.monotonic() - started
    cell.seconds[stage] = round(cell.seconds.get(stage, 0.0) + spent, 3)


async def _work_off(
    cell: Cell,
    asker: Asker,
    pending: Sequence[_U],
    work: Callable[[_U], Awaitable[None]],
    concurrency: int,
) -> None:
    await run_workers(pending, work, concurrency=concurrency, stop=cell.stop)
    if cell.stop.requested and asker.counts.not_asked:
        raise Stopped
