import contextlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from fake_server import as_json, hang, replying, serving

from grace.errors import (
    BadReply,
    GarbledReply,
    InferenceError,
    QueryRejected,
    ServerUnavailable,
    UsageError,
)
from grace.inference.transport import Transport

KEY = "sk-123456789"


async def failure(
    app: web.Application, *, max_reply_bytes: int = 1_000_000, timeout_seconds: float = 5
) -> Exception:
    async with serving(app) as url:
        transport = Transport(
            url,
            api_key=KEY,
            key_variable="GRACE_KEY",
            timeout_seconds=timeout_seconds,
            max_reply_bytes=max_reply_bytes,
        )
        with pytest.raises(Exception) as caught:  # noqa: PT011
            await transport.post("/v1/completions", {"prompt": "x"})
        await transport.aclose()
        return caught.value


async def test_json_goes_out_and_comes_back_under_a_key() -> None:
    seen: list[tuple[str, str | None, object]] = []

    async def echo(request: web.Request) -> web.Response:
        seen.append((request.path, request.headers.get("Authorization"), await request.json()))
        return as_json({"answer": 1})

    app = web.Application()
    app.router.add_post("/v1/completions", echo)
    async with serving(app) as url:
        transport = Transport(f"{url}/v1/", api_key=f"{KEY}\n")
        assert transport.base_url == url
        assert await transport.post("/v1/completions", {"prompt": "ä"}) == {"answer": 1}
        await transport.aclose()
        await transport.aclose()
    assert seen == [("/v1/completions", f"Bearer {KEY}", {"prompt": "ä"})]


async def test_a_proxy_in_the_environment_is_used_but_not_for_its_exceptions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    seen: list[tuple[str, str | None]] = []

    async def relay(request: web.Request) -> web.Response:
        seen.append((str(request.url), request.headers.get("Proxy-Authorization")))
        return as_json({"by": "the proxy"})

    proxy = web.Application()
    proxy.router.add_route("*", "/{path:.*}", relay)
    async with serving(proxy) as proxy_url, serving(replying(as_json({"by": "itself"}))) as url:
        monkeypatch.setenv("http_proxy", proxy_url.replace("//", "//me:secret@"))
        far = Transport("http://far.invalid/v1")
        assert await far.get("/v1/models") == {"by": "the proxy"}
        await far.aclose()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        near = Transport(url)
        assert await near.get("/v1/models") == {"by": "itself"}
        await near.aclose()
    assert seen == [("http://far.invalid/v1/models", "Basic bWU6c2VjcmV0")]


async def test_a_netrc_file_that_names_the_host_does_not_stand_in_the_keys_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with serving(replying(as_json({"answer": 1}))) as url:
        transport = Transport(url, api_key=KEY)
        assert await transport.get("/v1/models") == {"answer": 1}
        await transport.aclose()


@pytest.mark.parametrize(
    "body",
    [
        '{"choices": [{"te',
        "<!DOCTYPE html><html></html>",
        "",
        b'{"text": "\xff"}',
    ],
)
async def test_a_reply_that_is_not_json_was_garbled_on_its_way_and_may_pass(
    body: str | bytes,
) -> None:
    raw = body.encode() if isinstance(body, str) else body
    error = await failure(replying(web.Response(body=raw)))
    assert isinstance(error, GarbledReply)
    assert isinstance(error, ServerUnavailable)
    assert len(str(error)) < 500


@pytest.mark.parametrize("body", ['{"logprob": NaN}', '{"logprob": -Infinity}', "[" * 100_000])
async def test_numbers_that_are_none_and_endless_nesting_are_bad_replies(body: str) -> None:
    error = await failure(replying(web.Response(text=body)))
    assert isinstance(error, BadReply)
    assert len(str(error)) < 500


async def test_no_failure_shows_the_servers_address() -> None:
    """Messages end up in tables, which must not depend on where the server was."""
    async with serving(replying(as_json({}))) as url:
        pass
    transport = Transport(url)
    with pytest.raises(ServerUnavailable) as caught:
        await transport.post("/v1/completions", {})
    await transport.aclose()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", hang)
    messages = [str(caught.value), str(await failure(app, timeout_seconds=0.1))]
    assert not [text for text in messages if "127.0.0.1" in text or url.split(":")[-1] in text]


async def test_what_is_fetched_has_a_minute_at_most() -> None:
    limits = Transport("http://localhost:1")._short_timeout
    assert limits == aiohttp.ClientTimeout(total=60, sock_connect=10)
    shorter = Transport("http://localhost:1", timeout_seconds=3)._short_timeout
    assert shorter.total == 3


async def test_a_query_that_may_have_met_another_server_is_a_reason_to_doubt() -> None:
    replies = [
        as_json({}),
        as_json({}),
        web.Response(status=429),
        web.Response(status=400),
        web.Response(status=503),
        web.Response(text="<html>"),
    ]
    async with serving(replying(*replies)) as url:
        transport = Transport(url)
        await transport.get("/v1/models")
        assert transport.doubts == 0
        seen = []
        for _ in replies[1:]:
            with contextlib.suppress(InferenceError):
                await transport.post("/v1/completions", {})
            seen.append(transport.doubts)
        await transport.aclose()
    # The first query used the connection of what was fetched before.
    assert seen == [0, 0, 0, 1, 2]


async def test_a_new_connection_is_a_reason_to_doubt() -> None:
    async with serving(replying(lambda: as_json({}))) as url:
        transport = Transport(url)
        await transport.post("/v1/completions", {})
        await transport.post("/v1/completions", {})
        await transport.aclose()
    assert transport.doubts == 1


async def test_too_many_requests_says_how_long_to_wait() -> None:
    reply = web.Response(status=429, headers={"Retry-After": "7"}, text="slow down")
    error = await failure(replying(reply))
    assert isinstance(error, ServerUnavailable)
    assert error.retry_after_seconds == 7
    assert "HTTP 429: slow down" in str(error)


@pytest.mark.parametrize("zone", ["GMT", "-0000"])
async def test_a_date_to_wait_for_becomes_seconds(zone: str) -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=60)).replace("+0000", zone)
    error = await failure(replying(web.Response(status=503, headers={"Retry-After": moment})))
    assert isinstance(error, ServerUnavailable)
    assert error.retry_after_seconds is not None
    assert 50 < error.retry_after_seconds <= 60


@pytest.mark.parametrize("value", ["soon", "inf", "nan", "\xb2"])
async def test_a_wait_that_cannot_be_read_is_left_out(value: str) -> None:
    error = await failure(replying(web.Response(status=503, headers={"Retry-After": value})))
    assert isinstance(error, ServerUnavailable)
    assert error.retry_after_seconds is None


@pytest.mark.parametrize("status", [408, 424, 500, 502, 503, 504])
async def test_what_may_pass_is_unavailable(status: int) -> None:
    assert isinstance(await failure(replying(web.Response(status=status))), ServerUnavailable)


@pytest.mark.parametrize("status", [400, 404, 413, 422, 501])
async def test_what_will_not_pass_is_rejected(status: int) -> None:
    error = await failure(replying(web.Response(status=status, text="no " * 1000)))
    assert isinstance(error, QueryRejected)
    assert f"HTTP {status}" in str(error)
    assert len(str(error)) < 500


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_named_by_its_variable_and_never_shown(status: int) -> None:
    error = await failure(replying(web.Response(status=status, text=f"bad key {KEY}!")))
    assert isinstance(error, QueryRejected)
    assert "the server refuses the key in GRACE_KEY" in str(error)
    assert KEY not in str(error)
    assert "bad key [key]!" in str(error)


async def test_a_missing_key_is_asked_for_by_its_variable() -> None:
    async with serving(replying(web.Response(status=401))) as url:
        transport = Transport(url, key_variable="GRACE_KEY")
        with pytest.raises(QueryRejected, match="the server wants a key; set GRACE_KEY"):
            await transport.get("/v1/models")
        await transport.aclose()


async def test_a_redirect_is_refused_and_carries_no_key_to_another_host() -> None:
    strangers: list[web.Request] = []

    async def stranger(request: web.Request) -> web.Response:
        strangers.append(request)
        return as_json({})

    other = web.Application()
    other.router.add_route("*", "/{path:.*}", stranger)
    async with serving(other) as url:
        redirect = web.Response(status=307, headers={"Location": f"{url}/v1/completions"})
        error = await failure(replying(redirect))
    assert isinstance(error, QueryRejected)
    assert "redirects are not followed" in str(error)
    assert not strangers


async def test_a_reply_that_is_too_long_is_refused() -> None:
    reply = as_json({"text": "x" * 5_000})
    error = await failure(replying(reply), max_reply_bytes=1_000)
    assert isinstance(error, BadReply)
    assert "exceeds 1000 bytes" in str(error)


async def test_a_server_that_hangs_times_out() -> None:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", hang)
    error = await failure(app, timeout_seconds=0.1)
    assert isinstance(error, ServerUnavailable)
    assert "no reply within 0.1 s" in str(error)


async def test_a_reply_that_breaks_off_may_pass() -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"Content-Length": "100"})
        await reply.prepare(request)
        await reply.write(b'{"choices": [')
        assert request.transport is not None
        request.transport.close()
        return reply

    app = web.Application()
    app.router.add_post("/v1/completions", cut)
    assert isinstance(await failure(app), ServerUnavailable)


async def test_nobody_at_the_address_may_pass() -> None:
    async with serving(replying(as_json({}))) as url:
        pass
    transport = Transport(url)
    with pytest.raises(ServerUnavailable, match="nothing answers there"):
        await transport.get("/v1/models")
    await transport.aclose()


async def test_waiting_for_a_free_connection_is_not_a_failure_to_connect() -> None:
    assert Transport("http://localhost:1")._timeout == aiohttp.ClientTimeout(
        total=600, sock_connect=10
    )


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "ftp://localhost",
        "http://",
        "http://[::1",
        "http://localhost:99999",
        "",
    ],
)
def test_an_address_that_is_none_is_shown(url: str) -> None:
    with pytest.raises(UsageError, match="--endpoint is"):
        Transport(url)


@pytest.mark.parametrize("url", ["http://user:hunter2@localhost", "http://u:hunter2@host:99999"])
def test_a_password_in_the_address_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(UsageError, match="user name or password") as caught:
        Transport(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://localhost?api_key=hunter2", "http://localhost#hunter2"])
def test_a_key_in_the_address_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(UsageError, match="holds a query") as caught:
        Transport(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["two\nlines", "schlüssel"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(UsageError, match="the key in GRACE_KEY") as caught:
        Transport("http://localhost", api_key=key, key_variable="GRACE_KEY")
    assert key not in str(caught.value)


async def test_a_query_with_a_number_that_is_not_finite_is_a_bug_here() -> None:
    transport = Transport("http://localhost:1")
    with pytest.raises(ValueError, match="Out of range"):
        await transport.post("/", {"temperature": float("nan")})


@pytest.mark.parametrize("status", [200, 400, 500])
async def test_a_server_cannot_send_commands_to_a_terminal(status: int) -> None:
    body = web.Response(body=b"\x1b[2J\x00\x07 gone\x9b", status=status)
    error = await failure(replying(body))
    assert "gone" in str(error)
    assert all(character >= " " for character in str(error))
