from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fake_llamacpp import FakeLlamaCpp, refuse, served
from grace.cli.main import invoke
from grace.engine.journal import read_journal
from grace.runs.csvfile import read_table
from grace.runs.folder import RunFolder, find_runs
from grace.runs.manifest import read_manifest
from inputs import input_flags
from processes import Forker

MODEL = ("--model", "smollm2-135m", "--extractor", "rules")
STAMP = "20260131T235959Z"


@dataclass
class Unfinished:
    """A run of which only the queries were asked; no manifest closes it."""

    server: FakeLlamaCpp
    flags: list[str]
    out: Path
    experiment: str

    def again(self, *more: str) -> int:
        with served(self.server) as url:
            return invoke(["run", "--endpoint", url, *self.flags, *more])

    @property
    def folder(self) -> RunFolder:
        return find_runs(self.out)[0]


@pytest.fixture(params=["exp1", "exp2"])
def unfinished(
    request: pytest.FixtureRequest, tmp_path: Path, small_inputs: dict[str, Path]
) -> Unfinished:
    experiment = str(request.param)
    server, out = FakeLlamaCpp(), tmp_path / "out"
    flags = [*MODEL, *input_flags(small_inputs), "--experiment", experiment, "--out", str(out)]
    flags += ["--limit", "2"]
    stage = "respond" if experiment == "exp1" else "score"
    with served(server) as url:
        assert invoke(["stage", stage, "--timestamp", STAMP, "--endpoint", url, *flags]) == 0
    return Unfinished(server, flags, out, experiment)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("build", "server.version"),
        ("template", "server.chat_template_sha256"),
        ("model", "server.model"),
        ("context", "server.context_length"),
    ],
)
def test_another_server_stops_with_the_field_named_and_asks_nothing(
    unfinished: Unfinished, field: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = unfinished.folder.journal
    before = {path.name: path.read_bytes() for path in journal.iterdir()}
    setattr(unfinished.server, field, 4096 if field == "context" else "another")
    capsys.readouterr()
    assert unfinished.again() == 1
    shown = capsys.readouterr().err
    assert f"  {name}: " in shown
    assert "begun under another identity" in shown
    assert "--new" in shown
    assert {path.name: path.read_bytes() for path in journal.iterdir()} == before
    assert not unfinished.folder.closed


def test_the_same_server_may_go_on(unfinished: Unfinished) -> None:
    assert unfinished.again() in {0, 3}
    assert unfinished.folder.closed
    assert len(find_runs(unfinished.out)) == 1


SAMPLING: dict[str, list[str]] = {
    "asking.seed": ["--seed", "2"],
    "asking.sampling.temperature": ["--temperature", "0.5"],
    "asking.replicates": ["--replicates", "2"],
    "asking.extractor": ["--extractor", "rules+smollm2-135m"],
}


@pytest.mark.parametrize("unfinished", ["exp1"], indirect=True)
@pytest.mark.parametrize("name", SAMPLING)
def test_other_sampling_stops_with_the_field_named(
    unfinished: Unfinished, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert unfinished.again(*SAMPLING[name]) == 1
    assert f"  {name}: " in capsys.readouterr().err


@pytest.mark.parametrize("unfinished", ["exp2"], indirect=True)
def test_another_scoring_method_stops_with_the_field_named(
    unfinished: Unfinished, capsys: pytest.CaptureFixture[str]
) -> None:
    assert unfinished.again("--scoring", "sequence") == 1
    assert "  asking.scoring: trie -> sequence" in capsys.readouterr().err


def test_a_changed_input_stops_with_the_field_named(
    unfinished: Unfinished, tmp_path: Path, small_inputs: dict[str, Path], capsys: Any
) -> None:
    changed = tmp_path / "changed.csv"
    changed.write_bytes(small_inputs["study1"].read_bytes() + b"\n")
    flags = [
        f"study1={changed}" if flag.startswith("study1=") else flag for flag in unfinished.flags
    ]
    assert Unfinished(unfinished.server, flags, unfinished.out, unfinished.experiment).again() == 1
    assert "  studies.study1.input_sha256: " in capsys.readouterr().err


def test_another_limit_stops_with_the_field_named(
    unfinished: Unfinished, capsys: pytest.CaptureFixture[str]
) -> None:
    assert unfinished.again("--limit", "1") == 1
    assert "  studies.study1.rows: 2 -> 1" in capsys.readouterr().err


def test_fewer_studies_stop_with_the_field_named(
    unfinished: Unfinished, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*unfinished.flags, "--study", "study1"]
    flags = [flag for flag in flags if not flag.startswith("study2=")]
    place = flags.index("--input", flags.index("--input") + 1)
    del flags[place]
    assert Unfinished(unfinished.server, flags, unfinished.out, unfinished.experiment).again() == 1
    assert "studies.study2." in capsys.readouterr().err


def test_new_starts_another_run_and_leaves_the_unfinished_one(unfinished: Unfinished) -> None:
    unfinished.server.build = "another"
    before = {str(path): path.read_bytes() for path in unfinished.out.rglob("*") if path.is_file()}
    assert unfinished.again("--new") in {0, 3}
    first, second = find_runs(unfinished.out)
    assert first.timestamp == STAMP
    assert second.closed
    assert not first.closed
    for path, content in before.items():
        assert Path(path).read_bytes() == content


def test_a_closed_run_is_not_overwritten_by_another_kind_of_run(
    unfinished: Unfinished, capsys: pytest.CaptureFixture[str]
) -> None:
    assert unfinished.again("--timestamp", STAMP) in {0, 3}
    assert unfinished.again("--timestamp", STAMP, "--limit", "1") == 1
    assert "is a finished run under another identity" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stage", "more"),
    [
        ("extract", ["--extractor", "rules+smollm2-135m"]),
        ("extract", ["--replicates", "2"]),
        ("summarise", ["--limit", "1"]),
    ],
    ids=["extractor", "replicates", "limit"],
)
@pytest.mark.parametrize("unfinished", ["exp1"], indirect=True)
def test_a_single_stage_under_another_identity_stops_too(
    unfinished: Unfinished, stage: str, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with served(unfinished.server) as url:
        command = ["stage", stage, "--timestamp", STAMP, "--endpoint", url, *unfinished.flags]
        if stage == "summarise":
            extract = ["stage", "extract", *command[2:]]
            assert invoke(extract) == 0
        capsys.readouterr()
        assert invoke([*command, *more]) == 1
    assert "another identity" in capsys.readouterr().err


def test_failed_queries_are_asked_again_only_on_request(
    tmp_path: Path, small_inputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    server, out = FakeLlamaCpp(), tmp_path / "out"
    server.trouble = lambda number, payload: (
        refuse(400) if number > 2 and sum(payload["prompt"]) % 4 == 0 else None
    )
    flags = ["run", *MODEL, *input_flags(small_inputs), "--out", str(out)]
    with served(server) as url:
        command = [*flags, "--endpoint", url]
        assert invoke(command) == 3
        incomplete = [read_manifest(folder) for folder in find_runs(out)]
        assert not all(manifest.complete for manifest in incomplete)
        assert not all(
            status == "answered"
            for status in read_table(find_runs(out)[0].table("study1", "raw_responses")).column(
                "status"
            )
        )
        server.trouble = lambda _number, _payload: None
        server.asked.clear()
        # Closed is closed: nothing is asked.
        assert invoke(command) == 3
        assert server.asked == []
        records = {
            key: record
            for folder in find_runs(out)
            for key, record in read_journal(folder.journal).records.items()
        }
        answered = {
            int(str(record.value["seed"])) for record in records.values() if "seed" in record.value
        }
        assert invoke([*command, "--retry-failed"]) == 0
        assert not answered & set(server.seeds())
    assert all(read_manifest(folder).complete for folder in find_runs(out))
    with served(FakeLlamaCpp()) as url:
        whole = tmp_path / "whole"
        flags = ["run", *MODEL, *input_flags(small_inputs), "--out", str(whole)]
        assert invoke([*flags, "--endpoint", url]) == 0
    for once, retried in zip(find_runs(whole), find_runs(out), strict=True):
        for path in once.path.glob("*.csv"):
            assert (retried.path / path.name).read_bytes() == path.read_bytes()


def test_a_run_that_another_process_works_on_is_left_alone(
    tmp_path: Path,
    small_inputs: dict[str, Path],
    forker: Forker,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server, out = FakeLlamaCpp(delay_seconds=0.3), tmp_path / "out"
    flags = ["run", *MODEL, *input_flags(small_inputs), "--out", str(out)]
    flags += ["--experiment", "exp1"]
    with served(server) as url:
        other = forker.start([*flags, "--endpoint", url], tmp_path / "log")
        while not list(out.rglob("*.jsonl")):
            pass
        assert invoke([*flags, "--endpoint", url]) == 1
        assert "another process is working on this run" in capsys.readouterr().err
        server.delay_seconds = 0
        assert other.wait() == 0
    assert len(set(server.seeds())) == len(server.seeds())


@pytest.mark.parametrize("change", ["another server", "no server", "in use"])
def test_a_finished_run_that_cannot_be_asked_again_stays_finished(
    tmp_path: Path, small_inputs: dict[str, Path], change: str
) -> None:
    server, out = FakeLlamaCpp(), tmp_path / "out"
    server.trouble = lambda number, payload: (
        refuse(400) if number > 2 and sum(payload["prompt"]) % 4 == 0 else None
    )
    flags = [*MODEL, *input_flags(small_inputs), "--experiment", "exp1", "--out", str(out)]
    with served(server) as url:
        command = ["run", *flags, "--endpoint", url]
        assert invoke(command) == 3
        (folder,) = find_runs(out)
        before = folder.manifest_path.read_bytes()
        if change == "another server":
            server.build = "another"
        if change == "no server":
            command[-1] = "http://127.0.0.1:9"
        with folder.lock() if change == "in use" else nullcontext():
            assert invoke([*command, "--retry-failed"]) == 1
    assert folder.manifest_path.read_bytes() == before
