"""How an examination is shown: server, probes, repetitions, findings, verdict."""

import itertools
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from grace.cli.doctor_tables import print_probes, token_text
from grace.cli.screen import out
from grace.pipeline.diagnosis import FINE_NATS, UNSOUND_NATS
from grace.pipeline.doctor_report import (
    DoctorReport,
    Finding,
    ServerReport,
    Verdict,
)

_COLOURS = {Verdict.SOUND: "green", Verdict.WARNINGS: "yellow", Verdict.UNSOUND: "red"}
_MARKS = {"unsound": ("x", "red"), "warning": ("!", "yellow"), "note": ("-", "dim")}


def print_report(report: DoctorReport) -> None:
    """Print everything that was found."""
    _print_server(report)
    print_probes(report.probes)
    if report.repeats:
        _print_repeats(report)
    _print_findings(report.findings)
    warnings = sum(finding.severity == "warning" for finding in report.findings)
    count = f" ({warnings})" if report.verdict is Verdict.WARNINGS else ""
    out.print()
    out.print(
        Text.assemble(
            ("verdict: ", "bold"), (f"{report.verdict.value}{count}", _COLOURS[report.verdict])
        )
    )


def _print_server(report: DoctorReport) -> None:
    server = report.server
    out.print(
        Text.assemble(
            (report.model, "bold"),
            f", answered by {server.dialect} {server.version}".rstrip(),
            f" as {server.model}" if server.model != report.model else "",
        )
    )
    able = Text()
    for name, value in (
        ("token ids", server.token_ids),
        ("next token", server.next_token),
        ("whole answers", server.sequence),
        ("JSON schema", server.json_schema),
        ("seed", server.seed),
    ):
        able.append(f"{name} ")
        able.append("yes  " if value else "no  ", "green" if value else "yellow")
    context = "not told"
    if server.context_length is not None:
        context = f"{server.context_length:,} tokens"
        lengths = [probe.prompt_tokens[1] for probe in report.probes if probe.prompt_tokens]
        if lengths:
            context += f"; the longest prompt has {max(lengths):,}"
    grid = _grid()
    grid.add_row("can do", able)
    grid.add_row("scoring", server.scoring or Text("not possible", "red"))
    grid.add_row("logprobs", Text(_logprobs(server)))
    grid.add_row("context", context)
    known = {"context_length", "max_model_len", "max_total_tokens", "logprobs", "logprobs_mode"}
    told = ", ".join(
        f"{name} {value}"
        for name, value in server.details.items()
        if name not in known and "sha256" not in name and value is not None
    )
    if told:
        grid.add_row("also", Text(told))
    out.print(grid)


def _logprobs(server: ServerReport) -> str:
    mode = server.details.get("logprobs_mode") or server.details.get("logprobs")
    words = [str(mode)] if mode else []
    if server.forced is not None:
        name = token_text(server.forced.token)
        listed = server.forced.listed
        free = "" if listed is None else f"is listed with {listed:.4f} nats and "
        words.append(f"the unlikely token {name} {free}scored with {server.forced.scored:.4f}")
    return "; ".join(words) or "not measured"


def _print_repeats(report: DoctorReport) -> None:
    out.print()
    out.print(
        Text.assemble(
            ("repeated scores", "bold"),
            (f"  {report.repeats[0].queries} distributions, largest difference", "dim"),
        )
    )
    grid = _grid()
    for repeat in report.repeats:
        nats = repeat.largest_nats
        colour = "green" if nats <= FINE_NATS else "yellow" if nats <= UNSOUND_NATS else "red"
        where = f"  {repeat.where}" if nats else ""
        grid.add_row(repeat.ways, Text.assemble((f"{nats:.2g} nats", colour), (where, "dim")))
    out.print(grid)


def _print_findings(findings: Sequence[Finding]) -> None:
    if not findings:
        return
    out.print()
    out.print("[bold]findings[/bold]")
    grid = Table.grid(padding=(0, 1))
    grid.add_column()
    grid.add_column(overflow="fold")
    groups = itertools.groupby(findings, key=lambda one: (one.severity, one.remedy))
    for (severity, remedy), group in groups:
        mark, colour = _MARKS[severity]
        for finding in group:
            grid.add_row(
                Text(mark, colour),
                Text.assemble((f"{finding.where}: ", "bold"), finding.text),
            )
        if remedy:
            grid.add_row("", Text(f"→ {remedy}", "dim"))
    out.print(grid)


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    return grid
