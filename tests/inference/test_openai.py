import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from fake_server import as_json, chat_reply, serving

from grace.errors import (
    BadReply,
    IdentityMismatch,
    QueryRejected,
    ServerUnavailable,
    UnsupportedByServer,
    UsageError,
)
from grace.inference.client import GenerationRequest, NextTokenQuestion, Sampling
from grace.inference.openai import JsonMode, OpenAiClient
from grace.inference.transport import Transport
from grace.studies.prompts import Message, Prompt

CHAT = Prompt(messages=(Message("user", "Extract."),))
SCHEMA = {"type": "object", "properties": {}}


class Hosted:
    """A hosted API: a key, a list of models, chat completions."""

    def __init__(self, reply: Any = None, *, root: str = "/v1", key: str = "secret") -> None:
        self.reply = chat_reply("{}") if reply is None else reply
        self.root = root
        self.key = key
        self.payloads: list[Any] = []

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get(f"{self.root}/models", self._models)
        app.router.add_post(f"{self.root}/chat/completions", self._answer)
        app.router.add_post(f"{self.root}/completions", self._answer)
        return app

    async def _models(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {self.key}":
            return as_json({"error": "Authentication Fails, your key is invalid"}, 401)
        return as_json({"data": [{"id": "deepseek-chat"}, {"id": "deepseek-reasoner"}]})

    async def _answer(self, request: web.Request) -> web.Response:
        self.payloads.append(await request.json())
        return as_json(self.reply)


@asynccontextmanager
async def connected(
    server: Hosted,
    *,
    model: str | None = "deepseek-chat",
    key: str = "secret",
    json_mode: JsonMode = "schema",
    takes_seed: bool = False,
) -> AsyncIterator[OpenAiClient]:
    async with serving(server.app()) as url:
        transport = Transport(url, api_key=key, key_variable="DEEPSEEK_API_KEY")
        client = OpenAiClient(transport, model, json_mode=json_mode, takes_seed=takes_seed)
        try:
            await client.connect()
            yield client
        finally:
            await client.aclose()


def ask(**changes: Any) -> GenerationRequest:
    given = {"prompt": CHAT, "sampling": Sampling(), "max_tokens": 9, "seed": 4}
    return GenerationRequest(**{**given, **changes})


@pytest.mark.parametrize("root", ["/v1", ""])
async def test_the_path_is_found_with_or_without_a_version(root: str) -> None:
    server = Hosted(chat_reply("Yes."), root=root)
    async with connected(server) as client:
        assert (await client.generate(ask())).text == "Yes."


async def test_only_standard_parameters_are_sent() -> None:
    server = Hosted()
    async with connected(server) as client:
        await client.generate(ask())
        await client.generate(ask(stop=("\n",)))
    assert server.payloads[0] == {
        "model": "deepseek-chat",
        "messages": [{"role": "user", "content": "Extract."}],
        "stream": False,
        "temperature": 0.7,
        "top_p": 1.0,
        "max_tokens": 9,
    }
    assert server.payloads[1]["stop"] == ["\n"]


async def test_a_seed_is_sent_where_it_is_taken() -> None:
    server = Hosted()
    async with connected(server, takes_seed=True) as client:
        assert client.capabilities.seed
        await client.generate(ask())
    assert server.payloads[0]["seed"] == 4


@pytest.mark.parametrize("sampling", [Sampling(top_k=5), Sampling(min_p=0.1)])
async def test_a_sampling_that_cannot_be_honoured_is_refused(sampling: Sampling) -> None:
    server = Hosted()
    async with connected(server) as client:
        with pytest.raises(UnsupportedByServer, match="top_k"):
            await client.generate(ask(sampling=sampling))
    assert not server.payloads


@pytest.mark.parametrize(
    ("mode", "kind", "constrained"),
    [("schema", "json_schema", True), ("object", "json_object", False)],
)
async def test_json_is_asked_for_as_the_server_takes_it(
    mode: JsonMode,
    kind: str,
    constrained: bool,  # noqa: FBT001
) -> None:
    server = Hosted()
    async with connected(server, json_mode=mode) as client:
        assert client.capabilities.json_schema
        await client.generate(ask(json_schema=SCHEMA))
    assert server.payloads[0]["response_format"]["type"] == kind
    assert ("properties" in json.dumps(server.payloads[0])) is constrained


async def test_json_is_refused_where_there_is_no_way_to_ask() -> None:
    async with connected(Hosted(), json_mode="none") as client:
        with pytest.raises(UnsupportedByServer, match="no JSON mode"):
            await client.generate(ask(json_schema=SCHEMA))


async def test_an_empty_content_may_pass() -> None:
    async with connected(Hosted(chat_reply(" \n"))) as client:
        with pytest.raises(ServerUnavailable, match="empty content"):
            await client.generate(ask())


async def test_a_content_cut_to_nothing_is_a_response() -> None:
    async with connected(Hosted(chat_reply("", "length"))) as client:
        assert (await client.generate(ask())).finish_reason == "length"


async def test_a_server_short_of_resources_may_pass() -> None:
    async with connected(Hosted(chat_reply("", "insufficient_system_resource"))) as client:
        with pytest.raises(ServerUnavailable, match="insufficient_system_resource"):
            await client.generate(ask())


async def test_reasoning_is_kept_apart() -> None:
    async with connected(Hosted(chat_reply("3", reasoning_content="Hm."))) as client:
        generation = await client.generate(ask())
    assert (generation.text, generation.reasoning) == ("3", "Hm.")


async def test_a_plain_text_is_completed() -> None:
    reply = {"choices": [{"text": " 3", "finish_reason": "stop"}]}
    server = Hosted(reply)
    async with connected(server) as client:
        assert (await client.generate(ask(prompt=Prompt(text="Answer:")))).text == " 3"
    assert server.payloads[0]["prompt"] == "Answer:"


async def test_a_refused_key_is_named_by_its_variable() -> None:
    with pytest.raises(QueryRejected, match="refuses the key in DEEPSEEK_API_KEY") as caught:
        async with connected(Hosted(), key="wrong-key"):
            pass
    assert "wrong-key" not in str(caught.value)


async def test_an_unknown_model_is_answered_with_those_served() -> None:
    with pytest.raises(UsageError, match="served: deepseek-chat, deepseek-reasoner"):
        async with connected(Hosted(), model="gpt"):
            pass
    with pytest.raises(UsageError, match="name the model to use"):
        async with connected(Hosted(), model=None):
            pass


async def test_nothing_is_scored() -> None:
    async with connected(Hosted()) as client:
        assert not client.capabilities.token_ids
        with pytest.raises(UnsupportedByServer):
            await client.render(CHAT)
        with pytest.raises(UnsupportedByServer):
            await client.encode("x")
        with pytest.raises(UnsupportedByServer):
            await client.next_token_logprobs([NextTokenQuestion((1,), (2,))])
        with pytest.raises(UnsupportedByServer):
            await client.sequence_logprobs((1,), [(2,)])


async def test_a_reply_without_choices_is_refused() -> None:
    async with connected(Hosted({"choices": []})) as client:
        with pytest.raises(BadReply, match="0 choices"):
            await client.generate(ask())


async def test_a_dated_name_of_the_model_is_taken_but_another_one_later_is_not() -> None:
    server = Hosted({**chat_reply("Yes."), "model": "deepseek-chat-0528"})
    async with connected(server) as client:
        await client.generate(ask())
        await client.generate(ask())
        server.reply = {**chat_reply("Yes."), "model": "deepseek-chat-1130"}
        with pytest.raises(IdentityMismatch, match="deepseek-chat-1130"):
            await client.generate(ask())


async def test_a_model_that_is_listed_no_more_is_another_one() -> None:
    server = Hosted(chat_reply("Yes."))
    async with connected(server) as client:
        before = await client.connect()
        assert before.differences_to(await client.identify()) == []
        gone = replace(before, model="gone")
        assert gone.differences_to(await client.identify()) == [
            "model: 'gone' before, 'deepseek-chat' now"
        ]


async def test_a_page_instead_of_the_list_of_models_means_another_path() -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html></html>", content_type="text/html")

    server = Hosted(chat_reply("Yes."), root="")
    app = server.app()
    app.router.add_get("/v1/models", page)
    async with serving(app) as url:
        client = OpenAiClient(Transport(url, api_key="secret"), "deepseek-chat")
        assert (await client.connect()).model == "deepseek-chat"
        await client.aclose()
