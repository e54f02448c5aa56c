"""
The check before Experiment 2, whether its answers can be scored exactly on a model.

A fault in a prompt's template or in an answer set fails every query of a probe,
one by one. A few requests to the server's template and tokenizer find it before
the first score is asked for. What is wrong for a probe as a whole refuses the
run; what is wrong for some prompts only is left to their rows, with a warning.
`grace doctor` looks at everything; this looks at as little as will do.
"""

from collections.abc import Sequence

from grace.engine.execute import RetryPolicy
from grace.engine.plan import ScoreQuery
from grace.engine.score import Scorer, ScoringMethod
from grace.engine.soundness import Inspected, Inspector
from grace.errors import ScoringError
from grace.pipeline.cell import Cell
from grace.pipeline.connection import Connection
from grace.pipeline.cover import spread
from grace.pipeline.patience import patience_of, patiently

MOST_PROMPTS = 32
"""Prompts of one probe that are tried at most, until one is found that can be scored."""

MOST_FAULTS = 4
"""Faults of one probe that are told; the others are usually the same."""


async def preflight(cell: Cell, connection: Connection, method: ScoringMethod) -> None:
    """
    Check the answer sets of Experiment 2 on a model.

    Raises:
        ScoringError: A probe's answers cannot be scored after any prompt tried.

        ServerUnavailable: The server did not answer.
    """
    scorer = Scorer(connection.client, cell.use.mode, method, cell.use.convention)
    inspector = Inspector(connection.client, scorer, connection.server.context_length)
    refusals: list[str] = []
    for plan in cell.score_plans():
        study = plan.trials.study
        for probe in study.candidate_probes:
            queries = [query for query in plan.queries if query.probe.name == probe.name]
            found = await _inspect(inspector, queries, patience_of(cell.settings))
            faulty = [one for one in found if not one.sound]
            where = f"{study.key}, probe {probe.name}"
            if faulty and len(faulty) == len(found):
                refusals += refusal(where, faulty, len(queries))
            elif faulty:
                cell.hook.message(
                    f"{where}: some of its {len(queries)} prompts cannot be scored, and their "
                    f"rows will say so: {faulty[0].faults[0]}"
                )
    if refusals:
        raise ScoringError(
            "\n".join(
                [
                    f"{cell.use.key}: answers that cannot be scored exactly; no probability was "
                    "asked for",
                    *refusals,
                    "`grace doctor`, with the same options, shows all tokens",
                ]
            )
        )


def refusal(where: str, faulty: Sequence[Inspected], prompts: int) -> list[str]:
    """Return what to say of a probe that cannot be scored after any prompt tried."""
    tried = f"any of its {prompts}" if len(faulty) == prompts else f"{len(faulty)} of {prompts}"
    noun = "prompt" if prompts == 1 else "prompts"
    # The faults of the last prompt: the first one tried is the longest, and may have its own.
    faults = faulty[-1].faults
    more = len(faults) - MOST_FAULTS
    return [
        f"{where}, after {tried} {noun}:",
        *(f"  {fault}" for fault in faults[:MOST_FAULTS]),
        *([f"  and {more} more"] if more > 0 else []),
    ]


async def _inspect(
    inspector: Inspector, queries: Sequence[ScoreQuery], patience: RetryPolicy
) -> list[Inspected]:
    """Inspect the longest prompt and others, until one of the others is sound."""
    found: list[Inspected] = []
    for query in spread(queries, MOST_PROMPTS):
        found.append(await patiently(inspector.inspect, query, patience))
        if len(found) > 1 and any(one.sound for one in found):
            break
    return found
