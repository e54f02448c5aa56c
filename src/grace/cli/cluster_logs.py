"""`grace cluster logs`: what the pods of a run say, for people."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import JsonValue

from grace.cli.cluster_options import (
    Context,
    Namespace,
    ProfileOption,
    RunName,
    connected,
    place_of,
)
from grace.cli.cluster_results import named_run
from grace.cli.screen import out, visible
from grace.cluster.names import slug
from grace.cluster.request import ClusterRun
from grace.errors import ClusterError

if TYPE_CHECKING:
    from grace.cluster.client import ClusterClient

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until its pods end.")]

_LINES = 40
_RUN, _STEP, _MODEL = "grace/run", "grace/step", "grace/model"
_COMPONENT = "app.kubernetes.io/component"
_OURS = {"app.kubernetes.io/managed-by": "grace"}

Pod = Mapping[str, JsonValue]


def logs(
    name: RunName = None,
    step: Annotated[
        str | None,
        typer.Argument(
            metavar="[STEP]",
            help="A part of a step's or a server's name: respond, exp1.gemma-2-2b, "
            "model-gemma-2-2b. Default: all that have pods.",
        ),
    ] = None,
    profile: ProfileOption = "local",
    namespace: Namespace = None,
    cluster_context: Context = None,
    *,
    follow: Follow = False,
) -> None:
    """Show what the pods of a run say; no prompt and no response is in it."""
    place = place_of(profile, namespace, cluster_context)

    async def work(client: "ClusterClient") -> None:
        request = await named_run(client, place, name)
        every = await client.list("Pod", request.namespace, labels=_OURS)
        pods = pods_of(request, every)
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


def pods_of(run: ClusterRun, pods: Sequence[Pod]) -> list[Pod]:
    """
    Return the pods that work for a run: its own, and those of its model servers.

    Servers outlive runs, so that their pods name a model and no run.
    """
    models = {slug(server.base.key) for server in run.servers}
    return [
        pod
        for pod in pods
        if _label(pod, _RUN) == run.run_id
        or (_label(pod, _COMPONENT) == "model-server" and _label(pod, _MODEL) in models)
    ]


def _label(pod: Pod, label: str) -> str:
    return str(_of(_of(pod, "metadata"), "labels").get(label, ""))


def _name(pod: Pod) -> str:
    return str(_of(pod, "metadata").get("name", ""))


def _of(value: Pod, field: str) -> Pod:
    found = value.get(field)
    return found if isinstance(found, dict) else {}
