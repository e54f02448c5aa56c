"""
Requests to a cluster's API: bounded in time, repeated while that can help, and translated once.

It knows HTTP and credentials, and nothing of what objects mean.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import aiohttp
import stamina
from pydantic import JsonValue

from grace.cluster.client.connection import Access, open_session
from grace.cluster.client.faults import Refusal, as_error, read_refusal
from grace.cluster.client.objects import Manifest, ObjectId
from grace.errors import ClusterDenied, ClusterError, ClusterUnavailable

APPLY = "application/apply-patch+yaml"
JSON = "application/json"

Query = Sequence[tuple[str, str]]

_CONNECT_SECONDS = 10
_REQUEST_SECONDS = 60
_LONGEST_LINE = 16 * 2**20

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Patience:
    """
    How often a request is sent while the API is unavailable.

    Attributes:
        attempts: At most.

        seconds: Longest time for all attempts.

        first_wait_seconds: Before the second; it doubles, and is spread.

        longest_wait_seconds: Between two.
    """

    attempts: int = 8
    seconds: float = 90
    first_wait_seconds: float = 0.25
    longest_wait_seconds: float = 15

    async def __call__(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """
        Return what *call* gives, trying again while the API is unavailable.

        Raises:
            ClusterUnavailable: It still is after all attempts.
        """
        again = stamina.AsyncRetryingCaller(
            attempts=self.attempts,
            timeout=self.seconds,
            wait_initial=self.first_wait_seconds,
            wait_max=self.longest_wait_seconds,
            wait_jitter=self.first_wait_seconds,
        )
        return await again(_wait_for, call)

    def wait_seconds(self, failures: int) -> float:
        """Return how long to wait after so many failures in a row."""
        longest = self.first_wait_seconds * 2.0 ** min(failures, 16)
        # Spread, so that many clients do not come back together.
        return min(longest, self.longest_wait_seconds) * random.uniform(0.5, 1.0)  # noqa: S311 -- no secret


def _wait_for(error: Exception) -> bool | float:
    if not isinstance(error, ClusterUnavailable):
        return False
    # What the API asks for comes before our own schedule.
    return True if error.retry_after_seconds is None else error.retry_after_seconds


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API answered: a status and a document."""

    status: int
    document: JsonValue
    refusal: Refusal | None = None


class Api:
    """
    One cluster's API.

    Args:
        access: How to reach it.

        renew: Gives fresh credentials, when those of *access* are no longer
            accepted; None if there are none.

        patience: How often requests are repeated.

        request_seconds: Longest time for one request.

    Attributes:
        access: How it is reached now.

        patience: As given.

        ahead: How far the cluster's clock is ahead of this machine's.
    """

    def __init__(
        self,
        access: Access,
        *,
        renew: Callable[[], Awaitable[Access]] | None = None,
        patience: Patience | None = None,
        request_seconds: float = _REQUEST_SECONDS,
    ) -> None:
        self.access = access
        self.patience = patience or Patience()
        self.ahead = timedelta()
        self._renew = renew
        self._renewing = asyncio.Lock()
        self._seconds = request_seconds
        self._session: aiohttp.ClientSession | None = None

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        target: ObjectId | None = None,
        query: Query = (),
        body: Manifest | None = None,
        content_type: str = JSON,
        accepts: Callable[[Refusal], bool] = lambda _: False,
    ) -> Answer:
        """
        Send a request that may be repeated, and return its answer.

        Args:
            method: Of HTTP.

            path: Of the API.

            doing: What it is for, for messages: `apply Job x`.

            target: The object that it is about.

            query: Parameters.

            body: What is sent.

            content_type: Of what is sent.

            accepts: Which refusals are returned instead of raised.

        Raises:
            ClusterError: The API refuses, or is not available.
        """
        data = None if body is None else json.dumps(body, allow_nan=False).encode()

        async def once() -> Answer:
            answer = await self._once(method, path, doing, query, data, content_type)
            if answer.refusal is not None and not accepts(answer.refusal):
                raise as_error(answer.refusal, doing, target)
            return answer

        return await self.patience(once)

    async def _once(
        self,
        method: str,
        path: str,
        doing: str,
        query: Query,
        data: bytes | None,
        content_type: str,
    ) -> Answer:
        timeout = aiohttp.ClientTimeout(total=self._seconds, sock_connect=_CONNECT_SECONDS)
        headers = {"Accept": JSON} | ({"Content-Type": content_type} if data is not None else {})
        async with self._responding(
            method, path, doing, query, timeout, data=data, headers=headers
        ) as response:
            body = await response.read()
            status, given = response.status, response.headers
        self._compare_clocks(given.get("Date", ""))
        if status >= 400:
            return Answer(status, None, read_refusal(status, body, given))
        if status >= 300:
            raise ClusterError(f"cannot {doing}: {self.access.server} redirects; expected an API")
        try:
            return Answer(status, json.loads(body))
        except ValueError as error:
            raise ClusterUnavailable(f"cannot {doing}: the answer is cut off") from error

    @asynccontextmanager
    async def stream(
        self, path: str, *, doing: str, query: Query = (), idle_seconds: float | None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """
        Read an answer line by line while it arrives.

        Args:
            path: Of the API.

            doing: What it is for, for messages.

            query: Parameters.

            idle_seconds: How long nothing may arrive.

        Raises:
            ClusterError: The API refuses.

            ClusterUnavailable: The stream broke off, before or in its middle.
        """
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_SECONDS, sock_read=idle_seconds
        )
        async with self._responding("GET", path, doing, query, timeout) as response:
            if response.status >= 400:
                body = await response.content.read(65_536)
                raise as_error(read_refusal(response.status, body, response.headers), doing)
            yield _lines(response.content)

    @asynccontextmanager
    async def socket(
        self, path: str, *, doing: str, query: Query, protocols: Sequence[str]
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse[Any]]:
        """
        Open a websocket.

        Raises:
            ClusterError: The API refuses.

            ClusterUnavailable: The connection could not be made, or broke.
        """
        for trial in (1, 2):
            stale = self.access
            try:
                async with (
                    self._translated(doing),
                    self._open().ws_connect(
                        f"{stale.server}{path}",
                        params=query,
                        protocols=protocols,
                        headers=dict(stale.headers),
                        proxy=stale.proxy,
                        server_hostname=stale.server_name,
                        heartbeat=30,
                        timeout=aiohttp.ClientWSTimeout(ws_close=10),
                        max_msg_size=2**24,
                    ) as socket,
                ):
                    yield socket
                    return
            except aiohttp.WSServerHandshakeError as error:
                if error.status == 401 and trial == 1 and await self._renewed(stale):
                    continue
                # The API's own words are in a body that a refused upgrade does not give away.
                raise as_error(Refusal(error.status, message=error.message), doing) from error

    @asynccontextmanager
    async def _responding(
        self,
        method: str,
        path: str,
        doing: str,
        query: Query,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 -- aiohttp's own, per phase
        *,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        for trial in (1, 2):
            stale = self.access
            async with (
                self._translated(doing),
                self._open().request(
                    method,
                    f"{stale.server}{path}",
                    params=query,
                    data=data,
                    headers={**(headers or {}), **stale.headers},
                    proxy=stale.proxy,
                    server_hostname=stale.server_name,
                    timeout=timeout,
                    # Credentials must not follow a redirect to another host.
                    allow_redirects=False,
                ) as response,
            ):
                if response.status == 401 and trial == 1 and await self._renewed(stale):
                    continue
                yield response
                return

    @asynccontextmanager
    async def _translated(self, doing: str) -> AsyncIterator[None]:
        try:
            yield
        except aiohttp.ClientConnectorCertificateError as error:
            raise ClusterError(
                f"cannot {doing}: the certificate of {self.access.server} is not the one that the "
                "kubeconfig expects; get a new kubeconfig from the cluster"
            ) from error
        except aiohttp.WSServerHandshakeError:
            raise
        except TimeoutError as error:
            raise ClusterUnavailable(f"cannot {doing}: {self.access.server} is silent") from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise ClusterUnavailable(
                f"cannot {doing}: the connection to {self.access.server} failed; is the cluster "
                "up, and this machine on its network? `kubectl get nodes` must answer"
            ) from error

    def _compare_clocks(self, date: str) -> None:
        with suppress(ValueError):
            ahead = parsedate_to_datetime(date) - datetime.now(UTC)
            # The header has whole seconds.
            self.ahead = ahead if abs(ahead) > timedelta(seconds=2) else timedelta()

    async def _renewed(self, stale: Access) -> bool:
        """Get new credentials, unless another request has just done so."""
        if self._renew is None:
            return False
        async with self._renewing:
            if self.access is stale:
                try:
                    self.access = await self._renew()
                except ClusterDenied:
                    return False
                # The old connections may have been made with another certificate.
                await self.aclose()
        return self.access.headers != stale.headers or self.access.tls is not stale.tls

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = open_session(self.access)
        return self._session


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    # Not readline: it fails for lines that are longer than its buffer.
    rest = b""
    async for chunk in content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
        if len(rest) > _LONGEST_LINE:
            yield rest
            rest = b""
    if rest:
        yield rest
