"""
`grace run`, `grace plan` and `grace resume`.

The options of a command are its parameters, for its help and its types; their
values are read from the context, by name, in one place.
"""

import asyncio
from pathlib import Path
from typing import Annotated

import stamina.instrumentation
import typer

from grace.catalogue.spec import load_catalogue
from grace.cli import options
from grace.cli.costs import print_forecasts
from grace.cli.exits import EXIT_COMPLETE, EXIT_INCOMPLETE
from grace.cli.models import shown_progress
from grace.cli.outcome import print_outcome, print_plan
from grace.cli.screen import ScreenHook
from grace.cli.signals import interruptible, run_until_stopped
from grace.engine.events import StopFlag
from grace.errors import RunFolderError, UsageError
from grace.pipeline import forecast
from grace.pipeline.extras import describe_extras
from grace.pipeline.inputs import describe_inputs, load_inputs
from grace.pipeline.overview import overview_of
from grace.pipeline.run import prepare
from grace.pipeline.unbegun import continued
from grace.runs.folder import RunFolder, RunRecord, find_runs, is_timestamp
from grace.runs.manifest import read_manifest
from grace.settings import FLAGS, RunSettings, make_settings


def run(
    context: typer.Context,
    study: options.Study = None,
    input_: options.Input = None,
    experiment: options.ExperimentOption = None,
    model: options.Model = None,
    endpoint: options.Endpoint = None,
    server: options.Server = None,
    api_key_env: options.ApiKeyEnv = None,
    limit: options.Limit = None,
    out: options.Out = None,
    timestamp: options.Timestamp = None,
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
    new: options.New = False,
    retry_failed: options.RetryFailed = False,
    audit: options.Audit = False,
) -> None:
    """
    Plan and run experiments here: ask, extract, score, summarise, validate.

    Interrupted? Give the same command again: finished queries are not asked twice.
    """
    raise typer.Exit(execute(options.settings_of(context)))


def plan(
    context: typer.Context,
    study: options.Study = None,
    input_: options.Input = None,
    experiment: options.ExperimentOption = None,
    model: options.Model = None,
    endpoint: options.Endpoint = None,
    server: options.Server = None,
    api_key_env: options.ApiKeyEnv = None,
    limit: options.Limit = None,
    seed: options.Seed = None,
    replicates: options.Replicates = None,
    temperature: options.Temperature = None,
    scoring: options.Scoring = None,
    recheck: options.Recheck = None,
    catalogue: options.CatalogueFile = None,
    threads: options.Threads = None,
    config: options.Config = None,
    *,
    measure: options.Measure = False,
    tokens_per_second: options.TokensPerSecond = None,
    pmi: options.Pmi = False,
    terminators: options.Terminators = False,
) -> None:
    """
    Show what a run would ask, and a forecast of its cost.

    Nothing is sent, unless --measure lets the model's server count tokens and
    answer a few queries, which are not kept.
    """
    settings = options.settings_of(context)
    known = load_catalogue(settings.catalogue)
    for key in settings.model:
        known.get(key)
    inputs = load_inputs(settings)
    print_plan(
        describe_inputs(inputs),
        overview_of(inputs, settings),
        describe_extras(inputs, settings),
        settings,
    )
    if measure:
        stamina.instrumentation.set_on_retry_hooks([])
        with shown_progress() as progress:
            forecasts = asyncio.run(forecast.measure(settings, known, inputs, progress))
    else:
        forecasts = forecast.estimate(settings, known, inputs)
    print_forecasts(forecasts, tokens_per_second)


def resume(
    folder: Annotated[Path, typer.Argument(help="OUT/EXPERIMENT/MODEL/TIMESTAMP")],
    input_: options.Input = None,
    endpoint: options.Endpoint = None,
    extractor_endpoint: options.ExtractorEndpoint = None,
    concurrency: options.Concurrency = None,
    catalogue: options.CatalogueFile = None,
    threads: options.Threads = None,
    drain_seconds: options.DrainSeconds = None,
    *,
    retry_failed: options.RetryFailed = False,
) -> None:
    """
    Continue an unfinished run from its folder alone.

    What its command had not begun yet, such as the other experiment, follows.
    Give what is elsewhere now: inputs, a server. The run's identity stays.
    """
    run_folder = _one_run(folder.resolve())
    record = run_folder.read_record()
    _check_place(run_folder, record)
    request = record.request
    now = {
        "endpoint": endpoint,
        "extractor_endpoint": extractor_endpoint,
        "concurrency": concurrency,
        "catalogue": catalogue,
        "threads": threads,
        "drain_seconds": drain_seconds,
    }
    given = {name: value for name, value in now.items() if value is not None}
    inputs = {**request.input, **(options.parse_inputs(input_) or {})}
    settings = make_settings(
        {
            **request.model_dump(),
            **continued(run_folder, record),
            "input": inputs,
            "out": run_folder.path.parents[2],
            "timestamp": run_folder.timestamp,
            "new": False,
            "retry_failed": retry_failed,
            "recheck": max(request.recheck, _rechecked(run_folder)),
            **given,
        },
        FLAGS,
    )
    for study, path in settings.input.items():
        if not path.exists():
            raise UsageError(
                f"{path}: is not there any more; say where this input is now: --input {study}=CSV"
            )
    raise typer.Exit(execute(settings))


def _check_place(folder: RunFolder, record: RunRecord) -> None:
    experiment, model = record.identity.experiment, str(record.identity.model["key"])
    belongs = (folder.experiment, folder.model) == (experiment, model)
    if not belongs or not is_timestamp(folder.timestamp):
        raise UsageError(
            f"{folder.path}: this run can go on only where it belongs; call its folder "
            f"OUT/{experiment}/{model}/TIMESTAMP, as in OUT/{experiment}/{model}/20260131T235959Z"
        )


def _rechecked(folder: RunFolder) -> float:
    """Return the share that was rechecked, which may have been asked for after the run began."""
    if not folder.closed:
        return 0.0
    reports = read_manifest(folder).studies.values()
    return max((one.recheck.percent for one in reports if one.recheck is not None), default=0.0)


def _one_run(folder: Path) -> RunFolder:
    if RunFolder(folder).begun or not folder.is_dir():
        return RunFolder(folder)
    try:
        found = find_runs(folder)
    except RunFolderError:
        return RunFolder(folder)
    unfinished = [run for run in found if not run.closed]
    if len(unfinished) == 1:
        return unfinished[0]
    listed = "\n".join(f"  {run.path}" for run in unfinished or found)
    several = "several unfinished runs; name one" if unfinished else "no unfinished run; it has"
    raise UsageError(f"{folder}: holds {several}:\n{listed}")


def execute(settings: RunSettings) -> int:
    """
    Run with progress on the screen and return the exit status.

    Raises:
        GraceError: What stopped the run.
    """
    # Retries are reported by our own hook.
    stamina.instrumentation.set_on_retry_hooks([])
    hook, stop = ScreenHook(), StopFlag()
    with interruptible():
        with shown_progress() as progress:
            prepared = prepare(settings, hook, stop, progress)
            prepared.fetch_weights()
        with hook:
            outcome = run_until_stopped(prepared.execute, stop, settings.drain_seconds)
    print_outcome(outcome)
    return EXIT_COMPLETE if outcome.complete else EXIT_INCOMPLETE
