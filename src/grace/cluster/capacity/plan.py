"""What a run takes of a cluster, at its peak and over time."""

from collections.abc import Sequence

from grace.cluster.capacity.result import CapacityPlan
from grace.cluster.request import ClusterRun
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
    raise NotImplementedError
