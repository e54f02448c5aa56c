"""
The prompts of a study, as tasks: planned by Grace, rendered and encoded by the server.

This is preparation, and is not measured. Every tool gets the same.
"""

import json
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from benchmarks.tasks import Form, Task
from grace.engine.plan import ScoreQuery, plan_scores
from grace.pipeline.inputs import load_inputs
from grace.runs.csvfile import csv_bytes
from grace.settings import RunSettings
from grace.studies.prompts import PromptMode, build_prompt
from grace.studies.trials import TrialSet

_M = TypeVar("_M", bound=BaseModel)

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class _Tokens(BaseModel):
    tokens: tuple[int, ...]


class _Text(BaseModel):
    prompt: str


class Workload(BaseModel):
    """
    Some prompts of a study.

    Attributes:
        title: What a table calls it.

        study: The study's key.

        probes: The probes that are asked; none means all.

        input: The rows, or None for those that come with Grace.

        rows: Only the first rows.
    """

    title: str
    study: str
    probes: tuple[str, ...] = ()
    input: Path | None = None
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class PlanCounts:
    """How many prompts a workload has: distinct ones, and counted once for every row."""

    distinct: int
    asked: int


def plan_counts(workload: Workload) -> PlanCounts:
    """Count a workload's prompts."""
    plan = plan_scores(_trials(workload))
    asked = [
        query.key
        for row in plan.rows
        for name, query in row.queries.items()
        if not workload.probes or name in workload.probes
    ]
    return PlanCounts(len(set(asked)), len(asked))


def write_sample(workload: Workload, stimuli: int, path: Path) -> Workload:
    """
    Write one row for each of some stimuli, spread over the input, and return that workload.

    Args:
        workload: What to draw from.

        stimuli: How many, or as many as there are.

        path: The new CSV file.
    """
    trials = _trials(workload)
    first = list({trial.stimulus_id: trial for trial in reversed(trials.trials)}.values())
    first.reverse()
    number = min(stimuli, len(first))
    picked = [first[position * len(first) // number] for position in range(number)]
    path.write_bytes(csv_bytes(trials.header, [trial.cells for trial in picked]))
    return workload.model_copy(update={"input": path})


def tasks_of(workload: Workload, url: str, model: str) -> tuple[Task, ...]:
    """Return the distinct prompts of a workload, rendered by a server that speaks vLLM's dialect."""
    plan = plan_scores(_trials(workload))
    encoded: dict[str, tuple[int, ...]] = {}
    tasks = []
    for query in plan.queries:
        if workload.probes and query.probe.name not in workload.probes:
            continue
        prompt = build_prompt([query.turn], [], PromptMode.CHAT)
        messages = [{"role": turn.role, "content": turn.content} for turn in prompt.messages]
        asked = {"model": model, "messages": messages, "add_generation_prompt": True}
        tokens = _post(url, "/tokenize", asked, _Tokens).tokens
        context = _post(url, "/detokenize", {"model": model, "tokens": tokens}, _Text).prompt
        for text in _texts(query):
            if text not in encoded:
                joined = {"model": model, "prompt": context + text, "add_special_tokens": False}
                encoded[text] = _post(url, "/tokenize", joined, _Tokens).tokens[len(tokens) :]
        tasks.append(
            Task(
                key=query.key,
                context=context,
                prompt=tokens,
                forms=tuple(Form(text=text, token_ids=encoded[text]) for text in _texts(query)),
            )
        )
    return tuple(tasks)


def fewest_tokens(prefixes: Iterable[tuple[int, ...]], block: int) -> int:
    """
    Return the fewest prompt tokens that a server must compute for some prompts.

    A server keeps whole blocks of tokens and computes at least one token of a
    prompt. What is left of a prompt behind its last known block is computed.

    Args:
        prefixes: The prompts' tokens.

        block: Tokens in a block.

    >>> fewest_tokens([(1, 2, 3, 4, 5), (1, 2, 3, 4, 6), (1, 2, 3, 4)], 2)
    8
    """
    known: set[tuple[int, ...]] = set()
    computed = 0
    for prefix in sorted(prefixes, key=lambda ids: (len(ids), ids)):
        held = 0
        while held + block < len(prefix) and prefix[: held + block] in known:
            held += block
        computed += len(prefix) - held
        known.update(prefix[:end] for end in range(block, len(prefix) + 1, block))
    return computed


def _trials(workload: Workload) -> TrialSet:
    (trials,) = load_inputs(
        RunSettings(
            study=(workload.study,),
            input={workload.study: workload.input} if workload.input is not None else {},
            limit=workload.rows,
        )
    )
    return trials


def _texts(query: ScoreQuery) -> list[str]:
    return [text for answer in query.probe.answers for text in answer.surface_forms]


def _post(url: str, path: str, asked: object, kind: type[_M]) -> _M:
    request = urllib.request.Request(  # noqa: S310  the server that this program started
        f"{url}{path}",
        json.dumps(asked).encode(),
        {"Content-Type": "application/json"},
    )
    with _OPENER.open(request) as reply:
        return kind.model_validate_json(reply.read())
