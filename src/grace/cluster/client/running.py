"""
Commands in running pods: bytes in, bytes out, and how the command ended.

The protocol is Kubernetes' own over a websocket: the first byte of each message
is the number of a channel. Its fifth version can close the command's input,
which the fourth cannot; so input needs an API of Kubernetes 1.30 or newer.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp

from grace.cluster.client.api import Api
from grace.cluster.client.faults import shown
from grace.cluster.client.objects import at, kind_of, parts, text
from grace.errors import ClusterError, ClusterUnavailable

_STDIN, _STDOUT, _STDERR, _STATUS, _CLOSE = 0, 1, 2, 3, 255
_V5, _V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
# The API server reads messages of 32 KiB at most without splitting them.
_CHUNK = 32 * 1024
_MOST_STDERR = 64 * 1024


@dataclass(frozen=True, slots=True)
class Ended:
    """
    How a command ended.

    Attributes:
        exit_code: Its own; 137 and the like if it was killed.

        stderr: What it wrote there, cut.
    """

    exit_code: int
    stderr: str


class RunningCommand:
    """
    A command at work in a pod; its output is read by iterating.

    Attributes:
        ended: How it ended; None until all output was read.
    """

    def __init__(
        self, socket: aiohttp.ClientWebSocketResponse[Any], doing: str, idle_seconds: float | None
    ) -> None:
        self._socket = socket
        self._doing = doing
        self._idle = idle_seconds
        self._stderr = bytearray()
        self.ended: Ended | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """
        Give the command's output as it arrives.

        Raises:
            ClusterUnavailable: The connection broke before the command ended.
        """
        while self.ended is None:
            message = await self._next()
            if message.type is aiohttp.WSMsgType.BINARY:
                channel, data = message.data[0], message.data[1:]
                if channel == _STDOUT and data:
                    yield data
                elif channel == _STDERR:
                    self._stderr += data[: _MOST_STDERR - len(self._stderr)]
                elif channel == _STATUS:
                    self.ended = self._read_status(data)
            elif message.type is not aiohttp.WSMsgType.TEXT:
                # Closed without a status: not the end of the command, but of the connection.
                raise ClusterUnavailable(f"cannot {self._doing}: the connection broke off")

    async def _next(self) -> aiohttp.WSMessage:
        try:
            async with asyncio.timeout(self._idle):
                return await self._socket.receive()
        except TimeoutError as error:
            raise ClusterUnavailable(
                f"cannot {self._doing}: no output for {self._idle:g} s"
            ) from error

    def _read_status(self, data: bytes) -> Ended:
        stderr = self._stderr.decode("utf-8", "replace")
        try:
            status = json.loads(data)
        except ValueError as error:
            raise ClusterUnavailable(f"cannot {self._doing}: its status is cut off") from error
        if text(status, "status") == "Success":
            return Ended(0, stderr)
        for cause in parts(status, "details", "causes"):
            code = text(cause, "message")
            if at(cause, "reason") == "ExitCode" and code.isdecimal():
                return Ended(int(code), stderr)
        # Not the command's end: the container could not run it, or is gone.
        raise ClusterError(f"cannot {self._doing}: {shown(text(status, 'message'))}")

    async def send(self, given: bytes | AsyncIterator[bytes]) -> None:
        """Send the command's input, then close it."""
        async for data in _whole(given) if isinstance(given, bytes) else given:
            view = memoryview(data)
            for start in range(0, len(view), _CHUNK):
                await self._socket.send_bytes(bytes([_STDIN]) + view[start : start + _CHUNK])
        await self._socket.send_bytes(bytes([_CLOSE, _STDIN]))


async def _whole(given: bytes) -> AsyncIterator[bytes]:
    yield given


@asynccontextmanager
async def running(
    api: Api,
    namespace: str,
    pod: str,
    command: Sequence[str],
    *,
    container: str | None,
    stdin: bytes | AsyncIterator[bytes] | None,
    idle_seconds: float | None,
) -> AsyncIterator[RunningCommand]:
    """Start a command; see `ClusterClient.running`."""
    doing = f"run {command[0]} in pod {pod} in {namespace}"
    query = [("command", part) for part in command]
    query += [("stdout", "true"), ("stderr", "true"), ("tty", "false")]
    query += [("stdin", "true")] if stdin is not None else []
    query += [("container", container)] if container is not None else []
    path = kind_of("Pod").path(namespace, pod) + "/exec"
    protocols = (_V5,) if stdin is not None else (_V5, _V4)
    async with api.socket(path, doing=doing, query=query, protocols=protocols) as socket:
        if stdin is not None and socket.protocol != _V5:
            raise ClusterError(
                f"cannot {doing}: the API cannot close a command's input; expected Kubernetes 1.30 "
                "or newer"
            )
        started = RunningCommand(socket, doing, idle_seconds)
        if stdin is None:
            yield started
            return
        sending = asyncio.create_task(_send(started, stdin))
        try:
            yield started
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending


async def _send(command: RunningCommand, stdin: bytes | AsyncIterator[bytes]) -> None:
    # A command may end before it has read all of its input; the reader sees how it ended.
    with suppress(aiohttp.ClientError, ConnectionError):
        await command.send(stdin)
