"""`grace status`: what a newcomer sees of a run, and what to type next."""

import json
import re
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fake_llamacpp import FakeLlamaCpp, refuse, served
from grace.cli.main import invoke
from grace.cli.standing import MOST_DETAILS, print_standings
from grace.engine.record import decode, encode
from grace.pipeline.origin import Origin, write_origin
from grace.pipeline.reopen import input_copies
from grace.pipeline.standing import RunState, standing
from grace.runs.folder import RunFolder, find_runs
from grace.runs.holder import lock_holder
from inputs import input_flags
from processes import Forker, wait_for_lines

FLAGS = ("--model", "smollm2-135m", "--extractor", "rules+smollm2-135m")


@pytest.fixture
def stopped(tmp_path: Path, small_inputs: Mapping[str, Path]) -> RunFolder:
    """A run whose server was lost after some answers and refusals."""
    server = FakeLlamaCpp()

    def trouble(number: int, _payload: Mapping[str, Any]) -> Any:
        if number > 12:
            return refuse(503, {"Retry-After": "0"})
        return refuse(400) if number in {5, 9} else None

    server.trouble = trouble
    out = tmp_path / "a folder"
    flags = [*FLAGS, "--experiment", "exp1", "--out", str(out), *input_flags(small_inputs)]
    with served(server) as url:
        assert invoke(["run", "--endpoint", url, *flags]) == 1
    (folder,) = find_runs(out)
    return folder


def shown(capsys: pytest.CaptureFixture[str], path: Path) -> tuple[int, str]:
    capsys.readouterr()
    code = invoke(["status", str(path)])
    return code, capsys.readouterr().out


def test_an_unfinished_run_is_explained_at_a_glance(
    stopped: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = shown(capsys, stopped.path)
    assert code == 3
    lines = text.splitlines()
    assert lines[0] == f"{stopped.path}  unfinished"
    counts = {
        match[1]: tuple(int(number) for number in match[2].split())
        for line in lines
        if (match := re.search(r"(prior|speech|knowledge|utterance) +((?:\d+ +){4})", line))
    }
    assert set(counts) == {"prior", "speech", "knowledge", "utterance"}
    for planned, answered, failed, not_asked in counts.values():
        assert planned == 4 == answered + failed + not_asked
    assert sum(failed for _, _, failed, _ in counts.values()) == 2
    # Study 2 was not over when the server was lost.
    assert "comes later" in text
    assert "why queries failed:" in text
    assert re.search(r"^ +2  QueryRejected: /completion: HTTP 400: ", text, re.MULTILINE)
    assert "nobody is working on it" in text
    assert re.search(r"the last query ended .* ago; [\d,]+ ended a minute, and at that pace", text)
    # The command can be typed as it is, also where a path has spaces.
    (command,) = [line for line in lines if line.startswith("next: ")]
    assert command == f"next: grace resume '{stopped.path}'"
    assert "with --retry-failed" in text
    assert len(lines) < 30


def test_a_run_that_was_collected_before_its_end_goes_on_on_its_cluster(
    stopped: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    out = stopped.path.parents[2]
    record = stopped.record_path.read_text()
    stopped.record_path.write_text(record.replace(json.dumps(str(out)), '"/grace/results"'))
    input_copies(out, stopped.timestamp).mkdir(parents=True)
    write_origin(out, stopped.timestamp, Origin(namespace="lab"))
    code, text = shown(capsys, stopped.path)
    assert code == 3
    assert "collected from a cluster before it was over" in text
    assert "nobody is working on it" not in text
    assert "--retry-failed" not in text
    said = f"next: grace cluster resume {stopped.timestamp} --namespace lab --out '{out}'"
    assert said in text.splitlines()


def test_a_run_that_is_not_finished_is_left_out_of_summaries(
    stopped: RunFolder,
    toy_runs: tuple[RunFolder, RunFolder],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = stopped.path.parents[2]
    for folder in toy_runs:
        shutil.copytree(folder.path, out / folder.path.relative_to(folder.path.parents[2]))
    capsys.readouterr()
    assert invoke(["summarise", str(out)]) == 3
    said = capsys.readouterr()
    assert "toy_study1_summary.csv" in said.out
    assert "toy_study2_summary.csv" in said.out
    assert said.err.replace("\n", "").count("is not finished") == 1


def test_an_incomplete_run_says_why_and_how_to_ask_again(
    incomplete_runs: tuple[RunFolder, RunFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in incomplete_runs:
        code, text = shown(capsys, folder.path)
        assert code == 3
        assert "QueryRejected: /completion: HTTP 400" in text
        assert text.splitlines()[-1] == f"next: grace resume {folder.path} --retry-failed"


def test_a_complete_run_has_nothing_next(
    toy_runs: tuple[RunFolder, RunFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = shown(capsys, toy_runs[0].path)
    assert code == 0
    assert "next:" not in text
    assert "working on it" not in text


def test_a_run_with_everything_but_its_tables_says_so(
    toy_runs: tuple[RunFolder, RunFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    toy_runs[1].manifest_path.unlink()
    code, text = shown(capsys, toy_runs[1].path)
    assert code == 3
    assert "everything was asked; tables and checks are still to be made" in text
    assert f"next: grace resume {toy_runs[1].path}" in text


def test_many_runs_are_a_table_and_a_few_of_them_in_detail(
    stopped: RunFolder,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = [standing(stopped)] * 60
    capsys.readouterr()
    print_standings(found, datetime.now(UTC))
    text = capsys.readouterr().out
    assert "and 20 more runs" in text
    assert text.count("next: ") == MOST_DETAILS
    assert "and 54 more with something missing" in text
    assert len(text.splitlines()) < 200


def test_reasons_are_counted_without_their_numbers_and_bounded(stopped: RunFolder) -> None:
    (path, *_) = stopped.journal.iterdir()
    lines = path.read_bytes().splitlines(keepends=True)
    failed = next(line for line in lines if b'"failed"' in line)
    record = decode(failed)
    more = []
    for number in range(30):
        error = f"kind {'abcde'[number % 5]} with {number} tokens " + "x" * 500
        fields = {name: getattr(record, name) for name in record.__slots__}
        more.append(encode(type(record)(**{**fields, "key": f"k{number}", "error": error})))
    path.write_bytes(b"".join([*lines, *more]))
    found = standing(stopped)
    assert [one.count for one in found.reasons] == [6, 6, 6]
    assert found.other_reasons == 14
    assert all(len(one.text) <= 160 for one in found.reasons)


@pytest.mark.parametrize(
    ("moments", "per_minute"),
    [
        (["10:00:00", "10:00:10", "10:00:20", "12:00:00", "12:00:10"], 6),
        # A pause of two minutes is short beside the run, and long beside an answer.
        (["10:00:00.0", "10:00:00.1", "10:00:00.2", "10:02:00.0", "10:02:00.1"], 600),
        # A slow model is slow: nothing of this is a pause.
        (["10:00:00", "10:01:00", "10:02:00", "10:03:00"], 1),
    ],
)
def test_the_pace_leaves_out_the_pauses_between_processes(
    stopped: RunFolder, moments: list[str], per_minute: float
) -> None:
    (path, *others) = stopped.journal.iterdir()
    for other in others:
        other.unlink()
    record = decode(path.read_bytes().splitlines(keepends=True)[0])
    fields = {name: getattr(record, name) for name in record.__slots__}
    path.write_bytes(
        b"".join(
            encode(
                type(record)(
                    **{**fields, "key": f"k{moment}", "finished": f"2026-01-31T{moment}+00:00"}
                )
            )
            for moment in moments
        )
    )
    pace = standing(stopped).pace
    assert pace.per_minute == pytest.approx(per_minute)
    assert pace.last == datetime.fromisoformat(f"2026-01-31T{moments[-1]}+00:00")


def test_one_unusable_run_does_not_hide_the_others(
    toy_runs: tuple[RunFolder, RunFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    toy_runs[0].manifest_path.write_text("{}")
    capsys.readouterr()
    assert invoke(["status", str(toy_runs[0].path.parents[2])]) == 1
    captured = capsys.readouterr()
    assert f"error: {toy_runs[0].manifest_path}" in captured.err
    assert str(toy_runs[1].path) in captured.out


def test_the_process_that_works_on_a_run_is_named_and_not_disturbed(
    tmp_path: Path,
    small_inputs: Mapping[str, Path],
    forker: Forker,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = FakeLlamaCpp(delay_seconds=0.05)
    out = tmp_path / "out"
    flags = [*FLAGS, "--experiment", "exp1", "--out", str(out), *input_flags(small_inputs)]
    with served(server) as url:
        command = forker.start(["run", "--endpoint", url, *flags], tmp_path / "log")
        wait_for_lines(out, 1)
        code, text = shown(capsys, out)
        assert command.wait() == 0
    assert code == 3
    (folder,) = find_runs(out)
    assert f"{folder.path}  running" in text
    assert f"process {command.pid}" in text
    assert "is working on it" in text
    assert "next:" not in text
    assert standing(folder).state is RunState.COMPLETE
    assert standing(folder).holder is None


def test_looking_does_not_free_the_lock_that_this_process_holds(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    path = tmp_path / "run.lock"
    assert lock_holder(path) is None
    with folder.lock():
        held = lock_holder(path)
        assert held is not None
        again = lock_holder(path)
        assert held == again
    assert lock_holder(path) is None
