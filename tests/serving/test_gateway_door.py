"""The door of the gateway: tokens, bodies, hosts, limits, time, and servers that are gone."""

import asyncio
import json
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from gateway import CHAT, PATH, TEXT, HeldToy, Reply, ask, plain_app, toy_app
from grace.errors import BadReply, QueryRejected, ServerUnavailable
from grace.inference.client import Rendered, ServerIdentity
from grace.inference.toy import ToyClient
from grace.studies.prompts import Prompt

TOKEN = "the-token-of-these-tests"  # noqa: S105
RIGHT = {"authorization": f"Bearer {TOKEN}"}


def problem(reply: Reply, slug: str) -> Any:
    """Check that a reply is a problem of a kind, and return it."""
    assert reply.headers["content-type"] == "application/problem+json"
    found = reply.json()
    assert found["type"] == f"urn:grace:problem:{slug}"
    assert found["status"] == reply.status
    assert found["detail"]
    return found


@pytest.mark.parametrize("path", [PATH, "/v1/model", "/metrics", "/nothing-here"])
@pytest.mark.parametrize(
    "shown",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer guessed-it",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer \u00e9\u00e9",
    ],
)
async def test_without_the_right_token_nothing_is_told(path: str, shown: str) -> None:
    method = "POST" if path == PATH else "GET"
    reply = await ask(
        plain_app(TOKEN), CHAT, method=method, path=path, headers={"authorization": shown}
    )
    assert reply.status == 401
    problem(reply, "unauthorised")
    assert reply.headers["www-authenticate"].startswith('Bearer realm="grace"')
    assert TOKEN.encode() not in reply.body
    assert shown[-8:].encode() not in reply.body or len(shown) < 8


async def test_with_the_right_token_everything_is_open() -> None:
    app = plain_app(TOKEN)
    assert (await ask(app, CHAT, headers=RIGHT)).status == 200
    assert (await ask(app, CHAT, headers={"authorization": f"bearer {TOKEN}"})).status == 200
    metrics = await ask(app, method="GET", path="/metrics", headers=RIGHT)
    assert metrics.status == 200
    assert TOKEN.encode() not in metrics.body


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/docs", "/openapi.json"])
async def test_probes_and_documentation_need_no_token(path: str) -> None:
    assert (await ask(plain_app(TOKEN), method="GET", path=path)).status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("localhost", 200),
        ("[::1]:8080", 200),
        ("[::1]", 200),
        ("127.8.8.8:80", 200),
        ("127.0.0.1.evil.example", 421),
        ("evil.example", 421),
        ("evil.example:8080", 421),
        ("", 421),
    ],
)
async def test_without_a_token_only_this_machine_is_answered(host: str, status: int) -> None:
    reply = await ask(plain_app(), CHAT, headers={"host": host})
    assert reply.status == status


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1,",
        b'{"prompt": NaN}',
        b'{"candidates": [{"label": "a", "value": Infinity}]}',
        b'{"prompt": "a", "prompt": "b"}',
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}",
        b'{"prompt": "\xff"}',
        b"[" * 100_000,
        b'{"n": ' + b"9" * 5000 + b"}",
    ],
)
async def test_what_is_not_json_is_refused(body: bytes) -> None:
    reply = await ask(plain_app(), body)
    assert reply.status == 400
    problem(reply, "not-json")


@pytest.mark.parametrize("body", [b"[]", b"null", b'"a"', b"1e999", b"[{}]"])
async def test_json_that_is_no_object_is_refused(body: bytes) -> None:
    reply = await ask(plain_app(), body)
    assert reply.status == 422
    problem(reply, "invalid-request")


async def test_a_number_beyond_floats_is_refused() -> None:
    body = b'{"prompt": "a", "candidates": [{"label": "b", "value": 1e400}]}'
    reply = await ask(plain_app(), body)
    assert reply.status == 422
    assert problem(reply, "invalid-request")["faults"][0]["pointer"] == "/candidates/0/value"


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": ""},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-encoding": "gzip"},
    ],
)
async def test_a_body_of_another_type_is_refused(headers: dict[str, str]) -> None:
    reply = await ask(plain_app(), CHAT, headers=headers)
    assert reply.status == 415
    problem(reply, "unsupported-media-type")


async def test_the_type_may_name_its_encoding() -> None:
    headers = {"content-type": "application/json; charset=utf-8"}
    assert (await ask(plain_app(), CHAT, headers=headers)).status == 200


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_of_the_largest_size_is_taken_and_one_byte_more_is_not(
    declared: bool,  # noqa: FBT001
) -> None:
    content = json.dumps(CHAT).encode()
    for extra, status in ((0, 200), (1, 413)):
        body = content + b" " * extra
        app = toy_app(max_body_bytes=len(content))
        chunks = None if declared else [body[:10], body[10:]]
        reply = await ask(app, body, chunks=chunks)
        assert reply.status == status
        if status == 413:
            problem(reply, "body-too-large")


async def test_an_absurd_length_is_refused_before_the_body_is_read() -> None:
    reply = await ask(
        plain_app(), chunks=[b"x"], endless=True, headers={"content-length": "9" * 30}
    )
    assert reply.status == 413


async def test_a_body_that_never_ends_is_not_waited_for() -> None:
    reply = await ask(toy_app(body_seconds=0.01), chunks=[b"{"], endless=True)
    assert reply.status == 408
    problem(reply, "body-timeout")


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/", 404, "not-found"),
        ("POST", "/v1/distribution", 404, "not-found"),
        ("GET", "/docs/../secret", 404, "not-found"),
        ("GET", PATH, 405, "method-not-allowed"),
        ("PUT", PATH, 405, "method-not-allowed"),
        ("POST", "/health", 405, "method-not-allowed"),
    ],
)
async def test_wrong_addresses_and_methods_are_problems_too(
    method: str, path: str, status: int, slug: str
) -> None:
    reply = await ask(plain_app(), method=method, path=path)
    assert reply.status == status
    problem(reply, slug)
    assert ("allow" in reply.headers) == (status == 405)


async def test_more_requests_than_may_wait_are_refused_and_the_others_answered() -> None:
    client = HeldToy()
    app = toy_app(client, concurrency=1, waiting=1)
    first = asyncio.create_task(ask(app, CHAT))
    await client.begun.wait()
    second = asyncio.create_task(ask(app, TEXT))
    await asyncio.sleep(0)
    third = await ask(app, CHAT)
    assert third.status == 429
    problem(third, "too-busy")
    assert int(third.headers["retry-after"]) > 0
    metrics = (await ask(app, method="GET", path="/metrics")).body.decode()
    assert "grace_gateway_requests_here 2.0" in metrics
    assert "grace_gateway_requests_asking 1.0" in metrics
    client.release.set()
    assert (await first).status == 200
    assert (await second).status == 200
    assert (await ask(app, CHAT)).status == 200


async def test_refused_requests_leave_no_place_taken() -> None:
    app = toy_app(concurrency=1, waiting=0)
    bodies: list[Any] = [b"{", {"candidates": []}, {**CHAT, "candidates": ["a", "ab"]}]
    for body in bodies:
        assert (await ask(app, body)).status in {400, 422}
    assert (await ask(app, CHAT)).status == 200


async def test_an_answer_that_takes_too_long_is_no_answer() -> None:
    client = HeldToy()
    app = toy_app(client, deadline_seconds=0.02, concurrency=1)
    replies = await asyncio.gather(ask(app, CHAT), ask(app, CHAT))
    for reply in replies:
        assert reply.status == 504
        assert "nothing was measured" in problem(reply, "timeout")["detail"]
    # The second one may have got its turn in its last moment.
    assert client.given_up >= 1


async def test_a_client_that_leaves_is_not_worked_for() -> None:
    client, leave = HeldToy(), asyncio.Event()
    app = toy_app(client, concurrency=1, waiting=0)
    asked = asyncio.create_task(ask(app, CHAT, leave=leave))
    await client.begun.wait()
    leave.set()
    await asked
    assert client.given_up == 1
    client.release.set()
    assert (await ask(app, CHAT)).status == 200
    metrics = (await ask(app, method="GET", path="/metrics")).body.decode()
    assert 'requests_total{route="/v1/distributions",status="499"} 1.0' in metrics


class Troubled(ToyClient):
    """The toy, which fails as told, and may come back as another one."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__()
        self.error = error
        self.model = "toy"

    async def connect(self) -> ServerIdentity:
        return ServerIdentity("toy", "1", self.model, {"vocabulary": 1})

    async def encode(self, text: str) -> tuple[int, ...]:
        if self.error is not None:
            raise self.error
        return await super().encode(text)

    async def render(self, prompt: Prompt) -> Rendered:
        return await super().render(prompt)


@pytest.mark.parametrize(
    ("error", "status", "slug"),
    [
        (ServerUnavailable("http://10.0.0.7:8000/x: nothing answers there"), 503,
         "server-unavailable"),
        (BadReply("/completion: the reply is not JSON: <html>"), 502, "bad-server-reply"),
        (QueryRejected("/x: HTTP 400: too long", 400), 422, "rejected-by-server"),
        (QueryRejected("/x: HTTP 401: a key is wanted", 401), 502, "bad-server-reply"),
    ],
)  # fmt: skip
async def test_every_failure_of_the_server_has_its_status(
    error: Exception, status: int, slug: str, caplog: pytest.LogCaptureFixture
) -> None:
    reply = await ask(toy_app(Troubled(error)), CHAT)
    assert reply.status == status
    problem(reply, slug)
    assert b"10.0.0.7" not in reply.body
    # Whoever runs the gateway sees the whole message, if it is theirs to mend.
    assert (str(error) in caplog.text) == (status >= 500)


@pytest.mark.parametrize(("wanted", "sent"), [(None, "5"), (0.2, "1"), (17.5, "18"), (1e9, "3600")])
async def test_a_server_that_asks_for_patience_is_passed_on(
    wanted: float | None, sent: str
) -> None:
    reply = await ask(toy_app(Troubled(ServerUnavailable("busy", wanted))), CHAT)
    assert reply.headers["retry-after"] == sent


async def test_readiness_follows_the_server_and_liveness_does_not() -> None:
    client = Troubled(ServerUnavailable("gone"))
    app = toy_app(client)
    assert (await ask(app, method="GET", path="/health/ready")).status == 503
    assert (await ask(app, method="GET", path="/health")).json() == {"status": "alive"}
    client.error = None
    assert (await ask(toy_app(client), method="GET", path="/health/ready")).status == 200


async def test_a_server_that_comes_back_is_used_again() -> None:
    client = Troubled(ServerUnavailable("gone"))
    app = toy_app(client)
    assert (await ask(app, CHAT)).status == 503
    client.error = None
    assert (await ask(app, CHAT)).status == 200


async def test_a_server_that_comes_back_as_another_one_is_not_used() -> None:
    client = Troubled(ServerUnavailable("gone"))
    app = toy_app(client)
    assert (await ask(app, CHAT)).status == 503
    client.error, client.model = None, "another"
    for _ in range(2):
        reply = await ask(app, CHAT)
        assert reply.status == 503
        assert "'toy' before, 'another' now" in problem(reply, "server-changed")["detail"]


async def test_a_fault_of_the_gateway_is_a_problem_without_details() -> None:
    app = toy_app(Troubled(ZeroDivisionError("secret detail")))

    async def logged(scope: Scope, receive: Receive, send: Send) -> None:
        # The server that runs the application logs the error; the client has its reply by then.
        with pytest.raises(ZeroDivisionError):
            await app(scope, receive, send)

    reply = await ask(logged, CHAT)
    assert reply.status == 500
    assert "ZeroDivisionError" in problem(reply, "internal-error")["detail"]
    assert b"secret" not in reply.body
    metrics = (await ask(app, method="GET", path="/metrics")).body.decode()
    assert 'requests_total{route="/v1/distributions",status="500"} 1.0' in metrics


async def test_labels_of_metrics_are_bounded() -> None:
    app = toy_app()
    prompt = "a-very-special-prompt"
    await ask(app, {"prompt": prompt, "candidates": ["b"]})
    for path in ("/x", "/y", f"/{prompt}", "/docs/z"):
        await ask(app, method="GET", path=path)
    metrics = (await ask(app, method="GET", path="/metrics")).body.decode()
    assert prompt not in metrics
    assert 'requests_total{route="other",status="404"} 3.0' in metrics
    assert "grace_gateway_forms_scored_total 1.0" in metrics


async def test_the_documentation_needs_no_other_host() -> None:
    app = toy_app()
    page = await ask(app, method="GET", path="/docs")
    assert b"http" not in page.body
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "start.js"):
        assert f"docs/{name}".encode() in page.body
        assert (await ask(app, method="GET", path=f"/docs/{name}")).status == 200
