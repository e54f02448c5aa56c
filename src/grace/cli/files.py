"""
`grace files`: what runs in a pod beside a volume, so that its files can be handed over.

Nothing heavy is imported here: a command runs for each file, and must start at once.
"""

import json
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from grace.cli.exits import EXIT_FAILED, exit_code
from grace.errors import GraceError
from grace.runs import handover

app = typer.Typer(
    help="Hand files over, from or to a volume that only this pod has. For containers: "
    "`grace cluster` calls these commands.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Root = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="The folder that PATH must lie in; relative paths begin there."
    ),
]


@app.command("list")
def list_files(
    root: Annotated[Path, typer.Argument(help="The folder.")],
) -> None:
    """
    List the files below a folder: one JSON object a line, with path, size and sha256.

    Temporary files, whose names begin with a dot, are left out. Exits with 1 if
    something cannot be handed over: a link, or a name with odd characters.
    """
    odd: list[str] = []
    for file in handover.list_files(root, odd.append):
        sys.stdout.write(json.dumps(asdict(file)) + "\n")
    sys.stdout.flush()
    for path in odd:
        sys.stderr.write(f"error: {path!r} cannot be handed over: a link, or an odd name\n")
    if odd:
        raise typer.Exit(EXIT_FAILED)


@app.command("send")
def send(
    path: Annotated[Path, typer.Argument(help="The file.")],
    root: Root = None,
    offset: Annotated[int, typer.Option(min=0, help="Where the part begins.")] = 0,
    length: Annotated[
        int | None, typer.Option(min=0, help="How long it is; without it, up to the file's end.")
    ] = None,
) -> None:
    """
    Write a file, or a part of it, to standard output: its bytes and nothing else.

    The SHA-256 of these bytes goes to standard error, as one JSON object, so that a
    part which was spoilt on the way is found before the whole file is here.
    """
    sha256 = handover.send_file(path, sys.stdout.buffer, offset=offset, length=length, root=root)
    sys.stderr.write(json.dumps({"sha256": sha256}) + "\n")


@app.command("receive")
def receive(
    path: Annotated[Path, typer.Argument(help="The file; its folders are made.")],
    sha256: Annotated[str, typer.Option(help="The hash that its bytes must have.")],
    root: Root = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="How many bytes there are; without it, up to the end, which not every connection "
            "into a pod can tell.",
        ),
    ] = None,
) -> None:
    """Take a file from standard input; it appears when it is whole, verified and on the disk."""
    held = handover.receive_file(path, sys.stdin.buffer, sha256, root, size=size)
    sys.stdout.write(json.dumps(asdict(held)) + "\n")


@app.command("keep")
def keep(
    idle_minutes: Annotated[
        float, typer.Option(min=0, help="End when nobody has used the pod for so long.")
    ] = 10.0,
) -> None:
    """Keep the pod while somebody lists, sends or receives in it; it ends by itself."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    handover.keep(60 * idle_minutes, stop)


def main() -> None:
    """Run `grace files ...` and exit."""
    try:
        app(args=sys.argv[2:], prog_name="grace files")
    except GraceError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(exit_code(error))
