"""Several processes on one run: tables as those of one process, whoever is killed meanwhile."""

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from fake_llamacpp import FakeLlamaCpp, refuse, served
from grace.cli.main import invoke
from grace.engine.journal import read_journal
from grace.pipeline.standing import RunState, standing
from grace.runs.folder import RunFolder, find_runs
from grace.runs.holder import lock_holder
from grace.runs.manifest import read_manifest
from inputs import input_flags
from processes import Command, Forker, wait_for_lines

STAMP = "20260131T235959Z"
MODEL = "smollm2-135m"
FIRST = {"exp1": "respond", "exp2": "score"}
LAST = ("tabulate", "summarise", "validate")


@dataclass
class Work:
    """A run that several processes share."""

    server: FakeLlamaCpp
    out: Path
    flags: list[str]
    forker: Forker
    commands: list[Command] = field(default_factory=list)

    def start(self, stages: str, *more: str, experiment: str = "exp1") -> Command:
        log = self.out.parent / f"log{len(self.commands)}"
        flags = [*stages.split(), "--experiment", experiment, "--out", str(self.out), *self.flags]
        command = self.forker.start(["stage", *flags, *more], log)
        self.commands.append(command)
        return command

    def run(self, stages: str, *more: str, experiment: str = "exp1") -> tuple[int, str]:
        command = self.start(stages, *more, experiment=experiment)
        return command.wait(), command.output

    def shards(self, stage: str, count: int, *more: str, experiment: str = "exp1") -> list[Command]:
        return [
            self.start(stage, "--shard", f"{index}/{count}", *more, experiment=experiment)
            for index in range(count)
        ]

    def folder(self, experiment: str = "exp1") -> RunFolder:
        return RunFolder(self.out / experiment / MODEL / STAMP)


@pytest.fixture
def work(tmp_path: Path, small_inputs: Mapping[str, Path], forker: Forker) -> Iterator[Work]:
    server = FakeLlamaCpp(extract=_extracted)
    flags = [
        *("--model", MODEL, "--timestamp", STAMP, "--extractor", f"rules+{MODEL}"),
        *("--concurrency", "2", "--replicates", "3", *input_flags(small_inputs)),
    ]
    with served(server) as url:
        yield Work(server, tmp_path / "out", [*flags, "--endpoint", url], forker)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _extracted(fields: Sequence[str], _prompt: str) -> str:
    return json.dumps({name: {"Prior_A": 3, "Knowledge_A": "yes"}.get(name) for name in fields})


def tables(folder: RunFolder) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in folder.path.iterdir()
        if path.suffix in {".csv", ".jsonl"}
    }


def whole(work: Work, experiment: str, *more: str) -> dict[str, bytes]:
    """What one process makes of the same run."""
    out = work.out.parent / "whole"
    flags = [flag for flag in work.flags if flag not in {"--timestamp", STAMP}]
    command = ["run", "--experiment", experiment, "--out", str(out), *flags, *more]
    assert invoke(command) == 0
    (folder,) = find_runs(out)
    return tables(folder)


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("experiment", ["exp1", "exp2"])
def test_shards_at_once_make_the_tables_of_one_process(
    work: Work, experiment: str, count: int
) -> None:
    code, output = work.run("smoke", experiment=experiment)
    assert code == 0, output
    for command in work.shards(FIRST[experiment], count, experiment=experiment):
        assert command.wait() == 0, command.output
    folder = work.folder(experiment)
    assert not list(folder.path.glob("*.csv"))
    assert standing(folder).state is RunState.UNFINISHED
    writers = {path.name.split("-")[1] for path in folder.journal.iterdir()}
    assert writers == {f"{index}of{count}" for index in range(count)}
    if experiment == "exp1":
        for command in work.shards("extract", count):
            assert command.wait() == 0, command.output
    code, output = work.run(" ".join(LAST), experiment=experiment)
    assert code == 0, output
    records = read_journal(folder.journal)
    assert records.lines == len(records.records)
    assert tables(folder) == whole(work, experiment)
    assert read_manifest(folder).complete
    assert invoke(["validate", str(folder.path)]) == 0
    assert not list(folder.path.glob(".*"))


def test_a_killed_shard_is_resumed_by_shards_of_another_number(work: Work) -> None:
    assert work.run("smoke")[0] == 0
    work.server.delay_seconds = 0.02
    killed = work.shards("respond", 2)
    wait_for_lines(work.out, 10)
    for command in killed:
        command.kill(signal.SIGKILL)
        assert command.wait() == -signal.SIGKILL
    held = set(read_journal(work.folder().journal).records)
    work.server.delay_seconds = 0
    before = len(work.server.seeds())
    seeds = {str(one.value["seed"]) for one in read_journal(work.folder().journal).records.values()}
    for command in work.shards("respond", 3):
        assert command.wait() == 0, command.output
    assert len(held) >= 10
    # What was answered before is asked of nobody.
    assert not seeds & {str(seed) for seed in work.server.seeds()[before:]}
    assert work.run("extract")[0] == 0
    code, output = work.run(" ".join(LAST))
    assert code == 0, output
    assert tables(work.folder()) == whole(work, "exp1")


def test_many_processes_may_begin_a_run_at_the_same_moment(work: Work) -> None:
    # Without a smoke test before, all of them find no run.json.
    commands = work.shards("respond", 8)
    assert [command.wait() for command in commands] == [0] * 8, [c.output for c in commands]
    assert not list(work.folder().path.glob(".*"))
    assert work.run(f"extract {' '.join(LAST)}")[0] == 0
    assert tables(work.folder()) == whole(work, "exp1")


def test_a_shard_that_is_at_work_keeps_its_own_part_and_whoever_wants_all(work: Work) -> None:
    work.server.delay_seconds = 0.2
    first = work.start("respond", "--shard", "0/2")
    wait_for_lines(work.out, 1)
    for more in (["--shard", "0/2"], ["--shard", "0/3"], ["--shard", "1/3"], []):
        code, output = work.run("respond", *more)
        assert code == 1, more
        assert "another process is working on this run" in " ".join(output.split())
    assert standing(work.folder()).state is RunState.RUNNING
    work.server.delay_seconds = 0
    other = work.start("respond", "--shard", "1/2")
    replaced = work.start("respond", "--shard", "0/2", "--wait-minutes", "1")
    assert [one.wait() for one in (first, other, replaced)] == [0, 0, 0], replaced.output
    assert max(Counter(work.server.seeds()).values()) == 1


def test_a_replaced_process_goes_on_when_the_one_before_is_dead(work: Work) -> None:
    work.server.delay_seconds = 0.2
    first = work.start("respond", "--shard", "0/2")
    wait_for_lines(work.out, 1)
    replaced = work.start("respond", "--shard", "0/2", "--wait-minutes", "5")
    until(lambda: "waiting" in replaced.output)
    first.kill(signal.SIGKILL)
    first.wait()
    work.server.delay_seconds = 0
    assert replaced.wait() == 0, replaced.output


def test_status_counts_the_processes_that_share_a_run(work: Work) -> None:
    work.server.delay_seconds = 0.2
    commands = [work.start("respond", "--shard", f"{index}/4") for index in (3, 0, 2)]
    lock = work.folder().path / "run.lock"
    until(lambda: str(lock_holder(lock)) == "a group of 3 processes")
    for command in commands:
        command.kill(signal.SIGKILL)
        command.wait()
    assert lock_holder(lock) is None


def test_tables_of_an_unfinished_run_are_refused_with_what_is_left(work: Work) -> None:
    assert work.run("smoke")[0] == 0
    assert work.run("respond", "--shard", "1/2")[0] == 0
    code, output = work.run("tabulate")
    assert code == 1
    flat = " ".join(output.split())
    assert "tabulate needs queries that were never asked" in flat
    assert "study1 respond: 18 of 36" in flat
    assert "study2 respond: 6 of 12" in flat
    assert not list(work.folder().path.glob("*.csv"))
    code, output = work.run("extract", "--shard", "0/2")
    assert code == 1
    assert "extract needs queries that were never asked" in " ".join(output.split())


def test_an_extraction_that_was_left_out_is_noticed(work: Work) -> None:
    assert work.run("respond", "--shard", "0/1")[0] == 0
    code, output = work.run("tabulate")
    assert code == 1
    assert "study1 extract: " in output
    assert "respond: " not in output


def test_a_shard_without_any_query_has_nothing_to_do(work: Work) -> None:
    code, output = work.run("respond", "--shard", "499/1000")
    assert code == 0, output
    assert not read_journal(work.folder().journal).lines


def test_what_killed_shards_were_writing_is_swept_away(work: Work) -> None:
    assert work.run("respond", "--shard", "0/1")[0] == 0
    # Right before a record is linked into its place.
    torn = work.folder().path / ".run.json.1of2.part"
    torn.write_text('{"format":')
    assert work.run("extract")[0] == 0
    assert not torn.exists()


def test_a_shard_that_is_killed_while_it_begins_leaves_a_run_that_can_begin(work: Work) -> None:
    command = work.forker.start(
        [
            "stage",
            "respond",
            "--experiment",
            "exp1",
            "--shard",
            "0/2",
            *work.flags,
            "--out",
            work.out,
        ],
        work.out.parent / "log",
        dies_before=("os.link", ".run.json.0of2.part"),
    )
    assert command.wait() == -signal.SIGKILL, command.output
    assert not work.folder().begun
    for other in work.shards("respond", 2):
        assert other.wait() == 0, other.output
    # Whoever has the run for itself next sweeps what the killed one left.
    assert work.run("extract")[0] == 0
    assert not list(work.folder().path.glob(".*"))


def test_what_cannot_be_shared_is_refused_before_anything_is_read(work: Work) -> None:
    code, output = work.run("score tabulate", "--shard", "0/2", experiment="exp2")
    assert code == 2
    assert "tabulate cannot be shared" in " ".join(output.split())
    assert not work.out.exists()


def test_dialogues_that_end_in_a_failure_are_over(work: Work) -> None:
    def trouble(_number: int, payload: Mapping[str, Any]) -> web.Response | None:
        # What `connect` asks is one token long.
        if payload.get("n_predict", 1) == 1 or "json_schema" in payload:
            return None
        return refuse(400) if payload["seed"] % 5 == 0 else None

    work.server.trouble = trouble
    for command in work.shards("respond", 2):
        assert command.wait() == 0, command.output
    assert work.run("extract")[0] == 0
    code, output = work.run(" ".join(LAST))
    assert code == 3, output
    manifest = read_manifest(work.folder())
    counts = [one for report in manifest.studies.values() for one in report.queries.values()]
    assert sum(one.failed for one in counts) > 0
    assert sum(one.not_asked for one in counts) > 0
    assert work.run(" ".join(LAST), "--accept-missing")[0] == 0


def test_a_second_measurement_is_shared_as_well(work: Work) -> None:
    work.flags += ["--recheck", "50"]
    for stage in ("score", "recheck"):
        for command in work.shards(stage, 3, experiment="exp2"):
            assert command.wait() == 0, command.output
    code, output = work.run(" ".join(LAST), experiment="exp2")
    assert code == 0, output
    report = read_manifest(work.folder("exp2")).studies["study1"].recheck
    assert report is not None
    assert report.answered == report.planned > 0
    assert tables(work.folder("exp2")) == whole(work, "exp2")


def test_a_finished_cell_can_be_finished_again(work: Work) -> None:
    assert work.run("respond", "--shard", "0/1")[0] == 0
    assert work.run(f"extract {' '.join(LAST)}")[0] == 0
    before = tables(work.folder())
    # A pod that was lost before it could say so is replaced.
    assert work.run(" ".join(LAST))[0] == 0
    assert work.run("respond", "--shard", "0/1")[0] == 0
    assert tables(work.folder()) == before
