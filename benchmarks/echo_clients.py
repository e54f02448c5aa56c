"""
Tools that send every answer behind its prompt and read the echo: lm-eval, and by hand.

Each answer is a prompt of its own, computed from its first token on: a server
that reports a prompt's tokens cannot take them from its cache.
"""

import asyncio
import logging
from typing import Any

import aiohttp

from benchmarks.tasks import Form, Job, Scores, Task

LM_EVAL_BATCH = 8
"""Prompts in one of its requests: more make requests so long that a small server stalls."""


def run_echo(job: Job) -> Scores:
    """Ask for the echo of one answer after another with aiohttp; the seam is given by tokens."""
    return asyncio.run(_echo(job))


async def _echo(job: Job) -> Scores:
    scores: Scores = {task.key: {} for task in job.tasks}
    pending = iter([(task, form) for task in job.tasks for form in task.forms])
    connector = aiohttp.TCPConnector(limit=job.concurrency)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def worker() -> None:
            for task, form in pending:
                asked = {
                    "model": job.model,
                    "prompt": [*task.prompt, *form.token_ids],
                    "max_tokens": 0,
                    "temperature": 0,
                    "logprobs": 0,
                    "echo": True,
                }
                async with session.post(f"{job.url}/v1/completions", json=asked) as reply:
                    reply.raise_for_status()
                    found = (await reply.json())["choices"][0]["logprobs"]["token_logprobs"]
                values = found[len(task.prompt) : len(task.prompt) + len(form.token_ids)]
                scores[task.key][form.text] = sum(values)

        async with asyncio.TaskGroup() as group:
            for _ in range(job.concurrency):
                group.create_task(worker())
    return scores


class LmEval:
    """
    What `lm_eval --model local-completions` asks, given prompts and answers as texts.

    Without a model folder there is no tokenizer: then it is given the tokens,
    and spared the work of making them. The tokenizer is loaded before the clock
    starts.

    Args:
        job: The server, and the folder with the tokenizer.
    """

    def __init__(self, job: Job) -> None:
        from lm_eval.models.openai_completions import LocalCompletionsAPI

        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        self._tokenizes = job.folder is not None
        self._model: Any = LocalCompletionsAPI(
            base_url=f"{job.url}/v1/completions",
            model=job.model,
            tokenizer=str(job.folder) if self._tokenizes else None,
            tokenizer_backend="huggingface" if self._tokenizes else None,
            num_concurrent=job.concurrency,
            batch_size=LM_EVAL_BATCH,
            max_length=4096,
            timeout=3600,
        )

    def run(self, job: Job) -> Scores:
        """Score all tasks in one call."""
        from lm_eval.api.instance import Instance

        pairs: list[tuple[Task, Form]] = [(task, form) for task in job.tasks for form in task.forms]
        if self._tokenizes:
            found = self._model.loglikelihood(
                [
                    Instance("loglikelihood", {}, (task.context, form.text), number)
                    for number, (task, form) in enumerate(pairs)
                ]
            )
        else:
            self._model.tokenizer, self._model.tokenized_requests = "given tokens", True
            # What `loglikelihood` calls when it has encoded everything.
            found = self._model._loglikelihood_tokens(
                [
                    ((task.context, form.text), list(task.prompt), list(form.token_ids))
                    for task, form in pairs
                ]
            )
        scores: Scores = {task.key: {} for task in job.tasks}
        for (task, form), (value, _) in zip(pairs, found, strict=True):
            scores[task.key][form.text] = value
        return scores
