"""
Shards that are killed again and again, resumed by shards of other numbers.

`SHARD_KILLS` says how many rounds (12). The dice are seeded.
"""

import os
import random
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from fake_llamacpp import FakeLlamaCpp, served
from grace.cli.main import invoke
from grace.engine.journal import read_journal
from grace.runs.folder import RunFolder, find_runs
from inputs import input_flags
from processes import Command, Forker

pytestmark = pytest.mark.slow

ROUNDS = int(os.environ.get("SHARD_KILLS", "12"))
SEED = int(os.environ.get("KILLS_SEED", "21"))
STAMP = "20260131T235959Z"
MODEL = "smollm2-135m"


def tables(folder: RunFolder) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in folder.path.iterdir()
        if path.suffix in {".csv", ".jsonl"}
    }


@pytest.mark.parametrize(("experiment", "stage"), [("exp1", "respond"), ("exp2", "score")])
def test_whatever_kills_shards_nothing_is_lost_and_nothing_is_asked_again(
    experiment: str,
    stage: str,
    tmp_path: Path,
    small_inputs: Mapping[str, Path],
    forker: Forker,
) -> None:
    dice = random.Random(SEED)  # noqa: S311
    server = FakeLlamaCpp(delay_seconds=0.02)
    folder = RunFolder(tmp_path / "out" / experiment / MODEL / STAMP)
    flags = ["--experiment", experiment, "--model", MODEL, "--extractor", "rules"]
    flags += ["--concurrency", "2", "--replicates", "10", *input_flags(small_inputs)]
    started = 0

    with served(server) as url:
        flags += ["--endpoint", url]
        shared = ["--timestamp", STAMP, "--out", str(tmp_path / "out"), *flags]

        def shards(count: int, indices: list[int]) -> list[Command]:
            nonlocal started
            found = []
            for index in indices:
                started += 1
                command = ["stage", stage, "--shard", f"{index}/{count}", *shared]
                found.append(forker.start(command, tmp_path / f"log{started}"))
            return found

        lines: list[int] = [0]
        for _ in range(ROUNDS):
            count = dice.randint(1, 5)
            indices = dice.sample(range(count), dice.randint(1, count))
            commands = shards(count, indices)
            time.sleep(dice.uniform(0.2, 0.8))
            for command in commands:
                command.kill(dice.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
            for command in commands:
                assert command.wait() in {0, 3, -signal.SIGKILL, -signal.SIGTERM}, command.output
            state = read_journal(folder.journal)
            # One line for each query: none that was acknowledged is ever asked again.
            assert state.lines == len(state.records)
            lines.append(state.lines)
        for command in shards(3, [0, 1, 2]):
            assert command.wait() == 0, command.output
        state = read_journal(folder.journal)
        assert lines == sorted(lines)
        # They were killed in the middle, or nothing was tried here.
        assert len({count for count in lines if 0 < count < state.lines}) > 1, lines
        assert state.lines == len(state.records)
        rest = ["extract", "tabulate"] if experiment == "exp1" else ["tabulate"]
        assert invoke(["stage", *rest, "summarise", "validate", *shared]) == 0
        alone = ["run", "--out", str(tmp_path / "whole"), *flags]
        assert invoke(alone) == 0
    (whole,) = find_runs(tmp_path / "whole")
    assert tables(folder) == tables(whole)
    assert not list(folder.path.glob(".*"))
