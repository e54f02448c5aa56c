"""
How long models work: tokens, from a forecast, over a speed that somebody measured.

No speed is assumed. It is the user's own, or stands in the profile, where the
user put it; otherwise hours are not known, and the reason is kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grace.cluster.gpus import choose_gpus
from grace.cluster.request import ClusterRun
from grace.cluster.steps import Step, StepKind, StepName
from grace.pipeline.forecast import ModelForecast

_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Work:
    """
    What a model's server has to do.

    Attributes:
        tokens: By experiment: prompt tokens to be computed, and tokens generated at most.

        counted: Whether a server counted them all.

        prompts: By experiment, prompts that are sent.
    """

    tokens: Mapping[str, int]
    counted: bool
    prompts: Mapping[str, int]

    @property
    def total(self) -> int:
        """All tokens."""
        return sum(self.tokens.values())


def work_of(forecasts: Sequence[ModelForecast]) -> dict[str, Work]:
    """Return each model's work, by its key."""
    found = {}
    for forecast in forecasts:
        tokens: dict[str, int] = {}
        prompts: dict[str, int] = {}
        for (_, experiment), stage in forecast.stages.items():
            cost = stage.computed_tokens + stage.generated_tokens
            tokens[experiment] = tokens.get(experiment, 0) + cost
            prompts[experiment] = prompts.get(experiment, 0) + stage.prompts
        counted = all(stage.counted for stage in forecast.stages.values())
        found[forecast.model] = Work(tokens, counted, prompts)
    return found


def speed_of(run: ClusterRun, key: str, given: float | None) -> tuple[float | None, str]:
    """Return a server's tokens a second, all replicas together, and where that is from."""
    servers = run.profile.model_servers
    spec = run.catalogue.get(key)
    replicas = servers.replicas
    times = "" if replicas == 1 else f", times {replicas} replicas"
    if given is not None:
        return given * replicas, f"{given:g} tokens a second, as given{times}"
    for product in choose_gpus(spec, run.profile).products:
        speeds = run.profile.gpus.products[product].tokens_per_second
        speed = speeds.get(key, speeds.get("*"))
        if speed is not None:
            source = f"{speed:g} tokens a second on {product}, from the profile{times}"
            return speed * replicas, source
    return None, (
        "no speed is known; measure one with `grace plan --measure`, and give it with "
        "--tokens-per-second, or as gpus.products.*.tokens_per_second in a profile of your own"
    )


def step_hours(
    run: ClusterRun, work: Mapping[str, Work], speeds: Mapping[str, float | None]
) -> dict[StepName, float]:
    """Return the hours of the steps for which they are known."""
    found = {}
    for step in run.steps:
        hours = _hours(step, work, speeds)
        if hours is not None:
            found[step.name] = hours
    return found


def _hours(
    step: Step, work: Mapping[str, Work], speeds: Mapping[str, float | None]
) -> float | None:
    if step.server is None:
        return None
    if step.kind is StepKind.SMOKE:
        # One token and one distribution: nothing beside the rest.
        return 0.0
    if step.kind not in {StepKind.RESPOND, StepKind.SCORE} or step.experiment is None:
        return None
    known, speed = work.get(step.model), speeds.get(step.server)
    if known is None or speed is None:
        return None
    return known.tokens.get(step.experiment, 0) / speed / _SECONDS
