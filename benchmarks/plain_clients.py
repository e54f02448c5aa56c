"""
HTTP clients as people write them by hand: one node prompt a request.

All three ask for the same numbers as Grace does and read them from the reply;
none checks anything. `aiohttp_together` sends the nodes of a distribution in
one request, the least that any client of this library can take.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp

from benchmarks.tasks import Job, Scores
from grace.scoring.trie import path_logprobs

Node = tuple[tuple[int, ...], tuple[int, ...]]
Ask = Callable[[Sequence[Node]], Awaitable[list[dict[int, float]]]]


def run_httpx(job: Job) -> Scores:
    """Ask with `httpx.AsyncClient`."""
    import httpx

    async def work() -> Scores:
        limits = httpx.Limits(max_connections=job.concurrency)
        async with httpx.AsyncClient(timeout=600, limits=limits, trust_env=False) as client:

            async def ask(nodes: Sequence[Node]) -> list[dict[int, float]]:
                reply = await client.post(f"{job.url}/v1/completions", json=body(job, nodes))
                reply.raise_for_status()
                return read(reply.json(), nodes)

            return await score_all(job, ask, together=False)

    return asyncio.run(work())


def run_aiohttp(job: Job) -> Scores:
    """Ask with `aiohttp.ClientSession`."""
    return asyncio.run(_with_aiohttp(job, together=False))


def run_aiohttp_together(job: Job) -> Scores:
    """Ask with `aiohttp.ClientSession`, all nodes of a distribution in one request."""
    return asyncio.run(_with_aiohttp(job, together=True))


def run_openai(job: Job) -> Scores:
    """Ask with `openai.AsyncOpenAI`; what the library does not know goes in `extra_body`."""
    import openai

    async def work() -> Scores:
        async with openai.AsyncOpenAI(base_url=f"{job.url}/v1", api_key="none") as client:

            async def ask(nodes: Sequence[Node]) -> list[dict[int, float]]:
                asked = body(job, nodes)
                more = {
                    name: asked.pop(name)
                    for name in ("logprob_token_ids", "return_tokens_as_token_ids")
                }
                reply = await client.completions.create(**asked, extra_body=more)
                return read(reply.model_dump(), nodes)

            return await score_all(job, ask, together=False)

    return asyncio.run(work())


async def _with_aiohttp(job: Job, *, together: bool) -> Scores:
    connector = aiohttp.TCPConnector(limit=job.concurrency)
    timeout = aiohttp.ClientTimeout(total=600)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def ask(nodes: Sequence[Node]) -> list[dict[int, float]]:
            async with session.post(f"{job.url}/v1/completions", json=body(job, nodes)) as reply:
                reply.raise_for_status()
                return read(await reply.json(), nodes)

        return await score_all(job, ask, together=together)


async def score_all(job: Job, ask: Ask, *, together: bool) -> Scores:
    """Score all tasks, with as many requests at a time as the job says."""
    edges: dict[str, dict[tuple[int, ...], dict[int, float]]] = {}
    questions: list[tuple[str, int, list[Node]]] = []
    for task in job.tasks:
        edges[task.key] = {}
        nodes = task.nodes()
        parts = [nodes] if together else [[node] for node in nodes]
        questions += [(task.key, len(task.prompt), part) for part in parts]
    pending = iter(questions)

    async def worker() -> None:
        for key, start, nodes in pending:
            for (prefix, _), values in zip(nodes, await ask(nodes), strict=True):
                edges[key][prefix[start:]] = values

    async with asyncio.TaskGroup() as group:
        for _ in range(job.concurrency):
            group.create_task(worker())
    return {
        task.key: {
            form.text: sum(path_logprobs(form.token_ids, edges[task.key])) for form in task.forms
        }
        for task in job.tasks
    }


def body(job: Job, nodes: Sequence[Node]) -> dict[str, Any]:
    """Return the request for the next-token numbers of some nodes."""
    tokens = sorted({token for _, children in nodes for token in children})
    return {
        "model": job.model,
        "prompt": [list(prefix) for prefix, _ in nodes],
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": len(tokens),
        "logprob_token_ids": tokens,
        "return_tokens_as_token_ids": True,
    }


def read(reply: Any, nodes: Sequence[Node]) -> list[dict[int, float]]:
    """Return the numbers in a reply."""
    choices = sorted(reply["choices"], key=lambda choice: int(choice["index"]))
    return [
        {token: choice["logprobs"]["top_logprobs"][0][f"token_id:{token}"] for token in children}
        for choice, (_, children) in zip(choices, nodes, strict=True)
    ]
