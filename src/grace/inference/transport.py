"""
JSON over HTTP, with every failure translated once into Grace's errors.

All dialects send through this. It knows nothing of models; it never retries
(the engine does), never logs a body, and never puts a key or a prompt into a
message (see `echoes`).
"""

import asyncio
import json
import math
import os
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from pydantic import JsonValue
from yarl import URL

from grace.errors import BadReply, GarbledReply, QueryRejected, ServerUnavailable, UsageError
from grace.inference.echoes import Echoes
from grace.inference.usage import Usage

# 424 is how TGI reports that generating failed: its worker, not the query.
_TRANSIENT_STATUS = frozenset({408, 409, 424, 425, 429, 500, 502, 503, 504, 529})
_CONNECT_SECONDS = 10
# What is fetched is small: who the server is, what it counts.
_GET_SECONDS = 60.0
_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


class Transport:
    """
    One server's base address and a pool of connections to it.

    Args:
        base_url: Scheme, host, port and an optional path; no trailing `/v1`.

        api_key: Sent as a bearer token, or None.

        key_variable: The environment variable that the key comes from; only
            its name is used, to say what to set when the server wants a key.

        timeout_seconds: For one request, from asking for a connection to the
            reply's last byte.

        connections: Most connections at a time.

        max_reply_bytes: A longer reply is refused.

    Attributes:
        usage: What requests added up to.

        doubts: How often a query may have reached another server than those
            before: it opened a connection, or it failed otherwise than by a
            server that is busy (429). What is fetched does not count.

    Raises:
        UsageError: The address is not an http or https URL, or the key cannot
            be sent.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        key_variable: str | None = None,
        timeout_seconds: float = 600,
        connections: int = 64,
        max_reply_bytes: int = 256 * 1024 * 1024,
    ) -> None:
        self.base_url = check_url(base_url).rstrip("/").removesuffix("/v1")
        self._api_key = (api_key or "").strip()
        self._key_variable = key_variable
        if not (self._api_key.isascii() and self._api_key.isprintable()):
            raise UsageError(
                f"the key{self._from_variable()} holds characters that no key has; set it again"
            )
        # sock_connect, not connect: the latter also counts the wait for a free
        # connection, and would fail queries that merely queue behind long ones.
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=_CONNECT_SECONDS)
        self._short_timeout = aiohttp.ClientTimeout(
            total=min(timeout_seconds, _GET_SECONDS), sock_connect=_CONNECT_SECONDS
        )
        self._connections = connections
        self._max_reply_bytes = max_reply_bytes
        self._session: aiohttp.ClientSession | None = None
        self.usage = Usage()
        self.doubts = 0
        # Not trust_env: aiohttp would look for a proxy and a netrc file again for every
        # request, in two threads, and fail where a netrc file names a host that has a key.
        self._proxy, self._proxy_headers = _proxy_for(self.base_url)
        self._echoes = Echoes(self._api_key, *(self._proxy_headers or {}).values())

    async def get(self, path: str) -> JsonValue:
        """
        Fetch JSON.

        Raises:
            ServerUnavailable, QueryRejected, BadReply: See `InferenceClient`.
        """
        return await self._request("GET", path, None)

    async def get_text(self, path: str) -> str:
        """
        Fetch text, such as metrics.

        Raises:
            ServerUnavailable, QueryRejected, BadReply: See `InferenceClient`.
        """
        return (await self._exchange("GET", path, None)).decode("utf-8", "replace")

    async def post(self, path: str, payload: Mapping[str, JsonValue]) -> JsonValue:
        """
        Send JSON and return the reply's JSON.

        Raises:
            ServerUnavailable, QueryRejected, BadReply: See `InferenceClient`.
        """
        return await self._request("POST", path, payload)

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # The key must not follow a redirect to another host: redirects are refused.
            headers = {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}
            if self._proxy_headers and not self.base_url.startswith("https:"):
                # Without a tunnel, a request is the proxy's own.
                headers |= self._proxy_headers
            # Made here: aiohttp's own is made when it is imported, and would not see a
            # SSL_CERT_FILE that was set since.
            trust = ssl.create_default_context() if self.base_url.startswith("https:") else True
            tracing = aiohttp.TraceConfig()
            tracing.on_connection_create_end.append(self._connection_opened)
            self._session = aiohttp.ClientSession(
                trace_configs=[tracing],
                timeout=self._timeout,
                headers=headers,
                connector=aiohttp.TCPConnector(limit=self._connections, ssl=trust),
            )
        return self._session

    async def _request(
        self, method: str, path: str, payload: Mapping[str, JsonValue] | None
    ) -> JsonValue:
        body = await self._exchange(method, path, payload)
        try:
            # Python's parser would accept NaN and Infinity, which are not JSON.
            parsed: JsonValue = json.loads(body, parse_constant=_refuse_constant)
        except _NotANumber as error:
            raise BadReply(f"{path}: the reply has {error} for a number") from error
        except RecursionError as error:
            raise BadReply(f"{path}: the reply is nested too deeply") from error
        except ValueError as error:
            # A page of a proxy, or the first part of a reply: the server would not write it.
            if method == "POST":
                self.doubts += 1
            raise GarbledReply(
                f"{path}: the reply is not JSON: {self._echoes.shown(body)}"
            ) from error
        return parsed

    async def _connection_opened(
        self, _: aiohttp.ClientSession, request: SimpleNamespace, __: object
    ) -> None:
        if request.trace_request_ctx == "POST":
            self.doubts += 1

    async def _exchange(
        self, method: str, path: str, payload: Mapping[str, JsonValue] | None
    ) -> bytes:
        try:
            return await self._send(method, path, payload)
        except ServerUnavailable as error:
            if method == "POST" and not isinstance(error, _Busy):
                self.doubts += 1
            raise

    async def _send(self, method: str, path: str, payload: Mapping[str, JsonValue] | None) -> bytes:
        self.usage.requests += 1
        limit = self._timeout if method == "POST" else self._short_timeout
        data = None if payload is None else _ENCODER.encode(payload).encode()
        if payload is not None:
            self._echoes.sent(payload)
        try:
            async with self._open().request(
                method,
                f"{self.base_url}{path}",
                data=data,
                headers={"Content-Type": "application/json"} if data is not None else None,
                allow_redirects=False,
                proxy=self._proxy,
                proxy_headers=self._proxy_headers,
                timeout=limit,
                trace_request_ctx=method,
            ) as reply:
                body = await self._read(reply)
                status = reply.status
                retry_after = reply.headers.get("Retry-After")
        except aiohttp.ConnectionTimeoutError as error:
            raise ServerUnavailable(f"{path}: no connection within {_CONNECT_SECONDS} s") from error
        except TimeoutError as error:
            raise ServerUnavailable(f"{path}: no reply within {limit.total:g} s") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise ServerUnavailable(
                f"{path}: its certificate is not trusted ({_why_not_trusted(error)}), so nothing was "
                "sent. If you trust its authority, name a file with that authority's certificate: "
                "SSL_CERT_FILE=PATH"
            ) from error
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            if isinstance(error, aiohttp.ClientConnectorError):
                raise ServerUnavailable(
                    f"{path}: nothing answers there ({_reason(error)}); "
                    "is the server running, and the address right?"
                ) from error
            reason = self._echoes.shown(str(error)) or type(error).__name__
            raise ServerUnavailable(f"{path}: {reason}") from error
        # Messages end up in tables, which must not depend on where the server was.
        if status in _TRANSIENT_STATUS:
            kind = _Busy if status == 429 else ServerUnavailable
            raise kind(
                f"{path}: HTTP {status}: {self._echoes.shown(body)}",
                _retry_after_seconds(retry_after),
            )
        if status != 200:
            raise QueryRejected(
                f"{path}: HTTP {status}: {self._refusal(status)}{self._echoes.shown(body)}", status
            )
        if self._echoes.hold_a_key(body):
            # It would be kept as a response. Cut out, it would be no response of the model's.
            raise BadReply(f"{path}: the reply repeats the key; nothing of it is kept")
        return body

    async def _read(self, reply: aiohttp.ClientResponse) -> bytes:
        chunks = bytearray()
        async for chunk in reply.content.iter_chunked(1 << 16):
            chunks += chunk
            if len(chunks) > self._max_reply_bytes:
                raise BadReply(f"{reply.url.path}: the reply exceeds {self._max_reply_bytes} bytes")
        return bytes(chunks)

    def _refusal(self, status: int) -> str:
        if 300 <= status < 400:
            return "redirects are not followed; give the final address. "
        if status not in {401, 403}:
            return ""
        if self._api_key:
            return f"the server refuses the key{self._from_variable()}. "
        return f"the server wants a key; set {self._key_variable or 'the variable that holds it'}. "

    def _from_variable(self) -> str:
        return f" in {self._key_variable}" if self._key_variable else ""


def check_url(url: str) -> str:
    """
    Return a server's address if it is usable.

    Raises:
        UsageError: It is not an http or https URL, or holds a password or a
            query, either of which may be a key and is not shown.
    """
    if "@" in url:
        raise UsageError("--endpoint holds a user name or password; give the key by a variable")
    if "?" in url or "#" in url:
        raise UsageError(
            "--endpoint holds a query (a part after '?' or '#'); give the address alone, and a key "
            "by a variable"
        )
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(f"--endpoint is {url!r}; expected a URL such as http://127.0.0.1:8000")
    return url


def _proxy_for(url: str) -> tuple[URL | None, Mapping[str, str] | None]:
    """Return the proxy that the environment names for an address, and what opens it."""
    parts = urlsplit(url)
    named = getproxies().get(parts.scheme)
    if not named or proxy_bypass(parts.netloc):
        return None, None
    proxy = URL(named)
    if proxy.user is None:
        return proxy, None
    login = aiohttp.encode_basic_auth(proxy.user, proxy.password or "")
    return proxy.with_user(None), {"Proxy-Authorization": login}


class _Busy(ServerUnavailable):
    """A server that asks for patience is the same one as before."""


def _reason(error: aiohttp.ClientConnectorError) -> str:
    # asyncio's own text has the address; errors of name services have no number of the system.
    number = error.os_error.errno or 0
    return os.strerror(number) if number > 0 else str(error.os_error.strerror or error.os_error)


class _NotANumber(ValueError):
    """NaN or an infinity, which Python's parser would take for JSON."""


def _why_not_trusted(error: aiohttp.ClientConnectorCertificateError) -> str:
    reason = error.certificate_error
    return str(getattr(reason, "verify_message", "") or reason)


def _refuse_constant(name: str) -> float:
    raise _NotANumber(name)


def _retry_after_seconds(value: str | None) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
