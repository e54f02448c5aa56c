"""All parsers under attack, by name."""

from collections.abc import Callable, Sequence
from pathlib import Path

from fuzz.csv_inputs import csv_targets
from fuzz.harness import Target
from fuzz.kept import KEPT, kept_targets
from fuzz.replies import DIALECTS, reply_targets
from fuzz.responses import RESPONSES, response_targets
from fuzz.yaml_files import yaml_targets

FAMILIES: tuple[tuple[Sequence[str], Callable[[Path], list[Target]]], ...] = (
    (("CSV of study1", "CSV of study2", "CSV of mine"), lambda _folder: csv_targets()),
    (("study file", "config file", "catalogue file", "lock file"), yaml_targets),
    (
        [f"{name} {kind}" for name in DIALECTS for kind in ("replies", "connecting")],
        lambda _folder: reply_targets(),
    ),
    (KEPT, kept_targets),
    (RESPONSES, lambda _folder: response_targets()),
)

"""The names of parsers, and what makes them all."""

PARSERS = tuple(name for names, _ in FAMILIES for name in names)


def parser(name: str, folder: Path) -> Target:
    """Return the parser of that name, which may write into *folder*."""
    make = next(make for names, make in FAMILIES if name in names)
    return next(target for target in make(folder) if target.name == name)
