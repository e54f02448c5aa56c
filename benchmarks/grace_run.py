"""
Grace as people run it: `grace run` with its journal, tables and manifest.

Two clocks run: one for the whole command, one for the stage that asks the
server. The memory is read where a stage begins and ends.
"""

import asyncio
import dataclasses
import re
import resource
import time
from pathlib import Path

from pydantic import BaseModel

from benchmarks.tasks import Job, Result, Scores
from grace.cli.screen import ScreenHook
from grace.engine.events import StageCounts, StopFlag
from grace.engine.journal import read_journal
from grace.errors import GraceError
from grace.pipeline.cell import Cell
from grace.pipeline.outcomes import CellStatus
from grace.pipeline.run import prepare
from grace.settings import RunSettings

MODEL_KEY = "smollm2-135m"


class _Form(BaseModel):
    text: str
    logprobs: tuple[float, ...]


class _Forms(BaseModel):
    forms: tuple[_Form, ...]


class IncompleteRun(GraceError):
    """The run lacks answers: its time would be no measurement."""


class _Clock(ScreenHook):
    """The command's own screen, which also notes what the asking stage took."""

    def __init__(self) -> None:
        super().__init__()
        self.more = {"asking_cpu_seconds": 0.0, "asking_wall_seconds": 0.0}
        self._begun = (0.0, 0.0)

    def stage_started(self, name: str, planned: int, done: int) -> None:
        self.more["peak_bytes_before_asking"] = float(peak_bytes())
        self._begun = (time.process_time(), time.perf_counter())
        super().stage_started(name, planned, done)

    def stage_finished(self, name: str, counts: StageCounts) -> None:
        super().stage_finished(name, counts)
        self.more["asking_cpu_seconds"] += time.process_time() - self._begun[0]
        self.more["asking_wall_seconds"] += time.perf_counter() - self._begun[1]
        self.more["peak_bytes_after_asking"] = float(peak_bytes())


def run_grace(job: Job) -> Result:
    """
    Run an experiment of a study against a server.

    Raises:
        IncompleteRun: A query failed.
    """
    settings = RunSettings(
        study=(job.study,),
        input={job.study: job.input} if job.input is not None else {},
        experiment=(job.experiment,),
        model=(MODEL_KEY,),
        endpoint=job.url,
        limit=job.rows,
        out=job.out,
        concurrency=job.concurrency,
        # Whatever keys are set here: nothing but the server is asked.
        extractor="rules",
    )
    hook = _Clock()
    cpu, wall = time.process_time(), time.perf_counter()
    prepared = prepare(settings, hook, StopFlag())
    for cell in prepared.cells:
        _narrow(cell, job.probes)
    with hook:
        outcome = asyncio.run(prepared.execute())
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    # Read before the journal is: checking the numbers is the benchmark's work, not the run's.
    held = peak_bytes()
    if outcome.cells[0].status is not CellStatus.COMPLETE:
        raise IncompleteRun(f"the run is {outcome.cells[0].status}")
    return Result(
        scores=_scores(outcome.cells[0].folder.journal) if job.wants_scores else {},
        cpu_seconds=cpu,
        wall_seconds=wall,
        peak_bytes=held,
        more=hook.more,
    )


def peak_bytes() -> int:
    """Return the most memory that this process has held so far."""
    status = Path("/proc/self/status")
    if status.exists():
        # The kernel's other figure, ru_maxrss, begins with what the process that started
        # this one held: here, the one that made the trials.
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text("ascii", "replace"))
        if found is not None:
            return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _narrow(cell: Cell, probes: tuple[str, ...]) -> None:
    """Leave out all other probes and the columns that come from them."""
    if not probes:
        return
    cell.inputs = tuple(
        dataclasses.replace(
            trials,
            study=dataclasses.replace(
                trials.study,
                candidate_probes=tuple(
                    probe for probe in trials.study.candidate_probes if probe.name in probes
                ),
                probability_columns=tuple(
                    column for column in trials.study.probability_columns if column.probe in probes
                ),
            ),
        )
        for trials in cell.inputs
    )


def _scores(journal: Path) -> Scores:
    """Return what the journal says, by query and by form."""
    return {
        record.key: {
            form.text: sum(form.logprobs) for form in _Forms.model_validate(record.value).forms
        }
        for record in read_journal(journal).records.values()
    }
