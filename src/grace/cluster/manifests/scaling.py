"""
How many pods a model server has: disruption budgets, and what adds pods while a queue is long.

Both autoscalers watch the server's own count of waiting requests: a server is
as busy with ten as with a thousand, and only the queue tells them apart.
"""

from kubernetes.client import (
    V1LabelSelector,
    V1PodDisruptionBudget,
    V1PodDisruptionBudgetSpec,
    V2CrossVersionObjectReference,
    V2HorizontalPodAutoscaler,
    V2HorizontalPodAutoscalerBehavior,
    V2HorizontalPodAutoscalerSpec,
    V2HPAScalingRules,
    V2MetricIdentifier,
    V2MetricSpec,
    V2MetricTarget,
    V2PodsMetricSource,
)

from grace.catalogue.model import ModelSpec
from grace.cluster.manifests.labels import Component, labelled, metadata
from grace.cluster.manifests.plain import Manifest, plain
from grace.cluster.names import server_name
from grace.cluster.request import ClusterRun

WAITING = {"vllm": "vllm:num_requests_waiting", "tgi": "tgi_queue_size"}
"""The metric of a server that counts waiting requests; llama.cpp has none."""

_QUEUE_PER_POD = 10
_CALM_SECONDS = 300


def is_scaled(run: ClusterRun, spec: ModelSpec) -> bool:
    """Whether something else than us decides how many pods a model's server has."""
    return run.profile.model_servers.autoscaler != "none" and spec.server in WAITING


def disruption_budget(run: ClusterRun, spec: ModelSpec) -> Manifest:
    """
    Return the budget of a model's pods: one at a time.

    A budget that keeps the only pod of a server would keep its node from being
    drained, for as long as a run lasts.
    """
    labels = labelled(Component.SERVER, model=spec.key)
    return plain(
        V1PodDisruptionBudget(
            api_version="policy/v1",
            kind="PodDisruptionBudget",
            metadata=metadata(run, server_name(spec.key), labels),
            spec=V1PodDisruptionBudgetSpec(
                max_unavailable=1,
                selector=V1LabelSelector(match_labels=labels),
                unhealthy_pod_eviction_policy="AlwaysAllow",
            ),
        )
    )


def autoscaler(run: ClusterRun, spec: ModelSpec) -> Manifest:
    """Return what scales the server of a model; only where `is_scaled`."""
    if run.profile.model_servers.autoscaler == "keda":
        return _scaled_object(run, spec)
    return plain(_pod_autoscaler(run, spec))


def _pod_autoscaler(run: ClusterRun, spec: ModelSpec) -> V2HorizontalPodAutoscaler:
    servers = run.profile.model_servers
    waiting = V2PodsMetricSource(
        metric=V2MetricIdentifier(name=WAITING[spec.server]),
        target=V2MetricTarget(type="AverageValue", average_value=str(_QUEUE_PER_POD)),
    )
    return V2HorizontalPodAutoscaler(
        api_version="autoscaling/v2",
        kind="HorizontalPodAutoscaler",
        metadata=metadata(run, server_name(spec.key), labelled(Component.SERVER, model=spec.key)),
        spec=V2HorizontalPodAutoscalerSpec(
            scale_target_ref=V2CrossVersionObjectReference(
                api_version="apps/v1", kind="StatefulSet", name=server_name(spec.key)
            ),
            min_replicas=servers.replicas,
            max_replicas=servers.max_replicas,
            metrics=[V2MetricSpec(type="Pods", pods=waiting)],
            # Loading weights takes minutes: what was started is kept for a while.
            behavior=V2HorizontalPodAutoscalerBehavior(
                scale_down=V2HPAScalingRules(stabilization_window_seconds=_CALM_SECONDS)
            ),
        ),
    )


def _scaled_object(run: ClusterRun, spec: ModelSpec) -> Manifest:
    servers = run.profile.model_servers
    name = server_name(spec.key)
    query = f'sum({WAITING[spec.server]}{{namespace="{run.namespace}",pod=~"{name}-[0-9]+"}})'
    return {
        # Not a kind of Kubernetes itself: there is no typed object for it.
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {
            "name": name,
            "namespace": run.namespace,
            "labels": dict(labelled(Component.SERVER, model=spec.key)),
        },
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": name},
            "minReplicaCount": servers.replicas,
            "maxReplicaCount": servers.max_replicas,
            "cooldownPeriod": _CALM_SECONDS,
            "triggers": [
                {
                    "type": "prometheus",
                    "metadata": {
                        "serverAddress": str(servers.keda_prometheus),
                        "query": query,
                        "threshold": str(_QUEUE_PER_POD),
                    },
                }
            ],
        },
    }
