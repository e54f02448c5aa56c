"""`grace stage` as containers run it: lines, outcome, exit codes, waiting, signals."""

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fake_llamacpp import FakeLlamaCpp, refuse, served
from grace.cli.main import invoke
from grace.engine.journal import read_journal
from grace.runs.folder import find_runs
from grace.runs.manifest import read_manifest
from inputs import input_flags
from processes import Command, Forker, wait_for_lines

STAMP = "20260131T235959Z"
MODEL = "smollm2-135m"


@dataclass
class Pod:
    """A container that runs stages on a served model."""

    server: FakeLlamaCpp
    folder: Path
    flags: list[str]
    forker: Forker
    endpoint: str

    def start(
        self, stages: str, *more: str, experiment: str = "exp1", pod: str = "pod-1"
    ) -> Command:
        flags = ["--experiment", experiment, "--out", str(self.folder / "out"), *self.flags]
        told = ["--log", "json", "--outcome", str(self.outcome)]
        return self.forker.start(
            ["stage", *stages.split(), *flags, "--endpoint", self.endpoint, *told, *more],
            self.folder / "log",
            environment={"HOSTNAME": pod},
        )

    def run(self, stages: str, *more: str, experiment: str = "exp1") -> tuple[int, str]:
        command = self.start(stages, *more, experiment=experiment)
        return command.wait(), command.output

    @property
    def outcome(self) -> Path:
        return self.folder / "termination"

    def ended(self) -> Any:
        return json.loads(self.outcome.read_bytes())


@pytest.fixture
def pod(tmp_path: Path, small_inputs: Mapping[str, Path], forker: Forker) -> Iterator[Pod]:
    server = FakeLlamaCpp()
    config = tmp_path / "run.yaml"
    config.write_text(f"timestamp: {STAMP}\nextractor: rules\nconcurrency: 3\n")
    flags = ["--model", MODEL, "--config", str(config), *input_flags(small_inputs)]
    with served(server) as url:
        yield Pod(server, tmp_path, flags, forker, url)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def lines(output: str) -> list[dict[str, Any]]:
    """Every line is a JSON object, or this fails."""
    return [json.loads(line) for line in output.splitlines()]


def test_a_smoke_test_begins_the_cells_of_both_experiments_and_keeps_nothing(pod: Pod) -> None:
    code, output = pod.run("smoke", "--experiment", "exp2")
    assert code == 0, output
    found = find_runs(pod.folder / "out")
    assert [run.experiment for run in found] == ["exp1", "exp2"]
    for run in found:
        assert not read_journal(run.journal).lines
    kinds = {one.kind for one in pod.server.asked}
    assert kinds == {"generate", "score"}
    # One token of a response, and one distribution; the rest is how a server is examined.
    assert len(pod.server.asked) < 12
    ended = pod.ended()
    assert ended["status"] == "open"
    assert ended["cells"][f"exp1/{MODEL}"] == {
        "planned": 16,
        "answered": 0,
        "failed": 0,
        "not_asked": 16,
    }
    assert set(ended["cells"]) == {f"exp1/{MODEL}", f"exp2/{MODEL}"}
    told = [line["text"] for line in lines(output) if line["event"] == "message"]
    assert any("generated one token" in text for text in told)
    assert any("scored one distribution" in text for text in told)


def test_a_server_that_cannot_be_asked_fails_the_smoke_test_and_begins_nothing(pod: Pod) -> None:
    pod.flags += ["--config", str(pod.folder / "quick.yaml")]
    (pod.folder / "quick.yaml").write_text(f"timestamp: {STAMP}\nattempts: 1\n")
    pod.server.trouble = lambda number, _: refuse(400) if number > 4 else None
    code, output = pod.run("smoke", "--experiment", "exp2", experiment="exp2")
    del output
    assert code in {1, 2}
    pod.server.trouble = lambda _number, payload: (
        refuse(400) if payload.get("n_predict") == 1 and "n_probs" not in payload else None
    )
    code, output = pod.run("smoke")
    assert code == 1, output
    assert not list(pod.folder.rglob("run.json"))
    last = lines(output)[-1]
    assert (last["event"], last["level"], last["error_type"]) == ("error", "error", "QueryRejected")
    assert pod.ended()["status"] == "failed"
    assert "HTTP 400" in pod.ended()["error"]


def test_each_line_is_json_and_says_where_it_belongs(pod: Pod) -> None:
    logs = pod.folder / "logs"
    code, output = pod.run("respond", "--shard", "1/2", "--log-folder", str(logs))
    assert code == 0, output
    found = lines(output)
    assert {line["event"] for line in found} >= {"message", "stage_started", "stage_finished"}
    for line in found:
        assert (line["run"], line["model"], line["shard"]) == (STAMP, MODEL, "1/2")
        assert (line["stage"], line["experiment"]) == ("respond", "exp1")
    finished = [line for line in found if line["event"] == "stage_finished"]
    assert [line["study"] for line in finished] == ["study1", "study2"]
    assert [line["planned"] for line in finished] == [6, 2]
    assert pod.ended() == {
        "status": "open",
        "cells": {f"exp1/{MODEL}": {"planned": 8, "answered": 8, "failed": 0, "not_asked": 0}},
        "error": "",
    }
    (kept,) = logs.iterdir()
    assert kept.name == f"{STAMP}_respond_exp1_{MODEL}_1of2_pod-1-0001.jsonl"
    assert kept.read_text() == output
    # A container that is started again has the same name.
    assert pod.run("respond", "--shard", "1/2", "--log-folder", str(logs))[0] == 0
    assert len(list(logs.iterdir())) == 2


def test_no_line_holds_a_prompt_or_a_response(pod: Pod) -> None:
    code, output = pod.run("smoke respond extract tabulate summarise validate")
    assert code == 0, output
    (folder,) = find_runs(pod.folder / "out")
    texts = {str(one.value["text"]) for one in read_journal(folder.journal).records.values()}
    assert len(texts) > 3
    said = output + pod.outcome.read_text()
    assert not [text for text in texts if len(text) > 5 and text in said]
    for word in ("hearts", "$100", "exam"):
        assert word not in said


def test_a_log_folder_that_cannot_be_written_is_told_and_stops_nothing(pod: Pod) -> None:
    (pod.folder / "file").touch()
    code, output = pod.run("respond", "--log-folder", str(pod.folder / "file"))
    assert code == 0, output
    assert any("no log can be kept there" in line.get("text", "") for line in lines(output))


def test_validate_says_what_is_missing_unless_that_is_accepted(pod: Pod) -> None:
    pod.server.trouble = lambda _number, payload: (
        refuse(400) if payload.get("n_predict", 1) > 1 and payload["seed"] % 3 == 0 else None
    )
    assert pod.run("respond", "--shard", "0/1")[0] == 0
    failed = pod.ended()["cells"][f"exp1/{MODEL}"]["failed"]
    assert failed > 0
    assert pod.run("extract tabulate summarise validate")[0] == 3
    ended = pod.ended()
    assert ended["status"] == "incomplete"
    counts = ended["cells"][f"exp1/{MODEL}"]
    assert counts["failed"] == failed
    assert counts["planned"] == counts["answered"] + counts["failed"] + counts["not_asked"]
    assert pod.run("tabulate summarise validate", "--accept-missing")[0] == 0
    assert pod.ended()["status"] == "incomplete"
    # A pod that only asks has nothing to ask any more: that is no fault of it.
    assert pod.run("respond", "--shard", "0/1")[0] == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--shard", "2/2"], "--shard is '2/2'"),
        (["--limit", "0"], "--limit is 0"),
        (["--input", "study1=/nowhere.csv"], "nowhere.csv"),
    ],
)
def test_wrong_usage_is_one_json_line_and_an_outcome(pod: Pod, more: list[str], said: str) -> None:
    if "--input" in more:
        pod.flags = [flag for flag in pod.flags if "=" not in flag and flag != "--input"]
    code, output = pod.run("respond", *more)
    assert code == 2, output
    (line,) = lines(output)
    assert line["event"] == "error"
    assert said in line["text"]
    assert pod.ended()["status"] == "failed"
    assert said in pod.ended()["error"]
    assert not pod.server.asked


def test_a_stage_needs_the_runs_name(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--experiment", "exp1", "--model", "toy", "--dry-run"]
    assert invoke(["stage", "respond", *flags]) == 2
    assert "--timestamp is not given" in capsys.readouterr().err


def test_a_stage_of_the_other_experiment_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--model", "toy", "--dry-run", "--timestamp", STAMP, "--out", str(tmp_path)]
    assert invoke(["stage", "respond", "--experiment", "exp2", *flags]) == 2
    assert "exp2 has no stage respond; it has smoke, score" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_log_folder_needs_json_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--experiment", "exp1", "--model", "toy", "--dry-run", "--timestamp", STAMP]
    assert invoke(["stage", "respond", *flags, "--log-folder", str(tmp_path)]) == 2
    assert "it needs --log json" in capsys.readouterr().err


def test_what_is_wrong_in_an_input_is_not_quoted_in_the_log(pod: Pod) -> None:
    wrong = pod.folder / "wrong.csv"
    good = Path(next(flag for flag in pod.flags if flag.startswith("study1=")).partition("=")[2])
    wrong.write_bytes(good.read_bytes().replace(b'"3"', b'"what somebody wrote"'))
    pod.flags += ["--study", "study1"]
    flags = [flag for flag in pod.flags if "=" not in flag and flag != "--input"]
    pod.flags = [*flags, "--input", f"study1={wrong}"]
    code, output = pod.run("respond")
    assert code == 2, output
    assert "wrong.csv" in output
    assert "somebody" not in output + pod.outcome.read_text()


def test_a_fault_of_grace_is_told_without_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("what somebody wrote")

    monkeypatch.setattr("grace.cli.stage.prepare", fail)
    flags = ["--experiment", "exp1", "--model", "toy", "--dry-run", "--timestamp", STAMP]
    told = ["--log", "json", "--outcome", str(tmp_path / "termination")]
    with pytest.raises(ZeroDivisionError):
        invoke(["stage", "respond", *flags, *told])
    (line,) = lines(capsys.readouterr().out)
    assert (line["event"], line["error_type"]) == ("error", "ZeroDivisionError")
    ended = (tmp_path / "termination").read_text()
    assert json.loads(ended)["status"] == "failed"
    assert "ZeroDivisionError" in ended
    assert "somebody" not in ended + line["text"]


def test_sigterm_drains_and_ends_as_stopped(pod: Pod) -> None:
    pod.server.delay_seconds = 0.1
    command = pod.start("respond", "--shard", "0/1")
    wait_for_lines(pod.folder / "out", 3)
    command.kill(signal.SIGTERM)
    assert command.wait() == 3
    found = lines(command.output)
    assert any(line.get("text", "").startswith("stopping: ") for line in found)
    ended = pod.ended()
    assert ended["status"] == "stopped"
    counts = ended["cells"][f"exp1/{MODEL}"]
    assert 0 < counts["answered"] < counts["planned"]
    pod.server.delay_seconds = 0
    assert pod.run("respond", "--shard", "0/1")[0] == 0


def test_what_hangs_after_sigterm_ends_as_stopped(pod: Pod) -> None:
    pod.flags += ["--drain-seconds", "0.2"]
    # The server examines quickly and answers slowly.
    pod.server.delay_seconds = 0

    def slow(number: int, _payload: object) -> None:
        if number > 4:
            pod.server.delay_seconds = 60

    pod.server.trouble = slow
    command = pod.start("respond")
    until(lambda: pod.server.delay_seconds > 0)
    # Those that came before are answered meanwhile.
    time.sleep(0.3)
    command.kill(signal.SIGTERM)
    assert command.wait(30) == 3
    assert lines(command.output)[-1]["event"] == "error"
    assert pod.ended()["status"] == "stopped"


def test_a_pod_may_start_before_its_server(pod: Pod) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pod.endpoint = f"http://127.0.0.1:{port}"
    command = pod.start("smoke", "--wait-minutes", "2")
    until(lambda: "its server: waiting" in command.output)
    with served(pod.server, port):
        assert command.wait() == 0, command.output
    waited = [line for line in lines(command.output) if "waiting" in line.get("text", "")]
    assert "120 s at most" in waited[0]["text"]


def test_a_server_that_never_comes_is_given_up(pod: Pod) -> None:
    pod.endpoint = "http://127.0.0.1:9"
    code, output = pod.run("smoke", "--wait-minutes", "0.01")
    assert code == 1, output
    assert lines(output)[-1]["error_type"] == "ServerUnavailable"
    assert pod.ended()["status"] == "failed"


def test_sigterm_ends_a_pod_that_waits_for_its_server(pod: Pod) -> None:
    pod.endpoint = "http://127.0.0.1:9"
    command = pod.start("smoke", "--wait-minutes", "10")
    until(lambda: "waiting" in command.output)
    command.kill(signal.SIGTERM)
    assert command.wait(20) == 3
    assert pod.ended()["status"] == "stopped"
    assert "stopped while waiting" in pod.ended()["error"]


def test_stages_without_a_server_need_not_know_where_it_was(pod: Pod) -> None:
    # Where a server is not said to be Grace's own, nobody knows which revision answered.
    assert pod.run("respond", "--shard", "0/1")[0] == 0
    for _ in range(2):
        flags = ["--experiment", "exp1", "--out", str(pod.folder / "out"), *pod.flags]
        assert invoke(["stage", "extract", "tabulate", "summarise", "validate", *flags]) == 0
    (folder,) = find_runs(pod.folder / "out")
    manifest = read_manifest(folder)
    assert manifest.identity.model["revision"] is None
    assert any("cannot tell which revision" in warning for warning in manifest.warnings)


def test_a_server_that_grace_started_elsewhere_serves_what_the_catalogue_says(pod: Pod) -> None:
    config = pod.folder / "run.yaml"
    config.write_text(config.read_text() + "as_catalogued: true\n")
    assert pod.run("respond", "--shard", "0/1")[0] == 0
    flags = ["--experiment", "exp1", "--out", str(pod.folder / "out"), *pod.flags]
    assert invoke(["stage", "extract", "tabulate", "summarise", "validate", *flags]) == 0
    (folder,) = find_runs(pod.folder / "out")
    manifest = read_manifest(folder)
    assert manifest.identity.model["weights"]
    assert not any("cannot tell which revision" in warning for warning in manifest.warnings)


def test_whoever_does_not_extract_needs_no_key_for_it(pod: Pod) -> None:
    pod.flags += ["--extractor", "rules+deepseek"]
    assert pod.run("respond", "--shard", "0/1")[0] == 0, pod.outcome.read_text()
    code, output = pod.run("extract")
    assert code == 2
    assert "DEEPSEEK_API_KEY" in output
