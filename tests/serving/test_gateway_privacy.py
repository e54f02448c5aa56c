"""What the gateway tells of a client's prompt, of its own token, and of the server's key: nothing."""

import base64
import json
import logging
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from fake_llamacpp import FakeLlamaCpp, serving
from gateway import ask, toy_app
from grace.inference.llamacpp import LlamaCppClient
from grace.inference.transport import Transport

KEY = "sk-canary/4f+7Q2=zz0192837465"
TOKEN = "token-canary-of-the-gateway-0123"  # noqa: S105
STORY = "Quillfeather Zanzibar wrote this sentence. Is it so?"
BODY = {"messages": [{"role": "user", "content": STORY}], "candidates": ["yes", "no"]}
STATUS = [400]
HEADERS = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def upstream() -> AsyncIterator[LlamaCppClient]:
    """A model server that comes to refuse everything, and repeats what it was sent."""
    server = FakeLlamaCpp()
    app = server.app()
    texts: list[str] = []

    @web.middleware
    async def repeat(request: web.Request, handler: object) -> web.StreamResponse:
        texts.append(await request.text())
        if request.path == "/completion" and len(texts) > 6:
            header = request.headers["Authorization"]
            coded = base64.b64encode(header.encode()).decode()
            said = f"cannot serve {header} {coded} {json.dumps(texts[-4:])} {STORY}"
            return web.Response(text=said, status=STATUS[0])
        return await handler(request)  # type: ignore[operator, no-any-return]

    app.middlewares.append(repeat)
    async with serving(app) as url:
        client = LlamaCppClient(Transport(url, api_key=KEY))
        await client.connect()
        yield client
        await client.aclose()


@pytest.mark.parametrize(("status", "answer"), [(400, 422), (401, 502), (500, 503)])
async def test_neither_reply_nor_log_nor_metrics_show_prompt_key_or_token(
    upstream: LlamaCppClient, status: int, answer: int, caplog: pytest.LogCaptureFixture
) -> None:
    STATUS[0] = status
    app = toy_app(upstream, token=TOKEN)
    with caplog.at_level(logging.DEBUG):
        reply = await ask(app, BODY, headers=HEADERS)
        wrong = await ask(app, BODY, headers={"authorization": f"Bearer {TOKEN}x"})
        metrics = await ask(app, method="GET", path="/metrics", headers=HEADERS)
    assert (reply.status, wrong.status, metrics.status) == (answer, 401, 200)
    assert b"grace_gateway_requests" in metrics.body
    for shown in (reply.body, wrong.body, metrics.body, caplog.text.encode()):
        for leak in (KEY, TOKEN, "canary", "Quillfeather", "Zanzibar", "sentence"):
            assert leak.encode() not in shown
