import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import grace
from grace.engine.events import QuietHook, StageCounts
from grace.errors import GraceError, IdentityMismatch, UsageError

PUBLIC = {
    "DoctorReport",
    "RunResult",
    "RunResults",
    "doctor",
    "plan",
    "read_dataframe",
    "run",
}


def test_the_public_names_are_these() -> None:
    assert set(grace.__all__) == PUBLIC
    assert set(dir(grace)) >= PUBLIC
    for name in PUBLIC:
        assert getattr(grace, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'walk'"):
        grace.walk  # noqa: B018


def test_a_run_gives_tables(tmp_path: Path, small_inputs: dict[str, Path]) -> None:
    results = grace.run(dry_run=True, out=tmp_path, input=small_inputs)
    assert results.complete
    responses, probabilities = results.cells
    assert responses.complete
    assert responses.manifest is not None
    frame = responses.table("study1", "structured")
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) == 4
    assert "speach" in frame.columns
    wide = probabilities.table("study1", "probabilities")
    assert wide.shape == (4, 68)
    states = wide[[f"state0_prob_{p}" for p in range(0, 101, 10)]]
    assert states.sum(axis=1).tolist() == pytest.approx([1] * 4)


def test_the_same_call_again_is_the_same_run(tmp_path: Path, small_inputs: dict[str, Path]) -> None:
    first = grace.run(dry_run=True, out=tmp_path, input=small_inputs, experiment="exp2")
    again = grace.run(dry_run=True, out=tmp_path, input=small_inputs, experiment="exp2")
    assert first.cells == again.cells


async def test_it_works_inside_a_running_loop_as_in_a_notebook(tmp_path: Path) -> None:
    assert grace.run(dry_run=True, out=tmp_path, limit=1).complete


async def test_errors_come_out_of_a_running_loop_as_they_are(tmp_path: Path) -> None:
    grace.run(dry_run=True, out=tmp_path, limit=1, timestamp="20260131T235959Z")
    for path in tmp_path.rglob("manifest.json"):  # noqa: ASYNC240  a few local files
        path.unlink()
    with pytest.raises(IdentityMismatch):
        grace.run(dry_run=True, out=tmp_path, limit=2, timestamp="20260131T235959Z")


def test_a_hook_hears_of_every_query(tmp_path: Path) -> None:
    class Counting(QuietHook):
        finished: list[StageCounts] = []  # noqa: RUF012  one instance

        def stage_finished(self, name: str, counts: StageCounts) -> None:
            self.finished.append(counts)

    hook = Counting()
    grace.run(hook, dry_run=True, limit=2, out=tmp_path)
    assert [counts.answered for counts in hook.finished] == [6, 2, 12, 2]


def test_a_plan_counts_and_sends_nothing() -> None:
    lines = grace.plan(study="study2", limit=3)
    assert [(line.experiment, line.queries) for line in lines] == [("exp1", 3), ("exp2", 3)]


@pytest.mark.parametrize(
    ("name", "value"), [("sead", "x"), ("limit", 0), ("study", "study9"), ("temperature", "hot")]
)
def test_wrong_settings_are_named(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"{name}.*{value}|unknown option '{name}'"):
        grace.run(dry_run=True, **{name: value})
    assert issubclass(UsageError, GraceError)


def test_importing_grace_loads_nothing_heavy() -> None:
    code = "import grace, sys; print([n for n in ('pandas', 'scipy') if n in sys.modules])"
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)  # noqa: S603
    assert printed.strip() == "[]"
