"""
Objects as plain data, read without trusting their form.

A field of the wrong type counts as missing: schemas are checked elsewhere, and a
linter must not fall over what it was given.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from pydantic import JsonValue

from grace.cluster.units import parse_quantity
from grace.errors import UsageError

Manifest = Mapping[str, JsonValue]
"""A Kubernetes object as plain data."""

LONG_RUNNING = ("Deployment", "StatefulSet", "ReplicaSet", "DaemonSet", "ReplicationController")
_NOTHING: Mapping[str, JsonValue] = {}


def mapping(value: object) -> Mapping[str, JsonValue]:
    """Return a mapping, or an empty one for anything else."""
    # The first question is the cheap one; a large set is asked a million times.
    return value if isinstance(value, dict) or isinstance(value, Mapping) else _NOTHING  # noqa: SIM101 (the order is meant)


def items(value: object) -> Sequence[JsonValue]:
    """Return a list, or an empty one for anything else."""
    return value if isinstance(value, list | tuple) else ()


def text(value: object) -> str:
    """Return a text, or an empty one for anything else."""
    return value if isinstance(value, str) else ""


def at(value: object, path: str) -> JsonValue:
    """Return what stands at a path of keys, `spec.template.spec`; None if nothing does."""
    for key in path.split("."):
        value = mapping(value).get(key)
    return value  # type: ignore[return-value]  # what a mapping of JSON holds is JSON


def kind_of(manifest: Manifest) -> str:
    """Return an object's kind."""
    return text(manifest.get("kind"))


def name_of(manifest: Manifest) -> str:
    """Return an object's name."""
    return text(at(manifest, "metadata.name"))


def title(manifest: Manifest) -> str:
    """Return what an object is called in findings: `Job/name`."""
    return f"{kind_of(manifest) or '?'}/{name_of(manifest) or '?'}"


def labels_of(value: object) -> Mapping[str, JsonValue]:
    """Return the labels of an object or a pod template."""
    return mapping(at(value, "metadata.labels"))


def quantity(value: object) -> Decimal | None:
    """Return a quantity's value; None if it is missing or none."""
    if value is None:
        return None
    try:
        return parse_quantity(value)
    except UsageError:
        return None


def selects(selector: object, labels: Mapping[str, JsonValue]) -> bool:
    """
    Return whether a label selector matches labels; an empty one matches all.

    >>> selects({"matchLabels": {"a": "b"}}, {"a": "b", "c": "d"})
    True
    """
    wanted = mapping(at(selector, "matchLabels"))
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    for expression in items(mapping(selector).get("matchExpressions")):
        key = text(mapping(expression).get("key"))
        values = items(mapping(expression).get("values"))
        operator = mapping(expression).get("operator")
        matches = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }.get(text(operator), False)
        if not matches:
            return False
    return True
