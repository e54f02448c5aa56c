"""`grace studies`: list, show, check and make."""

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from grace.cli.screen import out, print_formula_note, visible
from grace.pipeline.inputs import resolve_study
from grace.studies.builtin import BUILTIN_STUDIES
from grace.studies.make import write_trials
from grace.studies.prompts import PromptMode, build_prompt
from grace.studies.spreadsheet import formula_cells
from grace.studies.study import Study
from grace.studies.trials import load_trials

app = typer.Typer(help="Studies: what is asked, and its trials.", no_args_is_help=True)

StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="study1, study2 or a YAML file.")]


@app.command("list")
def list_studies() -> None:
    """List the built-in studies."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("key", "title", "what it asks"):
        table.add_column(name)
    for study in BUILTIN_STUDIES.values():
        table.add_row(study.key, study.title, study.description)
    out.print(table)
    out.print("A study of your own is one YAML file: see docs/how-to/own-study.md")


@app.command("show")
def show_study(study: StudyName) -> None:
    """Show a study: columns, prompts, answer sets, and what its tables hold."""
    shown = resolve_study(study)
    out.print(f"[bold]{shown.title}[/bold] ({shown.key})")
    out.print(shown.description, markup=False)
    if shown.citation:
        out.print(shown.citation, style="dim", markup=False)
    _heading("Input columns")
    for column in shown.columns:
        aliases = f" (or {', '.join(column.aliases)})" if column.aliases else ""
        out.print(f"  {column.name}{aliases}: {column.description}", markup=False)
    _show_probes(shown)
    _heading("Extracted fields")
    for answer_field in shown.fields:
        out.print(f"  {answer_field.name}: {answer_field.description}", markup=False)


@app.command("check")
def check_trials(
    study: StudyName,
    csv: Annotated[
        Path | None,
        typer.Argument(metavar="[CSV]", help="The trials; without it, the study alone is checked."),
    ] = None,
) -> None:
    """Check a study and its trials; every fault is named, nothing is sent."""
    checked = resolve_study(study)
    if csv is None:
        out.print(f"{study}: the study {checked.key} has no faults", markup=False)
        return
    trials = load_trials(checked, csv)
    out.print(
        f"{csv}: {len(trials.trials):,} rows, {trials.stimuli():,} distinct stimuli, no faults",
        markup=False,
    )
    cells = (trial.cells for trial in trials.trials)
    found = formula_cells(csv.name, trials.header, cells)
    print_formula_note([] if found is None else [found])
    _heading("The first trial, as a chat model reads it")
    first = next(iter(trials.trials))
    turns = {probe.name: probe.turn for probe in checked.dialogue[:1]}
    turns |= {probe.name: probe.turn for probe in checked.candidate_probes[:1]}
    for name, turn in turns.items():
        prompt = build_prompt([turn.fill(first.variables)], [], PromptMode.CHAT)
        out.print(f"[dim]{name}[/dim]")
        out.print(visible(prompt.messages[-1].content), markup=False)
        out.print()


@app.command("make")
def make_trials(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="study1 or study2.")],
    csv: Annotated[Path, typer.Argument(metavar="CSV", help="The file to write.")],
    *,
    rows: Annotated[int, typer.Option(help="How many trials.")] = 300,
    seed: Annotated[int, typer.Option(help="Another seed pairs the material anew.")] = 1,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write trials from the items shipped with Grace, in the input's format."""
    write_trials(csv, study, rows, seed, force=force)
    out.print(f"{csv}: {rows:,} rows", markup=False)


def _heading(text: str) -> None:
    out.print()
    out.print(f"[bold]{text}[/bold]")


def _show_probes(study: Study) -> None:
    if study.dialogue:
        _heading("Experiment 1: the dialogue")
        for probe in study.dialogue:
            out.print(f"[dim]{study.response_column(probe)}[/dim]")
            out.print(
                build_prompt([probe.turn], [], PromptMode.CHAT).messages[0].content, markup=False
            )
            out.print()
    if study.candidate_probes:
        _heading("Experiment 2: scored answers")
        for candidate in study.candidate_probes:
            forms = ", ".join("/".join(answer.surface_forms) for answer in candidate.answers)
            out.print(f"[dim]{candidate.name}[/dim]  {forms}")
            content = build_prompt([candidate.turn], [], PromptMode.CHAT).messages[0].content
            out.print(content, markup=False)
            out.print()
