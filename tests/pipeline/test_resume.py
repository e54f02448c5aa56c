import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fake_llamacpp import Asked, FakeLlamaCpp, refuse, served
from grace.cli.main import invoke
from grace.engine.journal import read_journal
from grace.engine.plan import QueryKey, plan_scores
from grace.inference.toy import ToyClient
from grace.pipeline.inputs import load_inputs
from grace.runs.folder import RunFolder, find_runs
from grace.runs.manifest import read_manifest
from grace.settings import RunSettings
from grace.studies.prompts import PromptMode, build_prompt
from inputs import input_flags
from processes import Command, Forker

CONCURRENCY = 3
MODEL = ("--model", "smollm2-135m", "--extractor", "rules")


@dataclass
class Killer:
    """Kills a command when the server gets one of its requests."""

    server: FakeLlamaCpp
    requests: list[int]
    command: Command | None = None
    seen: int = 0

    def __call__(self, _number: int, _payload: Mapping[str, Any]) -> None:
        self.seen += 1
        if self.command is not None and self.requests and self.seen >= self.requests[0]:
            del self.requests[0]
            self.command.kill()
            self.command = None


@dataclass
class Setting:
    """A served model and the command that runs both studies on it."""

    server: FakeLlamaCpp
    url: str
    flags: list[str]
    tmp_path: Path
    forker: Forker
    lives: int = field(default=0)

    def start(self, out: str, *more: str) -> Command:
        self.lives += 1
        arguments = ["run", "--endpoint", self.url, "--out", str(self.tmp_path / out), *self.flags]
        return self.forker.start([*arguments, *more], self.tmp_path / f"log{self.lives}")

    def runs(self, out: str) -> list[RunFolder]:
        return find_runs(self.tmp_path / out)


@pytest.fixture
def setting(tmp_path: Path, small_inputs: dict[str, Path], forker: Forker) -> Iterator[Setting]:
    server = FakeLlamaCpp(delay_seconds=0.002)
    flags = [*MODEL, *input_flags(small_inputs), "--concurrency", str(CONCURRENCY)]
    with served(server) as url:
        yield Setting(server, url, flags, tmp_path, forker)


def tables(folders: list[RunFolder]) -> dict[str, bytes]:
    """Everything that runs publish, but for manifests."""
    return {
        f"{folder.experiment}/{path.name}": path.read_bytes()
        for folder in folders
        for path in folder.path.iterdir()
        if path.suffix in {".csv", ".jsonl"}
    }


def finished(out: Path) -> tuple[set[int], set[QueryKey]]:
    """The seeds of the responses, and the keys of the scores, that are in journals."""
    records = [
        record
        for path in out.glob("*/*/*/journal")
        for record in read_journal(path).records.values()
    ]
    seeds = {int(str(one.value["seed"])) for one in records if one.stage == "respond"}
    return seeds, {one.key for one in records if one.stage == "score"}


def prompts_of_scores(inputs: Mapping[str, Path]) -> dict[tuple[int, ...], QueryKey]:
    toy = ToyClient()
    queries = [
        query
        for trials in load_inputs(RunSettings.model_validate({"input": inputs}))
        for query in plan_scores(trials).queries
    ]

    async def render() -> dict[tuple[int, ...], QueryKey]:
        return {
            (await toy.render(build_prompt([query.turn], [], PromptMode.CHAT))).token_ids: query.key
            for query in queries
        }

    return asyncio.run(render())


def asked_again(
    asked: list[Asked],
    seeds: set[int],
    scores: set[QueryKey],
    keys: Mapping[tuple[int, ...], QueryKey],
) -> list[Asked]:
    return [
        one
        for one in asked
        if one.seed in seeds or (one.kind == "score" and keys.get(one.prompt) in scores)
    ]


def test_killed_at_any_moment_and_resumed_the_tables_are_those_of_an_uninterrupted_run(
    setting: Setting, small_inputs: dict[str, Path]
) -> None:
    assert setting.start("whole").wait() == 0
    whole = tables(setting.runs("whole"))
    server, keys = setting.server, prompts_of_scores(small_inputs)
    needed = server.seeds()
    total = len(server.asked)
    dice = random.Random(11)  # noqa: S311
    # Each restart sends two probes more.
    moments = sorted(dice.sample(range(3, total), 5))
    server.asked.clear()
    killer = Killer(server, [moment + 2 * n for n, moment in enumerate(moments)])
    server.trouble = killer
    out = setting.tmp_path / "killed"
    codes: list[int] = []
    while not codes or codes[-1] == -signal.SIGKILL:
        seeds, scores = finished(out)
        before = len(server.asked)
        killer.command = command = setting.start("killed")
        codes.append(command.wait())
        # What was finished is never asked again.
        assert asked_again(server.asked[before:], seeds, scores, keys) == []
    assert codes == [-signal.SIGKILL] * 5 + [0]
    assert tables(setting.runs("killed")) == whole
    assert all(read_manifest(folder).complete for folder in setting.runs("killed"))
    assert invoke(["validate", str(out)]) == 0
    # Only what was in flight when a kill came is asked twice.
    repeated = len(server.seeds()) - len(needed)
    assert sorted(set(server.seeds())) == sorted(needed)
    assert 0 <= repeated <= 5 * CONCURRENCY


def test_killed_while_tables_are_written_the_same_command_writes_them_again(
    setting: Setting,
) -> None:
    assert setting.start("whole").wait() == 0
    whole = tables(setting.runs("whole"))
    codes = []
    for pause in (0.0, 0.005, 0.02, 0.05, 0.1):
        command = setting.start("killed")
        deadline = time.monotonic() + 60
        while not list((setting.tmp_path / "killed").rglob("*.csv")):
            assert time.monotonic() < deadline
        time.sleep(pause)
        command.kill()
        codes.append(command.wait())
    assert setting.start("killed").wait() == 0
    assert tables(setting.runs("killed")) == whole
    assert codes[0] == -signal.SIGKILL
    # The responses were complete before the first table: each was asked once in each run.
    seeds = setting.server.seeds()
    assert len(seeds) == 2 * len(set(seeds))


@pytest.mark.parametrize(
    "lost",
    [
        ["manifest.json"],
        ["manifest.json", "toy_study1_summary.csv"],
        ["manifest.json", "toy_study2_structured.csv", "extraction_errors.jsonl"],
        ["manifest.json", "toy_study1_scores.csv", "toy_study1_probabilities.csv"],
    ],
    ids=lambda lost: lost[-1],
)
def test_whatever_table_was_not_written_yet_is_made_from_the_journal(
    toy_runs: tuple[RunFolder, RunFolder], small_inputs: dict[str, Path], lost: list[str]
) -> None:
    before = tables([*toy_runs])
    for folder in toy_runs:
        for name in lost:
            (folder.path / name).unlink(missing_ok=True)
        (folder.path / ".toy_study1_summary.csv.part").write_text("torn")
    journals = sorted(toy_runs[0].path.parents[2].rglob("journal/*"))
    out = str(toy_runs[0].path.parents[2])
    assert invoke(["run", "--dry-run", "--out", out, *input_flags(small_inputs)]) == 0
    assert tables([*toy_runs]) == before
    assert all(folder.closed for folder in toy_runs)
    # No query was asked: an empty journal file is not kept.
    assert sorted(toy_runs[0].path.parents[2].rglob("journal/*")) == journals


def test_a_journal_cut_anywhere_is_continued_to_the_same_tables(
    toy_runs: tuple[RunFolder, RunFolder], small_inputs: dict[str, Path]
) -> None:
    before = tables([*toy_runs])
    out = str(toy_runs[0].path.parents[2])
    dice = random.Random(7)  # noqa: S311
    for _ in range(3):
        for folder in toy_runs:
            folder.manifest_path.unlink()
            path = dice.choice(sorted(folder.journal.iterdir()))
            content = path.read_bytes()
            path.write_bytes(content[: dice.randrange(len(content))])
        assert invoke(["run", "--dry-run", "--out", out, *input_flags(small_inputs)]) == 0
        assert tables([*toy_runs]) == before


def test_a_corrupt_journal_stops_the_run_with_file_and_line(
    toy_runs: tuple[RunFolder, RunFolder],
    small_inputs: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    toy_runs[0].manifest_path.unlink()
    path = min(toy_runs[0].journal.iterdir())
    path.write_bytes(b"garbage\n" + path.read_bytes())
    out = str(toy_runs[0].path.parents[2])
    assert invoke(["run", "--dry-run", "--out", out, *input_flags(small_inputs)]) == 1
    assert f"{path}, line 1: is not a journal line" in capsys.readouterr().err
    assert not toy_runs[0].closed


def test_resume_continues_from_the_folder_alone(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killer = Killer(setting.server, [10])
    setting.server.trouble = killer
    killer.command = setting.start("out", "--experiment", "exp1")
    assert killer.command is not None
    assert killer.command.wait() == -signal.SIGKILL
    (folder,) = setting.runs("out")
    # From anywhere, and by a path relative to there.
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert invoke(["status", str(folder.path)]) == 3
    assert invoke(["resume", os.path.relpath(folder.path)]) == 0
    assert read_manifest(folder).complete
    assert invoke(["resume", str(folder.path)]) == 0


def test_a_server_that_came_back_at_another_address_is_the_same_server(
    setting: Setting, tmp_path: Path
) -> None:
    killer = Killer(setting.server, [10])
    setting.server.trouble = killer
    killer.command = command = setting.start("out")
    assert command.wait() == -signal.SIGKILL
    asked = set(setting.server.seeds())
    again = FakeLlamaCpp()
    with served(again) as url:
        flags = ["run", "--endpoint", url, "--out", str(tmp_path / "out"), *setting.flags]
        assert invoke(flags) == 0
    assert asked & set(again.seeds()) <= set(setting.server.seeds()[-CONCURRENCY:])


def test_a_lost_server_ends_the_run_and_the_same_command_finishes_it(
    setting: Setting, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "--out", str(tmp_path / "out"), *setting.flags, "--experiment", "exp2"]
    server = FakeLlamaCpp()
    # Permanent refusals do not count as a lost server; silence would.
    server.trouble = lambda number, _: refuse(503, {"Retry-After": "0"}) if number > 12 else None
    with served(server) as url:
        assert invoke([*command, "--endpoint", url]) == 1
        shown = capsys.readouterr().err
        assert "is lost" in shown
        assert "the same command continues" in shown
        assert not any(folder.closed for folder in find_runs(tmp_path / "out"))
        server.trouble = lambda _number, _payload: None
        assert invoke([*command, "--endpoint", url]) == 0
    assert setting.start("whole", "--experiment", "exp2").wait() == 0
    assert tables(setting.runs("out")) == tables(setting.runs("whole"))


def test_a_server_lost_near_the_end_is_lost_too(
    setting: Setting, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*setting.flags, "--experiment", "exp1", "--limit", "1"]
    command = ["run", "--out", str(tmp_path / "out"), *flags]
    server = FakeLlamaCpp()
    server.trouble = lambda number, _: refuse(503, {"Retry-After": "0"}) if number > 4 else None
    with served(server) as url:
        assert invoke([*command, "--endpoint", url]) == 1
        assert "is lost" in capsys.readouterr().err
        server.trouble = lambda _number, _payload: None
        assert invoke([*command, "--endpoint", url]) == 0
