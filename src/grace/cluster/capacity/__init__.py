"""What a run takes of a cluster, at its peak and over time, before anything is sent."""

from grace.cluster.capacity.plan import plan_capacity
from grace.cluster.capacity.result import (
    CapacityPlan,
    Demand,
    ModelPlan,
    Moment,
    UtilisationForecast,
    Volume,
)
from grace.cluster.gpus import GpuChoice, choose_gpus

__all__ = [
    "CapacityPlan",
    "Demand",
    "GpuChoice",
    "ModelPlan",
    "Moment",
    "UtilisationForecast",
    "Volume",
    "choose_gpus",
    "plan_capacity",
]
