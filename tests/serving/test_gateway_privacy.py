"""What the gateway tells of a client's prompt, of its own token, and of the server's key: nothing."""

import base64
import json
import logging
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from fake_llamacpp import FakeLlamaCpp, served, serving
from gateway import ask, toy_app
from grace.inference.llamacpp import LlamaCppClient
from grace.inference.transport import Transport
from processes import Forker

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


def test_the_process_says_and_logs_nothing_of_them_either(tmp_path: Path, forker: Forker) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "key").write_text(f"{KEY}\n")
    server = FakeLlamaCpp()
    server.trouble = lambda number, payload: (
        web.Response(text=f"lost {STORY} {payload['prompt']} Bearer {KEY}", status=500)
        if number > 2
        else None
    )
    environment = {
        "GATE_FILE": str(tmp_path / "token"),
        "GRACE_API_KEY_FILE": str(tmp_path / "key"),
    }
    with served(server) as url:
        flags = ["--port", "0", "--endpoint", url, "--token-env", "GATE"]
        command = forker.start(["gateway", *flags], tmp_path / "log", environment=environment)
        deadline = time.monotonic() + 120
        while not (found := re.search(r"^http://\S+$", command.output, re.MULTILINE)):
            assert time.monotonic() < deadline, command.output
            time.sleep(0.02)
        request = urllib.request.Request(  # noqa: S310
            f"{found.group()}/v1/distributions",
            json.dumps(BODY).encode(),
            {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=60)  # noqa: S310
        with caught.value as refusal:
            said = refusal.read().decode()
        command.kill(signal.SIGTERM)
        assert command.wait() == 0
    # Whoever runs the gateway reads what happened.
    assert "HTTP 500: lost [prompt]" in command.output
    for shown in (said, command.output):
        for leak in (KEY, TOKEN, "canary", "Quillfeather", "Zanzibar", "sentence"):
            assert leak not in shown
