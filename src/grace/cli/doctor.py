"""`grace doctor`: whether probabilities may be taken from a model, before any are."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import stamina.instrumentation
import typer

from grace.cli import options
from grace.cli.doctor_screen import print_report
from grace.cli.models import shown_progress
from grace.cli.screen import ScreenHook
from grace.errors import UsageError
from grace.pipeline.doctor import DEFAULT_PROMPTS, examine
from grace.pipeline.doctor_report import DoctorReport, Verdict

EXIT_UNSOUND = 1

Prompts = Annotated[
    int, typer.Option(min=1, help="Prompts of each probe that are scored; all are encoded.")
]
JsonFile = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write the report as JSON; - is the screen."),
]


def doctor(
    context: typer.Context,
    study: options.Study = None,
    input_: options.Input = None,
    model: options.Model = None,
    endpoint: options.Endpoint = None,
    server: options.Server = None,
    api_key_env: options.ApiKeyEnv = None,
    limit: options.Limit = None,
    prompts: Prompts = DEFAULT_PROMPTS,
    concurrency: options.Concurrency = None,
    scoring: options.Scoring = None,
    catalogue: options.CatalogueFile = None,
    threads: options.Threads = None,
    config: options.Config = None,
    json_: JsonFile = None,
    *,
    dry_run: options.DryRun = False,
) -> None:
    """
    Check a model for exp2: tokens of every answer, coverage, server, repeatability.

    Ends with a verdict: sound, sound with warnings (both exit with 0), or unsound (1).
    """
    settings = options.settings_of(context)
    target = None if json_ in {None, "-"} else Path(str(json_))
    if target is not None and not target.parent.is_dir():
        raise UsageError(f"--json is {json_}: there is no folder {target.parent}")
    # A report says what came of it; single retries are of no interest.
    stamina.instrumentation.set_on_retry_hooks([])
    hook = ScreenHook()
    with shown_progress() as progress:
        report = asyncio.run(examine(settings, hook, progress, prompts))
    if json_ == "-":
        sys.stdout.write(_json(report))
    else:
        print_report(report)
    if target is not None:
        try:
            target.write_text(_json(report), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--json is {json_}: cannot be written: {error.strerror}") from error
    raise typer.Exit(EXIT_UNSOUND if report.verdict is Verdict.UNSOUND else 0)


def _json(report: DoctorReport) -> str:
    return report.model_dump_json(indent=2) + "\n"
