"""
How much of what is requested will be used, against the bounds of the site.

Only two things are known before a run: how long a server works, and how long at
most it starts. The rest is said to be unknown.
"""

from collections.abc import Iterator, Sequence

from grace.cluster.capacity.result import ModelPlan, UtilisationForecast
from grace.cluster.profile import Resources
from grace.cluster.request import ClusterRun
from grace.cluster.site_rules import Utilisation

_CLIENT_MS_PER_PROMPT = 0.4
"""CPU of the whole command, measured: docs/explanation/benchmarks.md."""


def utilisation(
    run: ClusterRun, models: Sequence[ModelPlan], prompts: int | None, hours: float | None
) -> Iterator[UtilisationForecast]:
    """
    Yield forecasts; none where the site has no such rule.

    Args:
        run: The run.

        models: Its models.

        prompts: Sent by all query pods together; None if not known.

        hours: That all models' servers work, together; None if not known.
    """
    rule = run.profile.rules.utilisation
    if rule is None:
        return
    for model in models:
        if model.gpus and model.served_by == model.key:
            yield _gpu(run, model, rule)
    yield from _clients(run, rule, prompts, hours)


def _gpu(run: ClusterRun, model: ModelPlan, rule: Utilisation) -> UtilisationForecast:
    start = run.profile.model_servers.startup_minutes
    what = f"{model.key}: GPU"
    if model.hours is None:
        return UtilisationForecast(
            what, None, rule.gpu_at_least, None, exempt=False, assumed=model.assumed
        )
    share = model.hours / (model.hours + start / 60)
    return UtilisationForecast(
        what,
        round(share, 3),
        rule.gpu_at_least,
        None,
        exempt=False,
        assumed=(
            f"at work for {model.hours:.2g} h; its start takes all of the {start} minutes that it "
            "may; the queue never empties while it works"
        ),
    )


def _clients(
    run: ClusterRun, rule: Utilisation, prompts: int | None, hours: float | None
) -> Iterator[UtilisationForecast]:
    jobs = run.profile.jobs
    exempt = _exempt(jobs.query, rule)
    forecast = None
    if prompts is not None and hours:
        busy = prompts * _CLIENT_MS_PER_PROMPT / 1000
        forecast = round(busy / (hours * 3600 * jobs.query.cpu * jobs.shards), 6)
    assumed = (
        f"{_CLIENT_MS_PER_PROMPT:g} ms of CPU for a prompt"
        if forecast is not None
        else "prompts or hours are not known; pods that wait for a server use little"
    )
    yield UtilisationForecast(
        "query pods: CPU", forecast, rule.cpu_at_least, rule.cpu_at_most, exempt, assumed
    )
    yield UtilisationForecast(
        "query pods: memory",
        None,
        rule.memory_at_least,
        rule.memory_at_most,
        exempt,
        "depends on the inputs, which are held in memory",
    )


def _exempt(asked: Resources, rule: Utilisation) -> bool:
    return asked.cpu <= rule.exempt_cpu and asked.memory_gb <= rule.exempt_memory_gb
