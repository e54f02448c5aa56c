"""Texts of tokens, on every kind of server."""

import pytest

from fake_llamacpp import FakeLlamaCpp, serving
from grace.errors import UnsupportedByServer
from grace.inference.llamacpp import LlamaCppClient
from grace.inference.openai import OpenAiClient
from grace.inference.tgi import TgiClient
from grace.inference.toy import ToyClient
from grace.inference.transport import Transport

TEXT = "It wasn't good<|end|>"


async def test_tokens_are_written_out_as_they_were_read() -> None:
    toy = ToyClient()
    async with serving(FakeLlamaCpp().app()) as url:
        client = LlamaCppClient(Transport(url))
        ids = await client.encode(TEXT)
        assert await client.decode(ids) == await toy.decode(ids) == TEXT
        assert await client.decode([ids[-1]]) == "<|end|>"
        await client.aclose()


@pytest.mark.parametrize("kind", [TgiClient, OpenAiClient])
async def test_servers_that_cannot_say_so(kind: type[TgiClient] | type[OpenAiClient]) -> None:
    client = kind(Transport("http://127.0.0.1:9"))
    with pytest.raises(UnsupportedByServer):
        await client.decode([1])
