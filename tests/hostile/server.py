"""
The hostile server as a process: `python -m hostile.server vllm`.

Its first line of output is JSON with two addresses: that of the model server,
and that of its control, where `PUT /script` gives it a script (the server is
healthy again before that) and `GET /befell` tells what it did. It ends with its
standard input.
"""

import asyncio
import contextlib
import itertools
import json
import socket
import struct
import sys
from collections.abc import Mapping

from aiohttp import web

from fake_llamacpp import FakeLlamaCpp, serving
from hostile.faces import Face, LlamaCppFace, VllmFace
from hostile.faults import GARBLED, MANGLED, REFUSALS, Reply
from hostile.script import Director, Rule, Script

_HEALTHY = Script()


class HostileServer:
    """
    One listening port, which may go away and come back.

    Args:
        face: What answers when nothing is done to a request.
    """

    def __init__(self, face: Face) -> None:
        self.director = Director(_HEALTHY)
        self._face = face
        self._identity = (face.model, face.version)
        self._port = 0
        self._listening: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._away: set[asyncio.Task[None]] = set()

    async def listen(self) -> str:
        """Take connections, always on the same port, and return the address."""
        self._listening = await asyncio.start_server(
            self._connected, "127.0.0.1", self._port, backlog=512
        )
        self._port = self._listening.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{self._port}"

    async def follow(self, script: Script) -> None:
        """Follow another script, in full health and under the first identity."""
        await asyncio.gather(*self._away)
        self._face.model, self._face.version = self._identity
        self.director = Director(script)
        if self._listening is None:
            await self.listen()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request, or do worse; return whether the connection stays open."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, path, _ = head.split(" ", 2)
        length = next(
            (
                int(line.split(":")[1])
                for line in head.split("\r\n")
                if line.lower().startswith("content-length:")
            ),
            0,
        )
        body = await reader.readexactly(length)
        texts = self._face.texts(body)
        rule = self.director.choose(path, body, texts)
        if rule is None:
            await self._send(writer, await self._answer(method, path, body))
            return True
        if rule.fault in REFUSALS:
            await self._send(writer, REFUSALS[rule.fault]())
            return True
        if rule.fault in GARBLED:
            reply = await self._answer(method, path, body)
            await self._send(writer, GARBLED[rule.fault](reply.body))
            return True
        if rule.fault in MANGLED:
            reply = await self._answer(method, path, body)
            marked = [index for index, text in enumerate(texts) if rule.about in text]
            mangled = json.loads(reply.body)
            MANGLED[rule.fault](mangled, marked)
            await self._send(writer, Reply(200, json.dumps(mangled).encode()))
            return True
        await self._break(rule, await self._answer(method, path, body), reader, writer)
        return False

    async def _break(
        self,
        rule: Rule,
        reply: Reply,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Do something to the connection or the server; the connection is closed afterwards."""
        if rule.fault.startswith("other-version"):
            self._face.version = "another"
        if rule.fault == "other-model":
            self._face.model = "another"
        if rule.fault in {"restart", "gone", "other-version", "other-model"}:
            await self._go_away(None if rule.fault == "gone" else rule.seconds)
        elif rule.fault == "other-version-quietly":
            await self._leave_politely(reply, writer)
        elif rule.fault in {"drip", "slow"}:
            await self._trickle(reply, reader, writer, endless=rule.fault == "drip")
        else:
            if rule.fault.endswith("-in-body"):
                writer.write(_head(reply) + reply.body[: len(reply.body) // 2])
                await writer.drain()
            if rule.fault.startswith("hang"):
                await reader.read()
            elif rule.fault.startswith("reset"):
                _reset(writer)

    async def _trickle(
        self,
        reply: Reply,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        endless: bool,
    ) -> None:
        """Send a body in small pieces; endlessly, white space, which may stand before JSON."""
        writer.write(_head(Reply(200, b" " * 1_000_000) if endless else reply))
        size = max(1, len(reply.body) // 8)
        for start in itertools.count(step=size):
            if reader.at_eof() or writer.is_closing() or (not endless and start > len(reply.body)):
                break
            writer.write(b" " if endless else reply.body[start : start + size])
            await writer.drain()
            await asyncio.sleep(0.01)

    async def _leave_politely(self, reply: Reply, writer: asyncio.StreamWriter) -> None:
        writer.write(_head(reply, {"Connection": "close"}) + reply.body)
        await writer.drain()
        for other in self._open - {writer}:
            other.close()

    async def _go_away(self, seconds: float | None) -> None:
        """End all connections and listen no more; come back after some time, or never."""
        if self._listening is None:
            return
        self._listening.close()
        self._listening = None
        for writer in set(self._open):
            _reset(writer)
        if seconds is not None:
            task = asyncio.create_task(self._come_back(seconds))
            self._away.add(task)
            task.add_done_callback(self._away.discard)

    async def _come_back(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.listen()

    async def _answer(self, method: str, path: str, body: bytes) -> Reply:
        status, answer = await self._face.respond(method, path, body)
        return Reply(status, answer)

    async def _send(self, writer: asyncio.StreamWriter, reply: Reply) -> None:
        writer.write(_head(reply) + reply.body)
        await writer.drain()


def _head(reply: Reply, more: Mapping[str, str] | None = None) -> bytes:
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(reply.body)),
        **reply.headers,
        **(more or {}),
    }
    lines = [f"HTTP/1.1 {reply.status} -", *(f"{name}: {headers[name]}" for name in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close without a goodbye: the other side reads `connection reset`."""
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _control(server: HostileServer) -> web.Application:
    async def follow(request: web.Request) -> web.Response:
        await server.follow(Script.from_json(await request.read()))
        return web.json_response({})

    async def befell(_: web.Request) -> web.Response:
        return web.json_response(server.director.befell)

    app = web.Application()
    app.router.add_put("/script", follow)
    app.router.add_get("/befell", befell)
    return app


async def _until_input_ends() -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    await reader.read()


async def main(kind: str) -> None:
    """Serve until the standard input ends."""
    behind = FakeLlamaCpp()
    async with contextlib.AsyncExitStack() as stack:
        face: Face
        if kind == "llamacpp":
            face = LlamaCppFace(await stack.enter_async_context(serving(behind.app())), behind)
        else:
            face = VllmFace()
        server = HostileServer(face)
        control = await stack.enter_async_context(serving(_control(server)))
        addresses = {"url": await server.listen(), "control": control}
        sys.stdout.write(json.dumps(addresses) + "\n")
        sys.stdout.flush()
        await _until_input_ends()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
