"""
Which nodes a pod is put on: those with the GPUs that it needs, or those that are preferred.

How many GPUs are free is known by a live cluster only.
"""

from collections.abc import Iterator, Sequence

from kubernetes.client import (
    V1Affinity,
    V1NodeAffinity,
    V1NodeSelector,
    V1NodeSelectorRequirement,
    V1NodeSelectorTerm,
    V1PreferredSchedulingTerm,
)

from grace.catalogue.fields import GpuOption
from grace.catalogue.model import ModelSpec
from grace.cluster.gpus import GpuChoice, choose_gpus
from grace.cluster.profile import Profile
from grace.cluster.request import ClusterRun
from grace.errors import UsageError

_PREFERENCE = 50


def gpu_option(spec: ModelSpec, profile: Profile) -> GpuOption | None:
    """
    Return the option of the catalogue that a model is served with.

    Args:
        spec: The model.

        profile: The site.

    Returns:
        The option; None if the model needs no GPU.

    Raises:
        UsageError: The site has no such GPUs; the message says what it has.
    """
    return gpu_choice(spec, profile).option


def gpu_choice(spec: ModelSpec, profile: Profile) -> GpuChoice:
    """
    Return which of the site's GPUs a model is served with.

    Raises:
        UsageError: The site has no such GPUs; the message says what it has.
    """
    choice = choose_gpus(spec, profile)
    if choice.refused:
        raise UsageError(
            f"{spec.key}: {choice.refused}; choose another model, another --profile, or add an "
            "option to `gpus` in a catalogue of your own"
        )
    return choice


def affinity(run: ClusterRun, products: Sequence[str] = ()) -> V1Affinity | None:
    """
    Return which nodes a pod needs or prefers; None if it may go anywhere.

    Args:
        run: The run; on spot nodes, those are preferred.

        products: The GPUs that it needs, one of them; none for a pod without.
    """
    required = None
    if products:
        required = V1NodeSelector(
            node_selector_terms=[_term({run.profile.gpus.label: list(products)})]
        )
    preferred = [
        V1PreferredSchedulingTerm(weight=_PREFERENCE, preference=_term({label: [value]}))
        for label, value in _spot_labels(run)
    ]
    if required is None and not preferred:
        return None
    return V1Affinity(
        node_affinity=V1NodeAffinity(
            required_during_scheduling_ignored_during_execution=required,
            preferred_during_scheduling_ignored_during_execution=preferred or None,
        )
    )


def _term(labels: dict[str, list[str]]) -> V1NodeSelectorTerm:
    return V1NodeSelectorTerm(
        match_expressions=[
            V1NodeSelectorRequirement(key=label, operator="In", values=values)
            for label, values in labels.items()
        ]
    )


def _spot_labels(run: ClusterRun) -> Iterator[tuple[str, str]]:
    if run.spot and run.profile.spot is not None:
        yield from run.profile.spot.node_labels.items()
