"""
`grace models`: which models there are, and their weights.

On a terminal, tables and progress bars; elsewhere plain lines, one for each
thing, that other programs can read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from grace.catalogue.lock import lock_models
from grace.catalogue.lockfile import default_lock_path
from grace.catalogue.progress import ProgressHook
from grace.catalogue.spec import ModelSpec, load_catalogue
from grace.catalogue.store import size_text
from grace.catalogue.weights import LocalWeights, ensure_weights, find_weights

app = typer.Typer(
    help="Which models there are; their licences, revisions and weights.", no_args_is_help=True
)

CatalogueOption = Annotated[
    Path | None,
    typer.Option(
        "--catalogue", metavar="FILE", help="Your own models, added to the built-in ones."
    ),
]
LockOption = Annotated[
    Path | None,
    typer.Option(
        "--lock",
        metavar="FILE",
        help="Locked revisions; by default models.lock.yaml in your configuration folder.",
    ),
]
StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store", metavar="DIR", help="Where weights are kept; by default under GRACE_CACHE."
    ),
]


@app.command("list")
def list_models(
    catalogue: CatalogueOption = None, lock: LockOption = None, store: StoreOption = None
) -> None:
    """Show every model: licence, server, GPUs, and whether its weights are here."""
    specs = load_catalogue(catalogue, lock=lock).models
    rows = [(spec, _presence(spec, find_weights(spec, store))) for spec in specs]
    console = Console()
    if console.is_terminal:
        console.print(_table(rows))
        return
    header = ("key", "repository", "licence", "gated", "prompt", "server", "gpus", "weights")
    lines = [header, *((*_cells(spec), presence) for spec, presence in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        typer.echo("  ".join(map(str.ljust, line, widths)).rstrip())


@app.command("show")
def show_model(
    key: Annotated[str, typer.Argument(help="The model's key, as `grace models list` has it.")],
    catalogue: CatalogueOption = None,
    lock: LockOption = None,
    store: StoreOption = None,
) -> None:
    """Show everything that the catalogue says of one model."""
    spec = load_catalogue(catalogue, lock=lock).get(key)
    facts = _facts(spec, find_weights(spec, store))
    console = Console()
    if not console.is_terminal:
        width = max(len(name) for name, _ in facts)
        for name, value in facts:
            typer.echo(f"{name.ljust(width)}  {value}")
        return
    table = Table(title=spec.title, title_justify="left", title_style="bold", show_header=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, Text(value))
    console.print(table)


@app.command("pull")
def pull_models(
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="Models to fetch.")],
    catalogue: CatalogueOption = None,
    lock: LockOption = None,
    store: StoreOption = None,
    *,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash again what is here already.")
    ] = False,
) -> None:
    """Fetch and verify weights; what was interrupted is continued."""
    known = load_catalogue(catalogue, lock=lock)
    specs = [known.get(key) for key in keys]
    for spec in specs:
        with shown_progress() as progress:
            found = ensure_weights(spec, store, progress, verify=verify)
        typer.echo(f"{spec.key}  {found.path}  sha256={found.sha256}")


@app.command("lock")
def lock_revisions(
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY...]", help="Models to lock; by default all on the hub."),
    ] = None,
    catalogue: CatalogueOption = None,
    lock: LockOption = None,
) -> None:
    """Record which commit of each hub repository is meant."""
    known = load_catalogue(catalogue, apply_lock=False)
    with shown_progress() as progress:
        locked = lock_models(known, keys or (), path=lock, progress=progress)
    for key, entry in locked.items():
        typer.echo(f"{key}  {entry.repository}@{entry.revision}")
    typer.echo(f"written to {lock or default_lock_path()}")


def _presence(spec: ModelSpec, found: LocalWeights | None) -> str:
    if spec.source is None:
        return "hosted"
    return "here" if found is not None else "-"


def _cells(spec: ModelSpec) -> tuple[str, ...]:
    gpus = " or ".join(str(option) for option in spec.gpus)
    return (
        spec.key,
        spec.repository or spec.endpoint or "-",
        spec.licence.id,
        "gated" if spec.gated else "-",
        spec.prompt_mode.value,
        spec.server,
        gpus or ("-" if spec.hosted else "CPU"),
    )


def _table(rows: list[tuple[ModelSpec, str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("Model", "Licence", "Served", "GPUs", "Weights"):
        table.add_column(name, header_style="bold", vertical="top")
    for spec, presence in rows:
        key, place, licence, gated, prompt, server, _ = _cells(spec)
        gpus = [str(option) for option in spec.gpus] or ["-" if spec.hosted else "CPU"]
        colour = {"here": "green", "hosted": "blue"}.get(presence, "dim")
        table.add_row(
            Text.assemble((key, "bold cyan"), "\n", (place, "dim")),
            Text.assemble(licence, "\n", (gated.replace("-", ""), "yellow")),
            Text.assemble(server, "\n", (prompt, "dim")),
            Text("\nor ".join(gpus)),
            Text(presence, colour),
        )
    return table


def _facts(spec: ModelSpec, found: LocalWeights | None) -> list[tuple[str, str]]:
    licence = spec.licence
    allowed = {"yes": "yes", "no": "no", "conditions": f"under conditions: {licence.conditions}"}
    facts = [
        ("key", spec.key),
        ("title", spec.title),
        ("repository", spec.repository or ""),
        ("revision", spec.revision or ("" if spec.pinned or spec.hosted else "not locked")),
        ("licence", f"{licence.name} ({licence.url})"),
        ("commercial use", allowed[licence.commercial_use]),
        ("gated", "yes: accept the licence on the hub first" if spec.gated else "no"),
        ("server", spec.server),
        ("endpoint", spec.endpoint or ""),
        ("name on server", spec.name_on_server),
        ("API key", f"from {spec.api_key_env}" if spec.api_key_env else ""),
        ("dtype", spec.dtype),
        ("quantisation", spec.quantisation or ""),
        ("context", f"{spec.context_length:,} tokens"),
        ("GPUs", " or ".join(str(option) for option in spec.gpus)),
        ("tensor parallel", str(spec.tensor_parallel) if spec.gpus else ""),
        ("CPU", f"{spec.cpu} cores" if spec.cpu else ""),
        ("memory", f"{spec.memory_gb:g} GB" if spec.memory_gb else ""),
        ("disk", f"{spec.disk_gb:g} GB" if spec.disk_gb else ""),
        ("prompt mode", spec.prompt_mode.value),
        ("system role", "yes" if spec.system_role else "no"),
        ("reasoning", _reasoning(spec)),
        ("answer prefix", spec.answer_prefix and repr(spec.answer_prefix)),
        ("answer separator", spec.answer_separator and repr(spec.answer_separator)),
        ("end of turn", spec.end_of_turn or ""),
        ("date in prompts", _date(spec)),
        ("JSON mode", spec.json_mode),
        ("LoRA on", spec.lora_base or ""),
        ("price", _price(spec)),
        ("weights", str(spec.source) if spec.source else ""),
        ("here", str(found.path) if found else ""),
        ("SHA-256", found.sha256 if found else ""),
        ("note", spec.note),
    ]
    return [(name, value) for name, value in facts if value]


def _reasoning(spec: ModelSpec) -> str:
    tags = spec.reasoning
    if tags is None:
        return ""
    opened = ", opened by the template" if tags.opened_by_template else ""
    return f"{tags.open} … {tags.close}, at most {tags.max_tokens:,} tokens{opened}"


def _date(spec: ModelSpec) -> str:
    date = spec.template_date
    return "" if date is None else f"{date.pinned}, where the template writes the current date"


def _price(spec: ModelSpec) -> str:
    if spec.price is None:
        return ""
    price = spec.price
    return (
        f"${price.input_usd:g} in, ${price.output_usd:g} out for a million tokens "
        f"({price.url}) {price.note}"
    ).rstrip()


class _PlainProgress:
    """Says each step in a line on standard error."""

    def began(self, step: str, total_bytes: int | None) -> None:
        """Say what begins."""
        size = "" if total_bytes is None else f" ({size_text(total_bytes)})"
        typer.echo(f"{step}{size}", err=True)

    def advanced(self, count_bytes: int) -> None:
        """Say nothing: a log is no place for a bar."""

    def noted(self, message: str) -> None:
        """Say it."""
        typer.echo(message, err=True)


class _BarProgress:
    """Shows each step as a bar."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._step: TaskID | None = None

    def began(self, step: str, total_bytes: int | None) -> None:
        """Replace the bar by one for this step."""
        if self._step is not None:
            self._bars.remove_task(self._step)
        self._step = self._bars.add_task(step, total=total_bytes)

    def advanced(self, count_bytes: int) -> None:
        """Move the bar."""
        if self._step is not None:
            self._bars.advance(self._step, count_bytes)

    def noted(self, message: str) -> None:
        """Say it above the bar."""
        self._bars.console.print(message)


@contextmanager
def shown_progress() -> Iterator[ProgressHook]:
    """Show the fetching of weights: a bar on a terminal, lines elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _PlainProgress()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        yield _BarProgress(bars)
