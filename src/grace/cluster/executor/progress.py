"""
How far pods are, from the last lines that they logged.

It is only for people to look at: what cannot be read is not known, and no error.
"""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from grace.cluster.client import ClusterClient, Manifest, at, number, text
from grace.cluster.client.faults import shown
from grace.cluster.executor.status import Progress
from grace.errors import ClusterError

_READERS = 8
_LINES = 30
# A pod says every 5 s at most how far it is: ten minutes, so that the end of the study before
# the present one is mostly among them.
_LINES_OF_PROGRESS = 120
_LAST = 3
_EVENTS = frozenset({"stage_started", "progress", "stage_finished"})


def read_progress(lines: Iterable[str]) -> Progress | None:
    """
    Return how far a pod is, all its studies together; None if its lines do not say.

    A study that is not among the lines does not count. The speed is that of the
    study which spoke last.

    >>> read_progress(['{"event": "progress", "planned": 8, "done": 2, "failed": 0, "rate": 1.5}'])
    Progress(planned=8, done=2, failed=0, per_second=1.5)
    """
    found: dict[tuple[str, str], Progress] = {}
    speed = 0.0
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if text(entry, "event") not in _EVENTS or not isinstance(at(entry, "planned"), int):
            continue
        rate = at(entry, "rate")
        done = at(entry, "done")
        speed = float(rate) if isinstance(rate, int | float) else 0.0
        found[text(entry, "stage"), text(entry, "study")] = Progress(
            planned=number(entry, "planned"),
            done=done if isinstance(done, int) else number(entry, "answered"),
            failed=number(entry, "failed"),
            per_second=speed,
        )
    together = progress_together(list(found.values()))
    return None if together is None else replace(together, per_second=speed)


def progress_together(found: Sequence[Progress]) -> Progress | None:
    """Return how far pods are together; None if none said anything."""
    if not found:
        return None
    return Progress(
        sum(one.planned for one in found),
        sum(one.done for one in found),
        sum(one.failed for one in found),
        sum(one.per_second for one in found),
    )


def read_last_words(lines: Sequence[str]) -> str:
    """
    Return why a container ended, from its last lines: its last error, or what it said last.

    >>> read_last_words(['{"event": "error", "message": "no key"}', '{"event": "stage_finished"}'])
    'no key'
    """
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if text(entry, "event") == "error" and text(entry, "message"):
            return shown(text(entry, "message"))
    return shown(" | ".join(lines[-_LAST:]))


async def last_words(client: ClusterClient, pod: Manifest) -> str:
    """Return why a pod's container ended, from its log; empty if that cannot be read."""
    name, namespace = text(pod, "metadata", "name"), text(pod, "metadata", "namespace")
    try:
        return read_last_words(await client.log_tail(name, namespace, lines=_LINES))
    except ClusterError:
        return ""


async def progress_of_pods(
    client: ClusterClient, namespace: str, pods: Sequence[Manifest]
) -> Mapping[str, Progress]:
    """Return how far pods are, by their names; some at a time are asked."""
    found: dict[str, Progress] = {}
    names = iter([text(pod, "metadata", "name") for pod in pods])

    async def work() -> None:
        for name in names:
            try:
                lines = await client.log_tail(name, namespace, lines=_LINES_OF_PROGRESS)
            except ClusterError:
                continue
            if (progress := read_progress(lines)) is not None:
                found[name] = progress

    async with asyncio.TaskGroup() as group:
        for _ in range(_READERS):
            group.create_task(work())
    return found
