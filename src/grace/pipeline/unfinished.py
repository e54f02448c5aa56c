"""
What a cell still lacks before its tables can be made, told from its journal alone.

A query is over when it was answered or has failed. A later turn of a dialogue in
which one failed is over as well: nobody will ask it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

from grace.engine.journal import Record, is_answered
from grace.engine.plan import QueryKey, ResponsePlan, ScorePlan
from grace.engine.recheck import plan_recheck
from grace.errors import RunFolderError
from grace.pipeline.cell import Cell
from grace.pipeline.closing import extraction_counts, query_counts, response_keys, score_keys
from grace.pipeline.stages import Stage
from grace.runs.manifest import QueryCounts, read_manifest


def check_all_asked(cell: Cell, before: Stage) -> None:
    """
    Check that every query of a cell is over.

    Args:
        cell: The cell.

        before: The stage that needs it, for the message; of the stages that ask,
            only those before it are looked at.

    Raises:
        RunFolderError: Some were never asked; the message counts them by study and
            stage.
    """
    records = cell.records()
    if cell.experiment == "exp1":
        found = [one for plan in cell.response_plans() for one in _responses(cell, plan, records)]
    else:
        found = [one for plan in cell.score_plans() for one in _scores(cell, plan, records)]
    order = list(Stage)
    missing = [
        f"  {study} {stage.value}: {left:,} of {planned:,}"
        for study, stage, left, planned in found
        if left and order.index(stage) < order.index(before)
    ]
    if missing:
        raise RunFolderError(
            "\n".join(
                [
                    f"{cell.folder.path}: {before.value} needs queries that were never asked; run "
                    "these stages to their end before:",
                    *missing,
                ]
            )
        )


def blocked_turns(
    plan: ResponsePlan, records: Mapping[QueryKey, Record]
) -> tuple[Counter[str], bool]:
    """Return by probe which turns need an answer that failed, and whether all dialogues ended."""
    blocked: Counter[str] = Counter()
    over = True
    seen: set[QueryKey] = set()
    for dialogue in plan.dialogues:
        failed = False
        for query in dialogue.queries:
            ended = query.key in records
            if failed and not ended and query.key not in seen:
                seen.add(query.key)
                blocked[query.probe.name] += 1
            elif not failed:
                over = over and ended
                failed = ended and not is_answered(records, query.key)
    return blocked, over


def asked_counts(cell: Cell) -> QueryCounts:
    """Return the accounting of a cell's responses or distributions, from its journal."""
    records = cell.records()
    by_probe: list[QueryCounts] = []
    if cell.experiment == "exp1":
        for responses in cell.response_plans():
            by_probe += query_counts(response_keys(responses), records).values()
    else:
        for scores in cell.score_plans():
            by_probe += query_counts(score_keys(scores), records).values()
    return total_counts(by_probe)


def known_counts(cell: Cell) -> QueryCounts | None:
    """
    Return how a cell stands at the end of a command; None if it was not begun.

    A process that asked counts its own queries, a shard its part of them; any other
    all responses or distributions of the cell.

    Raises:
        RunFolderError: Manifest or journal cannot be read.
    """
    if cell.folder.closed:
        reports = read_manifest(cell.folder).studies.values()
        return total_counts([one for report in reports for one in report.queries.values()])
    if cell.tally:
        return total_counts([QueryCounts.of(one) for one in cell.tally.values()])
    return asked_counts(cell) if cell.folder.begun else None


def total_counts(counts: list[QueryCounts]) -> QueryCounts:
    """Return counts added up."""
    return QueryCounts(
        planned=sum(one.planned for one in counts),
        answered=sum(one.answered for one in counts),
        failed=sum(one.failed for one in counts),
        not_asked=sum(one.not_asked for one in counts),
    )


def _responses(
    cell: Cell, plan: ResponsePlan, records: Mapping[QueryKey, Record]
) -> Iterator[tuple[str, Stage, int, int]]:
    study = plan.trials.study.key
    blocked, over = blocked_turns(plan, records)
    counts = total_counts(list(query_counts(response_keys(plan), records).values()))
    yield study, Stage.RESPOND, counts.not_asked - blocked.total(), counts.planned
    if over and cell.extractor.use is not None:
        counts = extraction_counts(plan, records, cell.extractor.label)
        yield study, Stage.EXTRACT, counts.not_asked, counts.planned


def _scores(
    cell: Cell, plan: ScorePlan, records: Mapping[QueryKey, Record]
) -> Iterator[tuple[str, Stage, int, int]]:
    study, settings = plan.trials.study.key, cell.settings
    left = sum(key not in records for key in plan.query_keys)
    yield study, Stage.SCORE, left, len(plan.queries)
    if settings.recheck and not left:
        again = plan_recheck(plan, records, percent=settings.recheck, seed=settings.seed)
        left = sum(one.query.key not in records for one in again)
        yield study, Stage.RECHECK, left, len(again)
