"""
The entry point: commands, and errors as one clear message.

Exit codes: 0 complete, 1 failed, 2 usage, 3 finished with missing answers.
"""

import importlib.metadata
import sys
from typing import Annotated

import typer

from grace.cli import doctor, files, gateway, models, results, run, serve, stage, studies
from grace.cli.exits import (
    EXIT_COMPLETE,
    EXIT_FAILED,
    EXIT_INCOMPLETE,
    EXIT_USAGE,
    exit_code,
)
from grace.cli.screen import err, out, visible
from grace.errors import GraceError
from grace.keys import show_no_keys_in_logs, show_no_keys_in_tracebacks

__all__ = [
    "EXIT_COMPLETE",
    "EXIT_FAILED",
    "EXIT_INCOMPLETE",
    "EXIT_USAGE",
    "app",
    "invoke",
    "main",
]

app = typer.Typer(
    help="Cognitive-science experiments on open-weight language models, with numbers that a "
    "reviewer accepts.\n\nStart with: grace run --limit 6 --dry-run",
    no_args_is_help=True,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command()(run.plan)
app.command()(doctor.doctor)
app.command()(run.run)
app.command()(run.resume)
app.command()(results.status)
app.command()(results.validate)
app.command()(results.summarise)
app.command()(stage.stage)
app.command()(serve.serve)
app.command()(gateway.gateway)
app.add_typer(models.app, name="models")
app.add_typer(studies.app, name="studies")
# For containers: people have cp and tar.
app.add_typer(files.app, name="files", hidden=True)


@app.callback()
def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Show Grace's version and exit.", is_eager=True)
    ] = False,
) -> None:
    """Show the version, if that is all that is asked."""
    if version:
        out.print(f"grace {importlib.metadata.version('grace')}", markup=False)
        raise typer.Exit


def main() -> None:
    """Run the command line and exit."""
    show_no_keys_in_logs()
    try:
        code = invoke(sys.argv[1:])
    finally:
        # After typer, which puts a hook of its own in place. What is not caught comes there.
        show_no_keys_in_tracebacks()
    sys.exit(code)


def invoke(arguments: list[str]) -> int:
    """
    Run a command line and return its exit code.

    Args:
        arguments: Without the program's name.
    """
    try:
        app(args=arguments, prog_name="grace")
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else EXIT_COMPLETE
    except GraceError as error:
        _complain(str(error))
        return exit_code(error)
    return EXIT_COMPLETE


def _complain(message: str) -> None:
    first, *rest = visible(message).splitlines() or [""]
    err.print("error:", style="bold red", end=" ")
    err.print(first, markup=False)
    for line in rest:
        err.print(line, markup=False)
