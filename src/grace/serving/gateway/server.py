"""
Running the gateway: address, token, signals, and a last answer for everyone.

SIGTERM or Ctrl-C closes the door: what is being answered is finished, then the
process ends. A second signal ends it at once.
"""

import asyncio
import contextlib
import math
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from grace.errors import RunInterrupted, ServingError, UsageError
from grace.keys import is_variable, read_key
from grace.serving.gateway.guard import is_loopback

SHORTEST_TOKEN = 16
_GRACE_SECONDS = 5
_TOKEN = re.compile(r"[\x21-\x7e]+")


class _Server(uvicorn.Server):
    """Uvicorn without its own signal handlers, which would end the process by the signal."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `serve`."""
        yield


def check_exposure(host: str, token: str | None) -> None:
    """
    Refuse to be reachable from elsewhere without a token.

    Raises:
        UsageError: It would be.
    """
    if token is None and not is_loopback(host):
        raise UsageError(
            f"--host is {host!r}, which other machines can reach, and there is no token; set one "
            "with --token-env NAME or --token-file PATH, or leave --host at 127.0.0.1"
        )


def read_token(variable: str | None, path: Path | None) -> str | None:
    """
    Return the token that clients must show, or None if none is asked for.

    Args:
        variable: The environment variable that holds it, or, with `_FILE` behind
            its name, names a file that does.

        path: The file that holds it, and nothing else.

    Raises:
        UsageError: Both are given, or the token is missing or unfit. The token
            itself is never shown.
    """
    if variable is not None and path is not None:
        raise UsageError("--token-env and --token-file are both given; keep one of them")
    if variable is not None:
        if not is_variable(variable):
            raise UsageError("--token-env expects the name of a variable, never a token itself")
        source, token = f"the variable {variable}", read_key(variable) or ""
        remedy = f"set {variable}"
    elif path is not None:
        source, remedy = str(path), "write the token into it"
        try:
            token = path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise UsageError(f"--token-file {path}: cannot be read: {reason}") from error
    else:
        return None
    if not token:
        raise UsageError(f"{source} holds no token; {remedy}")
    if not _TOKEN.fullmatch(token):
        raise UsageError(f"{source}: a token is visible ASCII characters without spaces")
    if len(token) < SHORTEST_TOKEN:
        raise UsageError(
            f"{source}: the token has {len(token)} characters; expected at least {SHORTEST_TOKEN}, "
            "such as `openssl rand -hex 32` makes"
        )
    return token


def bind(host: str, port: int) -> socket.socket:
    """
    Return a bound socket, which does not listen yet; port 0 takes any free one.

    Raises:
        ServingError: The address cannot be had.
    """
    listener: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise ServingError(
            f"{host}:{port} cannot be listened on ({error.strerror or error}); choose another "
            "--host or --port, or port 0 for any free one"
        ) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the address of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make_server(app: ASGIApp, deadline_seconds: float) -> uvicorn.Server:
    """
    Return a server for the application; it is not started.

    Args:
        app: The gateway.

        deadline_seconds: Most time for one answer; leaving takes a little more.
    """
    return _Server(
        uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=math.ceil(deadline_seconds) + _GRACE_SECONDS,
        )
    )


async def serve(
    server: uvicorn.Server, listener: socket.socket, message: Callable[[str], None]
) -> None:
    """
    Serve until SIGTERM or SIGINT, and finish what was begun.

    Args:
        server: See `make_server`.

        listener: Where.

        message: Hears what happens.

    Raises:
        RunInterrupted: A second signal came; answers were cut off.
    """

    def stop() -> None:
        if server.should_exit:
            server.force_exit = True
            return
        server.should_exit = True
        message("stopping: what is being answered is finished first (again: stop at once)")

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        await server.serve(sockets=[listener])
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    if server.force_exit:
        raise RunInterrupted("stopped at once; answers that were under way were cut off")
