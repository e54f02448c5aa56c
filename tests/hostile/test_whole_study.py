"""
Study 2 on a server that fails three requests of ten: nothing is lost, nothing invented.

The whole study runs under the marker `slow`, a few of its rows always.
"""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from grace.studies.make import make_rows
from hostile.process import Hostile
from hostile.runs import Experiment, Ran, run
from hostile.script import Rule

DATA = Path(__file__).parents[3] / "shared" / "data" / "study2.csv"
WHOLE = 2424
FEW = 40

# Everything that may pass, three tenths of all requests together, whatever is asked.
_SHARES = dict.fromkeys(
    (
        "reset", "closed", "reset-in-body", "slow", "http-408", "http-429", "http-429-seconds",
        "http-429-date", "http-500", "http-502", "bad-gateway-page", "http-503",
        "http-503-seconds", "http-504", "html", "empty-body", "truncated-json",
        "wrong-encoding", "not-gzip", "truncated-gzip",
    ),
    0.015,
)  # fmt: skip

# These take their time: a few requests each. The numbers are those of the server's requests.
_LASTING = {
    "restart": (50, 500, 2000),
    "hang": (60, 1000),
    "hang-in-body": (70, 1200),
    "drip": (80, 1400),
}

# Connecting takes a few dozen requests, and is not a part of the run yet.
_CONNECTED = 30

# Patient: half of all attempts meet a fault, since one of them is several requests.
PATIENT = {
    "attempts": 1000,
    "patience_seconds": 600,
    "request_seconds": 0.5,
    "retry_wait_seconds": 0,
}


SHOWERS = tuple(Rule(fault, share=share, after=_CONNECTED) for fault, share in _SHARES.items())
WEATHER = (
    *(Rule(fault, at=numbers, seconds=0.02) for fault, numbers in _LASTING.items()),
    *SHOWERS,
)
"""Faults of all kinds that may pass."""


def permanent(names: Sequence[str], experiment: Experiment) -> dict[str, Rule]:
    """Return rules that fail all queries about a name for good."""
    if experiment == "exp1":
        faults = ["http-400", "context-too-long", "no-choices", "unknown-end", "error-in-200"]
    else:
        faults = ["http-422", "nan", "missing-choice", "logprob-above-zero", "missing-logprobs"]
    return {
        name: Rule(fault, about=name, on="/v1/c") for name, fault in zip(names, faults, strict=True)
    }


def write(path: Path, count: int) -> list[dict[str, str]]:
    """Write the rows of a run, from the study's own file where it is at hand."""
    if count == WHOLE and DATA.exists():
        with DATA.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    else:
        rows = make_rows("study2", count, 1)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert len(rows) == count
    return rows


def prompted(row: dict[str, str]) -> str:
    """Return what of a row is in its prompt."""
    return "\n".join(row[name] for name in ("Precontext", "Scenario", "Goal", "State"))


def rare_names(rows: Sequence[dict[str, str]]) -> list[str]:
    """Return five names of people that few rows are about."""
    names = sorted({row["SP_Name"] for row in rows if len(row["SP_Name"]) >= 4})
    counts = {name: sum(name in prompted(row) for row in rows) for name in names}
    return sorted(names, key=lambda name: (counts[name], name))[:5]


@pytest.mark.parametrize("experiment", ["exp1", "exp2"])
@pytest.mark.parametrize("count", [FEW, pytest.param(WHOLE, marks=pytest.mark.slow)])
def test_transient_faults_change_nothing_and_permanent_ones_empty_their_rows(
    count: int,
    experiment: Experiment,
    hostile_vllm: Hostile,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = write(tmp_path / "study2.csv", count)

    def ran(name: str, *rules: Rule) -> Ran:
        hostile_vllm.follow(*rules)
        path = tmp_path / "study2.csv"
        return run(hostile_vllm.url, tmp_path / name, path, experiment, capsys, **PATIENT)

    healthy = ran("healthy")
    assert healthy.code == 0

    hostile = ran("hostile", *WEATHER)
    befell = hostile_vllm.befell()
    assert hostile.code == 0, hostile.text[-2000:]
    assert hostile.tables() == healthy.tables()
    assert hostile.lines() == len(hostile.records())
    if count == WHOLE:
        assert befell.keys() == {*_SHARES, *_LASTING}
    else:
        assert befell

    bad = permanent(rare_names(rows), experiment)
    maimed = ran("maimed", *bad.values(), *(SHOWERS if count == FEW else ()))
    assert maimed.code == 3, maimed.text[-2000:]
    about = [[name for name in bad if name in prompted(row)] for row in rows]
    assert any(about)
    compare(healthy, maimed, about)


def compare(healthy: Ran, maimed: Ran, about: Sequence[Sequence[str]]) -> None:
    """Check that exactly the rows about someone are empty, with a reason."""
    if maimed.folder.experiment == "exp1":
        for well, row, names in zip(healthy.rows(), maimed.rows(), about, strict=True):
            if names:
                assert (row["status"], row["response"]) == ("failed", "")
                assert re.search("QueryRejected: |BadReply: ", row["error"])
            else:
                assert row == well
        return
    for before, after, names in zip(
        healthy.probabilities(), maimed.probabilities(), about, strict=True
    ):
        if names:
            assert after[:9] == before[:9]
            assert not any(after[9:])
        else:
            assert after == before
    scores = maimed.rows()
    assert {int(row["row"]) for row in scores if row["status"] == "failed"} == {
        number for number, names in enumerate(about, start=1) if names
    }
    for well, row in zip(healthy.rows(), scores, strict=True):
        if row["status"] == "failed":
            assert re.search("QueryRejected: |BadReply: ", row["error"])
            assert not row["logprob"]
            assert not row["probability"]
        else:
            assert row == well
