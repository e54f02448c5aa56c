"""
A watch that goes on: over dropped connections, servers that restart, and versions that are too old.

It gives every change of the objects that it watches, or several changes at once
as the last of them. After a gap it lists, and tells what is new, changed or gone.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum

from grace.cluster.client.api import Api, Query
from grace.cluster.client.faults import Refusal, as_error
from grace.cluster.client.objects import Manifest, ObjectId, at, id_of, number, text
from grace.errors import ClusterUnavailable

# The API ends a watch after this time; silence for longer means that the connection is dead.
_WATCH_SECONDS = 55
_IDLE_SECONDS = 75
_GONE = 410

Lister = Callable[[], Awaitable[tuple[tuple[Manifest, ...], str]]]


class ChangeKind(StrEnum):
    """What happened to an object."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class Change:
    """
    A change of an object.

    Attributes:
        kind: What happened.

        manifest: The object after it; its last known state, if it is gone.
    """

    kind: ChangeKind
    manifest: Manifest


class _Expired(Exception):
    """The version from which a watch should go on is no longer kept."""


async def watch(
    api: Api, path: str, doing: str, query: Query, lister: Lister
) -> AsyncIterator[Change]:
    """
    Give the objects that there are, then every change.

    Args:
        api: Where.

        path: Of all such objects.

        doing: What it is for, for messages.

        query: Which of them.

        lister: Lists them, with the version of the list.

    Raises:
        ClusterError: The API refuses, or is unavailable for too long.
    """
    known: dict[ObjectId, Manifest] = {}
    version: str | None = None
    failures = 0
    while True:
        if version is None:
            found, version = await lister()
            for change in _differences(known, found):
                yield change
        try:
            events = _events(api, path, doing, query, version)
            async with aclosing(events):
                async for kind, manifest in events:
                    failures = 0
                    version = text(manifest, "metadata", "resourceVersion") or version
                    if kind is None:
                        continue
                    if kind is ChangeKind.DELETED:
                        known.pop(id_of(manifest), None)
                    else:
                        known[id_of(manifest)] = manifest
                    yield Change(kind, manifest)
        except _Expired:
            version = None
        except ClusterUnavailable as error:
            failures += 1
            if failures >= api.patience.attempts:
                raise
            wait = error.retry_after_seconds
            await asyncio.sleep(api.patience.wait_seconds(failures) if wait is None else wait)


async def _events(
    api: Api, path: str, doing: str, query: Query, version: str
) -> AsyncGenerator[tuple[ChangeKind | None, Manifest], None]:
    """Give the events of one connection; a bookmark has no kind of change."""
    asked = [
        *query,
        ("watch", "true"),
        ("resourceVersion", version),
        ("allowWatchBookmarks", "true"),
        ("timeoutSeconds", str(_WATCH_SECONDS)),
    ]
    async with api.stream(path, doing=doing, query=asked, idle_seconds=_IDLE_SECONDS) as lines:
        async for line in lines:
            if not line.strip():
                continue
            kind, manifest = _read(line, doing)
            yield kind, manifest


def _read(line: bytes, doing: str) -> tuple[ChangeKind | None, Manifest]:
    try:
        event = json.loads(line)
    except ValueError as error:
        # The connection was cut within a line.
        raise ClusterUnavailable(f"cannot {doing}: an event is cut off") from error
    manifest = at(event, "object")
    if not isinstance(manifest, dict):
        raise ClusterUnavailable(f"cannot {doing}: an event holds no object")
    kind = text(event, "type")
    if kind == "ERROR":
        code = number(manifest, "code")
        if code == _GONE:
            raise _Expired
        raise as_error(
            Refusal(code or 500, text(manifest, "reason"), text(manifest, "message")), doing
        )
    return (None if kind == "BOOKMARK" else ChangeKind(kind)), manifest


def _differences(known: dict[ObjectId, Manifest], found: tuple[Manifest, ...]) -> list[Change]:
    """Return what a list shows to have changed, and bring *known* up to date."""
    now = {id_of(manifest): manifest for manifest in found}
    gone = known.keys() - now.keys()
    changes = [Change(ChangeKind.DELETED, known.pop(name)) for name in gone]
    for name, manifest in now.items():
        before = known.get(name)
        if before is None:
            changes.append(Change(ChangeKind.ADDED, manifest))
        elif at(before, "metadata", "uid") != at(manifest, "metadata", "uid"):
            changes += [Change(ChangeKind.DELETED, before), Change(ChangeKind.ADDED, manifest)]
        elif text(before, "metadata", "resourceVersion") != text(
            manifest, "metadata", "resourceVersion"
        ):
            changes.append(Change(ChangeKind.MODIFIED, manifest))
        known[name] = manifest
    return changes
