"""
What is special about a cluster, as data: names, storage, GPUs, images, and the rules of its site.

Two profiles come with Grace, `local` and `nrp`; a user's own is a YAML file of
the same form that may say `extends: nrp` and change what is different. Nothing
here knows what Kubernetes objects look like.
"""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, Self, get_args, get_origin

from pydantic import BaseModel, Field, JsonValue, ValidationError, model_validator

from grace.catalogue.faults import as_json, did_you_mean, entry_faults, shown
from grace.catalogue.fields import Strict
from grace.cluster.site_rules import SiteRules
from grace.errors import UsageError
from grace.plain_yaml import read_plain_yaml

BUILT_IN = ("local", "nrp")
_FOLDER = Path(str(files("grace.cluster") / "profiles"))
_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
_IMAGE = r"^[a-z0-9][a-z0-9._/:-]*(@sha256:[0-9a-f]{64})?$"

AccessMode = Literal["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"]


class NamespaceSettings(Strict):
    """Where everything goes."""

    name: str | None = Field(default=None, pattern=_LABEL)
    """None: the user must say which, with --namespace."""
    create: bool = False
    """Whether the namespace is ours to make; most sites give one."""
    quota: Mapping[str, str] = Field(default_factory=dict)
    """Hard limits of a ResourceQuota, if the namespace is ours; `{"pods": "50"}`."""


class ClaimSettings(Strict):
    """One kind of volume claim."""

    storage_class: str | None = None
    """None takes the cluster's default."""
    access: AccessMode = "ReadWriteMany"
    size_gb: float = Field(gt=0)
    """Of each claim; for weights the least, if a model's own figure is smaller."""


class StorageSettings(Strict):
    """The four kinds of claims of the specification."""

    inputs: ClaimSettings
    """For inputs that do not fit in a ConfigMap; mounted read-only by all jobs."""
    weights: ClaimSettings
    """One for each model."""
    output: ClaimSettings
    """Run folders: `/{experiment}/{model}/{timestamp}/`."""
    logs: ClaimSettings


class GpuProduct(Strict):
    """A kind of GPU that the site has."""

    memory_gb: float = Field(gt=0)
    resource: str | None = None
    """What pods ask for, where these GPUs are a resource of their own: `nvidia.com/a100`."""
    count: int | None = Field(default=None, ge=0)
    """How many there are, if known; only a live cluster knows how many are free."""
    quota: int | None = Field(default=None, ge=0)
    """How many a namespace may use without asking; None: no limit is known."""
    request_form: str = ""
    """Where more are asked for."""
    tokens_per_second: Mapping[str, float] = Field(default_factory=dict)
    """Measured by you, by catalogue key, or `*` for all models; none are assumed."""


class GpuSettings(Strict):
    """How the site's GPUs are asked for."""

    resource: str = "nvidia.com/gpu"
    label: str = "nvidia.com/gpu.product"
    """The node label that says which product a node has."""
    products: Mapping[str, GpuProduct] = Field(default_factory=dict)
    """By value of the label; empty: no GPUs."""
    runtime_class: str | None = Field(default=None, pattern=_LABEL)
    """The RuntimeClass of pods with GPUs, where containers do not see them otherwise (k3s)."""

    def resource_of(self, product: str) -> str:
        """Return what a pod asks for to get a GPU of that product."""
        known = self.products.get(product)
        return self.resource if known is None or known.resource is None else known.resource

    @property
    def resources(self) -> frozenset[str]:
        """All resources that GPUs of the site are asked for as."""
        return frozenset({self.resource, *map(self.resource_of, self.products)})


class TolerationSettings(Strict):
    """A taint that pods tolerate."""

    key: str
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class SpotSettings(Strict):
    """Nodes that may be taken away at any moment, and cost less."""

    node_labels: Mapping[str, str] = Field(default_factory=dict)
    """Preferred, not required: a run goes on where there is room."""
    tolerations: tuple[TolerationSettings, ...] = ()


class ImageSettings(Strict):
    """Where images come from; never `latest`, by digest where one is known."""

    runner: str = Field(pattern=_IMAGE)
    """Grace itself: queries, extraction, tables, weights, collection."""
    llamacpp: str = Field(pattern=_IMAGE)
    """Grace with the embedded server, and perhaps the small model's weights."""
    vllm: str = Field(pattern=_IMAGE)
    tgi: str = Field(pattern=_IMAGE)
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    pull_secret: str | None = Field(default=None, pattern=_LABEL)
    """The name of a Secret in the namespace."""
    baked_weights: tuple[str, ...] = ()
    """Catalogue keys whose weights are inside the llamacpp image."""

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        for field in ("runner", "llamacpp", "vllm", "tgi"):
            image = getattr(self, field)
            tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
            if "@" not in image and tag in {"", "latest"}:
                raise ValueError(
                    f"{field} is {image!r}; expected a tag that is not latest, or a digest"
                )
        return self


class Resources(Strict):
    """What a container asks for, and how much more it may take."""

    cpu: float = Field(gt=0)
    memory_gb: float = Field(gt=0)
    ephemeral_gb: float = Field(default=1, gt=0)


class ModelServerSettings(Strict):
    """How model servers run."""

    controller: Literal["statefulset", "job"] = "statefulset"
    """What keeps a server running; a Job where the site forbids GPUs under long-running ones."""
    at_once: int = Field(default=1, ge=1)
    """How many models hold their servers at the same time."""
    gpus_at_once: int | None = Field(default=None, ge=0)
    """How many GPUs all servers together may hold; None: no bound of ours."""
    replicas: int = Field(default=1, ge=1)
    """Pods of each server."""
    autoscaler: Literal["none", "hpa", "keda"] = "none"
    """What adds replicas while vLLM's queue is long."""
    max_replicas: int = Field(default=1, ge=1)
    keda_prometheus: str | None = None
    """Where KEDA finds Prometheus: a URL inside the cluster."""
    cpu_resources: Resources | None = None
    """Instead of the catalogue's figures, for models without GPUs."""
    threads: int | None = Field(default=None, ge=1)
    """Compute threads of a server on CPUs; None: as many as whole CPUs asked for."""
    arguments: Mapping[Literal["vllm", "tgi"], tuple[str, ...]] = Field(default_factory=dict)
    """Further arguments of such servers, for speed: `{"vllm": ["--max-num-seqs", "512"]}`."""
    shared_memory_gb: float = Field(default=8, gt=0)
    """Of /dev/shm, for servers on GPUs; counts as memory."""
    startup_minutes: int = Field(default=60, ge=1)
    """How long a server may take from its start to its first answer."""
    deadline_hours: float = Field(default=24, gt=0)
    """After this a server is stopped, whatever waits for it."""

    @model_validator(mode="after")
    def _scales(self) -> Self:
        if self.max_replicas < self.replicas:
            raise ValueError(
                f"max_replicas is {self.max_replicas}; expected {self.replicas} or more"
            )
        if self.autoscaler == "keda" and self.keda_prometheus is None:
            raise ValueError("autoscaler is 'keda', which needs keda_prometheus: a URL")
        if self.controller == "job" and (self.autoscaler != "none" or self.replicas > 1):
            raise ValueError(
                "controller is 'job', which has one pod: leave out replicas and autoscaler"
            )
        return self


class JobSettings(Strict):
    """How query jobs and the other jobs run."""

    query: Resources
    """Of a pod that asks a model server."""
    light: Resources
    """Of a pod that reads and writes tables, fetches weights or hands results over."""
    concurrency: int | None = Field(default=None, ge=1, le=1024)
    """Most requests at a time from one pod; None: Grace's own choice."""
    shards: int = Field(default=1, ge=1, le=1000)
    """Pods that ask for one experiment on one model."""
    at_once: int | None = Field(default=None, ge=1)
    """How many Jobs of a run are at work at the same time; None: all that can be."""
    backoff_limit: int = Field(default=3, ge=0, le=20)
    """How many failures of a pod that are its own are retried; disruptions are not counted."""
    deadline_hours: float = Field(default=24, gt=0)
    keep_hours: float = Field(default=24, ge=0)
    """How long a finished Job stays, to be looked at."""
    drain_seconds: float = Field(default=15, ge=0)
    """After SIGTERM, how long queries in flight may take."""


class DriverSettings(Strict):
    """How a run goes on when nobody's machine drives it."""

    in_cluster: bool = True
    """Whether a Job in the namespace drives the run as well; it needs the right to make Roles."""
    deadline_hours: float = Field(default=168, gt=0)
    """After this the Job stops the run's model servers, and ends."""


class SecretKey(Strict):
    """A value in a Secret that the user makes; Grace knows its name only."""

    name: str = Field(pattern=_LABEL)
    key: str = Field(min_length=1)


class SecretSettings(Strict):
    """Secrets that pods read, by reference."""

    hub_token: SecretKey | None = None
    """For weights of gated models."""
    deepseek: SecretKey | None = None
    """For extraction through the hosted API."""


class NetworkSettings(Strict):
    """What pods may reach."""

    dns_namespace: str = "kube-system"
    dns_labels: Mapping[str, str] = Field(default_factory=lambda: {"k8s-app": "kube-dns"})
    dns_caches: tuple[str, ...] = ("169.254.20.10/32", "169.254.25.10/32")
    """Addresses of caches on the nodes, which answer before the DNS itself where there are any."""
    outside: tuple[str, ...] = ("0.0.0.0/0", "::/0")
    """Address ranges that the jobs may reach which fetch weights or ask a hosted model."""
    outside_except: tuple[str, ...] = (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "fc00::/7",
        "fe80::/10",
    )
    """Ranges that are not outside: the cluster's own, and where clouds tell nodes their secrets."""
    api_ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = (443, 6443, 8443)
    """Where the cluster's own API answers: its Service's port, and the one behind it."""
    monitoring_namespace: str | None = None
    """Whose pods may scrape metrics; None: nobody's."""


class Profile(Strict):
    """
    A cluster, as Grace sees it.

    Attributes are documented one by one below; `docs/reference/profiles.md` is
    made from them.
    """

    name: str = Field(pattern=_LABEL)
    title: str = Field(min_length=1)
    namespace: NamespaceSettings
    storage: StorageSettings
    gpus: GpuSettings = Field(default_factory=GpuSettings)
    tolerations: tuple[TolerationSettings, ...] = ()
    """Of every pod."""
    spot: SpotSettings | None = None
    images: ImageSettings
    model_servers: ModelServerSettings = Field(default_factory=ModelServerSettings)
    jobs: JobSettings
    driver: DriverSettings = Field(default_factory=DriverSettings)
    secrets: SecretSettings = Field(default_factory=SecretSettings)
    network: NetworkSettings = Field(default_factory=NetworkSettings)
    limits_ratio: float = Field(default=1.0, ge=1, le=10)
    """Limits over requests of CPU, memory and ephemeral storage."""
    pod_security: Literal["restricted", "baseline"] = "restricted"
    """The level that our namespace enforces, if it is ours."""
    rules: SiteRules = Field(default_factory=SiteRules)
    """What the site demands; checked before anything is sent."""


def load_profile(name: str) -> Profile:
    """
    Read a profile.

    Args:
        name: `local`, `nrp`, or the path of a YAML file.

    Raises:
        UsageError: There is no such profile or its file is wrong; all faults
            are named at once.
    """
    entry, where = _resolved(name, seen=())
    try:
        return Profile.model_validate_json(as_json(entry))
    except ValidationError as error:
        faults = entry_faults(error, where, tuple(Profile.model_fields), _parts(Profile))
        raise UsageError("\n".join(faults)) from error


def _parts(model: type[BaseModel], place: str = "") -> dict[str, tuple[str, ...]]:
    """Return the fields of the parts of a model, by their place in it."""
    found: dict[str, tuple[str, ...]] = {}
    for name, field in model.model_fields.items():
        inner = f"{place}.{name}" if place else name
        if get_origin(field.annotation) is Mapping:
            inner = f"{inner}.*"
        for part in _models_in(field.annotation):
            found |= {inner: tuple(part.model_fields), **_parts(part, inner)}
    return found


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]


def _resolved(name: str, seen: tuple[Path, ...]) -> tuple[dict[str, JsonValue], str]:
    """Return the entries of a profile over those of the one that it extends."""
    path = _path_of(name, seen[-1] if seen else None)
    if path in seen:
        raise UsageError(f"{path}: extends itself; name another profile, or none")
    document = read_plain_yaml(path, UsageError)
    if not isinstance(document, dict):
        raise UsageError(f"{path}: expected the fields of a profile; found {shown(document)}")
    entry: dict[str, JsonValue] = {str(key): value for key, value in document.items()}
    base = entry.pop("extends", None)
    if base is None:
        return entry, str(path)
    if not isinstance(base, str):
        raise UsageError(f"{path}: extends is {shown(base)}; expected the name of a profile")
    try:
        below, _ = _resolved(base, (*seen, path))
    except UsageError as error:
        raise UsageError(f"{path}: extends is {shown(base)}: {error}") from error
    return _over(below, entry), str(path)


def _path_of(name: str, beside: Path | None) -> Path:
    if name in BUILT_IN:
        return _FOLDER / f"{name}.yaml"
    if not name.endswith((".yaml", ".yml")):
        raise UsageError(
            f"there is no profile {name!r}{did_you_mean(name, BUILT_IN)}; expected "
            f"{' or '.join(BUILT_IN)}, or a YAML file of your own"
        )
    path = Path(name) if beside is None else beside.parent / name
    return path.absolute()


def _over(below: Mapping[str, JsonValue], above: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return *below* with the fields of *above*; mappings are joined, all else is replaced."""
    joined = dict(below)
    for key, value in above.items():
        old = joined.get(key)
        joined[key] = (
            _over(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return joined
