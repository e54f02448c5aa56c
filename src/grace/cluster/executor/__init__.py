"""The Jobs executor: drives a run on a cluster, which holds all of its state."""

from grace.cluster.executor.decide import JobStanding, ServerStanding, StepState
from grace.cluster.executor.desired import Builders, Desired, default_builders
from grace.cluster.executor.execute import execute
from grace.cluster.executor.observing import run_status
from grace.cluster.executor.outcome import Counts, Outcome
from grace.cluster.executor.pacing import Pacing
from grace.cluster.executor.records import Collection, mark_collected
from grace.cluster.executor.status import (
    PHASE_TITLES,
    ClusterHook,
    Progress,
    QuietHook,
    RunStatus,
    ServerStatus,
    StepStatus,
)
from grace.cluster.executor.stopping import down, stop_servers

__all__ = [
    "PHASE_TITLES",
    "Builders",
    "ClusterHook",
    "Collection",
    "Counts",
    "Desired",
    "JobStanding",
    "Outcome",
    "Pacing",
    "Progress",
    "QuietHook",
    "RunStatus",
    "ServerStanding",
    "ServerStatus",
    "StepState",
    "StepStatus",
    "default_builders",
    "down",
    "execute",
    "mark_collected",
    "run_status",
    "stop_servers",
]
