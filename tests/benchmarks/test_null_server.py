import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from benchmarks.null_model import NullModel
from benchmarks.null_server import MODEL, NullServer, serve
from benchmarks.plain_clients import run_aiohttp, run_aiohttp_together
from benchmarks.tasks import Form, Job, Task, largest_difference
from grace.inference.client import GenerationRequest, NextTokenQuestion, Sampling
from grace.inference.detect import detect
from grace.inference.transport import Transport
from grace.inference.vllm import VllmClient
from grace.studies.prompts import Message, Prompt

ANSWERS = ("yes", "no", "10%", "100%", "It wasn't good")


@asynccontextmanager
async def running(server: NullServer) -> AsyncIterator[str]:
    """Serve in this loop and yield the address."""
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(serve(server, announce=address.set_result))
    try:
        yield await address
    finally:
        task.cancel()
        await asyncio.wait([task])


async def scored(client: VllmClient) -> Task:
    """Return a task whose tokens come from the server."""
    rendered = await client.render(Prompt(messages=(Message("user", "Is the sky blue?"),)))
    joined = [await client.encode(rendered.text + answer) for answer in ANSWERS]
    return Task(
        key="one",
        context=rendered.text,
        prompt=rendered.token_ids,
        forms=tuple(
            Form(text=answer, token_ids=ids[len(rendered.token_ids) :])
            for answer, ids in zip(ANSWERS, joined, strict=True)
        ),
    )


async def test_grace_takes_it_for_a_vllm_server_that_scores_both_ways() -> None:
    async with running(NullServer()) as url:
        transport = Transport(url)
        assert await detect(transport) == "vllm"
        client = VllmClient(transport)
        identity = await client.connect()
        assert (identity.model, client.capabilities.next_token, client.capabilities.sequence) == (
            MODEL,
            True,
            True,
        )
        task = await scored(client)
        whole = await client.sequence_logprobs(task.prompt, [form.token_ids for form in task.forms])
        nodes = task.nodes()
        edges = await client.next_token_logprobs(
            [NextTokenQuestion(prefix, children) for prefix, children in nodes]
        )
        after = dict(zip([prefix for prefix, _ in nodes], edges, strict=True))
        for form, values in zip(task.forms, whole, strict=True):
            for depth, (token, value) in enumerate(zip(form.token_ids, values, strict=True)):
                assert after[(*task.prompt, *form.token_ids[:depth])][token] == value
        await client.aclose()


async def test_one_node_a_request_and_all_together_give_the_same_numbers() -> None:
    server = NullServer()
    async with running(server) as url:
        client = VllmClient(Transport(url))
        await client.connect()
        task = await scored(client)
        await client.aclose()
        server.counts.clear()
        job = Job(tool="", url=url, model=MODEL, tasks=(task,), concurrency=3)
        apart = await asyncio.to_thread(run_aiohttp, job)
        assert server.counts["/v1/completions"] == server.counts["prompts"] == len(task.nodes())
        together = await asyncio.to_thread(run_aiohttp_together, job)
        assert server.counts["/v1/completions"] == len(task.nodes()) + 1
        assert largest_difference(apart, together) == 0


async def test_an_echo_holds_what_was_asked_of_each_token() -> None:
    server = NullServer()
    asked = {"prompt": [3, 5, 8], "echo": True, "logprobs": 1, "max_tokens": 1}
    listed = {"prompt": [[3, 5]], "logprob_token_ids": [8], "logprobs": 1, "max_tokens": 1}
    echoed = SimpleNamespace(**json.loads(server.answer("/v1/completions", _json(asked))[1]))
    found = SimpleNamespace(**json.loads(server.answer("/v1/completions", _json(listed))[1]))
    values = echoed.choices[0]["logprobs"]["token_logprobs"]
    assert values[0] is None
    assert values[2] == found.choices[0]["logprobs"]["top_logprobs"][0]["token_id:8"]


async def test_requests_in_pieces_and_in_one_piece_are_answered_in_order() -> None:
    async with running(NullServer()) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
        body = _json({"prompt": "one two"})
        request = b"POST /tokenize HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        for piece in (
            request[:20],
            request[20:-3],
            request[-3:] + b"GET /nothing HTTP/1.1\r\n\r\n",
        ):
            writer.write(piece)
            await writer.drain()
        first = await reader.readuntil(b"\r\n\r\n")
        assert first.startswith(b"HTTP/1.1 200")
        assert b'"count": 2' in await reader.readuntil(b"}")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 404")
        writer.close()
        await writer.wait_closed()


def test_what_is_not_a_request_is_refused() -> None:
    server = NullServer()
    assert server.answer("/v1/completions", b"{")[0] == 400
    assert server.answer("/v1/completions", b"{}")[0] == 400
    many = {"prompt": [[1]], "logprob_token_ids": list(range(129)), "max_tokens": 1}
    assert server.answer("/v1/completions", _json(many))[0] == 400


@pytest.mark.parametrize(
    "text", ["", "a b", "<|im_start|>user\nIt's 10%<|im_end|>\n", "é\u2028 \t"]
)
def test_tokens_give_their_text_back(text: str) -> None:
    model = NullModel()
    assert model.decode(model.encode(text)) == text


def _json(content: object) -> bytes:
    return json.dumps(content).encode()


async def test_it_answers_a_chat_in_another_way_for_every_seed() -> None:
    async with running(NullServer()) as url:
        client = VllmClient(Transport(url))
        await client.connect()
        request = GenerationRequest(
            prompt=Prompt(messages=(Message("user", "How many?"),)),
            sampling=Sampling(),
            max_tokens=16,
            seed=1,
        )
        texts = [(await client.generate(replace(request, seed=seed))).text for seed in (1, 1, 2)]
        assert texts[0] == texts[1] != texts[2]
        await client.aclose()
