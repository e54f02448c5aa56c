"""
Objects of a cluster: applied, read, listed, deleted and watched.

They are made by server-side apply alone, so that whatever is sent can be sent
again.
"""

import builtins
import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import Literal

from pydantic import JsonValue

from grace.cluster.client.api import APPLY, Api, Query
from grace.cluster.client.faults import Refusal, as_error
from grace.cluster.client.objects import Kind, Manifest, ObjectId, id_of, kind_of, parts, text
from grace.cluster.client.watching import Change, watch
from grace.errors import ClusterDenied, ClusterError, ObjectMissing

FIELD_MANAGER = "grace"
"""Who owns the fields that Grace sets, where nothing else is said."""

Propagation = Literal["Background", "Foreground", "Orphan"]

_PAGE = 500


class ObjectStore:
    """
    The objects of a cluster.

    Args:
        api: Its API.
    """

    def __init__(self, api: Api) -> None:
        self._api = api

    async def apply(
        self, manifest: Manifest, *, manager: str = FIELD_MANAGER, dry_run: bool = False
    ) -> Manifest:
        """
        Make an object, or bring the fields that are Grace's to what the manifest says.

        Fields that `grace` or this manager set by other means are taken over;
        those that somebody else owns are not. So whoever applies an object
        under a name of its own first keeps it: two runs cannot both have it.

        Args:
            manifest: Complete for this manager: what it set before and is not
                in the manifest is removed.

            manager: Who owns the fields.

            dry_run: Let the API check everything, and keep nothing.

        Returns:
            The object as the cluster has it now.

        Raises:
            FieldConflict: A field belongs to somebody else.

            ClusterError: A field cannot be changed, or is invalid; the message
                says which, and what to do.
        """
        target = id_of(manifest)
        doing = f"apply {target}"
        query = [("fieldManager", manager), ("fieldValidation", "Strict")]
        query += [("dryRun", "All")] if dry_run else []
        ours = frozenset({FIELD_MANAGER, manager})
        answer = await self._patch(target, doing, manifest, query, ours)
        if answer is None:
            forced = [*query, ("force", "true")]
            answer = await self._patch(target, doing, manifest, forced, frozenset())
        return _object(answer, doing)

    async def _patch(
        self, target: ObjectId, doing: str, body: Manifest, query: Query, ours: frozenset[str]
    ) -> JsonValue:
        """Apply; None means that only managers of ours stand in the way."""

        def only_ours(refusal: Refusal) -> bool:
            managers = refusal.conflicting_managers
            return bool(managers) and ours.issuperset(managers)

        answer = await self._api.send(
            "PATCH",
            _path(target),
            doing=doing,
            target=target,
            query=query,
            body=body,
            content_type=APPLY,
            accepts=only_ours,
        )
        return answer.document

    async def get(self, kind: str, name: str, namespace: str | None = None) -> Manifest | None:
        """
        Return an object, or None if there is none.

        Raises:
            ClusterError: It cannot be read.
        """
        target = ObjectId(kind, name, namespace)
        answer = await self._api.send(
            "GET", _path(target), doing=f"read {target}", target=target, accepts=_is_missing
        )
        return None if answer.refusal is not None else _object(answer.document, f"read {target}")

    async def list(
        self,
        kind: str,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str | None] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> tuple[Manifest, ...]:
        """
        Return the objects of a kind.

        Args:
            kind: As manifests say it.

            namespace: None for all, or if the kind has none.

            labels: Which they must have; None as a value takes any.

            fields: Which they must have, by path: `involvedObject.name`.

        Raises:
            ClusterError: They cannot be read.
        """
        query = _selecting(labels, fields)
        found, _ = await self._listed(kind_of(kind), namespace, query)
        return found

    async def list_if_permitted(
        self,
        kind: str,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str | None] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> tuple[Manifest, ...] | None:
        """Return the objects of a kind; None if that is not permitted, or the kind unknown there."""
        try:
            return await self.list(kind, namespace, labels=labels, fields=fields)
        except (ClusterDenied, ObjectMissing):
            return None

    async def _listed(
        self, kind: Kind, namespace: str | None, query: Query
    ) -> tuple[tuple[Manifest, ...], str]:
        """Return all objects and the version of the list, page by page."""
        doing = f"list {kind.plural}" + (f" in {namespace}" if namespace is not None else "")
        path = kind.path(namespace)
        found: builtins.list[Manifest] = []
        following = ""
        while True:
            paged = [*query, ("limit", str(_PAGE))]
            paged += [("continue", following)] if following else []
            answer = await self._api.send(
                "GET", path, doing=doing, query=paged, accepts=lambda refusal: refusal.status == 410
            )
            if answer.refusal is not None:
                if not following:
                    raise as_error(answer.refusal, doing)
                # The pages took too long to be of one state: from the beginning.
                found, following = [], ""
                continue
            # Items of a list do not say what they are.
            same = {"apiVersion": kind.api_version, "kind": kind.name}
            found += ({**same, **item} for item in parts(answer.document, "items"))
            following = text(answer.document, "metadata", "continue")
            if not following:
                return tuple(found), text(answer.document, "metadata", "resourceVersion")

    async def delete(
        self,
        kind: str,
        name: str,
        namespace: str | None = None,
        *,
        propagation: Propagation = "Background",
        uid: str | None = None,
    ) -> bool:
        """
        Delete an object.

        Args:
            kind: As manifests say it.

            name: Its name.

            namespace: Where it is.

            propagation: `Foreground` keeps the object until what it owns is gone.

            uid: Only if it is still this very object.

        Returns:
            False if there was none, or another one.

        Raises:
            ClusterError: It cannot be deleted.
        """
        target = ObjectId(kind, name, namespace)
        body: dict[str, JsonValue] = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
        }
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        answer = await self._api.send(
            "DELETE",
            _path(target),
            doing=f"delete {target}",
            target=target,
            body=body,
            accepts=lambda refusal: (
                _is_missing(refusal) or (refusal.status == 409 and uid is not None)
            ),
        )
        return answer.refusal is None

    async def watch(
        self,
        kind: str,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str | None] | None = None,
    ) -> AsyncIterator[Change]:
        """
        Give the objects of a kind that there are, then every change, until closed.

        Dropped connections and versions that are too old are survived.

        Raises:
            ClusterError: The API refuses, or is unavailable for too long.
        """
        known = kind_of(kind)
        query = _selecting(labels, None)
        doing = f"watch {known.plural}" + (f" in {namespace}" if namespace is not None else "")

        async def lister() -> tuple[tuple[Manifest, ...], str]:
            return await self._listed(known, namespace, query)

        async for change in watch(self._api, known.path(namespace), doing, query, lister):
            yield change


def digest_manager(name: str) -> str:
    """Return a field manager of Grace's own for a part of an object: at most 128 characters."""
    return f"{FIELD_MANAGER}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _is_missing(refusal: Refusal) -> bool:
    return refusal.status == 404


def _path(target: ObjectId) -> str:
    kind = kind_of(target.kind)
    if kind.namespaced and not target.namespace:
        raise ValueError(f"{target} has no namespace")
    return kind.path(target.namespace, target.name)


def _object(document: JsonValue, doing: str) -> Manifest:
    if not isinstance(document, dict):
        raise ClusterError(f"cannot {doing}: the API answered with something else than an object")
    return document


def _selecting(labels: Mapping[str, str | None] | None, fields: Mapping[str, str] | None) -> Query:
    query = []
    if labels:
        wanted = (key if value is None else f"{key}={value}" for key, value in labels.items())
        query.append(("labelSelector", ",".join(wanted)))
    if fields:
        query.append(("fieldSelector", ",".join(f"{key}={value}" for key, value in fields.items())))
    return query
