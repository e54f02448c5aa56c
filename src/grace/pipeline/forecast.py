"""
What a run will cost each model: estimated here, or counted and timed on its server.

Estimates are made from characters and sent nowhere. Measuring tokenises every
distinct prompt of Experiment 2 on the server and times a few real queries.
Nothing is kept: a run that follows asks for everything itself.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grace.catalogue.progress import ProgressHook
from grace.catalogue.spec import Catalogue
from grace.catalogue.store import default_store
from grace.engine.forecast import (
    BLOCK_SIZE,
    Encoded,
    Forecast,
    estimated,
    forecast_responses,
    forecast_scores,
)
from grace.engine.plan import ResponsePlan, ScoreQuery, plan_responses, plan_scores
from grace.engine.score import Scorer, ScoringMethod, choose_method
from grace.inference.client import GenerationRequest
from grace.pipeline.cell import sampling_of
from grace.pipeline.connection import Connection, ModelUse, connect_model, models_of
from grace.pipeline.meter import Meter
from grace.settings import RunSettings
from grace.studies.prompts import PromptMode, build_prompt
from grace.studies.trials import TrialSet

PROBE_QUERIES = 8
PROBE_TOKENS = 48


@dataclass(frozen=True, slots=True)
class Rate:
    """
    A server's speed, as a short probe found it, one request at a time.

    Attributes:
        computed_per_second: Prompt tokens, those that had to be computed; None
            if nothing was scored.

        generated_per_second: Tokens of a response; None if the server does not count them.
    """

    computed_per_second: float | None = None
    generated_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class ModelForecast:
    """
    A run's cost on one model.

    Attributes:
        model: Its key.

        dialect: The server that is assumed, or that answered.

        block_size: Tokens in a block of its prefix cache, assumed or told.

        stages: By study and experiment.

        rate: Measured; None if nothing was.
    """

    model: str
    dialect: str
    block_size: int
    stages: Mapping[tuple[str, str], Forecast]
    rate: Rate | None = None


def estimate(
    settings: RunSettings, catalogue: Catalogue, inputs: Sequence[TrialSet]
) -> list[ModelForecast]:
    """
    Estimate what a run will cost each of its models; nothing is sent.

    Raises:
        CatalogueError: A model is not in the catalogue.
    """
    found = []
    for key in settings.model:
        spec = catalogue.get(key)
        dialect = _assumed_dialect(settings, hosted=spec.hosted, server=spec.server)
        size = 1 if dialect == "llamacpp" else BLOCK_SIZE
        stages: dict[tuple[str, str], Forecast] = {}
        for trials in inputs:
            study = trials.study.key
            if "exp1" in settings.experiment:
                plan = _responses(settings, trials)
                stages[study, "exp1"] = forecast_responses(
                    plan.dialogues, spec.prompt_mode, dialect, block_size=size
                )
            if "exp2" in settings.experiment:
                encoded = estimated(plan_scores(trials).queries, spec.prompt_mode)
                stages[study, "exp2"] = forecast_scores(encoded, dialect, block_size=size)
        found.append(ModelForecast(key, dialect, size, stages))
    return found


async def measure(
    settings: RunSettings,
    catalogue: Catalogue,
    inputs: Sequence[TrialSet],
    progress: ProgressHook,
) -> list[ModelForecast]:
    """
    Count a run's tokens on each model's server, and time a few queries there.

    Raises:
        GraceError: The server cannot be reached, started or used.
    """
    found = []
    for use in models_of(settings, catalogue):
        async with connect_model(
            use, settings, catalogue, default_store(), progress, settings.endpoint
        ) as connection:
            found.append(await _measured(settings, use, connection, inputs))
    return found


async def _measured(
    settings: RunSettings, use: ModelUse, connection: Connection, inputs: Sequence[TrialSet]
) -> ModelForecast:
    dialect = connection.server.dialect
    size = (await Meter.start(connection)).block_size
    stages: dict[tuple[str, str], Forecast] = {}
    computed_rate = generated_rate = None
    for trials in inputs:
        study = trials.study.key
        if "exp1" in settings.experiment:
            plan = _responses(settings, trials)
            stages[study, "exp1"] = forecast_responses(
                plan.dialogues, use.mode, dialect, block_size=size
            )
            if generated_rate is None:
                generated_rate = await _generating(settings, use.mode, connection, plan)
        if "exp2" in settings.experiment:
            wanted = None if settings.scoring == "auto" else ScoringMethod(settings.scoring)
            method = choose_method(connection.client.capabilities, wanted)
            scorer = Scorer(connection.client, use.mode, method, use.convention)
            queries = plan_scores(trials).queries
            encoded = [await _encoded(scorer, query) for query in queries]
            stages[study, "exp2"] = forecast_scores(encoded, dialect, block_size=size, counted=True)
            if computed_rate is None:
                few = forecast_scores(encoded[:PROBE_QUERIES], dialect, block_size=size)
                started = time.monotonic()
                for query in queries[:PROBE_QUERIES]:
                    await scorer.score(query)
                spent = time.monotonic() - started
                computed_rate = few.computed_tokens / spent if spent > 0 else None
    return ModelForecast(use.key, dialect, size, stages, Rate(computed_rate, generated_rate))


async def _encoded(scorer: Scorer, query: ScoreQuery) -> Encoded:
    _, prompt_ids, candidates = await scorer.encode(query)
    return prompt_ids, [form.token_ids for form in candidates.forms]


async def _generating(
    settings: RunSettings, mode: PromptMode, connection: Connection, plan: ResponsePlan
) -> float | None:
    query = plan.dialogues[0].queries[0]
    request = GenerationRequest(
        prompt=build_prompt([query.turn], [], mode),
        sampling=sampling_of(settings),
        max_tokens=PROBE_TOKENS,
        seed=query.seed,
    )
    started = time.monotonic()
    generation = await connection.client.generate(request)
    spent = time.monotonic() - started
    tokens = generation.completion_tokens
    return tokens / spent if tokens and spent > 0 else None


def _responses(settings: RunSettings, trials: TrialSet) -> ResponsePlan:
    return plan_responses(
        trials,
        seed=settings.seed,
        replicates=settings.replicates,
        deterministic=settings.temperature == 0,
    )


def _assumed_dialect(settings: RunSettings, *, hosted: bool, server: str) -> str:
    if settings.endpoint is not None and settings.server != "auto":
        return settings.server
    if hosted:
        return "openai"
    return server if settings.endpoint is None else "vllm"
