"""
Typed Kubernetes objects as plain data, once and at the edge.

The builders beside this module make the client's own objects, which refuse
unknown fields and wrong types; what leaves the package is JSON.
"""

from collections.abc import Mapping

from pydantic import BaseModel, JsonValue

Manifest = Mapping[str, JsonValue]
"""A Kubernetes object: apiVersion, kind, metadata, and the rest."""

_FIRST = ("apiVersion", "kind", "metadata")


def plain(typed: BaseModel) -> Manifest:
    """Return an object as data: names as the API spells them, and nothing that is unset."""
    written: dict[str, JsonValue] = typed.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {key: written[key] for key in (*_FIRST, *written) if key in written}
