"""
A gateway over the toy model, and a client that talks to it without a network.

`ask` calls the application in this loop; `serving_gateway` serves it on a real
socket, in a thread, for clients that are programs of their own.
"""

import asyncio
import functools
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Scope

from grace.inference.client import InferenceClient, NextTokenQuestion, ServerIdentity
from grace.inference.toy import ToyClient
from grace.serving.gateway.app import make_app
from grace.serving.gateway.gate import GatewayLimits
from grace.serving.gateway.server import bind, make_server, url_of
from grace.serving.gateway.service import DistributionService, ServedModel
from grace.studies.prompts import PromptMode

PATH = "/v1/distributions"
TOY_MODEL = ServedModel(key="toy", mode=PromptMode.CHAT, system_role=True, pinned=True)
TOY_SERVER = ServerIdentity("toy", "1", "toy", {"vocabulary": 1})
CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Is it so?"}],
    "candidates": ["yes", "no"],
}
TEXT: dict[str, Any] = {"prompt": "The sky is", "candidates": ["blue", "green"]}


def toy_service(
    client: InferenceClient | None = None, model: ServedModel = TOY_MODEL
) -> DistributionService:
    """A service on the toy, or on another client."""
    return DistributionService(client or ToyClient(), TOY_SERVER, model)


def toy_app(
    client: InferenceClient | None = None,
    *,
    token: str | None = None,
    model: ServedModel = TOY_MODEL,
    **limits: Any,
) -> ASGIApp:
    """An application on the toy, or on another client."""
    return make_app(toy_service(client, model), GatewayLimits(**limits), token=token)


@functools.cache
def plain_app(token: str | None = None) -> ASGIApp:
    """An application on the toy, for tests that leave no trace in it: making one takes time."""
    return toy_app(token=token)


class HeldToy(ToyClient):
    """The toy, which begins to answer and then waits until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()
        self.release = asyncio.Event()
        self.given_up = 0

    async def next_token_logprobs(
        self, questions: Sequence[NextTokenQuestion]
    ) -> list[dict[int, float]]:
        self.begun.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        return await super().next_token_logprobs(questions)


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


async def ask(
    app: ASGIApp,
    body: Any = None,
    *,
    method: str = "POST",
    path: str = PATH,
    headers: Mapping[str, str] | None = None,
    chunks: Sequence[bytes] | None = None,
    endless: bool = False,
    leave: asyncio.Event | None = None,
) -> Reply:
    """
    Send one request to an application and return its reply.

    Args:
        app: The application.

        body: Bytes, or what becomes JSON; None for no body.

        headers: Further headers; one of value "" is left out.

        chunks: The body in parts, without a length.

        endless: Whether more of the body is promised and never comes.

        leave: When set, the client hangs up.
    """
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    content = b"" if body is None else content
    sent = {
        "host": "127.0.0.1:8080",
        "content-type": "application/json",
        **({} if chunks is not None else {"content-length": str(len(content))}),
        **(headers or {}),
    }
    parts = list(chunks) if chunks is not None else [content]
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in sent.items() if value],
        "server": ("127.0.0.1", 8080),
        "client": ("127.0.0.1", 50000),
    }
    forever = asyncio.Event()
    messages: list[Message] = []

    async def receive() -> Message:
        if parts:
            part = parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": endless or bool(parts)}
        await (forever if endless or leave is None else leave).wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        messages.append(message)

    await app(scope, receive, send)
    if not messages:
        return Reply(0, {}, b"")
    return Reply(
        messages[0]["status"],
        {name.decode(): value.decode() for name, value in messages[0]["headers"]},
        b"".join(message.get("body", b"") for message in messages[1:]),
    )


@dataclass(frozen=True)
class Running:
    """A gateway on a real socket."""

    url: str
    server: uvicorn.Server
    loop: asyncio.AbstractEventLoop
    thread: threading.Thread

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@contextmanager
def serving_gateway(app: ASGIApp) -> Iterator[Running]:
    """Serve an application in a thread, on a free port."""
    listener = bind("127.0.0.1", 0)
    url = url_of(listener)
    server = make_server(app, 10)
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        await server.serve(sockets=[listener])

    listener.listen()
    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    while not loops:
        thread.join(0.001)
    try:
        yield Running(url, server, loops[0], thread)
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
