import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fake_llamacpp import FakeLlamaCpp, refuse, served
from grace.engine.journal import read_journal
from grace.runs.folder import find_runs
from inputs import input_flags
from processes import Command, Forker

MODEL = ("--model", "smollm2-135m", "--extractor", "rules")


@dataclass
class Slow:
    """A command that waits for a slow server."""

    server: FakeLlamaCpp
    flags: list[str | Path]
    out: Path
    forker: Forker

    def start(self) -> Command:
        return self.forker.start(["run", *self.flags], self.out.with_name("log"))

    def wait_for(self, requests: int) -> None:
        deadline = time.monotonic() + 60
        while len(self.server.asked) < requests:
            assert time.monotonic() < deadline
            time.sleep(0.005)


@pytest.fixture
def slow(tmp_path: Path, small_inputs: dict[str, Path], forker: Forker) -> Iterator[Slow]:
    server, out = FakeLlamaCpp(delay_seconds=0.1), tmp_path / "out"
    with served(server) as url:
        flags: list[str | Path] = [
            *("--endpoint", url, "--out"),
            out,
            *MODEL,
            *input_flags(small_inputs),
            *("--concurrency", "3", "--experiment", "exp1"),
        ]
        yield Slow(server, flags, out, forker)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_finishes_what_is_in_flight_and_the_same_command_continues(
    slow: Slow, number: signal.Signals
) -> None:
    command = slow.start()
    slow.wait_for(7)
    command.kill(number)
    assert command.wait() == 3
    assert "stopping: what is in flight is finished first" in command.output
    assert "The same command continues." in " ".join(command.output.split())
    assert "Traceback" not in command.output
    (folder,) = find_runs(slow.out)
    assert not folder.closed
    # Everything that was sent was also written down.
    assert len(read_journal(folder.journal).records) == len(slow.server.seeds())
    slow.server.delay_seconds = 0
    assert slow.start().wait() == 0
    assert len(set(slow.server.seeds())) == len(slow.server.seeds())
    assert folder.closed


def leave_at_once(slow: Slow) -> Command:
    command = slow.start()
    slow.wait_for(5)
    slow.server.delay_seconds = 60
    slow.wait_for(8)
    time.sleep(0.3)
    command.kill(signal.SIGINT)
    while "stopping" not in command.output:
        time.sleep(0.005)
    command.kill(signal.SIGINT)
    return command


def test_two_signals_leave_at_once_and_lose_nothing_that_was_finished(slow: Slow) -> None:
    begun = time.monotonic()
    command = leave_at_once(slow)
    assert command.wait() != 0
    assert time.monotonic() - begun < 30
    assert "stopped at once; everything finished is kept" in command.output
    assert "Traceback" not in command.output
    (folder,) = find_runs(slow.out)
    finished = {
        int(str(one.value["seed"])) for one in read_journal(folder.journal).records.values()
    }
    assert finished
    slow.server.delay_seconds = 0
    slow.server.asked.clear()
    assert slow.start().wait() == 0
    assert not finished & set(slow.server.seeds())


def test_two_signals_are_no_wrong_usage(slow: Slow) -> None:
    assert leave_at_once(slow).wait() in {1, 3}


def test_one_signal_is_enough_while_the_server_is_waited_for(slow: Slow) -> None:
    # The server asks for a minute's patience again and again.
    slow.server.trouble = lambda number, _: (
        refuse(503, {"Retry-After": "60"}) if number > 4 else None
    )
    command = slow.start()
    slow.wait_for(6)
    time.sleep(0.3)
    command.kill(signal.SIGINT)
    time.sleep(0.3)
    command.kill(signal.SIGINT)
    assert command.wait(30) != 0
    assert "Traceback" not in command.output


def test_a_hang_up_before_the_first_query_leaves_nothing_behind(slow: Slow) -> None:
    command = slow.start()
    deadline = time.monotonic() + 60
    while not (command.log.exists() and "rows" in command.output):
        assert time.monotonic() < deadline
    command.kill(signal.SIGINT)
    assert command.wait() != 0
    assert "Traceback" not in command.output
    assert not list(slow.out.rglob("*.csv"))


def hang(slow: Slow, *more: str) -> Command:
    """Start a command whose server falls silent after some answers."""
    slow.flags += more
    command = slow.start()
    slow.wait_for(5)
    slow.server.delay_seconds = 60
    slow.wait_for(8)
    time.sleep(0.3)
    return command


def test_sigterm_gives_up_what_does_not_end_in_time(slow: Slow) -> None:
    command = hang(slow, "--drain-seconds", "1")
    begun = time.monotonic()
    command.kill(signal.SIGTERM)
    assert command.wait() == 3
    assert 0.8 < time.monotonic() - begun < 10
    assert "for 1 s at most" in command.output
    assert "everything finished is kept: the same command continues" in command.output
    assert "Traceback" not in command.output
    (folder,) = find_runs(slow.out)
    finished = {
        int(str(one.value["seed"])) for one in read_journal(folder.journal).records.values()
    }
    assert finished
    slow.server.delay_seconds = 0
    slow.server.asked.clear()
    assert slow.start().wait() == 0
    assert not finished & set(slow.server.seeds())


def test_a_second_signal_need_not_wait_for_the_first_ones_patience(slow: Slow) -> None:
    command = hang(slow)
    begun = time.monotonic()
    command.kill(signal.SIGTERM)
    while "stopping" not in command.output:
        time.sleep(0.005)
    command.kill(signal.SIGTERM)
    assert command.wait() == 3
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_heard_before_there_is_a_run(
    tmp_path: Path, forker: Forker, number: signal.Signals
) -> None:
    # Reading this input never ends.
    os.mkfifo(tmp_path / "endless.csv")
    flags = ["--input", f"study1={tmp_path / 'endless.csv'}", "--out", str(tmp_path / "out")]
    command = forker.start(
        ["run", "--dry-run", *flags],
        tmp_path / "log",
        runs_before=("open", "endless.csv", f"touch {tmp_path / 'reading'}"),
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "reading").exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(0.3)
    command.kill(number)
    assert command.wait() == 3
    assert "stopped at once" in command.output
    assert "Traceback" not in command.output


@pytest.mark.slow
def test_sigterm_ends_a_process_that_is_busy_with_something_else(
    tmp_path: Path, small_inputs: dict[str, Path], forker: Forker
) -> None:
    # Writing a table that never ends, as on a server for files that does not answer.
    command = forker.start(
        [
            *("run", "--dry-run", "--drain-seconds", "0.5", "--out", tmp_path / "out"),
            *input_flags(small_inputs),
        ],
        tmp_path / "log",
        runs_before=("open", ".*structured.csv.part", f"touch {tmp_path / 'busy'}; sleep 40"),
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "busy").exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    begun = time.monotonic()
    command.kill(signal.SIGTERM)
    assert command.wait() == 3
    assert 10 < time.monotonic() - begun < 20
    assert "still busy 10.5 s after SIGTERM" in command.output
    again = ["run", "--dry-run", "--out", str(tmp_path / "out"), *input_flags(small_inputs)]
    code, shown = forker.run(again, tmp_path / "log2")
    assert code == 0
    assert "were finished before" in shown
