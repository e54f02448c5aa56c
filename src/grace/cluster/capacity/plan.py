"""What a run takes of a cluster, at its peak and over time: put together."""

from collections.abc import Iterator, Mapping, Sequence

from grace.catalogue.model import ModelSpec
from grace.cluster.capacity.demands import (
    claim_gb,
    served_models,
    server_demand,
    volumes,
)
from grace.cluster.capacity.moments import fits, moments
from grace.cluster.capacity.result import CapacityPlan, Demand, ModelPlan, UtilisationForecast
from grace.cluster.capacity.speeds import Work, speed_of, step_hours, work_of
from grace.cluster.capacity.utilisation import utilisation
from grace.cluster.gpus import choose_gpus, must_ask
from grace.cluster.profile import Profile
from grace.cluster.request import ClusterRun
from grace.cluster.server_size import server_resources
from grace.cluster.units import in_gb, parse_quantity
from grace.errors import UsageError
from grace.pipeline.forecast import ModelForecast


def plan_capacity(
    run: ClusterRun,
    forecasts: Sequence[ModelForecast] = (),
    *,
    tokens_per_second: float | None = None,
) -> CapacityPlan:
    """
    Return what a run takes.

    Args:
        run: The run.

        forecasts: Of `grace.pipeline.forecast.estimate`; without them, hours are
            not known.

        tokens_per_second: A server's speed, given by the user; it wins over the
            profile's.
    """
    work = work_of(forecasts)
    known = {
        server.base.key: speed_of(run, server.base.key, tokens_per_second) for server in run.servers
    }
    speeds = {key: speed for key, (speed, _) in known.items()}
    models = tuple(_model(run, spec, work, known) for spec in served_models(run))
    over_time = tuple(moments(run, step_hours(run, work, speeds)))
    peak = Demand()
    for moment in over_time:
        peak = peak.largest(moment.demand)
    claims = tuple(volumes(run))
    hours = _sum([moment.hours for moment in over_time])
    asked = [work[key] for key in run.settings.model if key in work]
    prompts = sum(sum(one.prompts.values()) for one in asked) if asked else None
    served = [model for model in models if model.served_by == model.key]
    forecast = tuple(utilisation(run, models, prompts, hours))
    return CapacityPlan(
        profile=run.profile.name,
        namespace=run.namespace,
        models=models,
        moments=over_time,
        peak=peak,
        volumes=claims,
        storage_gb=round(sum(volume.total_gb for volume in claims), 6),
        gpu_hours=_sum([model.gpu_hours for model in served if model.gpus]),
        hours=hours,
        utilisation=forecast,
        problems=tuple(_problems(run, models, peak)),
        notices=(*_low_use(run, forecast), *_notices(run, models)),
    )


def _model(
    run: ClusterRun,
    spec: ModelSpec,
    work: Mapping[str, Work],
    speeds: Mapping[str, tuple[float | None, str]],
) -> ModelPlan:
    profile = run.profile
    served_by = None if spec.hosted else spec.lora_base or spec.key
    own = served_by == spec.key
    choice = choose_gpus(spec, profile)
    demand = server_demand(spec, profile) if own else Demand()
    fetched = run.fetches(spec)
    done = work.get(spec.key)
    speed, source, hours = None, "a hosted model takes nothing of the cluster", None
    if own:
        speed, source = speeds[spec.key]
        if speed is not None:
            hours = _hours_of_server(run, spec, work, speed)
        if speed is not None and hours is None:
            source = "its tokens are not known: there is a forecast for models that are asked only"
    elif served_by is not None:
        source = f"its work is counted for {served_by}, which serves it"
    gpus = demand.gpus
    return ModelPlan(
        key=spec.key,
        title=spec.title,
        server=spec.server,
        served_by=served_by,
        gpus=gpus,
        gpu_resource=choice.resource if gpus else "",
        products=choice.products if own else (),
        cpu=server_resources(spec, profile).cpu if own else 0,
        memory_gb=server_resources(spec, profile).memory_gb if own else 0,
        weights_gb=spec.disk_gb or None,
        claim_gb=claim_gb(spec, profile) if fetched else None,
        licence=spec.licence.name,
        licence_url=spec.licence.url,
        gated=spec.gated,
        secret=profile.secrets.hub_token if spec.gated and fetched else None,
        tokens=None if done is None else done.total,
        tokens_counted=done is not None and done.counted,
        tokens_per_second=speed,
        hours=hours,
        gpu_hours=None if hours is None or not gpus else round(hours * gpus, 6),
        assumed=source,
        refused=choice.refused if own else "",
    )


def _hours_of_server(
    run: ClusterRun, spec: ModelSpec, work: Mapping[str, Work], speed: float
) -> float | None:
    """Return how long a server works: for its own model, and for the adapters on it."""
    on_it = [key for key in run.settings.model if _served_by(run, key) == spec.key]
    extracts = spec.key == run.extractor and "exp1" in run.settings.experiment
    if extracts or any(key not in work for key in on_it):
        # What is extracted is in no forecast.
        return None
    return sum(work[key].total for key in on_it) / speed / 3600


def _served_by(run: ClusterRun, key: str) -> str:
    return run.catalogue.get(key).lora_base or key


def _sum(figures: Sequence[float | None]) -> float | None:
    """Return the sum; None if one of them is not known."""
    known = [figure for figure in figures if figure is not None]
    return round(sum(known), 6) if len(known) == len(figures) else None


def _problems(run: ClusterRun, models: Sequence[ModelPlan], peak: Demand) -> Iterator[str]:
    profile = run.profile
    for model in models:
        if model.refused:
            yield f"{model.key}: {model.refused}"
            continue
        if model.served_by == model.key and not fits(run, model.key):
            yield (
                f"{model.key}: needs {model.gpus} GPUs; model_servers.gpus_at_once is "
                f"{profile.model_servers.gpus_at_once}"
            )
        if asking := must_ask(profile.gpus, model.products, model.gpus):
            yield (
                f"{model.key}: fits {' or '.join(model.products)} only; {asking}, and write what "
                "you were given into a profile of your own (gpus.products.*.quota), or choose "
                "another model"
            )
        if model.gated and model.claim_gb is not None and profile.secrets.hub_token is None:
            yield (
                f"{model.key}: is gated, and the profile {profile.name} names no Secret with a "
                "token for the hub; set secrets.hub_token"
            )
    yield from _own_quota(profile, peak)
    yield from _too_many(profile, peak)


def _own_quota(profile: Profile, peak: Demand) -> Iterator[str]:
    """Yield what the quota that we would set ourselves forbids."""
    held: Mapping[str, float] = {
        "pods": peak.pods,
        "count/jobs.batch": peak.jobs,
        "requests.cpu": peak.cpu,
        "requests.memory": peak.memory_gb,
        "requests.ephemeral-storage": peak.ephemeral_gb,
        f"requests.{profile.gpus.resource}": peak.gpus,
    }
    for name, written in profile.namespace.quota.items():
        try:
            most = parse_quantity(written)
        except UsageError as error:
            yield f"namespace.quota: {name}: {error}"
            continue
        bytes_ = name.endswith(("memory", "storage"))
        limit = in_gb(most) if bytes_ else float(most)
        if held.get(name, 0) > limit:
            unit = " GB" if bytes_ else ""
            yield (
                f"namespace.quota allows {written} of {name}, and {held[name]:g}{unit} are held at "
                "the peak; raise it, or lower jobs.shards, jobs.at_once or model_servers.at_once"
            )


def _too_many(profile: Profile, peak: Demand) -> Iterator[str]:
    rules = profile.rules
    if rules.gpus_at_once is not None and peak.gpus > rules.gpus_at_once.more_than:
        yield (
            f"{peak.gpus} GPUs are held at the peak; with more than "
            f"{rules.gpus_at_once.more_than}, show the plan to the admins first "
            f"({rules.gpus_at_once.contact or rules.gpus_at_once.source}), or lower "
            "model_servers.at_once"
        )
    if rules.jobs_at_once is not None and peak.jobs > rules.jobs_at_once.at_most:
        yield (
            f"{peak.jobs} Jobs would be there at the peak; at most {rules.jobs_at_once.at_most} "
            f"are allowed ({rules.jobs_at_once.source}); set jobs.at_once"
        )


def _low_use(run: ClusterRun, forecast: Sequence[UtilisationForecast]) -> Iterator[str]:
    """Yield whether a run may begin although little of what it asks for will be used."""
    rule = run.profile.rules.utilisation
    if rule is None or not any(one.breaks for one in forecast):
        return
    servers = run.profile.model_servers
    pods = servers.at_once * max(servers.replicas, servers.max_replicas)
    yield (
        f"a low forecast does not stop this run: {run.profile.name} lets each user have up to "
        f"{rule.violating_pods} pods that use too little, and up to {pods} model "
        f"{'server runs' if pods == 1 else 'servers run'} at the same time; if that is more than "
        "the site allows, or you have other such pods, give the run more rows, a smaller GPU, or "
        "fewer models at once"
    )


def _notices(run: ClusterRun, models: Sequence[ModelPlan]) -> Iterator[str]:
    profile = run.profile
    for model in models:
        if model.gated and model.secret is not None:
            yield (
                f"{model.key}: accept the licence ({model.licence_url}) on the hub, and put a "
                f"token into the Secret {model.secret.name}, key {model.secret.key}"
            )
        if run.catalogue.get(model.key).licence.conditions:
            conditions = run.catalogue.get(model.key).licence.conditions
            yield f"{model.key}: {model.licence}: {conditions}"
    rules = profile.rules
    if rules.archive is not None:
        yield (
            f"volumes that are not accessed for {rules.archive.months:g} months may be purged "
            f"without notice ({rules.archive.source}); `grace cluster collect` brings results home"
        )
