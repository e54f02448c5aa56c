"""Figures, targets and tables: what a benchmark prints, and writes as JSON."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from grace.errors import GraceError

RESULTS = Path(__file__).parent / "results"
_PEERS = ("grace", "aiohttp", "httpx", "openai", "lm-eval", "transformers", "torch")

Line = Mapping[str, str | int | float | None]


class BenchmarkError(GraceError):
    """The benchmark cannot be run as asked; the message says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """
    A target and whether it was met.

    Attributes:
        what: What was measured.

        measured: The figure; None where it was not measured.

        limit: What it must reach.

        at_least: Whether more is better.

        note: On how the figure came about.
    """

    what: str
    measured: float | None
    limit: float
    at_least: bool = True
    note: str = ""

    @property
    def verdict(self) -> str:
        """`met`, `missed` or `not measured`."""
        if self.measured is None:
            return "not measured"
        met = self.measured >= self.limit if self.at_least else self.measured <= self.limit
        return "met" if met else "missed"


@dataclass(slots=True)
class Report:
    """
    A part of the benchmark.

    Attributes:
        name: Names the JSON file.

        tables: Lines by the title of their table.

        targets: What was to be reached.

        notes: What a reader must know.
    """

    name: str
    tables: dict[str, list[Line]] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, table: str, line: Line) -> None:
        """Add a line to a table."""
        self.tables.setdefault(table, []).append(line)

    def write(self) -> Path:
        """Write everything as JSON and return its path."""
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{self.name}.json"
        content = {
            "measured": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "versions": versions(),
            "tables": self.tables,
            "targets": [
                {
                    "what": target.what,
                    "measured": target.measured,
                    "limit": target.limit,
                    "verdict": target.verdict,
                    "note": target.note,
                }
                for target in self.targets
            ],
            "notes": self.notes,
        }
        path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
        return path

    def show(self, console: Console) -> None:
        """Print everything."""
        console.print(f"\n{machine()}")
        console.print(", ".join(f"{name} {number}" for name, number in versions().items()))
        for title, lines in self.tables.items():
            console.print()
            console.print(_table(title, lines))
        for note in self.notes:
            console.print(note, markup=False)
        if self.targets:
            console.print()
            console.print(_targets(self.targets))


def machine() -> str:
    """Describe this machine's class; no name, no path."""
    processor = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    return (
        f"{processor}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )


def versions() -> dict[str, str]:
    """Return the versions of what is compared."""
    found = {}
    for name in _PEERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _table(title: str, lines: Sequence[Line]) -> Table:
    table = Table(title=title, title_justify="left", pad_edge=False)
    names = list(dict.fromkeys(name for line in lines for name in line))
    for name in names:
        numeric = any(isinstance(line.get(name), int | float) for line in lines)
        table.add_column(name, justify="right" if numeric else "left")
    for line in lines:
        table.add_row(*(shown(line.get(name)) for name in names))
    return table


def _targets(targets: Sequence[Target]) -> Table:
    table = Table(title="Targets", title_justify="left", pad_edge=False)
    for name in ("target", "measured", "limit", "verdict", "note"):
        table.add_column(name)
    for target in targets:
        sign = "≥" if target.at_least else "≤"
        limit = f"{sign} {shown(target.limit)}"
        table.add_row(target.what, shown(target.measured), limit, target.verdict, target.note)
    return table


def shown(value: str | float | None) -> str:
    """
    Return a cell's text: four digits of a number, nothing for what was not measured.

    >>> shown(1234.5678), shown(0.0123456), shown(None), shown(12345.6)
    ('1,235', '0.01235', '', '12,346')
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"
