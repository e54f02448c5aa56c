"""How a run on a cluster looks: at a glance, and in a log."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from rich.console import Console

# The state that is drawn comes from the executor.
pytest.importorskip("grace.cluster.executor.status")

from grace.cli.cluster_screen import ClusterScreen
from grace.cli.cluster_view import run_view
from grace.cluster.executor.decide import ServerStanding, StepState
from grace.cluster.executor.outcome import Counts, Outcome
from grace.cluster.executor.records import Collection
from grace.cluster.executor.status import Progress, RunStatus, ServerStatus, StepStatus
from grace.cluster.steps import Served, Step, StepKind, plan_steps

NOW = datetime(2026, 1, 31, 12, 30, tzinfo=UTC)
EARLIER = "2026-01-31T12:18:20Z"
STEPS = plan_steps(
    [Served("gemma-2-2b", "gemma-2-2b", ("gemma-2-2b",)), Served("gpt2", "gpt2", ("gpt2",))],
    ("exp1", "exp2"),
    extractor=None,
)
DONE, RUNNING, WAITING = StepState.DONE, StepState.RUNNING, StepState.WAITING


def status(
    states: Mapping[str, StepStatus] | None = None,
    others: StepState = WAITING,
    servers: tuple[ServerStatus, ...] = (),
    *,
    finished: bool = False,
) -> RunStatus:
    given = states or {}
    steps = tuple(given.get(step.name, StepStatus(step, others)) for step in STEPS)
    return RunStatus("20260131t121500z", "lab", steps, servers, finished)


def step(name: str, state: StepState, reason: str = "", **more: object) -> dict[str, StepStatus]:
    (found,) = [one for one in STEPS if one.name == name]
    return {name: replace(StepStatus(found, state, reason, EARLIER), **more)}  # type: ignore[arg-type]  # any field


def drawn(one: RunStatus, width: int = 110) -> str:
    console = Console(width=width, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(run_view(one, NOW))
    return captured.get()


def finished(failed: int = 0) -> dict[str, StepStatus]:
    found: dict[str, StepStatus] = {}
    for one in STEPS:
        outcome = None
        if one.kind is StepKind.FINISH:
            counts = Counts(100, 100 - failed, failed, 0)
            outcome = Outcome("complete", {f"{one.experiment}/{one.model}": counts})
        found |= step(one.name, DONE, outcome=outcome)
    return found


def test_a_run_at_work_shows_what_is_done_how_fast_and_how_long_it_takes() -> None:
    progress = Progress(planned=3120, done=1204, failed=3, per_second=14.2)
    text = drawn(
        status(
            {
                **step("weights.gemma-2-2b", DONE),
                **step("smoke.gemma-2-2b", DONE),
                **step("score.exp2.gemma-2-2b", RUNNING, progress=progress),
            },
            servers=(
                ServerStatus(
                    "gemma-2-2b", ServerStanding.READY, "", "", EARLIER, ("node-7",), gpus=1
                ),
            ),
        )
    )
    assert "run 20260131T121500Z in lab  at work" in text
    assert "▶ Experiment 2" in text
    line = next(line for line in text.splitlines() if "probabilities" in line)
    assert "1,204/3,120" in line
    assert line.split()[-6:] == ["3", "14.2", "2", "min", "15", "s"]
    assert re.search(r"gemma-2-2b +ready +1 +node-7 +11 min 40 s", text)
    assert "1 GPU is held now" in text
    # What has not begun is one line.
    assert any(line.split() == ["gpt2", "·", "7", "steps", "to", "come"] for line in lines(text))


def lines(text: str) -> list[str]:
    return text.splitlines()


def test_a_finished_run_is_a_line_for_each_model() -> None:
    text = drawn(status(finished(), finished=True))
    assert "complete" in text.splitlines()[0]
    for model in ("gemma-2-2b", "gpt2"):
        line = next(line for line in lines(text) if line.strip().startswith(model))
        assert line.split()[:4] == [model, "✓", "all", "steps"]
        assert line.split()[-2:] == ["200/200", "0"]


def test_what_is_validated_and_not_collected_is_shown_as_that() -> None:
    run = status(finished(), finished=True)
    assert "✓ validate   · collect" in drawn(run)
    collected = replace(run, collection=Collection(EARLIER, 12, "0" * 64))
    assert "✓ validate and collect" in drawn(collected)


def test_missing_answers_are_said_at_the_top() -> None:
    text = drawn(status(finished(failed=2), finished=True))
    assert "finished, with answers missing" in text.splitlines()[0]


def test_a_failure_is_said_with_its_reason_and_what_follows_from_it() -> None:
    reason = "its container ran out of memory (OOMKilled); raise jobs' memory_gb in the profile"
    blocked = {
        name: one
        for each in STEPS
        if each.model == "gpt2" and each.kind is not StepKind.WEIGHTS
        for name, one in step(each.name, StepState.BLOCKED, "weights.gpt2 failed").items()
    }
    text = drawn(status({**step("weights.gpt2", StepState.FAILED, reason), **blocked}), width=200)
    assert f"gpt2: fetch weights: {reason}" in text
    assert "gpt2: smoke test and 5 more: weights.gpt2 failed" in text
    assert any("6 steps cannot run" in line for line in lines(text))
    assert "✗ model servers" in text


def test_what_waits_says_why_when_nothing_is_at_work() -> None:
    waiting = step("smoke.gpt2", WAITING, "waits for a place: model_servers.at_once is 1")
    assert "waits for a place" in drawn(status(waiting))
    assert "waits for a place" not in drawn(status({**waiting, **step("weights.gpt2", RUNNING)}))


def test_servers_that_are_not_up_are_not_shown() -> None:
    absent = ServerStatus("gpt2", ServerStanding.ABSENT)
    assert "model server " not in drawn(status(servers=(absent,)))
    ready = replace(absent, standing=ServerStanding.READY)
    text = drawn(status(servers=(ready,)))
    assert "model server " in text
    assert "held now" not in text


def test_a_server_that_does_not_come_up_says_why() -> None:
    pending = "Pending: no fitting GPU is free; it waits for one"
    server = ServerStatus("gpt2", ServerStanding.STARTING, pending)
    text = drawn(status(servers=(server,)))
    assert f"server of gpt2: {pending}" in text
    given_up = replace(server, failure="OOMKilled 5 times")
    assert "given up" in drawn(status(servers=(given_up,)))
    assert "server of gpt2: OOMKilled 5 times" in drawn(status(servers=(given_up,)))


def test_what_pods_say_cannot_move_the_cursor() -> None:
    text = drawn(status(step("smoke.gpt2", StepState.FAILED, "red \x1b[31m\nand more")))
    assert "\x1b" not in text
    assert "red \\x1b[31m and more" in text


@pytest.mark.parametrize("count", [0, 1, 2, 99, 100])
def test_a_bar_is_full_only_when_all_is_done(count: int) -> None:
    progress = Progress(planned=100, done=count, failed=0, per_second=0)
    text = drawn(status(step("score.exp2.gpt2", RUNNING, progress=progress)))
    line = next(line for line in lines(text) if "probabilities" in line)
    assert line.count("━") + line.count("─") == 20
    assert ("─" in line) == (count < 100)


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_log_has_a_line_for_each_change_and_now_and_then_how_far_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    progress = Progress(planned=400, done=100, failed=1, per_second=10)
    running = step("score.exp2.gpt2", RUNNING, progress=progress)
    (one,) = running.values()
    with ClusterScreen(lambda: NOW, clock) as screen:
        screen.phase_began(5, "Experiment 2")
        screen.step_changed(StepStatus(one.step, WAITING, "waits for smoke.gpt2"))
        screen.step_changed(one)
        screen.looked(status(running))
        screen.looked(status(running))
        clock.seconds = 31
        screen.looked(status(running))
        screen.step_changed(
            replace(one, state=DONE, outcome=Outcome("open", {"exp2/gpt2": Counts(400, 399, 1, 0)}))
        )
        screen.server_changed(ServerStatus("gpt2", ServerStanding.STOPPING))
        screen.message("red \x1b[31m")
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "phase 5 of 6: Experiment 2",
        "gpt2: probabilities: running",
        "gpt2: probabilities: 100 of 400, 1 failed, 10.0 a second, 30 s left",
        "gpt2: probabilities: 100 of 400, 1 failed, 10.0 a second, 30 s left",
        "gpt2: probabilities: done, 400 of 400, 1 failed",
        "server of gpt2: stopping",
        "red \\x1b[31m",
    ]


def test_every_kind_of_step_has_a_name() -> None:
    rechecked = plan_steps([Served("m", "m")], ("exp2",), extractor=None, rechecked=True)
    kinds: dict[StepKind, Step] = {one.kind: one for one in (*STEPS, *rechecked)}
    assert set(kinds) == set(StepKind)
    for one in kinds.values():
        run = RunStatus("20260131t121500z", "lab", (StepStatus(one, RUNNING),), (), finished=False)
        assert drawn(run)
