"""Runs on clusters, made from a profile and the built-in catalogue."""

from typing import Any

from grace.catalogue.faults import as_json
from grace.catalogue.model import ModelSpec
from grace.catalogue.spec import Catalogue, load_catalogue
from grace.cluster.profile import Profile, load_profile
from grace.cluster.request import ClusterRun, InputFile
from grace.engine.forecast import Forecast
from grace.pipeline.forecast import ModelForecast
from grace.settings import RunSettings

HOUR_OF_TOKENS = 3_600_000
"""What a server of 1000 tokens a second computes in an hour."""


def profile_with(name: str, **parts: Any) -> Profile:
    """Return a profile with other values; mappings are joined."""
    written = load_profile(name).model_dump(mode="json")
    for part, values in parts.items():
        written[part] = written[part] | values if isinstance(values, dict) else values
    return Profile.model_validate_json(as_json(written))


def a_run(
    profile: Profile,
    *models: str,
    extractor: str | None = None,
    files: tuple[InputFile, ...] = (),
    adapters: tuple[ModelSpec, ...] = (),
    **settings: Any,
) -> ClusterRun:
    """Return a run of some models of the catalogue."""
    known = load_catalogue(apply_lock=False)
    return ClusterRun(
        profile=profile,
        namespace="lab",
        timestamp="20260131T235959Z",
        settings=RunSettings(model=models, timestamp="20260131T235959Z", **settings),
        catalogue=Catalogue(models=(*known.models, *adapters)),
        extractor=extractor,
        files=files,
    )


def hours_of_work(model: str, exp1: float = 0.5, exp2: float = 0.5) -> ModelForecast:
    """Return a forecast of so many hours at 1000 tokens a second."""
    stages = {
        ("study1", "exp1"): Forecast(
            queries=10, prompts=1000, generated_tokens=round(exp1 * HOUR_OF_TOKENS)
        ),
        ("study1", "exp2"): Forecast(
            queries=10, prompts=2000, computed_tokens=round(exp2 * HOUR_OF_TOKENS)
        ),
    }
    return ModelForecast(model, "vllm", 16, stages)
