"""
Quantities as Kubernetes writes them, and requests with their limits.

Everything is counted in thousandths of a CPU and in whole megabytes (10⁶), as
the specification and sites give their figures, so that a limit is never above
its share by rounding.
"""

import math
from collections.abc import Mapping
from fractions import Fraction

from kubernetes.client import V1ResourceRequirements

from grace.cluster.profile import Profile, Resources

_MB_PER_GB = 1000


def cpu(millis: int) -> str:
    """
    Return CPUs.

    >>> cpu(100), cpu(4000)
    ('100m', '4')
    """
    return f"{millis}m" if millis % 1000 else str(millis // 1000)


def megabytes(count: int) -> str:
    """
    Return an amount of memory or storage.

    >>> megabytes(500), megabytes(8000)
    ('500M', '8G')
    """
    return f"{count}M" if count % _MB_PER_GB else f"{count // _MB_PER_GB}G"


def gigabytes(count: float) -> str:
    """
    Return an amount of memory or storage, to the next megabyte.

    >>> gigabytes(0.25), gigabytes(50)
    ('250M', '50G')
    """
    return megabytes(_whole(count, _MB_PER_GB))


def minutes(count: float) -> int:
    """Return minutes in whole seconds; at least one."""
    return max(1, math.ceil(count * 60))


def requirements(
    profile: Profile, asked: Resources, gpus: Mapping[str, int] | None = None
) -> V1ResourceRequirements:
    """
    Return what a container asks for and may take.

    Args:
        profile: Says how much more it may take.

        asked: What it asks for.

        gpus: Whole GPUs by resource, of which it gets exactly as many.
    """
    requests = {
        "cpu": cpu(_whole(asked.cpu, 1000)),
        "memory": gigabytes(asked.memory_gb),
        "ephemeral-storage": gigabytes(asked.ephemeral_gb),
    }
    limits = {
        "cpu": cpu(_share(_whole(asked.cpu, 1000), profile.limits_ratio)),
        "memory": megabytes(_share(_whole(asked.memory_gb, _MB_PER_GB), profile.limits_ratio)),
        "ephemeral-storage": ephemeral_limit(profile, asked),
    }
    for resource, count in (gpus or {}).items():
        if count:
            requests[resource] = limits[resource] = str(count)
    return V1ResourceRequirements(requests=requests, limits=limits)


def ephemeral_limit(profile: Profile, asked: Resources) -> str:
    """Return how much a container may write beside its claims."""
    return megabytes(_share(_whole(asked.ephemeral_gb, _MB_PER_GB), profile.limits_ratio))


def _whole(count: float, scale: int) -> int:
    # Exact: 0.1 is what a person wrote, not the binary fraction beside it.
    return math.ceil(Fraction(str(count)) * scale)


def _share(count: int, ratio: float) -> int:
    return math.floor(count * Fraction(str(ratio)))
