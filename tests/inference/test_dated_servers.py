"""Servers whose chat template writes the current date, as gpt-oss's does."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiohttp import web
from fake_server import FakeTgi, FakeVllm, TinyModel, serving

from fake_llamacpp import FakeLlamaCpp, served
from grace.catalogue.progress import SilentProgress
from grace.catalogue.spec import load_catalogue
from grace.errors import UnsupportedByServer
from grace.inference.client import (
    GenerationRequest,
    InferenceClient,
    Rendered,
    Sampling,
    ServerIdentity,
)
from grace.inference.dating import TemplateDate
from grace.inference.llamacpp import LlamaCppClient
from grace.inference.tgi import TgiClient
from grace.inference.transport import Transport
from grace.inference.vllm import VllmClient
from grace.pipeline.connection import connect_model, model_use
from grace.settings import RunSettings
from grace.studies.prompts import Message, Prompt

_T = TypeVar("_T")

DATE = TemplateDate("Today: {date}.", "2025-08-05")
CHAT = Prompt(messages=(Message("user", "Is it so?"),), answer_prefix="<|end|>")
REQUEST = GenerationRequest(
    CHAT, Sampling(), max_tokens=5, seed=1, control_tokens=("<|end|>", "<|user|>")
)
PINNED = "<s>Today: 2025-08-05.<|user|>Is it so?<|end|><|assistant|>"


class Dated(TinyModel):
    """A model whose template writes a date."""

    def __init__(self, day: str, written: str = "Today: {}.") -> None:
        super().__init__()
        self._line = written.format(day)

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        return super().chat(messages).replace("<s>", f"<s>{self._line}", 1)


async def with_vllm(
    server: FakeVllm, date: TemplateDate | None, act: Callable[[VllmClient], Awaitable[_T]]
) -> _T:
    async with serving(server.app()) as url:
        client = VllmClient(Transport(url, timeout_seconds=5), template_date=date)
        try:
            return await act(client)
        finally:
            await client.aclose()


async def rendered_by(client: InferenceClient) -> Rendered:
    await client.connect()
    return await client.render(CHAT)


@pytest.mark.parametrize("day", ["2026-11-23", "2026-11-24"])
async def test_vllm_and_tgi_give_the_pinned_date_to_the_model(day: str) -> None:
    model = Dated(day)
    one = await with_vllm(FakeVllm(model=model), DATE, rendered_by)
    async with serving(FakeTgi(model=model).app()) as url:
        client = TgiClient(Transport(url), template_date=DATE)
        two = await rendered_by(client)
        await client.aclose()
    for rendered in (one, two):
        assert rendered.text == PINNED + "<|end|>"
        assert list(rendered.token_ids) == model.encode(rendered.text, special=False)


async def test_the_identity_is_the_same_on_the_next_day_and_only_with_a_pinned_date() -> None:
    async def probed(day: str, date: TemplateDate | None) -> Any:
        found = await with_vllm(FakeVllm(model=Dated(day)), date, lambda c: c.connect())
        return found.details["chat_probe_sha256"]

    assert await probed("2026-11-23", DATE) == await probed("2026-11-24", DATE)
    assert await probed("2026-11-23", None) != await probed("2026-11-24", None)


async def test_tgi_has_the_same_identity_on_the_next_day() -> None:
    found = []
    for day in ("2026-11-23", "2026-11-24"):
        async with serving(FakeTgi(model=Dated(day)).app()) as url:
            client = TgiClient(Transport(url), template_date=DATE)
            found.append(await client.connect())
            await client.aclose()
    assert found[0] == found[1]


async def test_vllm_answers_the_rendered_tokens_and_shows_control_tokens() -> None:
    model = Dated("2026-11-23")
    server = FakeVllm(model=model)

    async def answer(client: VllmClient) -> None:
        await client.connect()
        server.requests.clear()
        await client.generate(REQUEST)

    await with_vllm(server, DATE, answer)
    assert server.asked("/v1/chat/completions") == []
    (payload,) = server.asked("/v1/completions")
    assert payload["prompt"] == [model.encode(PINNED + "<|end|>", special=False)]
    assert payload["skip_special_tokens"] is False
    assert (payload["max_tokens"], payload["seed"]) == (5, 1)


async def test_a_server_whose_template_writes_no_date_is_refused_on_connecting() -> None:
    with pytest.raises(UnsupportedByServer, match="template_date"):
        await with_vllm(FakeVllm(), DATE, lambda client: client.connect())


async def test_tgi_cannot_answer_and_says_so() -> None:
    async with serving(FakeTgi(model=Dated("2026-11-23")).app()) as url:
        client = TgiClient(Transport(url), template_date=DATE)
        await client.connect()
        with pytest.raises(UnsupportedByServer, match="Experiment 1"):
            await client.generate(REQUEST)
        await client.aclose()


async def test_llama_cpp_gives_the_pinned_date_to_the_model() -> None:
    class DatedLlamaCpp(FakeLlamaCpp):
        async def _apply_template(self, _: web.Request) -> web.Response:
            return web.json_response({"prompt": "Today: 2026-11-24.<|user|>Is it so?<|assistant|>"})

    with served(DatedLlamaCpp()) as url:
        client = LlamaCppClient(Transport(url), template_date=DATE)
        rendered = await client.render(CHAT)
        await client.aclose()
    assert rendered.text == "Today: 2025-08-05.<|user|>Is it so?<|assistant|><|end|>"


async def test_llama_cpp_is_asked_to_show_the_control_tokens() -> None:
    payloads: list[Any] = []
    server = FakeLlamaCpp()
    with served(server) as url:
        client = LlamaCppClient(Transport(url))
        await client.connect()
        server.trouble = lambda _, payload: payloads.append(payload)
        await client.generate(REQUEST)
        await client.aclose()
    assert payloads[0]["preserved_tokens"] == ["<|end|>", "<|user|>"]


async def test_a_run_of_gpt_oss_has_the_same_identity_on_the_next_day() -> None:
    catalogue = load_catalogue()
    use = model_use(catalogue.get("gpt-oss-20b"), elsewhere=True)

    async def on(day: str, *, server: str) -> ServerIdentity:
        app = FakeVllm(model=Dated(day, "Current date: {}\n"), names=("gpt-oss-20b",)).app()
        async with serving(app) as url:
            settings = RunSettings(model=("gpt-oss-20b",), endpoint=url, server=server)
            async with connect_model(
                use, settings, catalogue, Path("store"), SilentProgress(), url
            ) as connection:
                return connection.server

    first = await on("2026-11-23", server="vllm")
    second = await on("2026-11-24", server="vllm")
    assert first == second
    assert first.details["template_date"] == "2025-08-05"
    hosted = await on("2026-11-23", server="openai")
    assert hosted.details["template_date"] == "not pinned"
