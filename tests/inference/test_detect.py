from typing import Any

import pytest
from aiohttp import web
from fake_server import FakeTgi, FakeVllm, as_json, serving

from grace.errors import ServerUnavailable, UsageError
from grace.inference.detect import detect
from grace.inference.transport import Transport


def pages(**replies: Any) -> web.Application:
    """Serve each reply under its name, with underscores for slashes, and 404 elsewhere."""
    app = web.Application()
    for name, reply in replies.items():

        async def answer(_: web.Request, reply: Any = reply) -> web.Response:
            return reply if isinstance(reply, web.Response) else as_json(reply)

        app.router.add_get("/" + name.replace("_", "/"), answer)
    return app


async def dialect(app: web.Application) -> str:
    async with serving(app) as url:
        transport = Transport(url)
        try:
            return await detect(transport)
        finally:
            await transport.aclose()


MODELS = {"data": [{"id": "m", "owned_by": "someone"}]}


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        (FakeVllm().app(), "vllm"),
        (FakeVllm(version=None).app(), "vllm"),
        (FakeTgi().app(), "tgi"),
        (pages(props={"default_generation_settings": {}}, v1_models=MODELS), "llamacpp"),
        (pages(v1_models=MODELS), "openai"),
        (pages(models=MODELS), "openai"),
        (pages(v1_models={"data": []}), "openai"),
        # A server of embeddings has an /info without a router.
        (pages(info={"model_id": "e"}, v1_models=MODELS), "openai"),
        # A web page for every unknown path is not an answer.
        (pages(props=web.Response(text="<html>"), v1_models=MODELS), "openai"),
        (pages(props=[1], v1_models=MODELS), "openai"),
    ],
)
async def test_a_server_is_known_by_what_only_it_has(app: web.Application, expected: str) -> None:
    assert await dialect(app) == expected


async def test_a_server_that_loads_its_model_is_not_taken_for_another() -> None:
    loading = web.Response(status=503, text="Loading model")
    with pytest.raises(ServerUnavailable, match="Loading model"):
        await dialect(pages(props=loading, v1_models=MODELS))


async def test_nothing_there_is_unavailable() -> None:
    async with serving(pages()) as url:
        pass
    transport = Transport(url)
    with pytest.raises(ServerUnavailable):
        await detect(transport)
    await transport.aclose()


async def test_a_stranger_is_refused_with_what_it_said() -> None:
    with pytest.raises(UsageError, match="answers, but not as") as caught:
        await dialect(pages())
    assert "/v1/models: HTTP 404" in str(caught.value)
    with pytest.raises(UsageError, match="no list of models"):
        await dialect(pages(props={}, v1_models={}, info={}, models={}))
