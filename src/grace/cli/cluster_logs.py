"""`grace cluster logs`: what the pods of a run say, for people."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

import typer

from grace.cli.cluster_options import (
    Context,
    Namespace,
    ProfileOption,
    RunName,
    connected,
    place_of,
)
from grace.cli.cluster_results import RunInput, named_run
from grace.cli.screen import out, visible
from grace.errors import ClusterError

if TYPE_CHECKING:
    from grace.cluster.client import ClusterClient

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until its pods end.")]

_LINES = 40
_RUN, _STEP = "grace/run", "grace/step"


def logs(
    name: RunName = None,
    step: Annotated[
        str | None,
        typer.Argument(
            metavar="[STEP]",
            help="A step as `status` calls its model, or a part of its name: respond, "
            "exp1.gemma-2-2b. Default: all that have pods.",
        ),
    ] = None,
    profile: ProfileOption = "local",
    namespace: Namespace = None,
    cluster_context: Context = None,
    input_: RunInput = None,
    *,
    follow: Follow = False,
) -> None:
    """Show what the pods of a run say; no prompt and no response is in it."""
    place = place_of(profile, namespace, cluster_context)

    async def work(client: "ClusterClient") -> None:
        request = await named_run(client, place, name, input_)
        pods = await client.list("Pod", request.namespace, labels={_RUN: request.run_id})
        found = {
            f"{_label(pod, _STEP) or _name(pod)}": _name(pod)
            for pod in pods
            if step is None or step in (_label(pod, _STEP) or _name(pod))
        }
        if not found:
            steps = ", ".join(sorted({_label(pod, _STEP) for pod in pods} - {""})) or "none"
            raise ClusterError(
                f"run {request.timestamp} has no pods of {step or 'any step'} now; those with pods: "
                f"{steps}. Pods go a while after they ended; their logs are kept on the volume of logs"
            )
        if not follow:
            for title, pod in found.items():
                for line in await client.log_tail(pod, request.namespace, lines=_LINES):
                    _print_line(title, line)
            return
        async with asyncio.TaskGroup() as group:
            for title, pod in found.items():
                lines = client.log_lines(pod, request.namespace, lines=_LINES)
                group.create_task(_print_lines(title, lines))

    connected(place.context, work)


async def _print_lines(title: str, lines: AsyncIterator[str]) -> None:
    async for line in lines:
        _print_line(title, line)


def _print_line(title: str, line: str) -> None:
    out.print(f"{title}:", style="dim", markup=False, end=" ")
    out.print(readable(line), markup=False)


def readable(line: str) -> str:
    """
    Return a line of a pod's log for people: what the JSON of Grace's own pods says.

    >>> readable('{"time": "2026-01-31T10:20:30Z", "event": "message", "message": "hello"}')
    '10:20:30 message hello'
    >>> readable("INFO: ready")
    'INFO: ready'
    """
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return visible(line)
    if not isinstance(entry, dict) or not isinstance(entry.get("event"), str):
        return visible(line)
    moment = str(entry.get("time", ""))[11:19]
    left_out = {"time", "level", "event", "run", "message", "error"}
    said = [str(entry[key]) for key in ("message", "error") if entry.get(key)]
    said += [f"{key}={value}" for key, value in entry.items() if key not in left_out]
    return visible(" ".join([moment, entry["event"], *said]).strip())


def _label(pod: object, label: str) -> str:
    from grace.cluster.client import labels_of

    return labels_of(pod).get(label, "")  # type: ignore[arg-type]  # a Manifest


def _name(pod: object) -> str:
    from grace.cluster.client import text

    return text(pod, "metadata", "name")  # type: ignore[arg-type]  # a Manifest
