"""`grace serve`: an embedded model server for other programs, or in a pod of its own."""

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import Annotated

import typer

from grace.catalogue.spec import load_catalogue
from grace.catalogue.weights import ensure_weights
from grace.cli.models import shown_progress
from grace.cli.screen import err, out
from grace.cli.signals import interruptible
from grace.errors import ServingError, UsageError
from grace.serving.embedded import LOOPBACK, EmbeddedSettings, embedded_server


def serve(
    model: Annotated[str, typer.Argument(help="A key of `grace models list`.")] = "smollm2-135m",
    *,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. By default, this machine only; 0.0.0.0 lets in everybody "
            "who reaches it, without a key: in a container behind a network policy, nowhere else."
        ),
    ] = LOOPBACK,
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any free one.")] = 0,
    slots: Annotated[int, typer.Option(min=1, max=32, help="Queries side by side.")] = 1,
    context: Annotated[int, typer.Option(min=128, help="Tokens of prompt and answer.")] = 2048,
    threads: Annotated[int, typer.Option(min=0, help="Compute threads; 0: the idle cores.")] = 0,
    catalogue: Annotated[Path | None, typer.Option(help="A catalogue file of your own.")] = None,
) -> None:
    """Start a model server here and keep it until Ctrl-C or SIGTERM."""
    with interruptible("stopped before the model server was ready"):
        _start(
            model,
            EmbeddedSettings(slots=slots, context=context, threads=threads, host=host, port=port),
            catalogue,
        )


def _start(model: str, settings: EmbeddedSettings, catalogue: Path | None) -> None:
    spec = load_catalogue(catalogue).get(model)
    if spec.server != "llamacpp":
        raise UsageError(
            f"{model} is served by {spec.server}; `grace serve` starts llama.cpp models only"
        )
    with shown_progress() as progress:
        weights = ensure_weights(spec, None, progress)
    asyncio.run(_serve(weights.path, model, settings))


async def _serve(path: Path, model: str, settings: EmbeddedSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    serving = asyncio.ensure_future(_keep(path, model, settings))
    stopping = asyncio.ensure_future(stop.wait())
    # A large model takes minutes to load: a signal ends that as well.
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if stop.is_set():
        serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


async def _keep(path: Path, model: str, settings: EmbeddedSettings) -> None:
    async with embedded_server(path, model, settings) as server:
        out.print(server.url, markup=False)
        err.print(
            f"serving {model}; use it with: grace run --endpoint {server.url} (Ctrl-C ends it)",
            markup=False,
        )
        await server.process.wait()
        raise ServingError(f"the model server ended by itself (status {server.process.returncode})")
