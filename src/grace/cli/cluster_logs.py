"""`grace cluster logs`: what the pods of a run say, for people."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import JsonValue

from grace.catalogue.progress import SilentProgress
from grace.cli.cluster_options import (
    Context,
    Namespace,
    ProfileOption,
    RunName,
    connected,
    place_of,
)
from grace.cli.cluster_results import named_run
from grace.cli.screen import duration, err, out, visible
from grace.cluster.names import slug
from grace.cluster.request import LOGS, ClusterRun
from grace.cluster.steps import StepKind
from grace.errors import ClusterError

if TYPE_CHECKING:
    from grace.cluster.client import ClusterClient

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until its pods end.")]

RawLines = Annotated[
    bool, typer.Option("--json", help="Print the lines as the pods wrote them, for other programs.")
]

_LINES = 40
_SHARD = "batch.kubernetes.io/job-completion-index"
_RUN, _STEP, _MODEL = "grace/run", "grace/step", "grace/model"
_COMPONENT = "app.kubernetes.io/component"
_OURS = {"app.kubernetes.io/managed-by": "grace"}

_ENDS = frozenset({"complete", "incomplete", "open"})
_NOT_TOLD = frozenset(
    {"time", "level", "event", "run", "message", "error", "text"}
    | {"stage", "experiment", "model", "shard", "study"}
)

Pod = Mapping[str, JsonValue]


def logs(
    name: RunName = None,
    step: Annotated[
        str | None,
        typer.Argument(
            metavar="STEP",
            help="A part of a step's or a server's name: respond, exp1.gemma-2-2b, "
            "model-gemma-2-2b. Default: all that have pods.",
        ),
    ] = None,
    profile: ProfileOption = "local",
    namespace: Namespace = None,
    cluster_context: Context = None,
    *,
    follow: Follow = False,
    as_json: RawLines = False,
) -> None:
    """
    Show what the pods of a run say, the last lines of each; no prompt and no response is in it.

    Pods go a while after they ended. Then it is read from the volume of logs, by a
    pod that is started for it and taken away again.
    """
    place = place_of(profile, namespace, cluster_context)

    async def work(client: "ClusterClient") -> None:
        request = await named_run(client, place, name)
        every = await client.list("Pod", request.namespace, labels=_OURS)
        pods = pods_of(request, every)
        found = [
            (pod_title(pod), _name(pod)) for pod in pods if step is None or step in pod_title(pod)
        ]
        if not found and not pods:
            err.print(
                "its pods are gone; reading what they left in the volume of logs", style="dim"
            )
            for title, kept in await kept_lines(client, request, step):
                for line in kept[-_LINES:]:
                    _print_line(title, line, as_json=as_json)
            return
        if not found:
            raise ClusterError(gone(request, step, pods))
        if not follow:
            for title, pod in found:
                for line in await client.log_tail(pod, request.namespace, lines=_LINES):
                    _print_line(title, line, as_json=as_json)
            return
        async with asyncio.TaskGroup() as group:
            for title, pod in found:
                lines = client.log_lines(pod, request.namespace, lines=_LINES)
                group.create_task(_print_lines(title, lines, as_json=as_json))

    connected(place.context, work)


def gone(run: ClusterRun, step: str | None, pods: Sequence[Pod]) -> str:
    """
    Return why there is nothing to show, and what to do.

    Args:
        run: The run.

        step: What was asked for; None for all steps.

        pods: Those that the run has.
    """
    if pods:
        known = ", ".join(dict.fromkeys(pod_title(pod) for pod in pods))
        return (
            f"run {run.timestamp} has no pods of {step!r} now; those with pods: {known}: give a "
            "part of one of these names, or leave STEP out"
        )
    return (
        f"the pods of run {run.timestamp} are gone: they are removed with their Jobs, "
        f"{run.profile.jobs.keep_hours:g} hours after these ended (jobs.keep_hours of the "
        "profile), or when their node fails. What they said is kept in the volume claim "
        f"grace-logs of {run.namespace}, but no file there is of this run or step. How each step "
        "ended: "
        f"grace cluster status {run.timestamp} --namespace {run.namespace}"
    )


async def kept_lines(
    client: "ClusterClient", run: ClusterRun, step: str | None
) -> list[tuple[str, list[str]]]:
    """
    Return what pods of a run left in the volume of logs: name and lines of each file.

    Args:
        client: The cluster.

        run: The run.

        step: A part of a step's name; None for all.

    Raises:
        ClusterError: There is nothing, or it cannot be read.
    """
    from grace.cluster.collector import collector, collector_job
    from grace.cluster.transfer import Patience, Transfer

    found = []
    async with collector(client, collector_job(run), SilentProgress(), Patience()) as pod:
        transfer = Transfer(pod, Patience())
        with tempfile.TemporaryDirectory() as folder:
            for file in await transfer.listing(LOGS):
                if is_kept_of(str(file.path), run.timestamp, step):
                    draft = Path(folder) / "log"
                    draft.unlink(missing_ok=True)
                    if await transfer.fetch(LOGS, file, draft):
                        text = draft.read_text(encoding="utf-8", errors="replace")
                        found.append((str(file.path), text.splitlines()))
    if not found:
        raise ClusterError(gone(run, step, []))
    return found


def is_kept_of(name: str, timestamp: str, step: str | None) -> bool:
    """
    Tell whether a file of logs is of a run's step.

    >>> is_kept_of("20260131T235959Z_respond_exp1_gpt2_pod-0001.jsonl", "20260131T235959Z", "exp1.g")
    True
    """
    if not name.upper().startswith(timestamp):
        return False
    # The step that makes the tables is named by its stages there.
    words = (step or "").replace(StepKind.FINISH, "tabulate-summarise-validate")
    return words.replace(".", "_") in name.replace(".", "_")


async def _print_lines(title: str, lines: AsyncIterator[str], *, as_json: bool) -> None:
    async for line in lines:
        _print_line(title, line, as_json=as_json)


def _print_line(title: str, line: str, *, as_json: bool) -> None:
    if as_json:
        out.print(visible(line), markup=False)
        return
    out.print(f"{title}:", style="dim", markup=False, end=" ")
    out.print(readable(line), markup=False)


def readable(line: str) -> str:
    """
    Return a line of a pod's log for people: what the JSON of Grace's own pods says.

    >>> readable('{"time": "2026-01-31T10:20:30Z", "event": "message", "message": "hello"}')
    '10:20:30 hello'
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
    study = entry.get("study")
    said = f"{study}: {_said(entry)}" if study else _said(entry)
    return visible(f"{moment} {said}".strip())


def _said(entry: Mapping[str, JsonValue]) -> str:
    """Return what happened, in words; what is not known here stands as it was written."""
    text = next((str(entry[key]) for key in ("message", "error", "text") if entry.get(key)), "")
    match entry["event"]:
        case "message":
            return f"over; the run's folder is {text}" if text in _ENDS else text
        case "stage_started":
            return f"begins, {_count(entry, 'done')} of {_count(entry, 'planned')} done before"
        case "progress":
            rate = entry.get("rate")
            pace = f", {rate:.2g} a second" if isinstance(rate, int | float) and rate else ""
            failed = f", {_count(entry, 'failed')} failed" if entry.get("failed") else ""
            return f"{_count(entry, 'done')} of {_count(entry, 'planned')} done{failed}{pace}"
        case "stage_finished":
            seconds = entry.get("seconds")
            took = f", in {duration(seconds)}" if isinstance(seconds, int | float) else ""
            return (
                f"over: {_count(entry, 'answered')} answered, {_count(entry, 'failed')} failed, "
                f"{_count(entry, 'not_asked')} not asked{took}"
            )
        case "pace":
            return f"{_count(entry, 'requests_at_once')} requests at once from now on"
        case event:
            told = [f"{key} {entry[key]}" for key in entry if key not in _NOT_TOLD and entry[key]]
            return ": ".join(filter(None, (str(event), ", ".join(filter(None, (text, *told))))))


def _count(entry: Mapping[str, JsonValue], key: str) -> str:
    value = entry.get(key)
    return f"{value:,}" if isinstance(value, int) else "?"


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


def pod_title(pod: Pod) -> str:
    """Return what a pod is called for people: its step, and which of its shards; else its name."""
    step, shard = _label(pod, _STEP), _label(pod, _SHARD)
    return f"{step} shard {shard}" if step and shard not in {"", "0"} else step or _name(pod)


def _label(pod: Pod, label: str) -> str:
    return str(_of(_of(pod, "metadata"), "labels").get(label, ""))


def _name(pod: Pod) -> str:
    return str(_of(pod, "metadata").get("name", ""))


def _of(value: Pod, field: str) -> Pod:
    found = value.get(field)
    return found if isinstance(found, dict) else {}
