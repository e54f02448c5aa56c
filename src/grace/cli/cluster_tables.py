"""What `grace cluster` prints at once: findings, what a run takes, runs, what was collected."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from rich import box
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from grace.cli.screen import err, out, visible
from grace.cluster.collect import Collection
from grace.cluster.steps import StepKind

if TYPE_CHECKING:
    from grace.cluster.capacity import CapacityPlan, Demand, ModelPlan, Moment
    from grace.cluster.policies import Finding

_SHOWN_FINDINGS = 40
_SEVERITIES = {"violation": "bold red", "not ready": "red", "notice": "yellow"}
_LONGEST_VALUE = 60
_SHOWN_HOURS = 0.1
STEP_WORDS = {
    StepKind.WEIGHTS: "fetch weights",
    StepKind.SMOKE: "smoke test",
    StepKind.RESPOND: "responses",
    StepKind.EXTRACT: "extraction",
    StepKind.SCORE: "probabilities",
    StepKind.RECHECK: "measured again",
    StepKind.FINISH: "tables",
}


def print_findings(findings: "Sequence[Finding]", objects: int) -> None:
    """
    Print which rules are broken, and how many objects were held against them.

    Args:
        findings: Violations first.

        objects: How many objects were looked at.
    """
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 1, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in findings[:_SHOWN_FINDINGS]:
        table.add_row(
            Text(one.severity.value, _SEVERITIES[one.severity.value]),
            Text("\n").join(_finding_lines(one)),
        )
    if findings:
        out.print(table)
    if len(findings) > _SHOWN_FINDINGS:
        out.print(f"and {len(findings) - _SHOWN_FINDINGS} more\n")
    found = Counter(one.severity.value for one in findings)
    said = f"{objects} objects: {_counted(found['violation'], 'violation')}, "
    if found["not ready"]:
        said += f"{found['not ready']} not ready to be sent, "
    said += _counted(found["notice"], "notice")
    worst = findings[0].severity.value if findings else "notice"
    out.print(said, style="green" if worst == "notice" else _SEVERITIES[worst], markup=False)


def _finding_lines(one: "Finding") -> Iterator[Text]:
    yield Text.assemble((one.where, "bold"), "  ", (one.field, "cyan"))
    value = "missing" if one.value is None else _cut(str(one.value))
    yield Text(f"found  {value}{f': {one.detail}' if one.detail else ''}")
    yield Text.assemble("rule   ", one.words, "  ", (f"[{one.rule}]", "dim"))
    if one.source:
        yield Text(f"       {one.source}", "dim")
    yield Text.assemble("do     ", (one.remedy, "green"))


def print_capacity(plan: "CapacityPlan", notes: Sequence[str] = ()) -> None:
    """
    Print what a run takes of a cluster: by model, over time, at its peak.

    Args:
        plan: What it takes, and what stands in the way.

        notes: What else a user should know.
    """
    _print_models(plan.models)
    _print_moments(plan)
    _print_volumes(plan)
    for one in plan.utilisation:
        if one.breaks:
            bounds = " to ".join(f"{bound:.0%}" for bound in (one.at_least, one.at_most) if bound)
            out.print(
                f"note: {one.what}: {one.forecast:.0%} of what is asked for will be used, by a "
                f"forecast; the site wants {bounds} ({one.assumed})",
                style="yellow",
                markup=False,
            )
    for notice in _notes_together((*plan.notices, *notes), [one.key for one in plan.models]):
        out.print(f"note: {notice}", style="yellow", markup=False)
    for problem in plan.problems:
        out.print(f"problem: {problem}", style="red", markup=False)


def _notes_together(notes: Sequence[str], keys: Sequence[str]) -> Iterator[str]:
    """Yield notes, each once: those that say the same of several models name them all."""
    found: dict[str, list[str]] = {}
    for note in notes:
        key, colon, said = note.partition(": ")
        of_model = bool(colon) and key in keys
        whose = found.setdefault(said if of_model else note, [])
        if of_model and key not in whose:
            whose.append(key)
    for said, whose in found.items():
        yield f"{', '.join(whose)}: {said}" if whose else said


def _print_models(models: "Sequence[ModelPlan]") -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("model", "served by", "GPUs"):
        table.add_column(name, overflow="fold")
    for name in ("CPU", "memory", "weights", "GPU-hours"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("licence")
    for one in models:
        gpus = str(one.gpus) if one.gpus else "-"
        table.add_row(
            one.key,
            _server_of(one),
            Text(one.refused, "red") if one.refused else gpus,
            f"{one.cpu:g}" if one.cpu else "-",
            f"{one.memory_gb:g} GB" if one.memory_gb else "-",
            f"{one.weights_gb:g} GB" if one.weights_gb else "-",
            "not known" if one.gpu_hours is None else f"{one.gpu_hours:.1f}",
            Text.assemble(one.licence, (" gated", "yellow") if one.gated else ""),
        )
    out.print(table)
    for kinds, keys in _by_gpus(models).items():
        out.print(f"GPUs: {', '.join(keys)}: {kinds}", style="dim", markup=False)
    for said in dict.fromkeys(one.assumed for one in models if one.assumed and one.served_by):
        out.print(f"hours: {said}", style="dim", markup=False)


def _server_of(model: "ModelPlan") -> str:
    if model.served_by is None:
        return "hosted"
    return model.server if model.served_by == model.key else f"{model.server}, on {model.served_by}"


def _by_gpus(models: "Sequence[ModelPlan]") -> dict[str, list[str]]:
    """Return which models take which GPUs: their names are too long for a table."""
    found: dict[str, list[str]] = {}
    for one in models:
        if one.gpus and not one.refused:
            found.setdefault(" or ".join(one.products) or one.gpu_resource, []).append(one.key)
    return found


def _print_moments(plan: "CapacityPlan") -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("one after the other", overflow="fold")
    table.add_column("model server", overflow="fold")
    table.add_column("jobs", justify="right")
    for name in ("GPUs", "CPU", "memory", "pods", "hours"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in _joined(plan.moments):
        table.add_row(
            _kinds_of(one),
            ", ".join(one.servers) or "-",
            str(len(one.steps)),
            *_held(one.demand),
            _hours(one.hours),
        )
    table.add_section()
    hours = _hours(plan.hours)
    table.add_row(
        "at most at once", "", str(plan.peak.jobs), *_held(plan.peak), hours, style="bold"
    )
    out.print(table)


def _joined(moments: "Sequence[Moment]") -> "Iterator[Moment]":
    """Yield moments; those that differ in nothing to be seen are one."""
    for _, same in groupby(moments, lambda one: (_kinds_of(one), one.servers, one.demand)):
        found = list(same)
        hours = [one.hours for one in found if one.hours is not None]
        yield replace(found[0], hours=sum(hours) if len(hours) == len(found) else None)


def _kinds_of(moment: "Moment") -> str:
    kinds = dict.fromkeys(StepKind(step.partition(".")[0]) for step in moment.steps)
    return ", ".join(STEP_WORDS[kind] for kind in kinds)


def _hours(hours: float | None) -> str:
    if hours is None:
        return "not known"
    if hours == 0:
        # Only queries are counted.
        return "-"
    if hours < _SHOWN_HOURS:
        return f"under {_SHOWN_HOURS:g}"
    return f"{hours:.1f}"


def _held(demand: "Demand") -> tuple[str, ...]:
    return (
        str(demand.gpus),
        f"{demand.cpu:g}",
        f"{demand.memory_gb:g} GB",
        str(demand.pods),
    )


def _print_volumes(plan: "CapacityPlan") -> None:
    said = [
        f"{one.purpose} {one.total_gb:g} GB ({one.storage_class or 'default class'})"
        for one in plan.volumes
        if one.count
    ]
    out.print(f"storage: {plan.storage_gb:g} GB: {', '.join(said)}", markup=False)


def print_collection(found: Collection, status: str) -> None:
    """Print what was collected, folder by folder, and the command to look at what was not."""
    for one in found.folders:
        place = str(one.folder.path)
        if one.refusal:
            _say("left", "red", one.refusal)
            continue
        if not one.files:
            _say("absent", "yellow", f"{place}: not begun on the cluster")
            continue
        size = decimal(one.size)
        if one.faults:
            closed = one.folder.closed
            _say("FAULTY" if closed else "open", "red" if closed else "yellow", place)
            for fault in one.faults[:_SHOWN_FINDINGS]:
                err.print(f"  {visible(fault)}", markup=False)
        else:
            _say("valid", "green", f"{place}  {len(one.files)} files, {size}, {one.arrived} new")
        for path in one.kept:
            err.print(f"  kept what was here: {path}", markup=False)
        if one.note:
            err.print(f"note: {one.note}", style="yellow", markup=False)
    if found.noted:
        out.print("everything is here, and compared with the cluster by SHA-256", style="green")
        return
    out.print(
        f"not everything is here; what is left of the run on the cluster is needed still: {status}",
        style="yellow",
        markup=False,
    )


def _say(word: str, style: str, text: str) -> None:
    out.print(word, style=style, end=" ")
    out.print(text, markup=False)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
