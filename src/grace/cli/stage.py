"""
`grace stage`: some stages of a run on one model, as containers run them.

Unlike `grace run`, it takes part of the work, waits for what comes before it, and
tells machines how it goes and how it ended.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import stamina.instrumentation
import typer

from grace.catalogue.progress import ProgressHook
from grace.cli import options
from grace.cli.exits import EXIT_COMPLETE, EXIT_INCOMPLETE, exit_code
from grace.cli.lines import Lines, ToldProgress
from grace.cli.models import shown_progress
from grace.cli.outcome import print_outcome
from grace.cli.screen import ScreenHook
from grace.cli.signals import (
    interruptible,
    run_until_stopped,
    say_at_the_end,
    say_on_screen,
)
from grace.cli.termination import Ending, Termination, ending_of, public_text
from grace.engine.events import RunHook, StopFlag
from grace.engine.shards import Shard
from grace.errors import GraceError, RunInterrupted, UsageError
from grace.monitoring.json_lines import JsonLines
from grace.pipeline.outcomes import CellStatus, RunOutcome
from grace.pipeline.run import PreparedRun, prepare
from grace.pipeline.stages import Stage
from grace.pipeline.unfinished import known_counts
from grace.runs.manifest import QueryCounts
from grace.settings import RunSettings


class LogFormat(StrEnum):
    """How progress is told."""

    TEXT = "text"
    JSON = "json"


def stage(
    context: typer.Context,
    names: Annotated[
        list[Stage],
        typer.Argument(
            metavar="STAGE...",
            help="The stages to run, in the order of the experiment: smoke, respond, extract, "
            "score, recheck, tabulate, summarise, validate.",
        ),
    ],
    experiment: Annotated[list[str], typer.Option(help="exp1 or exp2. Repeatable.")],
    model: Annotated[str, typer.Option(help="A key of `grace models list`.")],
    timestamp: Annotated[
        str | None,
        typer.Option(
            help="The run folder's name; shared by all stages. Here or in the config file."
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Ask only this part of the queries, from 0/N to N-1/N, and write no tables: "
            "`tabulate` does, when all parts are over.",
        ),
    ] = None,
    wait_minutes: Annotated[
        float,
        typer.Option(
            min=0,
            help="How long the server may take to be ready, and another process to let go of "
            "this part of the run.",
        ),
    ] = 0.0,
    log: Annotated[
        LogFormat,
        typer.Option(help="text: for people; json: a JSON object a line, on standard output."),
    ] = LogFormat.TEXT,
    log_folder: Annotated[
        Path | None,
        typer.Option(help="Keep a copy of the JSON lines in a new file in this folder."),
    ] = None,
    outcome: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="At the end, write into this file how it ended (JSON)."),
    ] = None,
    study: options.Study = None,
    input_: options.Input = None,
    endpoint: options.Endpoint = None,
    server: options.Server = None,
    api_key_env: options.ApiKeyEnv = None,
    limit: options.Limit = None,
    out: options.Out = None,
    seed: options.Seed = None,
    replicates: options.Replicates = None,
    temperature: options.Temperature = None,
    concurrency: options.Concurrency = None,
    extractor: options.Extractor = None,
    extractor_endpoint: options.ExtractorEndpoint = None,
    scoring: options.Scoring = None,
    recheck: options.Recheck = None,
    catalogue: options.CatalogueFile = None,
    threads: options.Threads = None,
    drain_seconds: options.DrainSeconds = None,
    config: options.Config = None,
    *,
    pmi: options.Pmi = False,
    terminators: options.Terminators = False,
    dry_run: options.DryRun = False,
    retry_failed: options.RetryFailed = False,
    audit: options.Audit = False,
    accept_missing: Annotated[
        bool,
        typer.Option("--accept-missing", help="Exit with 0 although answers are missing."),
    ] = False,
) -> None:
    """
    Run some stages on one model: what containers run.

    A stage that leaves the run open exits with 0 once it is over; `validate`,
    which closes the run, exits with 3 if answers are missing.
    """
    ended = Termination(outcome)
    with Lines() as lines:
        about = _about(names, experiment, model, timestamp, shard)
        told = JsonLines(lines.write, about) if log is LogFormat.JSON else None
        try:
            settings = _settings(context, log_folder, told)
            part = Shard.parse(shard) if shard is not None else None
            about["run"] = settings.timestamp
            if told is not None:
                told = JsonLines(lines.write, about)
                if log_folder is not None and (fault := lines.copy_to(log_folder, _named(about))):
                    told.message(fault)
            work = _Work(settings, frozenset(names), part, 60 * wait_minutes, ended, told)
            found = work.run()
        except GraceError as error:
            stopped = isinstance(error, RunInterrupted)
            ended.write(Ending.STOPPED if stopped else Ending.FAILED, public_text(error))
            if told is None:
                raise
            told.error(public_text(error), type(error).__name__)
            raise typer.Exit(exit_code(error)) from error
        except Exception as error:
            # A fault of Grace: what it says is not known to be fit for others.
            text = f"a fault of Grace: {type(error).__name__}; see the traceback"
            ended.write(Ending.FAILED, text)
            if told is not None:
                told.error(text, type(error).__name__)
            raise
        ended.write(ending_of(found))
        missing_counts = Stage.VALIDATE in names and not accept_missing
        raise typer.Exit(_code(found, missing_counts=missing_counts))


def _settings(
    context: typer.Context, log_folder: Path | None, told: JsonLines | None
) -> RunSettings:
    if log_folder is not None and told is None:
        raise UsageError("--log-folder keeps JSON lines; it needs --log json")
    settings = options.settings_of(context)
    if settings.timestamp is None:
        raise UsageError(
            "--timestamp is not given, nor in the config file; all stages of a run share one, such "
            "as 20260131T235959Z"
        )
    return settings


def _code(outcome: RunOutcome, *, missing_counts: bool) -> int:
    missing = any(cell.status is CellStatus.INCOMPLETE for cell in outcome.cells)
    if outcome.stopped or (missing and missing_counts):
        return EXIT_INCOMPLETE
    return EXIT_COMPLETE


def _about(
    names: list[Stage], experiments: list[str], model: str, run: str | None, shard: str | None
) -> dict[str, str | None]:
    return {
        "run": run,
        "stage": "+".join(names),
        "experiment": "+".join(experiments),
        "model": model,
        "shard": shard,
    }


def _named(about: dict[str, str | None]) -> list[str]:
    """Return what names the file of a process's lines."""
    shard = (about["shard"] or "").replace("/", "of")
    pod = os.environ.get("HOSTNAME") or socket.gethostname()
    words = (about["run"], about["stage"], about["experiment"], about["model"], shard, pod)
    return [word for word in words if word]


@dataclass(frozen=True, slots=True)
class _Work:
    """
    What one process does.

    Attributes:
        settings: The run's settings.

        stages: The stages to run.

        shard: The part of the queries to ask.

        wait_seconds: How long to wait for what comes before.

        ended: Is told of the cells, for the end.

        told: Takes JSON lines; None for people.
    """

    settings: RunSettings
    stages: frozenset[Stage]
    shard: Shard | None
    wait_seconds: float
    ended: Termination
    told: JsonLines | None

    def run(self) -> RunOutcome:
        """
        Do it.

        Raises:
            GraceError: What stopped it.
        """
        # Retries are reported by our own hook.
        stamina.instrumentation.set_on_retry_hooks([])
        stop, screen = StopFlag(), ScreenHook()
        hook: RunHook = self.told or screen
        with interruptible():
            with self._progress() as progress:
                prepared = prepare(
                    self.settings, hook, stop, progress, self.stages, self.shard, self.wait_seconds
                )
                self._name_cells(prepared)
                prepared.fetch_weights()
            drain_seconds = self.settings.drain_seconds
            if self.told is not None:
                told = self.told
                outcome = run_until_stopped(
                    prepared.execute, stop, drain_seconds, told.message, self._leave
                )
                for cell in outcome.cells:
                    told.of(cell.folder.experiment, cell.folder.model).message(cell.status.value)
                return outcome
            with screen:
                outcome = run_until_stopped(
                    prepared.execute, stop, drain_seconds, say_on_screen, self._leave
                )
        print_outcome(outcome)
        return outcome

    def _name_cells(self, prepared: PreparedRun) -> None:
        """Let each cell's lines name it, and the end count its queries."""

        def counts() -> dict[str, QueryCounts]:
            found = {
                f"{cell.experiment}/{cell.use.key}": known_counts(cell) for cell in prepared.cells
            }
            return {name: one for name, one in found.items() if one is not None}

        self.ended.counts = counts
        if self.told is not None:
            for cell in prepared.cells:
                cell.hook = self.told.of(cell.experiment, cell.use.key)

    def _leave(self, text: str) -> None:
        # Neither the journal nor a manifest may be read now: that could take longer than is left.
        self.ended.counts = dict
        self.ended.write(Ending.STOPPED, text)
        if self.told is not None:
            self.told.error(text, RunInterrupted.__name__)
        else:
            say_at_the_end(text)

    @contextmanager
    def _progress(self) -> Iterator[ProgressHook]:
        if self.told is not None:
            yield ToldProgress(self.told)
            return
        with shown_progress() as progress:
            yield progress
