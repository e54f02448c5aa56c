"""`grace status`, `grace validate` and `grace summarise`."""

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from grace.cli.exits import EXIT_FAILED, EXIT_INCOMPLETE
from grace.cli.outcome import print_agreement, print_summary
from grace.cli.screen import err, out, print_formula_note, visible
from grace.cli.standing import print_standings, print_unbegun
from grace.errors import RunFolderError, UsageError
from grace.pipeline.agreeing import other_experiment, write_agreements
from grace.pipeline.reopen import reopen
from grace.pipeline.standing import RunState, standing
from grace.pipeline.unbegun import unbegun_cells
from grace.pipeline.writing import rewrite_summaries
from grace.runs.csvfile import read_table
from grace.runs.folder import RunFolder, RunRecord, find_runs
from grace.runs.validate import validate_manifest, validate_tables
from grace.studies.spreadsheet import FormulaCells, formula_cells
from grace.studies.trials import TrialSet

RunPath = Annotated[
    Path,
    typer.Argument(help="A run folder, or a folder given as --out with all runs in it."),
]


def status(path: RunPath) -> None:
    """Show how runs stand: what is done, failed and left, why, and what to type next."""
    found = []
    unusable = []
    missing: dict[Path, RunFolder] = {}
    for folder in find_runs(path):
        try:
            found.append(standing(folder))
            for cell in unbegun_cells(folder, folder.read_record()):
                missing.setdefault(cell.path, folder)
        except (RunFolderError, UsageError) as error:
            # The other runs are shown all the same.
            unusable.append(str(error))
    if found:
        print_standings(found)
    print_unbegun(missing)
    for problem in unusable:
        err.print("error:", style="bold red", end=" ")
        err.print(problem, markup=False)
    if unusable:
        raise typer.Exit(EXIT_FAILED)
    complete = not missing and all(one.state is RunState.COMPLETE for one in found)
    raise typer.Exit(0 if complete else EXIT_INCOMPLETE)


def validate(path: RunPath) -> None:
    """Check tables and manifests against their contract; fail loudly."""
    faulty = 0
    for folder in find_runs(path):
        faults = _faults(folder)
        if faults:
            faulty += 1
            err.print("FAULTY", style="red", end=" ")
            err.print(str(folder.path), markup=False)
            for fault in faults:
                err.print(f"  {visible(fault)}", markup=False)
        else:
            out.print("valid", style="green", end=" ")
            out.print(str(folder.path), markup=False)
        print_formula_note(_formula_cells(folder))
    raise typer.Exit(EXIT_FAILED if faulty else 0)


def _faults(folder: RunFolder) -> list[str]:
    try:
        record = folder.read_record()
        inputs = _inputs(folder, record)
        return [
            *validate_tables(folder, inputs, record.request.replicates),
            *validate_manifest(folder),
        ]
    except RunFolderError as error:
        # The other runs are looked at all the same.
        return str(error).splitlines()


def _formula_cells(folder: RunFolder) -> list[FormulaCells]:
    """Find what a spreadsheet would run, in the tables that can be read."""
    found = []
    for path in sorted(folder.path.glob(f"{folder.model}_*.csv")):
        with contextlib.suppress(RunFolderError):
            table = read_table(path)
            found.append(formula_cells(path.name, table.header, table.rows))
    return [one for one in found if one is not None]


def summarise(path: RunPath) -> None:
    """
    Write the per-condition summaries of finished runs again, and show the main means.

    Where both experiments of a model are finished, their agreement is written too.
    Runs that are not finished are left out.
    """
    compared: set[Path] = set()
    unfinished = False
    for folder in find_runs(path):
        record = folder.read_record()
        if not folder.closed:
            unfinished = True
            err.print(
                f"note: {folder.path} is not finished: left out", style="yellow", markup=False
            )
            continue
        inputs = _inputs(folder, record)
        for written in rewrite_summaries(folder, inputs):
            out.print(str(written), markup=False)
        for trials in inputs:
            print_summary(folder, trials.study)
        other = other_experiment(folder)
        if other is not None and folder.path not in compared:
            compared |= {folder.path, other.path}
            _compare(folder, other)
    if unfinished:
        raise typer.Exit(EXIT_INCOMPLETE)


def _compare(folder: RunFolder, other: RunFolder) -> None:
    responses, probabilities = sorted((folder, other), key=lambda run: run.experiment)
    made = write_agreements(responses, probabilities, _inputs(responses, responses.read_record()))
    for difference in made.notes:
        err.print(
            f"note: the experiments do not have the same server: {difference}",
            style="yellow",
            markup=False,
        )
    for path in made.paths:
        out.print(str(path), markup=False)
        print_agreement(read_table(path))


def _inputs(folder: RunFolder, record: RunRecord) -> tuple[TrialSet, ...]:
    reopened = reopen(folder, record)
    for note in reopened.notes:
        err.print(f"note: {visible(note)}", style="yellow", markup=False)
    return reopened.inputs
