"""`grace gateway`: exact distributions for other programs, over HTTP."""

import asyncio
import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grace.catalogue.progress import ProgressHook
from grace.catalogue.spec import Catalogue, load_catalogue
from grace.catalogue.store import default_store
from grace.cli.models import shown_progress
from grace.cli.screen import err, out
from grace.errors import UsageError
from grace.pipeline.connection import ModelUse, connect_model, models_of
from grace.settings import FLAGS, RunSettings, make_settings

if TYPE_CHECKING:
    from grace.serving.gateway.gate import GatewayLimits

_EXTRA = ("fastapi", "uvicorn", "prometheus_client", "fastapi_offline")


def gateway(
    model: Annotated[str, typer.Option(help="A key of `grace models list`.")] = "smollm2-135m",
    *,
    endpoint: Annotated[
        str | None,
        typer.Option(help="Address of a running model server; without it, one is started here."),
    ] = None,
    server: Annotated[
        str, typer.Option(help="What the endpoint is: auto, llamacpp, vllm or tgi.")
    ] = "auto",
    api_key_env: Annotated[
        str,
        typer.Option(
            help="Environment variable with the endpoint's key, or, with _FILE behind its name, "
            "with the path of a file that holds it."
        ),
    ] = "GRACE_API_KEY",
    host: Annotated[
        str, typer.Option(help="Where to listen; other than this machine needs a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")
    ] = 8080,
    token_env: Annotated[
        str | None,
        typer.Option(help="Environment variable with the token that clients must show."),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token that clients must show.")
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Most requests that the model is asked at a time."),
    ] = None,
    waiting: Annotated[
        int, typer.Option(min=0, max=100_000, help="Most requests that wait beside those.")
    ] = 32,
    deadline: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Most seconds for one answer.")
    ] = 120.0,
    max_body: Annotated[
        int, typer.Option(min=1024, max=64 * 1024 * 1024, help="Most bytes of one request.")
    ] = 1024 * 1024,
    catalogue: Annotated[Path | None, typer.Option(help="A catalogue file of your own.")] = None,
    threads: Annotated[
        int, typer.Option(min=0, help="Compute threads of the embedded server; 0: the idle cores.")
    ] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Serve a toy model, whose numbers mean nothing.")
    ] = False,
) -> None:
    """Serve exact distributions over fixed answers by HTTP, until Ctrl-C."""
    _check_extra()
    from grace.serving.gateway.gate import GatewayLimits
    from grace.serving.gateway.server import check_exposure, read_token

    token = read_token(token_env, token_file)
    check_exposure(host, token)
    settings = make_settings(
        {
            "model": (model,),
            "endpoint": endpoint,
            "server": server,
            "api_key_env": api_key_env,
            "concurrency": concurrency,
            "catalogue": catalogue,
            "threads": threads,
            "dry_run": dry_run,
        },
        FLAGS,
    )
    known = load_catalogue(catalogue)
    (use,) = models_of(settings, known)
    limits = GatewayLimits(max_body_bytes=max_body, waiting=waiting, deadline_seconds=deadline)
    with shown_progress() as progress:
        asyncio.run(_serve(use, settings, known, limits, progress, (host, port), token))


async def _serve(
    use: ModelUse,
    settings: RunSettings,
    catalogue: Catalogue,
    limits: "GatewayLimits",
    progress: ProgressHook,
    address: tuple[str, int],
    token: str | None,
) -> None:
    from grace.serving.gateway.app import make_app
    from grace.serving.gateway.server import bind, make_server, serve, url_of
    from grace.serving.gateway.service import DistributionService, ServedModel

    listener = bind(*address)
    try:
        store = default_store()
        async with connect_model(
            use, settings, catalogue, store, progress, settings.endpoint
        ) as connection:
            model = ServedModel(
                key=use.key,
                mode=use.mode,
                convention=use.convention,
                system_role=settings.dry_run or catalogue.get(use.key).system_role,
                pinned=use.pinned,
            )
            service = DistributionService(connection.client, connection.server, model)
            bounds = replace(limits, concurrency=connection.concurrency)
            app = make_app(service, bounds, token=token)
            # From here on, whoever reads the address may ask at once.
            listener.listen()
            url = url_of(listener)
            out.print(url, markup=False)
            err.print(
                f"serving distributions of {use.key}; documentation: {url}/docs (Ctrl-C ends it)",
                markup=False,
            )
            server = make_server(app, limits.deadline_seconds)
            await serve(server, listener, lambda text: err.print(text, markup=False))
    finally:
        listener.close()


def _check_extra() -> None:
    # Importing FastAPI takes a second: it is done when it is known that it will be used.
    missing = [name for name in _EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"the gateway needs {', '.join(missing)}, not installed here; install 'grace[gateway]'"
        )
