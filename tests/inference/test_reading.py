"""The texts of tokens and what would come next, from every server that can tell."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fake_server import FakeVllm, vllm_client

from fake_llamacpp import FakeLlamaCpp, serving
from grace.errors import BadReply
from grace.inference.client import NextTokenQuestion
from grace.inference.llamacpp import LlamaCppClient
from grace.inference.openai import OpenAiClient
from grace.inference.reading import TokenReader
from grace.inference.toy import VOCABULARY, ToyClient
from grace.inference.transport import Transport

PREFIX = (1, 30, 31)


@asynccontextmanager
async def llamacpp(server: FakeLlamaCpp) -> AsyncIterator[LlamaCppClient]:
    async with serving(server.app()) as url:
        client = LlamaCppClient(Transport(url))
        try:
            await client.connect()
            yield client
        finally:
            await client.aclose()


def test_a_server_that_shows_no_tokens_is_no_reader() -> None:
    assert isinstance(ToyClient(), TokenReader)
    assert not isinstance(OpenAiClient(Transport("http://127.0.0.1:9")), TokenReader)


async def test_vllm_tells_the_text_of_each_token_by_itself() -> None:
    server = FakeVllm()
    ids = server.model.encode("The capital10 yes", special=True)
    async with vllm_client(server) as client:
        texts = await client.token_texts(ids)
    assert texts == ("<s>", "The", " capital", "10", " ", "yes")


async def test_vllm_keeps_the_space_of_a_token_where_decoding_drops_a_leading_one() -> None:
    server = FakeVllm()
    decode = server.model.decode
    server.model.decode = lambda ids: decode(ids).removeprefix(" ")  # type: ignore[method-assign]
    async with vllm_client(server) as client:
        assert await client.token_texts(server.model.encode(" capital", special=False)) == (
            " capital",
        )


async def test_vllm_lists_what_would_come_next() -> None:
    server = FakeVllm()
    async with vllm_client(server) as client:
        listed = await client.likeliest(PREFIX, 5)
    truth = server.model.logprobs(PREFIX)
    best = sorted(range(len(truth)), key=lambda token: -truth[token])[:5]
    assert list(listed) == best
    assert listed == pytest.approx({token: truth[token] for token in best})


@pytest.mark.parametrize(
    "steps", [None, [], [None], [{"The": -1.0}], [{"token_id:3": 2.0}]], ids=str
)
async def test_vllm_is_not_believed_whatever_it_lists(steps: Any) -> None:
    server = FakeVllm()
    async with vllm_client(server) as client:
        choice = {"index": 0, "text": "", "logprobs": steps and {"top_logprobs": steps}}
        server.mangle = lambda _: {"choices": [choice]}
        with pytest.raises(BadReply):
            await client.likeliest(PREFIX, 5)


async def test_llama_cpp_tells_texts_and_lists_what_would_come_next() -> None:
    async with llamacpp(FakeLlamaCpp()) as client:
        assert await client.token_texts((3, 5)) == (VOCABULARY[3], VOCABULARY[5])
        listed = await client.likeliest(PREFIX, 4)
    question = NextTokenQuestion(PREFIX, tuple(range(len(VOCABULARY))))
    (truth,) = await ToyClient().next_token_logprobs([question])
    assert list(listed) == sorted(truth, key=lambda token: -truth[token])[:4]
    assert listed == await ToyClient().likeliest(PREFIX, 4)
    assert math.fsum(map(math.exp, listed.values())) < 1


async def test_llama_cpp_without_a_list_is_a_bad_reply() -> None:
    server = FakeLlamaCpp()
    async with llamacpp(server) as client:
        server.mangle = lambda reply: {**reply, "completion_probabilities": []}
        with pytest.raises(BadReply):
            await client.likeliest(PREFIX, 4)
