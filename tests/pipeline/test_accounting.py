"""Planned = answered + failed + not asked: in manifest, journal, screen and exit code alike."""

import json
import re
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from fake_llamacpp import FakeLlamaCpp, refuse, served
from grace.cli.main import invoke
from grace.engine.journal import read_journal
from grace.pipeline.standing import RunState, standing
from grace.runs.csvfile import read_table
from grace.runs.folder import RunFolder, find_runs
from grace.runs.manifest import read_manifest
from inputs import input_flags
from processes import Forker, wait_for_lines

FLAGS = ("--model", "smollm2-135m", "--extractor", "smollm2-135m")
Trouble = Callable[[int, Mapping[str, Any]], web.Response | None]
_ROW = re.compile(r"(\w+) +(\d+) +(\d+) +(\d+) +(\d+)  +[━x─]*\s*$")


def _every(part: int) -> Trouble:
    return lambda number, _payload: refuse(400) if number > 4 and number % part == 0 else None


def journal_counts(folder: RunFolder) -> Counter[str]:
    return Counter(one.status for one in read_journal(folder.journal).records.values())


def on_screen(text: str) -> list[tuple[int, int, int, int]]:
    """The counts of all questions of a status page."""
    rows = [_ROW.search(line) for line in text.splitlines()]
    return [tuple(int(number) for number in row.groups()[1:]) for row in rows if row]  # type: ignore[misc]


def check(folder: RunFolder, code: int, text: str) -> None:
    """Check that manifest, journal, screen and exit code say the same of a run."""
    found = standing(folder)
    counts = [line.counts for line in found.lines if line.counts is not None]
    for one in counts:
        assert one.planned == one.answered + one.failed + one.not_asked
    total = found.total()
    ends = journal_counts(folder)
    assert (total.answered, total.failed) == (ends["answered"], ends["failed"])
    rows = on_screen(text)
    if found.state is not RunState.COMPLETE:
        assert rows == [(one.planned, one.answered, one.failed, one.not_asked) for one in counts]
    missing = any(line.stage != "extract" and line.counts != _whole(line) for line in found.lines)
    assert (code == 0) == (found.state is RunState.COMPLETE) == (not missing and folder.closed)
    assert code in {0, 3}
    if not folder.closed:
        return
    manifest = read_manifest(folder)
    assert manifest.complete == (code == 0)
    for study, report in manifest.studies.items():
        if folder.experiment == "exp1":
            statuses = Counter(read_table(folder.table(study, "raw_responses")).column("status"))
            assert report.complete_rows == statuses["answered"]
            assert statuses.total() == report.rows
            assert report.extraction_queries is not None


def _whole(line: Any) -> Any:
    if line.counts is None:
        return None
    planned = line.counts.planned
    return type(line.counts)(planned=planned, answered=planned, failed=0, not_asked=0)


@pytest.mark.parametrize(
    ("trouble", "expected"), [(None, 0), (_every(6), 3)], ids=["complete", "failed"]
)
def test_a_run_that_ended_by_itself(
    trouble: Trouble | None,
    expected: int,
    tmp_path: Path,
    small_inputs: Mapping[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = FakeLlamaCpp()
    server.extract = lambda fields, _prompt: json.dumps(dict.fromkeys(fields))
    server.trouble = trouble or server.trouble
    flags = [*FLAGS, "--out", str(tmp_path / "out"), *input_flags(small_inputs)]
    with served(server) as url:
        assert invoke(["run", "--endpoint", url, *flags]) == expected
    run_screen = capsys.readouterr()
    folders = find_runs(tmp_path / "out")
    assert len(folders) == 2
    for folder in folders:
        code = invoke(["status", str(folder.path)])
        check(folder, code, capsys.readouterr().out)
    # The lines that a log has at each stage's end.
    ended = re.findall(r"(\d+) answered, (\d+) failed, (\d+) not asked", run_screen.err)
    said = [tuple(map(int, one)) for one in ended]
    totals = [standing(folder).total() for folder in folders]
    assert tuple(map(sum, zip(*said, strict=True))) == (
        sum(one.answered for one in totals),
        sum(one.failed for one in totals),
        sum(one.not_asked for one in totals),
    )
    if expected == 3:
        assert "--retry-failed" in run_screen.out


@pytest.mark.parametrize("signals", [1, 2])
def test_a_run_that_was_interrupted(
    signals: int,
    tmp_path: Path,
    small_inputs: Mapping[str, Path],
    forker: Forker,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = FakeLlamaCpp(delay_seconds=0.03)
    server.trouble = _every(6)
    out = tmp_path / "out"
    flags = [*FLAGS, "--experiment", "exp1", "--out", str(out), *input_flags(small_inputs)]
    with served(server) as url:
        command = forker.start(["run", "--endpoint", url, *flags], tmp_path / "log")
        wait_for_lines(out, 3)
        for _ in range(signals):
            command.kill(signal.SIGINT)
        assert command.wait() == 3
    (folder,) = find_runs(out)
    assert not folder.closed
    code = invoke(["status", str(folder.path)])
    check(folder, code, capsys.readouterr().out)
    assert standing(folder).total().not_asked > 0


def test_a_cell_of_which_only_some_stages_were_run(
    tmp_path: Path, small_inputs: Mapping[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    server = FakeLlamaCpp()
    server.trouble = _every(6)
    stage = ["--experiment", "exp1", "--timestamp", "20260131T235959Z", *FLAGS]
    flags = [*stage, "--out", str(tmp_path), *input_flags(small_inputs)]
    with served(server) as url:
        for name, expected in (
            ("respond", 0),
            ("extract", 0),
            ("summarise", 0),
            # It closes the run, and says that answers are missing.
            ("validate", 3),
        ):
            assert invoke(["stage", name, "--endpoint", url, *flags]) == expected, name
            capsys.readouterr()
            code = invoke(["status", str(tmp_path)])
            assert code == 3
            check(find_runs(tmp_path)[0], code, capsys.readouterr().out)
    assert find_runs(tmp_path)[0].closed


def test_extractions_are_accounted_for_in_the_manifest(
    tmp_path: Path, small_inputs: Mapping[str, Path]
) -> None:
    server = FakeLlamaCpp()
    refused: list[int] = []

    def trouble(number: int, payload: Mapping[str, Any]) -> web.Response | None:
        if "json_schema" not in payload:
            return None
        refused.append(number)
        return refuse(400) if len(refused) % 2 else None

    server.trouble = trouble
    flags = [*FLAGS, "--experiment", "exp1", "--out", str(tmp_path), *input_flags(small_inputs)]
    with served(server) as url:
        # Each response is there: an extraction that failed is no missing answer.
        assert invoke(["run", "--endpoint", url, *flags]) == 0
    (folder,) = find_runs(tmp_path)
    counts = [one.extraction_queries for one in read_manifest(folder).studies.values()]
    records = [
        one for one in read_journal(folder.journal).records.values() if one.stage == "extract"
    ]
    assert sum(one.planned for one in counts if one) == len(records)
    assert sum(one.failed for one in counts if one) == sum(
        one.status == "failed" for one in records
    )
    assert any(one.failed for one in counts if one)
