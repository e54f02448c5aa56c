"""Logs of pods: the last lines, or all that come, over dropped connections."""

import asyncio
import re
from collections.abc import AsyncIterator

from grace.cluster.client.api import Api
from grace.cluster.client.objects import at, kind_of, parts, text
from grace.errors import ClusterUnavailable, ObjectMissing

# Even a pod that says nothing is looked after once in that time.
_IDLE_SECONDS = 300
_MOST_BYTES = 2**20
# As the kubelet writes it: nine digits, so that texts compare as times do.
_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d+(Z|[+-]\d\d:\d\d)")


async def tail(
    api: Api, namespace: str, pod: str, *, container: str | None, lines: int, previous: bool = False
) -> tuple[str, ...]:
    """Return the last lines of a pod's log; see `ClusterClient.log_tail`."""
    query = [("tailLines", str(lines)), ("limitBytes", str(_MOST_BYTES))]
    query += [("container", container)] if container is not None else []
    query += [("previous", "true")] if previous else []
    path = kind_of("Pod").path(namespace, pod) + "/log"
    doing = f"read the log of pod {pod} in {namespace}"

    async def once() -> tuple[str, ...]:
        async with api.stream(path, doing=doing, query=query, idle_seconds=30) as arriving:
            return tuple([line.decode("utf-8", "replace") async for line in arriving])

    return await api.patience(once)


async def follow(
    api: Api, namespace: str, pod: str, *, container: str | None, lines: int | None
) -> AsyncIterator[str]:
    """Give a pod's log until its container ends; see `ClusterClient.log_lines`."""
    path = kind_of("Pod").path(namespace, pod) + "/log"
    doing = f"follow the log of pod {pod} in {namespace}"
    base = [("follow", "true"), ("timestamps", "true")]
    base += [("container", container)] if container is not None else []
    last = ""
    failures = 0
    while True:
        query = list(base)
        resumed_at = last
        if since := _STAMP.fullmatch(last):
            # Whole seconds are all that it understands; what was seen is passed over below.
            query.append(("sinceTime", since[1] + since[2]))
        elif lines is not None:
            query.append(("tailLines", str(lines)))
        try:
            async with api.stream(
                path, doing=doing, query=query, idle_seconds=_IDLE_SECONDS
            ) as arriving:
                async for line in arriving:
                    stamp, _, said = line.decode("utf-8", "replace").partition(" ")
                    failures = 0
                    if stamp > resumed_at:
                        last = stamp
                        yield said
            if await _ended(api, namespace, pod, container):
                return
        except ObjectMissing:
            return
        except ClusterUnavailable:
            failures += 1
            if failures >= api.patience.attempts:
                raise
        await asyncio.sleep(api.patience.wait_seconds(failures))


async def _ended(api: Api, namespace: str, pod: str, container: str | None) -> bool:
    try:
        answer = await api.send(
            "GET", kind_of("Pod").path(namespace, pod), doing=f"look at pod {pod} in {namespace}"
        )
    except ObjectMissing:
        return True
    if text(answer.document, "status", "phase") in {"Succeeded", "Failed"}:
        return True
    return any(
        at(status, "state", "terminated") is not None
        for status in parts(answer.document, "status", "containerStatuses")
        if container is not None and text(status, "name") == container
    )
