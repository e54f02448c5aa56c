"""
What all pods of ours have in common, whatever they run.

Pod Security "restricted", a root file system that cannot be written, a
service-account token for the driver alone, no variables of other Services, and
whole numbers of seconds to end in. Parts that are the same for all pods are made once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from kubernetes.client import (
    V1Affinity,
    V1Capabilities,
    V1Container,
    V1ContainerPort,
    V1EmptyDirVolumeSource,
    V1EnvVar,
    V1EnvVarSource,
    V1LocalObjectReference,
    V1ObjectMeta,
    V1PodSecurityContext,
    V1PodSpec,
    V1PodTemplateSpec,
    V1Probe,
    V1ResourceRequirements,
    V1SeccompProfile,
    V1SecretKeySelector,
    V1SecurityContext,
    V1Toleration,
    V1TopologySpreadConstraint,
    V1Volume,
    V1VolumeMount,
)

from grace.cluster.profile import SecretKey, TolerationSettings
from grace.cluster.request import ClusterRun

CONTAINER = "grace"
USER = 10001
"""Who pods run as; the images of Grace have no other user."""


@dataclass(frozen=True, slots=True)
class PodPlan:
    """
    What differs between pods.

    Attributes:
        account: The service account.

        image: What it runs.

        command: The program and its arguments.

        resources: What it asks for.

        labels: Its labels.

        volumes: What can be mounted, beside /tmp.

        mounts: Where, beside /tmp.

        environment: Variables.

        restart: When its container is started again.

        grace_seconds: How long it may take to end.

        tmp_limit: How large /tmp may become.

        secrets: Variables whose values are in Secrets; nobody here knows them.

        ports: Ports that it listens to.

        probes: By name: `startup_probe`, `readiness_probe`, `liveness_probe`.

        affinity: Which nodes it needs or prefers.

        runtime_class: How its containers are run; None for the usual way.

        spread: How pods like it are spread over nodes.

        token: Whether the pod gets a token of its account, to ask the API with.
    """

    account: str
    image: str
    command: Sequence[str]
    resources: V1ResourceRequirements
    labels: Mapping[str, str]
    volumes: Sequence[V1Volume]
    mounts: Sequence[V1VolumeMount]
    environment: Mapping[str, str]
    restart: str
    grace_seconds: int
    tmp_limit: str
    secrets: Mapping[str, V1SecretKeySelector] = field(default_factory=dict)
    ports: Sequence[V1ContainerPort] = ()
    probes: Mapping[str, V1Probe] = field(default_factory=dict)
    affinity: V1Affinity | None = None
    runtime_class: str | None = None
    spread: Sequence[V1TopologySpreadConstraint] = ()
    token: bool = False


def pod_template(run: ClusterRun, plan: PodPlan) -> V1PodTemplateSpec:
    """Return the template of pods, as a StatefulSet or a Job holds it."""
    profile = run.profile
    images = profile.images
    container = V1Container(
        name=CONTAINER,
        image=plan.image,
        image_pull_policy=images.pull_policy,
        # The whole command line: executors that replace an entry point must know it.
        command=list(plan.command),
        env=_variables(plan) or None,
        ports=list(plan.ports) or None,
        resources=plan.resources,
        security_context=_container_security(),
        termination_message_policy="FallbackToLogsOnError",
        volume_mounts=[_tmp_mount(), *plan.mounts],
        startup_probe=plan.probes.get("startup_probe"),
        readiness_probe=plan.probes.get("readiness_probe"),
        liveness_probe=plan.probes.get("liveness_probe"),
    )
    secret = images.pull_secret
    spec = V1PodSpec(
        affinity=plan.affinity,
        automount_service_account_token=plan.token,
        containers=[container],
        enable_service_links=False,
        image_pull_secrets=None if secret is None else [V1LocalObjectReference(name=secret)],
        restart_policy=plan.restart,
        runtime_class_name=plan.runtime_class,
        security_context=_pod_security(),
        service_account_name=plan.account,
        termination_grace_period_seconds=plan.grace_seconds,
        tolerations=_tolerations(run) or None,
        topology_spread_constraints=list(plan.spread) or None,
        volumes=[scratch_volume("tmp", plan.tmp_limit), *plan.volumes],
    )
    return V1PodTemplateSpec(metadata=V1ObjectMeta(labels=dict(plan.labels)), spec=spec)


def scratch_volume(name: str, limit: str, *, in_memory: bool = False) -> V1Volume:
    """
    Return an empty folder that goes with its pod.

    Args:
        name: Of the volume.

        limit: How large it may become.

        in_memory: Whether it counts as memory, not as storage.
    """
    source = V1EmptyDirVolumeSource(medium="Memory" if in_memory else None, size_limit=limit)
    return V1Volume(name=name, empty_dir=source)


def secret_value(secret: SecretKey, *, optional: bool = False) -> V1SecretKeySelector:
    """Return a value in a Secret; a pod does not start without it, unless it is optional."""
    return V1SecretKeySelector(name=secret.name, key=secret.key, optional=optional or None)


def mount(name: str, path: object, *, read_only: bool = False) -> V1VolumeMount:
    """Return where a volume is mounted."""
    return V1VolumeMount(name=name, mount_path=str(path), read_only=read_only or None)


def _variables(plan: PodPlan) -> list[V1EnvVar]:
    plain = [V1EnvVar(name=name, value=value) for name, value in plan.environment.items()]
    secret = [
        V1EnvVar(name=name, value_from=V1EnvVarSource(secret_key_ref=reference))
        for name, reference in plan.secrets.items()
    ]
    return plain + secret


def _tolerations(run: ClusterRun) -> list[V1Toleration]:
    settings = list(run.profile.tolerations)
    if run.spot and run.profile.spot is not None:
        settings += run.profile.spot.tolerations
    return [_toleration(each) for each in settings]


def _toleration(settings: TolerationSettings) -> V1Toleration:
    return V1Toleration(
        key=settings.key,
        operator=settings.operator,
        value=settings.value,
        effect=settings.effect,
    )


@cache
def _tmp_mount() -> V1VolumeMount:
    return mount("tmp", "/tmp")  # noqa: S108 (a folder of the pod's own)


@cache
def _container_security() -> V1SecurityContext:
    return V1SecurityContext(
        allow_privilege_escalation=False,
        capabilities=V1Capabilities(drop=["ALL"]),
        read_only_root_filesystem=True,
    )


@cache
def _pod_security() -> V1PodSecurityContext:
    return V1PodSecurityContext(
        run_as_non_root=True,
        run_as_user=USER,
        run_as_group=USER,
        fs_group=USER,
        # A claim with many files is not gone through at each start.
        fs_group_change_policy="OnRootMismatch",
        seccomp_profile=V1SeccompProfile(type="RuntimeDefault"),
    )
