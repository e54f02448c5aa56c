"""
The door of the gateway: who may ask, and how much may be sent.

An ASGI application around another one. Token, host, size, media type and JSON
are checked before the inner application sees a request, and a request whose
client has left is given up. Knows nothing of models.
"""

import asyncio
import hmac
import ipaddress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from grace.serving.gateway.gate import Gate, GatewayLimits
from grace.serving.gateway.problems import MEDIA_TYPE, Kind, Refusal, RefusedRequest, refuse
from grace.strict_json import parse_json

ASKING_PATH = "/v1/distributions"
# What a probe or a browser asks for, neither of which can send a token.
OPEN_PATHS = ("/health", "/health/ready", "/docs", "/openapi.json")
_DISCARDED_BYTES = 16 * 1024 * 1024
_HEADERS = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]


class Guard:
    """
    Lets requests through to an application, or refuses them.

    Args:
        app: The inner application.

        limits: Size and time of bodies.

        gate: Counts the requests that are here.

        token: What clients must show; None lets everyone on this machine in.
    """

    def __init__(
        self, app: ASGIApp, limits: GatewayLimits, gate: Gate, token: str | None = None
    ) -> None:
        self._app = app
        self._limits = limits
        self._gate = gate
        self._token = token.encode() if token is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *_HEADERS]}
            await send(message)

        try:
            headers = Headers(scope=scope)
            self._check_client(scope["path"], headers)
            if scope["path"] != ASKING_PATH or scope["method"] != "POST":
                await self._app(scope, receive, send_safely)
                return
            with self._gate.arrival():
                _check_media_type(headers)
                body = await self._read(headers, receive)
                _check_json(body)
                await _answer_while_connected(self._app, scope, body, receive, send_safely)
        except RefusedRequest as refused:
            await send_refusal(refused.refusal, send_safely)

    def _check_client(self, path: str, headers: Headers) -> None:
        if self._token is None:
            # A web page elsewhere may have made its own host name lead to this machine.
            host = headers.get("host", "")
            name = host if host.endswith("]") else host.rpartition(":")[0] or host
            if not is_loopback(name.lower().strip("[]")):
                raise RefusedRequest(
                    refuse(
                        Kind.WRONG_HOST,
                        "without a token, this gateway answers on this machine only",
                        remedy="Ask for http://127.0.0.1, or start it with --token-env.",
                    )
                )
            return
        if path in OPEN_PATHS or path.startswith("/docs/"):
            return
        given = headers.getlist("authorization")
        scheme, _, shown = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        right = hmac.compare_digest(shown.strip().encode("utf-8", "replace"), self._token)
        if scheme.lower() != "bearer" or not right:
            wrong = ', error="invalid_token"' if given else ""
            raise RefusedRequest(
                refuse(
                    Kind.UNAUTHORISED,
                    "the token is wrong" if given else "the request has no token",
                    remedy="Send the header `Authorization: Bearer TOKEN`.",
                    headers={"WWW-Authenticate": f'Bearer realm="grace"{wrong}'},
                )
            )

    async def _read(self, headers: Headers, receive: Receive) -> bytes:
        most = self._limits.max_body_bytes
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > max(most, _DISCARDED_BYTES):
            raise self._too_large()
        body = bytearray()
        seen = 0
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        break
                    chunk = message.get("body", b"")
                    seen += len(chunk)
                    if seen <= most:
                        body += chunk
                    elif seen > _DISCARDED_BYTES:
                        break
                    # What is a little too large is read to its end, so that its sender can
                    # read why it is refused.
                    if not message.get("more_body", False):
                        break
        except TimeoutError as error:
            raise RefusedRequest(
                refuse(
                    Kind.BODY_TIMEOUT,
                    f"the body was not here after {self._limits.body_seconds:g} s",
                    remedy="Send the whole body at once.",
                )
            ) from error
        if seen > most:
            raise self._too_large()
        return bytes(body)

    def _too_large(self) -> RefusedRequest:
        return RefusedRequest(
            refuse(
                Kind.BODY_TOO_LARGE,
                f"the body is larger than {self._limits.max_body_bytes} bytes",
                remedy="Send a shorter prompt or fewer candidates.",
            )
        )


def is_loopback(host: str) -> bool:
    """
    Tell whether only this machine can reach a host.

    >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
    (True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def send_refusal(refusal: Refusal, send: Send) -> None:
    """Send a problem document as the whole reply."""
    body = refusal.body()
    headers = {
        "content-type": MEDIA_TYPE,
        "content-length": str(len(body)),
        **{name.lower(): value for name, value in refusal.headers.items()},
    }
    await send(
        {
            "type": "http.response.start",
            "status": refusal.kind.status,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def _answer_while_connected(
    app: ASGIApp, scope: Scope, body: bytes, receive: Receive, send: Send
) -> None:
    """Run the application with a body that is here; stop it when the client leaves."""
    begun = False
    pending = [body]
    left = asyncio.Event()

    async def replay() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send_once_begun(message: Message) -> None:
        nonlocal begun
        begun = True
        await send(message)

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()
        if not begun:
            answering.cancel()

    try:
        async with asyncio.TaskGroup() as group:
            answering = group.create_task(_run(app, scope, replay, send_once_begun))
            watching = group.create_task(watch())
            answering.add_done_callback(lambda _: watching.cancel())
    except BaseExceptionGroup as group_error:
        raise group_error.exceptions[0] from group_error


async def _run(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


def _check_media_type(headers: Headers) -> None:
    given = headers.get("content-type", "")
    kind = given.partition(";")[0].strip().lower()
    coding = headers.get("content-encoding", "identity").strip().lower()
    if kind == "application/json" and coding in {"identity", ""}:
        return
    what = f"the body is {kind!r}" if given else "the body's type is not given"
    if kind == "application/json":
        what = f"the body is compressed ({coding!r})"
    raise RefusedRequest(
        refuse(
            Kind.MEDIA_TYPE,
            f"{what[:120]}; expected application/json, not compressed",
            remedy="Send the header `Content-Type: application/json`.",
        )
    )


def _check_json(body: bytes) -> None:
    """Check that a body is JSON in the narrow sense; Python would also take other encodings."""
    try:
        parse_json(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RefusedRequest(
            refuse(
                Kind.NOT_JSON,
                f"the body cannot be read: {reason[:200]}",
                remedy="Send one JSON object in UTF-8.",
            )
        ) from error
