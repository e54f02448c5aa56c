"""The gateway in front of a real HTTP server, which fails in all the ways that servers do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from starlette.types import ASGIApp

from fake_llamacpp import FakeLlamaCpp, refuse, serving
from gateway import CHAT, TEXT, TOY_MODEL, ask, plain_app
from grace.inference.llamacpp import LlamaCppClient
from grace.inference.transport import Transport
from grace.serving.gateway.app import make_app
from grace.serving.gateway.service import DistributionService


@asynccontextmanager
async def in_front_of(server: FakeLlamaCpp) -> AsyncIterator[ASGIApp]:
    """A gateway that is connected to a server."""
    async with serving(server.app()) as url:
        client = LlamaCppClient(Transport(url))
        try:
            identity = await client.connect()
            yield make_app(DistributionService(client, identity, TOY_MODEL))
        finally:
            await client.aclose()


@pytest.mark.parametrize("body", [CHAT, TEXT])
async def test_the_numbers_are_those_of_the_model_behind(body: dict[str, object]) -> None:
    async with in_front_of(FakeLlamaCpp()) as app:
        through = (await ask(app, body)).json()
    direct = (await ask(plain_app(), body)).json()
    for one, other in zip(through["candidates"], direct["candidates"], strict=True):
        assert one["logprob"] == pytest.approx(other["logprob"], abs=1e-9)
        assert [form["tokens"] for form in one["forms"]] == [
            [{**token, "logprob": pytest.approx(token["logprob"])} for token in form["tokens"]]
            for form in other["forms"]
        ]
    assert through["prompt"]["sha256"] == direct["prompt"]["sha256"]
    assert through["server"]["dialect"] == "llamacpp"


@pytest.mark.parametrize(
    ("trouble", "status", "retry"),
    [
        (refuse(503), 503, "5"),
        (refuse(429, {"Retry-After": "7"}), 503, "7"),
        (refuse(500), 503, "5"),
        (refuse(400), 422, None),
        (refuse(401), 502, None),
        (web.Response(text="<html>"), 502, None),
        (web.Response(text='{"content": NaN}'), 502, None),
        (web.Response(text="{}"), 502, None),
    ],
)
async def test_what_the_server_says_decides_the_status(
    trouble: web.Response, status: int, retry: str | None
) -> None:
    server = FakeLlamaCpp()
    async with in_front_of(server) as app:
        server.trouble = lambda _number, _payload: trouble
        reply = await ask(app, CHAT)
    assert reply.status == status
    assert reply.headers.get("retry-after") == retry
    assert "candidates" not in reply.json()


async def test_a_server_that_was_restarted_with_another_template_is_noticed() -> None:
    server = FakeLlamaCpp()
    async with in_front_of(server) as app:
        server.trouble = lambda _number, _payload: refuse(503)
        assert (await ask(app, CHAT)).status == 503
        server.trouble = lambda _number, _payload: None
        assert (await ask(app, CHAT)).status == 200
        server.trouble = lambda _number, _payload: refuse(503)
        assert (await ask(app, CHAT)).status == 503
        server.trouble, server.template = (lambda _number, _payload: None), "{{ other }}"
        reply = await ask(app, CHAT)
        ready = await ask(app, method="GET", path="/health/ready")
    assert reply.status == ready.status == 503
    assert "chat_template_sha256" in reply.json()["detail"]
