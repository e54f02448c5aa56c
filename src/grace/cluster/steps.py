"""
The steps of a run on a cluster, and what each needs: pure, and the same for all executors.

A step is one Job: some stages of one cell (an experiment on a model), or the
fetching of weights. Model servers are not steps. A step says which server it
needs, and a server is up while a step that can run needs it; so no GPU is held
when no query needs it, whoever executes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

from grace.pipeline.stages import Stage
from grace.settings import Experiment

StepName = NewType("StepName", str)


class StepKind(StrEnum):
    """What a step is for."""

    WEIGHTS = "weights"
    SMOKE = "smoke"
    RESPOND = "respond"
    EXTRACT = "extract"
    SCORE = "score"
    RECHECK = "recheck"
    FINISH = "finish"


PHASES: Mapping[StepKind, int] = {
    StepKind.WEIGHTS: 2,
    StepKind.SMOKE: 2,
    StepKind.RESPOND: 3,
    StepKind.EXTRACT: 4,
    StepKind.SCORE: 5,
    StepKind.RECHECK: 5,
    StepKind.FINISH: 6,
}
"""The phase of the specification that a step belongs to; phase 1 is the set-up."""


@dataclass(frozen=True, slots=True)
class Step:
    """
    One Job of a run.

    Attributes:
        kind: What it is for.

        model: The catalogue key whose results it makes, or whose weights it fetches.

        experiment: Of the cell; None for steps that serve both.

        stages: The stages that its pods run; empty for weights.

        server: The catalogue key of the model that must be served meanwhile.

        needs: Steps that must have succeeded before.

        shards: How many pods share its queries.
    """

    kind: StepKind
    model: str
    experiment: Experiment | None = None
    stages: tuple[Stage, ...] = ()
    server: str | None = None
    needs: tuple[StepName, ...] = ()
    shards: int = 1

    @property
    def name(self) -> StepName:
        """What it is called in its run: `respond.exp1.gemma-2-2b`."""
        return step_name(self.kind, self.model, self.experiment)

    @property
    def phase(self) -> int:
        """The phase of the specification, from 1."""
        return PHASES[self.kind]


def step_name(kind: StepKind, model: str, experiment: Experiment | None = None) -> StepName:
    """Return the name of a step."""
    return StepName(".".join(filter(None, (kind, experiment, model))))


@dataclass(frozen=True, slots=True)
class Served:
    """
    A model of a run, as far as the graph must know it.

    Attributes:
        key: Its catalogue key.

        server: The key of the model on whose server it is found: its own, or for
            an adapter that of its base; None if somebody else serves it.

        fetches: The keys whose weights must be fetched before: its own, and for
            an adapter its base's; empty if the image holds them.
    """

    key: str
    server: str | None
    fetches: tuple[str, ...] = ()


def plan_steps(
    models: Sequence[Served],
    experiments: Sequence[Experiment],
    *,
    extractor: Served | None,
    shards: int = 1,
    rechecked: bool = False,
) -> tuple[Step, ...]:
    """
    Return a run's steps; each stands behind those that it needs.

    Args:
        models: In the order in which they are to be served.

        experiments: Of the run.

        extractor: The model that extracts; None if rules alone do.

        shards: Pods that ask for one experiment on one model.

        rechecked: Whether a sample of the distributions is scored again.
    """
    served = {model.key: model for model in models}
    if extractor is not None and "exp1" in experiments:
        served.setdefault(extractor.key, extractor)
    fetched = dict.fromkeys(key for model in served.values() for key in model.fetches)
    steps = [Step(StepKind.WEIGHTS, key) for key in fetched]
    for model in models:
        steps += _of_model(model, experiments, shards, rechecked=rechecked)
    if "exp1" in experiments:
        steps += _extractions(models, extractor)
    steps += _finishes(models, experiments, rechecked=rechecked)
    return tuple(steps)


def _of_model(
    model: Served, experiments: Sequence[Experiment], shards: int, *, rechecked: bool
) -> Iterator[Step]:
    server = model.server
    smoke = Step(StepKind.SMOKE, model.key, None, (Stage.SMOKE,), server, _fetched(model))
    yield smoke
    if "exp1" in experiments:
        yield Step(
            StepKind.RESPOND, model.key, "exp1", (Stage.RESPOND,), server, (smoke.name,), shards
        )
    if "exp2" in experiments:
        score = Step(
            StepKind.SCORE, model.key, "exp2", (Stage.SCORE,), server, (smoke.name,), shards
        )
        yield score
        if rechecked:
            yield Step(StepKind.RECHECK, model.key, "exp2", (Stage.RECHECK,), server, (score.name,))


def _extractions(models: Sequence[Served], extractor: Served | None) -> Iterator[Step]:
    server = None if extractor is None else extractor.server
    fetched = () if extractor is None else _fetched(extractor)
    for model in models:
        needs = (step_name(StepKind.RESPOND, model.key, "exp1"), *fetched)
        yield Step(StepKind.EXTRACT, model.key, "exp1", (Stage.EXTRACT,), server, needs)


def _fetched(model: Served) -> tuple[StepName, ...]:
    return tuple(step_name(StepKind.WEIGHTS, key) for key in model.fetches)


def _finishes(
    models: Sequence[Served], experiments: Sequence[Experiment], *, rechecked: bool
) -> Iterator[Step]:
    last = {
        "exp1": StepKind.EXTRACT,
        "exp2": StepKind.RECHECK if rechecked else StepKind.SCORE,
    }
    stages = (Stage.TABULATE, Stage.SUMMARISE, Stage.VALIDATE)
    for model in models:
        for experiment in experiments:
            needs = (step_name(last[experiment], model.key, experiment),)
            yield Step(StepKind.FINISH, model.key, experiment, stages, None, needs)
