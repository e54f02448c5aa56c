"""Runs against a hostile server, with small limits, and what became of them."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pytest

from grace.cli.main import invoke
from grace.engine.journal import Record, read_journal
from grace.runs.folder import RunFolder, find_runs

Experiment = Literal["exp1", "exp2"]

QUICK: Mapping[str, float | int] = {
    "request_seconds": 5,
    "attempts": 4,
    "patience_seconds": 60,
    "retry_wait_seconds": 0.001,
}


class Ran:
    """
    One command.

    Attributes:
        code: Its exit code.

        text: Everything it printed.

        folder: Its run.
    """

    def __init__(self, code: int, text: str, folder: RunFolder) -> None:
        self.code = code
        self.text = text
        self.folder = folder

    def tables(self) -> dict[str, bytes]:
        """Return all tables, byte for byte."""
        return {path.name: path.read_bytes() for path in sorted(self.folder.path.glob("*.csv"))}

    def rows(self) -> list[dict[str, str]]:
        """Return the rows of the main table."""
        kind = "raw_responses" if self.folder.experiment == "exp1" else "scores"
        with self.folder.table("study2", kind).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def probabilities(self) -> list[list[str]]:
        """Return the rows of the table of probabilities."""
        path = self.folder.table("study2", "probabilities")
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.reader(file))[1:]

    def records(self) -> list[Record]:
        """Return what the journal holds."""
        return list(read_journal(self.folder.journal).records.values())

    def lines(self) -> int:
        """Return how many lines the journal has."""
        return sum(path.read_bytes().count(b"\n") for path in self.folder.journal.glob("*.jsonl"))


def run(
    url: str,
    out: Path,
    rows: Path,
    experiment: Experiment,
    capsys: pytest.CaptureFixture[str],
    *flags: str,
    **limits: float,
) -> Ran:
    """Run one experiment of Study 2 on a server; limits are settings of a config file."""
    out.mkdir(parents=True, exist_ok=True)
    config = out.with_name(f"{out.name}.yaml")
    config.write_text(json.dumps({**QUICK, **limits}))
    capsys.readouterr()
    code = invoke(
        [
            "run", "--endpoint", url, "--out", str(out), "--config", str(config),
            "--study", "study2", "--input", f"study2={rows}", "--experiment", experiment,
            "--model", "smollm2-135m", "--extractor", "rules", *flags,
        ]
    )  # fmt: skip
    shown = capsys.readouterr()
    assert "Traceback" not in shown.out + shown.err
    (folder,) = find_runs(out)
    return Ran(code, shown.out + shown.err, folder)
