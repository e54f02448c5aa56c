"""
What `plan_capacity` returns: plain data, for the command line to print.

A figure that is not known is None, and a field beside it says why.
"""

from dataclasses import dataclass
from typing import Literal

from grace.cluster.profile import SecretKey
from grace.cluster.steps import StepName


@dataclass(frozen=True, slots=True)
class Demand:
    """
    What is held at the same time, in requests.

    Attributes:
        gpus: Of all kinds.

        cpu: Cores.

        memory_gb, ephemeral_gb: Of all containers.

        pods: Model servers and Jobs' pods.

        jobs: Jobs, those of model servers included.
    """

    gpus: int = 0
    cpu: float = 0
    memory_gb: float = 0
    ephemeral_gb: float = 0
    pods: int = 0
    jobs: int = 0

    def __add__(self, other: "Demand") -> "Demand":
        return Demand(
            self.gpus + other.gpus,
            round(self.cpu + other.cpu, 6),
            round(self.memory_gb + other.memory_gb, 6),
            round(self.ephemeral_gb + other.ephemeral_gb, 6),
            self.pods + other.pods,
            self.jobs + other.jobs,
        )

    def largest(self, other: "Demand") -> "Demand":
        """Return the larger of each figure."""
        return Demand(
            max(self.gpus, other.gpus),
            max(self.cpu, other.cpu),
            max(self.memory_gb, other.memory_gb),
            max(self.ephemeral_gb, other.ephemeral_gb),
            max(self.pods, other.pods),
            max(self.jobs, other.jobs),
        )


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """
    One model of the run.

    Attributes:
        key, title: As catalogued.

        server: vllm, tgi, llamacpp, or openai for a hosted one.

        served_by: The key of the model on whose server it is found; None if it
            is hosted.

        gpus: GPUs of its server: of all replicas.

        gpu_resource: What its pods ask for.

        products: The site's products that fit, best first.

        cpu, memory_gb: Of its server.

        weights_gb: What the catalogue says that the weights take.

        claim_gb: The size of their claim; None if they are not fetched.

        licence, licence_url: Under which terms.

        gated: Whether the licence must be accepted on the hub.

        secret: What a gated model's download needs; None if the profile names none,
            or none is needed.

        tokens: Prompt tokens that must be computed, and tokens generated at
            most; None without a forecast.

        tokens_counted: Whether a server counted them.

        tokens_per_second: The speed that is assumed.

        hours: Of work for its server.

        gpu_hours: The same for all its GPUs.

        assumed: What the hours rest on, or why they are not known.

        refused: Why it cannot be served there; empty if it can.
    """

    key: str
    title: str
    server: str
    served_by: str | None
    gpus: int
    gpu_resource: str
    products: tuple[str, ...]
    cpu: float
    memory_gb: float
    weights_gb: float | None
    claim_gb: float | None
    licence: str
    licence_url: str
    gated: bool
    secret: SecretKey | None
    tokens: int | None
    tokens_counted: bool
    tokens_per_second: float | None
    hours: float | None
    gpu_hours: float | None
    assumed: str
    refused: str


@dataclass(frozen=True, slots=True)
class Moment:
    """
    What runs at once, between two changes.

    Attributes:
        phase: Of the specification, the earliest of its steps'.

        servers: Catalogue keys of the models that are served.

        steps: Jobs at work.

        demand: What all of it holds.

        hours: How long; None if not known.
    """

    phase: int
    servers: tuple[str, ...]
    steps: tuple[StepName, ...]
    demand: Demand
    hours: float | None


@dataclass(frozen=True, slots=True)
class Volume:
    """
    Claims of one kind.

    Attributes:
        purpose: inputs, weights, output or logs.

        count: How many.

        total_gb: Of all of them.

        storage_class: None takes the cluster's default.

        access: How many pods may mount one.
    """

    purpose: Literal["inputs", "weights", "output", "logs"]
    count: int
    total_gb: float
    storage_class: str | None
    access: str


@dataclass(frozen=True, slots=True)
class UtilisationForecast:
    """
    How much of what is requested will be used, against the site's thresholds.

    Attributes:
        what: `gemma-2-2b: GPU`, `query pods: CPU`.

        forecast: A share of the request; None if not known.

        at_least, at_most: The site's bounds.

        exempt: Whether the site asks nothing of pods so small.

        assumed: What the forecast rests on, or why there is none.
    """

    what: str
    forecast: float | None
    at_least: float | None
    at_most: float | None
    exempt: bool
    assumed: str

    @property
    def breaks(self) -> bool:
        """Whether the forecast is outside the bounds."""
        if self.exempt or self.forecast is None:
            return False
        below = self.at_least is not None and self.forecast < self.at_least
        above = self.at_most is not None and self.forecast > self.at_most
        return below or above


@dataclass(frozen=True, slots=True)
class CapacityPlan:
    """
    What a run takes.

    Attributes:
        profile, namespace: Where.

        models: Of the run, and those that they need: the base of an adapter, the
            model that extracts.

        moments: In their order, as the executor goes.

        peak: The largest of each figure over all moments.

        volumes: Claims.

        storage_gb: Of all claims.

        gpu_hours: Of all models; None if one of them is not known.

        hours: From the first pod to the last, without starts and waiting; None
            if not known.

        utilisation: Forecasts.

        problems: What keeps the run from being done there, one sentence each.

        notices: What a user should know, one sentence each.
    """

    profile: str
    namespace: str
    models: tuple[ModelPlan, ...]
    moments: tuple[Moment, ...]
    peak: Demand
    volumes: tuple[Volume, ...]
    storage_gb: float
    gpu_hours: float | None
    hours: float | None
    utilisation: tuple[UtilisationForecast, ...]
    problems: tuple[str, ...]
    notices: tuple[str, ...]
