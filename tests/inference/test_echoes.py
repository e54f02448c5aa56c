"""What of a request may come back in a message: nothing of its prompt, nothing of its key."""

import base64
import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp import web
from fake_server import as_json, replying, serving

from grace.errors import BadReply, GarbledReply, QueryRejected, ServerUnavailable
from grace.inference.echoes import Echoes
from grace.inference.transport import Transport

KEY = "sk-canary/4f+7Q2=zz0192837465"
STORY = "Jane Canary\nof Zürich said: 'two of the three'"


def echoing(status: int, shown: Callable[[str, str], str]) -> web.Application:
    async def answer(request: web.Request) -> web.Response:
        header = request.headers.get("Authorization", "")
        return web.Response(text=shown(await request.text(), header), status=status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    return app


async def failure(app: web.Application, payload: object = None) -> Exception:
    async with serving(app) as url:
        transport = Transport(url, api_key=KEY, key_variable="SOME_KEY")
        with pytest.raises((QueryRejected, ServerUnavailable, BadReply)) as caught:
            await transport.post("/v1/completions", payload or {"prompt": STORY})  # type: ignore[arg-type]
        await transport.aclose()
        return caught.value


@pytest.mark.parametrize("status", [400, 401, 422, 500, 503])
@pytest.mark.parametrize(
    "shown",
    [
        lambda body, header: f"bad request: {body} {header} (see log)",
        lambda body, header: json.dumps({"error": f"bad request {body} {header} (see log)"}),
        lambda body, header: f"bad request {quote(body)} {quote(header)} (see log)",
        lambda body, header: (
            f"bad request {base64.b64encode(body.encode()).decode()} "
            f"{base64.b64encode(header.encode()).decode()} (see log)"
        ),
    ],
    ids=["plain", "json", "percent", "base64"],
)
async def test_an_error_that_repeats_the_request_shows_neither_prompt_nor_key(
    status: int, shown: Callable[[str, str], str]
) -> None:
    message = str(await failure(echoing(status, shown)))
    assert f"HTTP {status}: " in message
    assert "bad request" in message
    assert "[prompt]" in message
    assert "[key]" in message
    assert "see log" in message
    for leak in ("Canary", "two of the", "canary", "019283", KEY):
        assert leak not in message


async def test_a_prompt_that_was_sent_as_text_before_is_not_shown_when_it_comes_back_later() -> (
    None
):
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/tokenize":
            return as_json({"tokens": list(range(20))})
        return web.Response(text=f"cannot decode <{STORY}> from {[*range(20)]}", status=400)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with serving(app) as url:
        transport = Transport(url)
        await transport.post("/tokenize", {"content": STORY})
        with pytest.raises(QueryRejected) as caught:
            await transport.post("/completion", {"prompt": [*range(20)]})
        await transport.aclose()
    assert str(caught.value) == ("/completion: HTTP 400: cannot decode <[prompt]'> from [[tokens]]")


async def test_a_reply_that_is_no_json_is_shown_without_the_prompt_in_it() -> None:
    async with serving(echoing(200, lambda body, _: f"<html>{body}</html>")) as url:
        transport = Transport(url)
        with pytest.raises(GarbledReply) as caught:
            await transport.post("/v1/completions", {"prompt": STORY})
        await transport.aclose()
    assert "Canary" not in str(caught.value)
    assert "[prompt]" in str(caught.value)


async def test_messages_of_a_chat_are_taken_out() -> None:
    payload = {
        "messages": [{"role": "user", "content": STORY}, {"role": "assistant", "content": ""}]
    }
    message = str(await failure(echoing(400, lambda body, _: f"rejected {body}"), payload))
    assert "Canary" not in message
    assert "[prompt]" in message


async def test_a_message_that_repeats_nothing_is_as_the_server_wrote_it() -> None:
    said = '{"error": "maximum context length is 4096 tokens; you sent 5000"}'
    message = str(await failure(echoing(400, lambda _body, _header: said)))
    assert message == f"/v1/completions: HTTP 400: {said}"


@pytest.mark.parametrize(
    "text",
    [
        f"my key is {KEY}",
        "".join(f"\\u{ord(one):04x}" for one in KEY),
        base64.b64encode(f"Bearer {KEY}".encode()).decode(),
        quote(KEY, safe=""),
    ],
)
async def test_an_answer_that_repeats_the_key_is_not_kept(text: str) -> None:
    body = f'{{"choices": [{{"text": "{text}"}}]}}'
    error = await failure(replying(web.Response(text=body)))
    assert isinstance(error, BadReply)
    assert str(error) == "/v1/completions: the reply repeats the key; nothing of it is kept"


async def test_a_broken_reply_whose_header_repeats_the_key_does_not_show_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(f"HTTP/1.1 200 OK\r\nBad Header {KEY}\r\n\r\n".encode())

        thread = threading.Thread(target=answer)
        thread.start()
        transport = Transport(f"http://127.0.0.1:{port}", api_key=KEY)
        with pytest.raises(ServerUnavailable) as caught:
            await transport.get("/v1/models")
        await transport.aclose()
        thread.join()
    assert KEY not in str(caught.value)
    assert "canary" not in str(caught.value)


def test_old_texts_are_forgotten_so_that_memory_stays_the_same() -> None:
    echoes = Echoes()
    for number in range(5000):
        echoes.sent({"prompt": f"{number} " + "x" * 1000})
    assert sum(map(len, echoes._texts)) <= 500_000
    assert echoes.shown(f"bad {'x' * 200}") == "bad [prompt]"
    echoes.sent({"prompt": "y" * 2_000_000})
    assert len(echoes._texts) == 1


def make_certificate(folder: Path) -> ssl.SSLContext:
    """Return what a server needs for a certificate that no authority signed."""
    files = (folder / "key.pem", folder / "certificate.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(files[0]), "-out", str(files[1])]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files[1], files[0])
    return context


@asynccontextmanager
async def serving_tls(app: web.Application, context: ssl.SSLContext) -> AsyncIterator[str]:
    runner = web.AppRunner(app, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl for a certificate")
async def test_a_certificate_that_nobody_vouches_for_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make_certificate(tmp_path)
    async with serving_tls(replying(as_json({"answer": 1})), context) as url:
        transport = Transport(url, api_key=KEY)
        with pytest.raises(ServerUnavailable) as caught:
            await transport.get("/v1/models")
        await transport.aclose()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        trusting = Transport(url, api_key=KEY)
        assert await trusting.get("/v1/models") == {"answer": 1}
        await trusting.aclose()
    message = str(caught.value)
    assert "its certificate is not trusted (self" in message
    assert "SSL_CERT_FILE=PATH" in message
    assert "nothing was sent" in message
