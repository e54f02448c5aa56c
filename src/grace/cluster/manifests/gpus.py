"""
Which GPUs a model's server is put on, of those that the catalogue allows and the site has.

Says where a pod may go; how many GPUs are free is known by a live cluster only.
"""

from collections.abc import Iterator

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
from grace.cluster.profile import Profile
from grace.cluster.request import ClusterRun
from grace.errors import UsageError

_PREFERENCE = 50


def gpu_option(spec: ModelSpec, profile: Profile) -> GpuOption | None:
    """
    Return the first option of the catalogue that a site can satisfy.

    Args:
        spec: The model.

        profile: The site.

    Returns:
        The option; None if the model needs no GPU.

    Raises:
        UsageError: The site has no such GPUs; the message says what it has.
    """
    if not spec.gpus:
        return None
    for option in spec.gpus:
        if usable_products(option, profile):
            return option
    wanted = " or ".join(_described(option) for option in spec.gpus)
    has = ", ".join(
        f"{name} ({product.memory_gb:g} GB)" for name, product in profile.gpus.products.items()
    )
    raise UsageError(
        f"{spec.key}: needs {wanted}; the profile {profile.name} has {has or 'no GPUs'}; choose "
        "another model, another --profile, or add an option to `gpus` in a catalogue of your own"
    )


def usable_products(option: GpuOption, profile: Profile) -> tuple[str, ...]:
    """Return the site's products that serve an option, in the order of the profile."""
    return tuple(
        name
        for name, product in profile.gpus.products.items()
        if (name in option.products if option.products else product.memory_gb >= option.memory_gb)
    )


def affinity(run: ClusterRun, option: GpuOption | None) -> V1Affinity | None:
    """
    Return which nodes a pod needs or prefers; None if it may go anywhere.

    Args:
        run: The run; on spot nodes, those are preferred.

        option: The GPUs that it needs.
    """
    required = None
    if option is not None:
        products = list(usable_products(option, run.profile))
        required = V1NodeSelector(node_selector_terms=[_term({run.profile.gpus.label: products})])
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


def _described(option: GpuOption) -> str:
    if option.products:
        return f"{option} ({', '.join(option.products)})"
    return f"{option.count} with {option.memory_gb:g} GB"
