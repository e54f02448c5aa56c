"""
The objects of one model server: its controller, its Services, and what scales it.

A server is named by its model, not by a run, and its pods carry no run: it
serves one run after the other from the same weights.
"""

from collections.abc import Iterator

from kubernetes.client import (
    V1ContainerPort,
    V1HTTPGetAction,
    V1Job,
    V1JobSpec,
    V1LabelSelector,
    V1Probe,
    V1Service,
    V1ServicePort,
    V1ServiceSpec,
    V1StatefulSet,
    V1StatefulSetSpec,
    V1TopologySpreadConstraint,
    V1Volume,
    V1VolumeMount,
)

from grace.catalogue.model import ModelSpec
from grace.cluster.manifests.access import account_of
from grace.cluster.manifests.gpus import affinity, gpu_choice
from grace.cluster.manifests.labels import RUN, Component, labelled, metadata
from grace.cluster.manifests.plain import Manifest, plain
from grace.cluster.manifests.pods import PodPlan, mount, pod_template, scratch_volume
from grace.cluster.manifests.quantities import ephemeral_limit, gigabytes, minutes, requirements
from grace.cluster.manifests.retries import disruptions_ignored
from grace.cluster.manifests.scaling import autoscaler, disruption_budget, is_scaled
from grace.cluster.manifests.servers import (
    CACHE,
    adapter_store,
    server_command,
    server_environment,
    server_image,
)
from grace.cluster.manifests.storage import (
    claim_volume,
    inputs_mount,
    inputs_volume,
    weights_claim,
)
from grace.cluster.names import peers_name, server_name, slug, weights_name
from grace.cluster.request import PORT, WEIGHTS, ClusterRun, ServerModels
from grace.cluster.server_size import server_resources

_PORT_NAME = "http"
_END_SECONDS = 60
_POLL_SECONDS = 10


def weights_objects(run: ClusterRun, key: str) -> tuple[Manifest, ...]:
    """
    Return the claim for a model's weights.

    Args:
        run: The run.

        key: The model's catalogue key.

    Returns:
        The claim; nothing for a model whose weights are not fetched.
    """
    spec = run.catalogue.get(key)
    return (plain(weights_claim(run, spec)),) if run.fetches(spec) else ()


def server_objects(run: ClusterRun, server: ServerModels) -> tuple[Manifest, ...]:
    """
    Return the objects of one model server; its weights' claims are those of `weights_objects`.

    Args:
        run: The run.

        server: The model and the adapters on it.

    Raises:
        UsageError: The site cannot serve it.
    """
    spec = server.base
    if run.profile.model_servers.controller == "job":
        return plain(_service(run, spec)), plain(_job(run, server))
    objects = [
        plain(_service(run, spec)),
        plain(_peers(run, spec)),
        disruption_budget(run, spec),
        plain(_stateful_set(run, server)),
    ]
    if is_scaled(run, spec):
        objects.append(autoscaler(run, spec))
    return tuple(objects)


def _owned(run: ClusterRun, spec: ModelSpec) -> dict[str, str]:
    """Return the labels of the controller, which say for whom the server is up just now."""
    return {**labelled(Component.SERVER, model=spec.key), RUN: run.run_id}


def _selector(spec: ModelSpec) -> dict[str, str]:
    return labelled(Component.SERVER, model=spec.key)


def _stateful_set(run: ClusterRun, server: ServerModels) -> V1StatefulSet:
    spec = server.base
    return V1StatefulSet(
        api_version="apps/v1",
        kind="StatefulSet",
        metadata=metadata(run, server_name(spec.key), _owned(run, spec)),
        spec=V1StatefulSetSpec(
            # An autoscaler's number is not to be set back with every apply.
            replicas=None if is_scaled(run, spec) else run.profile.model_servers.replicas,
            pod_management_policy="Parallel",
            service_name=peers_name(spec.key),
            selector=V1LabelSelector(match_labels=_selector(spec)),
            template=pod_template(run, _pod(run, server, restart="Always")),
        ),
    )


def _job(run: ClusterRun, server: ServerModels) -> V1Job:
    spec = server.base
    settings = run.profile.model_servers
    return V1Job(
        api_version="batch/v1",
        kind="Job",
        metadata=metadata(run, server_name(spec.key), _owned(run, spec)),
        spec=V1JobSpec(
            completions=1,
            parallelism=1,
            backoff_limit=run.profile.jobs.backoff_limit,
            active_deadline_seconds=minutes(settings.deadline_hours * 60),
            # Once it is over, there is nothing to look at but its logs.
            ttl_seconds_after_finished=minutes(run.profile.jobs.keep_hours * 60),
            pod_failure_policy=disruptions_ignored(),
            pod_replacement_policy="Failed",
            template=pod_template(run, _pod(run, server, restart="Never")),
        ),
    )


def _pod(run: ClusterRun, server: ServerModels, restart: str) -> PodPlan:
    spec = server.base
    profile = run.profile
    gpus = gpu_choice(spec, profile)
    asked = server_resources(spec, profile)
    limit = ephemeral_limit(profile, asked)
    files = list(_files(run, server))
    spread = [_spread(spec)] if profile.model_servers.max_replicas > 1 else []
    return PodPlan(
        account=account_of(Component.SERVER),
        image=server_image(server, profile),
        command=[*server_command(server, profile), *_catalogue_arguments(run, spec)],
        resources=requirements(profile, asked, {gpus.resource: gpus.count}),
        labels=_selector(spec),
        volumes=[volume for volume, _ in files] + _scratch(run, spec, limit),
        mounts=[place for _, place in files] + _scratch_mounts(spec),
        environment=server_environment(server, profile),
        restart=restart,
        grace_seconds=_END_SECONDS,
        tmp_limit=limit,
        ports=[V1ContainerPort(name=_PORT_NAME, container_port=PORT)],
        probes=_probes(profile.model_servers.startup_minutes),
        affinity=affinity(run, gpus.products),
        runtime_class=profile.gpus.runtime_class if gpus.count else None,
        spread=spread,
    )


def _files(run: ClusterRun, server: ServerModels) -> Iterator[tuple[V1Volume, V1VolumeMount]]:
    if run.fetches(server.base):
        yield (
            claim_volume("weights", weights_name(server.base.key)),
            mount("weights", WEIGHTS, read_only=True),
        )
    for spec in server.adapters:
        name = f"adapter-{slug(spec.key)}"
        yield (
            claim_volume(name, weights_name(spec.key)),
            mount(name, adapter_store(spec), read_only=True),
        )
    inputs = inputs_volume(run)
    if _catalogue_arguments(run, server.base) and inputs is not None:
        yield inputs, inputs_mount(run)


def _scratch(run: ClusterRun, spec: ModelSpec, limit: str) -> list[V1Volume]:
    if spec.server == "llamacpp":
        return []
    volumes = [scratch_volume("cache", limit)]
    if spec.gpus:
        # What processes of one server share; the runtime gives 64 MB.
        size = gigabytes(run.profile.model_servers.shared_memory_gb)
        volumes.append(scratch_volume("shm", size, in_memory=True))
    return volumes


def _scratch_mounts(spec: ModelSpec) -> list[V1VolumeMount]:
    if spec.server == "llamacpp":
        return []
    mounts = [mount("cache", CACHE)]
    return [*mounts, mount("shm", "/dev/shm")] if spec.gpus else mounts  # noqa: S108 (the pod's own)


def _catalogue_arguments(run: ClusterRun, spec: ModelSpec) -> list[str]:
    """Return where `grace serve` finds an entry that is not Grace's own."""
    if spec.server != "llamacpp" or run.settings.catalogue is None:
        return []
    return ["--catalogue", str(run.settings.catalogue)]


def _probes(startup_minutes: int) -> dict[str, V1Probe]:
    health = V1HTTPGetAction(path="/health", port=_PORT_NAME)
    return {
        "startup_probe": V1Probe(
            http_get=health,
            period_seconds=_POLL_SECONDS,
            timeout_seconds=5,
            failure_threshold=startup_minutes * 60 // _POLL_SECONDS,
        ),
        "readiness_probe": V1Probe(
            http_get=health, period_seconds=10, timeout_seconds=5, failure_threshold=3
        ),
        # A server that computes may be late to say so: it is stopped only after two minutes.
        "liveness_probe": V1Probe(
            http_get=health, period_seconds=20, timeout_seconds=10, failure_threshold=6
        ),
    }


def _spread(spec: ModelSpec) -> V1TopologySpreadConstraint:
    return V1TopologySpreadConstraint(
        max_skew=1,
        topology_key="kubernetes.io/hostname",
        when_unsatisfiable="ScheduleAnyway",
        label_selector=V1LabelSelector(match_labels=_selector(spec)),
    )


def _service(run: ClusterRun, spec: ModelSpec) -> V1Service:
    return V1Service(
        api_version="v1",
        kind="Service",
        metadata=metadata(run, server_name(spec.key), _selector(spec)),
        spec=V1ServiceSpec(type="ClusterIP", selector=_selector(spec), ports=[_port()]),
    )


def _peers(run: ClusterRun, spec: ModelSpec) -> V1Service:
    """Return the headless Service, through which each pod has a name of its own."""
    return V1Service(
        api_version="v1",
        kind="Service",
        metadata=metadata(run, peers_name(spec.key), _selector(spec)),
        spec=V1ServiceSpec(cluster_ip="None", selector=_selector(spec), ports=[_port()]),
    )


def _port() -> V1ServicePort:
    return V1ServicePort(name=_PORT_NAME, port=PORT, target_port=_PORT_NAME, protocol="TCP")
