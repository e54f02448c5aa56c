"""Try every parser on many mutated inputs; exit with 1 at a fault, naming its input."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from fuzz.harness import Report, attack, bound_memory
from fuzz.parsers import PARSERS, parser
from fuzz.sent import read_report, sent

_FAILURES = Path("fuzz-failures")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything; return the exit status."""
    options = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    options.add_argument("inputs", type=int, nargs="?", default=20_000, help="for each parser")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--parser", action="append", choices=PARSERS, default=[])
    options.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time"
    )
    options.add_argument("--alone", choices=PARSERS, help=argparse.SUPPRESS)
    given = options.parse_args(arguments)
    if given.alone:
        return _one(given.alone, given.inputs, given.seed)
    console = Console(width=110, highlight=False)
    started = time.monotonic()

    def run(name: str) -> Report | None:
        # A process for each: its peak is that parser's own.
        command = [sys.executable, "-m", "fuzz", str(given.inputs), "--seed", str(given.seed)]
        done = subprocess.run([*command, "--alone", name], stdout=subprocess.PIPE, check=False)  # noqa: S603
        seconds = time.monotonic() - started
        if done.returncode:
            console.print(f"{name}: the process ended with {done.returncode}", markup=False)
            return None
        report = read_report(done.stdout)
        console.print(
            f"{seconds:5.0f} s  {name}: {report.inputs:,} inputs, {report.accepted:,} accepted, "
            f"{report.n_faults} faults, slowest {report.slowest_seconds:.2f} s, "
            f"{report.peak_bytes >> 20} MiB",
            style="dim",
            markup=False,
        )
        return report

    with ThreadPoolExecutor(given.jobs) as pool:
        made = list(pool.map(run, given.parser or PARSERS))
    reports = [report for report in made if report is not None]
    console.print(_table(reports))
    if len(reports) < len(made):
        return 1
    return _faults(reports, console)


def _one(name: str, inputs: int, number: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        target = parser(name, Path(folder))
        bound_memory()
        report = attack(target, inputs, number)
        sys.stdout.buffer.write(sent(report))
    return 0


def _table(reports: Sequence[Report]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("parser")
    for name in ("inputs", "accepted", "refused", "faults", "slowest s", "more MiB"):
        table.add_column(name, justify="right")
    for report in reports:
        table.add_row(
            report.name,
            f"{report.inputs:,}",
            f"{report.accepted:,}",
            f"{report.refused:,}",
            f"{report.n_faults:,}",
            f"{report.slowest_seconds:.2f}",
            f"{report.peak_bytes / 2**20:.0f}",
        )
    return table


def _faults(reports: Sequence[Report], console: Console) -> int:
    for report in reports:
        for number, fault in enumerate(report.faults, start=1):
            _FAILURES.mkdir(exist_ok=True)
            path = _FAILURES / f"{report.name.replace(' ', '-').replace('.', '-')}-{number}"
            path.write_bytes(fault.content)
            console.print(f"{report.name}: {fault.what[:400]}", style="red", markup=False)
            console.print(
                f"  {path} ({len(fault.content):,} bytes): {fault.content[:80]!r}", markup=False
            )
    if any(report.n_faults for report in reports):
        return 1
    console.print("no traceback, no slow input, no more than 500 MiB, nothing repaired")
    return 0


if __name__ == "__main__":
    sys.exit(main())
