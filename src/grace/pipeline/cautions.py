"""What a reader of Experiment 2 should know before trusting its numbers."""

from collections import Counter
from collections.abc import Iterable, Mapping

from grace.engine.journal import Record
from grace.engine.plan import QueryKey
from grace.pipeline.cell import Cell
from grace.runs.manifest import RecheckReport, StudyReport
from grace.runs.scored import score_all


def score_cautions(
    cell: Cell, studies: Mapping[str, StudyReport], records: Mapping[QueryKey, Record]
) -> Iterable[str]:
    """Yield the warnings of a cell of Experiment 2 that need more than its counts."""
    if cell.experiment != "exp2":
        return
    for study, report in studies.items():
        lost = sum(
            counts.planned - counts.answered
            for probe, counts in report.queries.items()
            if probe.endswith(" premise")
        )
        if lost:
            yield f"{study}: {lost} premises have no answer, so that some pmi is missing"
        if report.recheck is not None:
            yield from _recheck(study, report.recheck)
    if cell.use.key != "toy":
        yield from _outside(cell, records)


def _recheck(study: str, again: RecheckReport) -> Iterable[str]:
    if again.largest_change is not None and again.largest_change > again.limit:
        yield (
            f"{study}: scored again in another order, the log-probability of {again.candidate!r} "
            f"({again.probe}) changed by {again.largest_change:.3g} nats, more than {again.limit}: "
            "on this server, numbers depend on what is computed beside them"
        )
    if again.answered != again.planned:
        yield (
            f"{study}: {again.planned - again.answered} of {again.planned} distributions could "
            "not be scored again"
        )


def _outside(cell: Cell, records: Mapping[QueryKey, Record]) -> Iterable[str]:
    """Say how often the most probable beginning is no answer's."""
    for plan in cell.score_plans():
        scored = score_all(plan, records).values()
        found = []
        for probe in plan.trials.study.candidate_probes:
            told = [
                one.outside
                for one in scored
                if one.query.probe == probe and one.outside.leads is not None
            ]
            leading = Counter(outside.token for outside in told if outside.leads)
            if leading:
                token, _ = min(leading.items(), key=lambda item: (-item[1], item[0]))
                found.append(f"{probe.name} {leading.total()} of {len(told)} (mostly {token!r})")
        if found:
            yield (
                f"{plan.trials.study.key}: distributions in which the most probable next token "
                f"begins no answer: {', '.join(found)}"
            )
