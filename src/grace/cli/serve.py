"""`grace serve`: an embedded model server for other programs on this machine."""

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer

from grace.catalogue.spec import load_catalogue
from grace.catalogue.weights import ensure_weights
from grace.cli.models import shown_progress
from grace.cli.screen import err, out
from grace.errors import ServingError, UsageError
from grace.serving.embedded import EmbeddedSettings, embedded_server


def serve(
    model: Annotated[str, typer.Argument(help="A key of `grace models list`.")] = "smollm2-135m",
    *,
    port: Annotated[int, typer.Option(help="Port on the loopback interface; 0: any free one.")] = 0,
    slots: Annotated[int, typer.Option(min=1, max=32, help="Queries side by side.")] = 1,
    context: Annotated[int, typer.Option(min=128, help="Tokens of prompt and answer.")] = 2048,
    threads: Annotated[int, typer.Option(min=0, help="Compute threads; 0: the idle cores.")] = 0,
    catalogue: Annotated[Path | None, typer.Option(help="A catalogue file of your own.")] = None,
) -> None:
    """Start a model server here and keep it until Ctrl-C."""
    spec = load_catalogue(catalogue).get(model)
    if spec.server != "llamacpp":
        raise UsageError(
            f"{model} is served by {spec.server}; `grace serve` starts llama.cpp models only"
        )
    with shown_progress() as progress:
        weights = ensure_weights(spec, None, progress)
    settings = EmbeddedSettings(slots=slots, context=context, threads=threads, port=port)
    asyncio.run(_serve(weights.path, model, settings))


async def _serve(path: Path, model: str, settings: EmbeddedSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with embedded_server(path, model, settings) as server:
        out.print(server.url, markup=False)
        err.print(
            f"serving {model}; use it with: grace run --endpoint {server.url} (Ctrl-C ends it)",
            markup=False,
        )
        waits = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(server.process.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        died = not stop.is_set()
        for wait in waits:
            wait.cancel()
        if died:
            raise ServingError(
                f"the model server ended by itself (status {server.process.returncode})"
            )
