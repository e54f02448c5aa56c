"""
Which of a site's GPUs a model can be served on.

A catalogue entry lists sets of GPUs in order of preference; a profile lists the
products that the site has. One pod asks for one resource, so the products of a
choice share it.
"""

from collections.abc import Collection
from dataclasses import dataclass

from grace.catalogue.fields import GpuOption
from grace.catalogue.model import ModelSpec
from grace.cluster.profile import GpuSettings, Profile


@dataclass(frozen=True, slots=True)
class GpuChoice:
    """
    What a model's server asks for.

    Attributes:
        option: Of the catalogue; None for a model that needs no GPU, or fits none.

        products: Values of the node label that fit; empty with an option means
            that any of the site's GPUs do.

        resource: What the pod asks for.

        quota: How many of them a namespace may use without asking; None if no
            limit is known.

        refused: Why none fits; empty if one does.
    """

    option: GpuOption | None
    products: tuple[str, ...]
    resource: str
    quota: int | None
    refused: str = ""

    @property
    def count(self) -> int:
        """GPUs of one pod."""
        return 0 if self.option is None else self.option.count


def choose_gpus(spec: ModelSpec, profile: Profile) -> GpuChoice:
    """
    Return what a model's server asks for on a cluster.

    The first option of the catalogue that a namespace may use without asking is
    taken, and of its GPUs the smallest; if there is none, the first that fits at all.
    """
    gpus = profile.gpus
    if not spec.gpus:
        return GpuChoice(None, (), gpus.resource, None)
    choices = [choice for option in spec.gpus for choice in _choices(option, gpus)]
    for choice in choices:
        if not must_ask(gpus, choice.products, choice.count):
            return choice
    if choices:
        return choices[0]
    wanted = " or ".join(
        f"{option.count} × {' or '.join(option.products) or 'any GPU'} "  # noqa: RUF001 (a multiplication sign is meant)
        f"with {option.memory_gb:g} GB each"
        for option in spec.gpus
    )
    had = ", ".join(f"{name} ({it.memory_gb:g} GB)" for name, it in gpus.products.items())
    return GpuChoice(
        None,
        (),
        gpus.resource,
        None,
        f"needs {wanted}; the profile {profile.name} has {had or 'no GPUs'}",
    )


def must_ask(gpus: GpuSettings, products: Collection[str], wanted: int) -> str:
    """
    Return why pods that only certain GPUs fit must wait until somebody has asked for those.

    Args:
        gpus: Of the site.

        products: The GPUs that fit; those that the site does not list count for nothing.

        wanted: How many are needed.

    Returns:
        How many a namespace may use, and where to ask; empty if nobody needs to.
    """
    known = [gpus.products[name] for name in products if name in gpus.products]
    quota = _quota(products, gpus)
    if not known or quota is None or quota >= wanted:
        return ""
    form = next((product.request_form for product in known if product.request_form), "")
    ask = f"at {form}" if form else "the site's admins"
    return (
        f"a namespace may use {quota} of them until it asks, and {wanted} "
        f"{'is' if wanted == 1 else 'are'} needed; ask {ask}"
    )


def _choices(option: GpuOption, gpus: GpuSettings) -> list[GpuChoice]:
    """
    Return the choices of an option, the smallest GPUs first.

    Products of a choice are asked for by the same name, and either all of them
    have a quota or none has.
    """
    fitting = [
        name
        for name, product in gpus.products.items()
        if product.memory_gb >= option.memory_gb
        and (not option.products or name in option.products)
        and (product.count is None or product.count >= option.count)
    ]
    groups: dict[tuple[str, bool], list[str]] = {}
    for name in sorted(fitting, key=lambda name: gpus.products[name].memory_gb):
        limited = gpus.products[name].quota is not None
        groups.setdefault((gpus.resource_of(name), limited), []).append(name)
    return [
        GpuChoice(option, tuple(names), resource, _quota(names, gpus))
        for (resource, _), names in groups.items()
    ]


def _quota(names: Collection[str], gpus: GpuSettings) -> int | None:
    quotas = [gpus.products[name].quota for name in names if name in gpus.products]
    known = [quota for quota in quotas if quota is not None]
    return max(known) if known and len(known) == len(quotas) else None
