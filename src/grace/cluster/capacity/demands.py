"""What single pods and Jobs ask for: servers, steps, claims."""

from collections.abc import Iterator

from grace.catalogue.model import ModelSpec
from grace.cluster.capacity.result import Demand, Volume
from grace.cluster.gpus import choose_gpus
from grace.cluster.profile import ClaimSettings, Profile, Resources
from grace.cluster.request import CONFIG_MAP_BYTES, ClusterRun
from grace.cluster.server_size import server_resources
from grace.cluster.steps import Step, StepKind


def server_demand(spec: ModelSpec, profile: Profile) -> Demand:
    """Return what a model's server takes, with all replicas that it may come to."""
    servers = profile.model_servers
    replicas = servers.replicas if servers.autoscaler == "none" else servers.max_replicas
    asked = server_resources(spec, profile)
    jobs = 1 if servers.controller == "job" else 0
    return _times(asked, replicas, choose_gpus(spec, profile).count * replicas, jobs)


def step_demand(step: Step, profile: Profile) -> Demand:
    """Return what a step's Job takes with all its pods."""
    light = step.kind in {StepKind.WEIGHTS, StepKind.FINISH}
    return _times(profile.jobs.light if light else profile.jobs.query, step.shards, 0, 1)


def _times(asked: Resources, pods: int, gpus: int, jobs: int) -> Demand:
    return Demand() + Demand(
        gpus=gpus,
        cpu=asked.cpu * pods,
        memory_gb=asked.memory_gb * pods,
        ephemeral_gb=asked.ephemeral_gb * pods,
        pods=pods,
        jobs=jobs,
    )


def claim_gb(spec: ModelSpec, profile: Profile) -> float:
    """Return the size of the claim for a model's weights."""
    return max(spec.disk_gb, profile.storage.weights.size_gb)


def volumes(run: ClusterRun) -> Iterator[Volume]:
    """Yield the claims that a run needs, by kind."""
    storage = run.profile.storage
    if any(file.size > CONFIG_MAP_BYTES for file in run.files):
        yield _volume("inputs", [storage.inputs.size_gb], storage.inputs)
    sizes = [claim_gb(spec, run.profile) for spec in served_models(run) if run.fetches(spec)]
    if sizes:
        yield _volume("weights", sizes, storage.weights)
    yield _volume("output", [storage.output.size_gb], storage.output)
    yield _volume("logs", [storage.logs.size_gb], storage.logs)


def served_models(run: ClusterRun) -> tuple[ModelSpec, ...]:
    """Return the run's models and those that they need, each once."""
    found = {spec.key: spec for spec in run.models}
    for server in run.servers:
        found.setdefault(server.base.key, server.base)
    return tuple(found.values())


def _volume(purpose: str, sizes: list[float], settings: ClaimSettings) -> Volume:
    return Volume(
        purpose=purpose,  # type: ignore[arg-type]  # one of the four, by the callers above
        count=len(sizes),
        total_gb=round(sum(sizes), 6),
        storage_class=settings.storage_class,
        access=settings.access,
    )
