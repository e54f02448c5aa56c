"""
Which ends of a pod count as failures of its own, by exit status.

A disruption is nobody's fault: evicted, preempted or drained pods are made
again and not counted. So is a pod that was told to stop, drained its queries
and says so (3). A wrong command (2) is wrong again: the Job ends at once.
"""

from functools import cache

from kubernetes.client import (
    V1PodFailurePolicy,
    V1PodFailurePolicyOnExitCodesRequirement,
    V1PodFailurePolicyOnPodConditionsPattern,
    V1PodFailurePolicyRule,
)

from grace.cluster.manifests.pods import CONTAINER

STOPPED = 3
USAGE = 2


@cache
def disruptions_ignored() -> V1PodFailurePolicy:
    """Return the policy of Jobs whose program has no such exit statuses."""
    return V1PodFailurePolicy(rules=[_disruption()])


@cache
def by_exit_status() -> V1PodFailurePolicy:
    """Return the policy of Jobs that run Grace."""
    return V1PodFailurePolicy(
        rules=[_disruption(), _exits(STOPPED, "Ignore"), _exits(USAGE, "FailJob")]
    )


def _disruption() -> V1PodFailurePolicyRule:
    pattern = V1PodFailurePolicyOnPodConditionsPattern(type="DisruptionTarget", status="True")
    return V1PodFailurePolicyRule(action="Ignore", on_pod_conditions=[pattern])


def _exits(status: int, action: str) -> V1PodFailurePolicyRule:
    return V1PodFailurePolicyRule(
        action=action,
        on_exit_codes=V1PodFailurePolicyOnExitCodesRequirement(
            container_name=CONTAINER, operator="In", values=[status]
        ),
    )
