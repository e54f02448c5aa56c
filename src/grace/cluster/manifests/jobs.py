"""
The Job of a step, of the pod that hands a run's files over, and of the one that drives it.

What a container runs is the command line that anybody can run: `grace stage` or
`grace models pull`. A Job's retries are bounded, and so is its time.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from kubernetes.client import V1Job, V1JobSpec, V1SecretKeySelector, V1Volume, V1VolumeMount

from grace.catalogue.model import ModelSpec
from grace.cluster.manifests.access import account_of
from grace.cluster.manifests.gpus import affinity
from grace.cluster.manifests.labels import (
    REACHES,
    Component,
    Reaches,
    asked_model,
    component_of,
    labelled,
    metadata,
    reached_by,
)
from grace.cluster.manifests.plain import Manifest, plain
from grace.cluster.manifests.pods import PodPlan, mount, pod_template, secret_value
from grace.cluster.manifests.quantities import ephemeral_limit, minutes, requirements
from grace.cluster.manifests.retries import by_exit_status
from grace.cluster.manifests.storage import (
    INPUTS_CLAIM,
    LOGS_CLAIM,
    OUTPUT_CLAIM,
    claim_volume,
    config_volume,
    inputs_mount,
    inputs_volume,
    upload_folder,
)
from grace.cluster.names import (
    driver_job_name,
    files_job_name,
    server_name,
    step_job_name,
    weights_name,
)
from grace.cluster.request import CONFIG, INPUTS, LOGS, PORT, RESULTS, WEIGHTS, ClusterRun
from grace.cluster.steps import Step, StepKind
from grace.errors import UsageError

_HUB_TOKEN = "HF_TOKEN"  # noqa: S105 (the name of a variable)
_OUTCOME = "/dev/termination-log"
# Grace ends ten seconds after it has drained; the rest is for a slow volume.
_BEYOND_DRAIN_SECONDS = 30
_FILES_IDLE_MINUTES = 30
_LAST_SECONDS = 1800


def step_objects(run: ClusterRun, step: Step) -> tuple[Manifest, ...]:
    """
    Return the objects of a step: one Job.

    Args:
        run: The run.

        step: One of its steps.

    Raises:
        UsageError: It needs a key that the profile names no Secret for.
    """
    labels = labelled(component_of(step), run=run, step=step, model=step.model)
    plan = _weights_pod(run, step) if step.kind is StepKind.WEIGHTS else _stage_pod(run, step)
    return (plain(_job(run, step_job_name(run.run_id, step), labels, plan, step.shards)),)


def files_objects(run: ClusterRun) -> tuple[Manifest, ...]:
    """
    Return the Job whose pod hands a run's files over: inputs in, results out.

    It ends by itself when nobody uses it. The input claim is mounted as a whole
    and can be written, if the run has one; see `upload_folder`.
    """
    labels = labelled(Component.RESULTS, run=run)
    volumes = [claim_volume("results", OUTPUT_CLAIM), claim_volume("logs", LOGS_CLAIM)]
    mounts = [mount("results", RESULTS), mount("logs", LOGS)]
    if upload_folder(run) is not None:
        volumes.append(claim_volume("inputs", INPUTS_CLAIM))
        mounts.append(mount("inputs", INPUTS))
    plan = _grace_pod(
        run,
        Component.RESULTS,
        ["grace", "files", "keep", "--idle-minutes", str(_FILES_IDLE_MINUTES)],
        labels,
        volumes,
        mounts,
    )
    return (plain(_job(run, files_job_name(run.run_id), labels, plan)),)


def driver_objects(run: ClusterRun) -> tuple[Manifest, ...]:
    """
    Return the Job whose pod drives the run when nobody's machine does.

    It has no volume: all that it knows is on the cluster.
    """
    labels = labelled(Component.DRIVER, run=run)
    hours = run.profile.driver.deadline_hours
    command = ["grace", "cluster", "drive", run.timestamp, "--namespace", run.namespace]
    command += ["--hours", f"{hours:g}"]
    plan = _grace_pod(
        run, Component.DRIVER, command, {**labels, REACHES: Reaches.API.value}, [], []
    )
    # Its own deadline comes first, so that it can still stop what it looks after.
    seconds = minutes(hours * 60) + _LAST_SECONDS
    job = _job(run, driver_job_name(run.run_id), labels, replace(plan, token=True), seconds=seconds)
    return (plain(job),)


def endpoint_of(key: str) -> str:
    """Return the address of a model's server inside the namespace."""
    return f"http://{server_name(key)}:{PORT}"


def _job(
    run: ClusterRun,
    name: str,
    labels: Mapping[str, str],
    plan: PodPlan,
    shards: int = 1,
    seconds: int | None = None,
) -> V1Job:
    jobs = run.profile.jobs
    several = shards > 1
    return V1Job(
        api_version="batch/v1",
        kind="Job",
        metadata=metadata(run, name, labels),
        spec=V1JobSpec(
            completion_mode="Indexed",
            completions=shards,
            parallelism=shards,
            # A shard that fails for good must not keep the others from their work.
            backoff_limit=None if several else jobs.backoff_limit,
            backoff_limit_per_index=jobs.backoff_limit if several else None,
            active_deadline_seconds=seconds or minutes(jobs.deadline_hours * 60),
            ttl_seconds_after_finished=math.ceil(jobs.keep_hours * 3600),
            pod_failure_policy=by_exit_status(),
            # One writer a file: a pod's successor begins when it has ended.
            pod_replacement_policy="Failed",
            template=pod_template(run, plan),
        ),
    )


def _stage_pod(run: ClusterRun, step: Step) -> PodPlan:
    component = component_of(step)
    labels = labelled(component, run=run, step=step, model=step.model)
    volumes = [
        config_volume(run),
        claim_volume("results", OUTPUT_CLAIM),
        claim_volume("logs", LOGS_CLAIM),
    ]
    mounts = [
        mount("config", CONFIG.parent, read_only=True),
        mount("results", RESULTS),
        mount("logs", LOGS),
    ]
    return _grace_pod(
        run,
        component,
        list(_stage_command(run, step)),
        {**labels, REACHES: reached_by(run, step).value},
        [*volumes, *_inputs(run)],
        [*mounts, *([inputs_mount(run)] if run.files else [])],
        secrets=_keys(run, step),
    )


def _inputs(run: ClusterRun) -> list[V1Volume]:
    volume = inputs_volume(run)
    return [] if volume is None else [volume]


def _stage_command(run: ClusterRun, step: Step) -> Iterator[str]:
    yield from ("grace", "stage", *step.stages)
    yield from ("--config", str(CONFIG))
    for experiment in run.settings.experiment if step.experiment is None else (step.experiment,):
        yield from ("--experiment", experiment)
    yield from ("--model", step.model)
    if step.server is not None:
        flag = "--extractor-endpoint" if step.kind is StepKind.EXTRACT else "--endpoint"
        yield from (flag, endpoint_of(step.server))
        yield from ("--server", run.catalogue.get(step.server).server)
    # For the server, and for a pod of the same step that lingers on a lost node.
    yield from ("--wait-minutes", str(run.profile.model_servers.startup_minutes))
    if step.shards > 1:
        # Kubernetes puts the pod's own index in.
        yield from ("--shard", f"$(JOB_COMPLETION_INDEX)/{step.shards}")
    yield from ("--log", "json", "--log-folder", str(LOGS), "--outcome", _OUTCOME)
    if step.kind is StepKind.FINISH:
        yield "--accept-missing"


def _weights_pod(run: ClusterRun, step: Step) -> PodPlan:
    spec = run.catalogue.get(step.model)
    labels = labelled(Component.WEIGHTS, run=run, step=step, model=step.model)
    command = ["grace", "models", "pull", spec.key, "--store", str(WEIGHTS)]
    volumes = [claim_volume("weights", weights_name(spec.key))]
    mounts = [mount("weights", WEIGHTS)]
    if run.settings.catalogue is not None:
        command += ["--catalogue", str(run.settings.catalogue)]
        volumes += _inputs(run)
        mounts.append(inputs_mount(run))
    token = run.profile.secrets.hub_token
    return _grace_pod(
        run,
        Component.WEIGHTS,
        command,
        {**labels, REACHES: reached_by(run, step).value},
        volumes,
        mounts,
        secrets={}
        if token is None or not _is_on_hub(spec)
        else {_HUB_TOKEN: secret_value(token, optional=not spec.gated)},
    )


def _is_on_hub(spec: ModelSpec) -> bool:
    return spec.weights is None or spec.weights.scheme == "hf"


def _grace_pod(
    run: ClusterRun,
    component: Component,
    command: list[str],
    labels: Mapping[str, str],
    volumes: list[V1Volume],
    mounts: list[V1VolumeMount],
    secrets: Mapping[str, V1SecretKeySelector] | None = None,
) -> PodPlan:
    """Return a pod of the runner image."""
    jobs = run.profile.jobs
    asked = jobs.query if component is Component.QUERY else jobs.light
    drain_seconds = max(jobs.drain_seconds, run.settings.drain_seconds)
    return PodPlan(
        account=account_of(component),
        image=run.profile.images.runner,
        command=command,
        resources=requirements(run.profile, asked),
        labels=labels,
        volumes=volumes,
        mounts=mounts,
        environment=_ENVIRONMENT,
        restart="Never",
        grace_seconds=math.ceil(drain_seconds) + _BEYOND_DRAIN_SECONDS,
        tmp_limit=ephemeral_limit(run.profile, asked),
        secrets=secrets or {},
        affinity=affinity(run),
    )


# The root file system is read-only: whatever a library keeps goes to /tmp, with the pod.
_ENVIRONMENT: Mapping[str, str] = {
    "HOME": "/tmp",  # noqa: S108 (a folder of the pod's own)
    "XDG_CACHE_HOME": "/tmp/.cache",  # noqa: S108 (likewise)
    "GRACE_CACHE": "/tmp/grace",  # noqa: S108 (likewise)
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # Downloads go to the claim as they come, and are not kept twice.
    "HF_XET_CHUNK_CACHE_SIZE_BYTES": "0",
}


def _keys(run: ClusterRun, step: Step) -> dict[str, V1SecretKeySelector]:
    """Return the variable with the key of the hosted model that a step asks."""
    asked = asked_model(run, step)
    variable = None if asked is None else run.catalogue.get(asked).api_key_env
    if asked is None or variable is None or step.server is not None:
        return {}
    settings = run.settings
    elsewhere = settings.extractor_endpoint if step.kind is StepKind.EXTRACT else settings.endpoint
    if elsewhere is not None:
        # One key opens one server: it is not shown to another.
        return {}
    secret = run.profile.secrets.deepseek
    if secret is None:
        raise UsageError(
            f"{asked}: needs the key {variable}, and the profile {run.profile.name} names no "
            f"Secret that holds it; add `secrets: {{deepseek: {{name: grace-deepseek, key: "
            f"{variable}}}}}` to a profile of your own"
        )
    return {variable: secret_value(secret)}
