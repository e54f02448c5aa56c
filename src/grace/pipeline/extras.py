"""What is asked beyond the answers themselves, and what that costs, in words."""

from collections.abc import Iterable, Sequence

from grace.engine.plan import plan_scores
from grace.engine.recheck import sample_size
from grace.settings import RunSettings
from grace.studies.trials import TrialSet


def describe_extras(inputs: Sequence[TrialSet], settings: RunSettings) -> Iterable[str]:
    """Yield a line for each of `pmi`, `terminators` and `recheck` that is asked for."""
    if "exp2" not in settings.experiment:
        return
    plans = [plan_scores(trials, pmi=settings.pmi) for trials in inputs]
    queries = [query for plan in plans for query in plan.queries]
    if settings.pmi:
        premises = sum(query.probe.name.endswith(" premise") for query in queries)
        yield f"--pmi: {premises:,} of these queries score the answers after a premise"
        without = [
            probe.name
            for trials in inputs
            for probe in trials.study.candidate_probes
            if probe.premise is None
        ]
        if without:
            yield f"--pmi: no premise is given for {', '.join(without)}; their pmi stays empty"
    if settings.terminators:
        forms = sum(
            len(answer.surface_forms) for query in queries for answer in query.probe.answers
        )
        yield (
            f"--terminators: {forms:,} next-token questions more, one for each form of each answer"
        )
    if settings.recheck:
        again = sum(sample_size(len(plan.queries), settings.recheck) for plan in plans)
        yield f"--recheck {settings.recheck:g}: {again:,} of these queries are asked twice"
