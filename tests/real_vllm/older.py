"""
A real vLLM server as it was before it could list chosen tokens.

Everything is passed on to the server behind it, but for one field of the
requests, which is dropped without a word: so do servers that do not know it.
"""

import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

UNKNOWN_FIELD = "logprob_token_ids"
_SESSION = web.AppKey("session", aiohttp.ClientSession)
_PATIENCE = aiohttp.ClientTimeout(total=900)


@dataclass
class OlderVllm:
    """
    The server in front.

    Attributes:
        behind: The real server's address.

        asked: How often each path was asked for.

        dropped: How often the field was dropped.
    """

    behind: str
    asked: Counter[str] = field(default_factory=Counter)
    dropped: int = 0

    def app(self) -> web.Application:
        """Return the application."""
        app = web.Application(client_max_size=2**26)

        async def connected(app: web.Application) -> AsyncIterator[None]:
            async with aiohttp.ClientSession(self.behind, timeout=_PATIENCE) as opened:
                app[_SESSION] = opened
                yield

        async def pass_on(request: web.Request) -> web.Response:
            self.asked[request.path] += 1
            body = self._without_the_field(await request.read())
            headers = {"Content-Type": request.content_type} if body else {}
            async with app[_SESSION].request(
                request.method, request.path_qs, data=body, headers=headers
            ) as reply:
                return web.Response(
                    body=await reply.read(),
                    status=reply.status,
                    content_type=reply.content_type,
                )

        app.cleanup_ctx.append(connected)
        app.router.add_route("*", "/{path:.*}", pass_on)
        return app

    def _without_the_field(self, body: bytes) -> bytes:
        if UNKNOWN_FIELD.encode() not in body:
            return body
        payload = json.loads(body)
        if payload.pop(UNKNOWN_FIELD, None) is not None:
            self.dropped += 1
        return json.dumps(payload).encode()
