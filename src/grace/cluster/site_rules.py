"""
The rules that a site makes, as data; each says where it is written.

`grace.cluster.policies` checks them. A rule that is None does not exist there.
"""

from pydantic import Field

from grace.catalogue.fields import Strict


class SiteRule(Strict):
    """A rule of a site."""

    source: str = Field(pattern=r"^https?://")
    """The page that says so."""


class NoSleep(SiteRule):
    """A Job's command must not sleep."""


class InteractivePods(SiteRule):
    """A pod without a controller is destroyed after some hours and may not be large."""

    hours: float = Field(gt=0)
    gpus: int = Field(ge=0)
    memory_gb: float = Field(gt=0)
    cpu: float = Field(gt=0)


class LongRunning(SiteRule):
    """Deployments and StatefulSets are deleted after some days and may hold no GPU."""

    days: float = Field(gt=0)
    gpus_allowed: bool = False
    exceptions: tuple[str, ...] = ()
    """Catalogue keys whose servers were put on the site's exception list; `*` for all."""


class JobsAtOnce(SiteRule):
    """How many Jobs may be submitted at once."""

    at_most: int = Field(ge=1)


class FailedJobs(SiteRule):
    """Failed Jobs must not go on making pods: bounded retries, and an end of their own."""

    backoff_at_most: int = Field(default=6, ge=0)


class LimitsRatio(SiteRule):
    """Limits within a share of requests: CPU, memory, ephemeral storage."""

    at_most: float = Field(ge=1)


class ManyPods(SiteRule):
    """With more pods or Jobs than this, limits equal requests."""

    more_than: int = Field(ge=1)


class Utilisation(SiteRule):
    """Shares of what was requested that pods must use; a few may break it."""

    gpu_at_least: float = Field(gt=0, le=1)
    cpu_at_least: float = Field(ge=0, le=1)
    cpu_at_most: float = Field(gt=0)
    memory_at_least: float = Field(ge=0, le=1)
    memory_at_most: float = Field(gt=0)
    violating_pods: int = Field(ge=0)
    """How many pods of a user may violate it."""
    exempt_cpu: float = Field(ge=0)
    exempt_memory_gb: float = Field(ge=0)
    """Pods that ask for no more than this are exempt."""


class GpusAtOnce(SiteRule):
    """With more GPUs than this, the plan is shown to the admins first."""

    more_than: int = Field(ge=1)
    contact: str = ""
    """Where the plan is shown."""


class StorageClasses(SiteRule):
    """Which storage classes there are, and which must not be used."""

    allowed: tuple[str, ...] = Field(min_length=1)
    forbidden: dict[str, str] = Field(default_factory=dict)
    """Class to the reason why not."""
    one_node: tuple[str, ...] = ()
    """Classes whose volumes one node mounts at a time: ReadWriteOnce only."""


class NoInstalls(SiteRule):
    """No pip or conda onto shared volumes: dependencies are in the image."""


class OneWriter(SiteRule):
    """No two clients open the same file on a shared volume for writing."""


class Archive(SiteRule):
    """Volumes that are not accessed for so long may be purged."""

    months: float = Field(gt=0)


class SiteRules(Strict):
    """The rules of a site; what is None does not exist there."""

    no_sleep: NoSleep | None = None
    interactive_pods: InteractivePods | None = None
    long_running: LongRunning | None = None
    jobs_at_once: JobsAtOnce | None = None
    failed_jobs: FailedJobs | None = None
    limits_ratio: LimitsRatio | None = None
    many_pods: ManyPods | None = None
    utilisation: Utilisation | None = None
    gpus_at_once: GpusAtOnce | None = None
    storage_classes: StorageClasses | None = None
    no_installs: NoInstalls | None = None
    one_writer: OneWriter | None = None
    archive: Archive | None = None
