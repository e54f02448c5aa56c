"""
The smoke test of a model server, before anything is asked of it that counts.

It goes the way that the cell's queries will go, once: one token of a response, or
one distribution. Nothing is kept but the run's identity, which whoever asks next
is held to.
"""

from grace.engine.score import Scorer, ScoringMethod
from grace.inference.client import GenerationRequest
from grace.pipeline.cell import Cell, sampling_of
from grace.pipeline.connection import Connection
from grace.pipeline.patience import patience_of, patiently
from grace.studies.prompts import COMPLETION_STOP, PromptMode, build_prompt


async def smoke(cell: Cell, connection: Connection, method: ScoringMethod | None) -> None:
    """
    Ask for as little as shows that a cell can be asked here.

    Args:
        cell: The cell.

        connection: Its model.

        method: How Experiment 2 asks; None in Experiment 1.

    Raises:
        InferenceError: The server does not answer, or not as it should.

        ScoringError: The first distribution cannot be scored exactly.
    """
    patience = patience_of(cell.settings)
    if method is None:
        await patiently(connection.client.generate, _one_token(cell), patience)
        cell.hook.message(f"{cell.use.key}: smoke test: generated one token")
        return
    scorer = Scorer(connection.client, cell.use.mode, method, cell.use.convention)
    query = cell.score_plans()[0].queries[0]
    await patiently(scorer.score, query, patience)
    cell.hook.message(f"{cell.use.key}: smoke test: scored one distribution ({query.probe.name})")


def _one_token(cell: Cell) -> GenerationRequest:
    query = next(iter(cell.response_plans()[0].dialogues)).queries[0]
    return GenerationRequest(
        prompt=build_prompt([query.turn], [], cell.use.mode),
        sampling=sampling_of(cell.settings),
        max_tokens=1,
        seed=query.seed,
        stop=COMPLETION_STOP if cell.use.mode is PromptMode.COMPLETION else (),
    )
