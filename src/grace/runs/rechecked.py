"""How far second measurements are from the first ones."""

from collections.abc import Mapping

from grace.engine.journal import Record
from grace.engine.plan import QueryKey, ScorePlan
from grace.engine.recheck import plan_recheck
from grace.runs.manifest import RecheckReport
from grace.runs.scored import NOT_ASKED, scored_query
from grace.scoring.measures import largest_change

RECHECK_LIMIT = 0.01
"""In nats; above it, the probability of some answer changed by more than 1%."""


def recheck_report(
    plan: ScorePlan, records: Mapping[QueryKey, Record], *, percent: float, seed: int
) -> RecheckReport | None:
    """Compare second measurements with the first ones; None if there are none to be."""
    again = plan_recheck(plan, records, percent=percent, seed=seed)
    if not again:
        return None
    failed = not_asked = 0
    largest: tuple[float, str, str] | None = None
    for one in again:
        before = scored_query(one.query, records[one.first]).distribution
        after = scored_query(one.query, records.get(one.query.key))
        if after.distribution is None or before is None:
            not_asked += after.status == NOT_ASKED
            failed += after.status != NOT_ASKED
            continue
        label, change = largest_change(before.by_label(), after.distribution.by_label())
        if largest is None or change > largest[0]:
            largest = (change, one.query.probe.name, label)
    return RecheckReport(
        percent=percent,
        planned=len(again),
        answered=len(again) - failed - not_asked,
        failed=failed,
        not_asked=not_asked,
        largest_change=None if largest is None else largest[0],
        probe="" if largest is None else largest[1],
        candidate="" if largest is None else largest[2],
        limit=RECHECK_LIMIT,
    )
