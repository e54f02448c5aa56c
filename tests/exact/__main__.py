"""Measure, compare, print; exit with 1 if a difference is over its limit."""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from exact.figures import (
    METHOD_LIMIT,
    QUANTISED_LIMIT,
    REFERENCE_LIMIT,
    REPEAT_LIMIT,
    Figure,
    coverage_differences,
    distribution_pairs,
    form_differences,
    mean_differences,
    other_favourites,
    probability_differences,
    table_of,
    token_differences,
)
from exact.materials import STIMULI, input_queries, one_of_each_probe, shipped_queries
from exact.measure import Form, Scores, Server, prompt_of, serving
from exact.reference import Reference
from exact.weights import fp32_copy, quantised_weights
from rich.console import Console

from grace.engine.plan import QueryKey, ScoreQuery
from grace.engine.score import ScoringMethod
from grace.inference.client import Rendered
from grace.studies.prompts import PromptMode

CHAT, COMPLETION = PromptMode.CHAT, PromptMode.COMPLETION
TRIE, SEQUENCE = ScoringMethod.TRIE, ScoringMethod.SEQUENCE


@dataclass(frozen=True, slots=True)
class Material:
    """
    The queries, by what is done with them.

    Attributes:
        chat: Scored through the chat template.

        completion: Scored after plain text too.

        repeated: Asked again and again, under different states of the cache.
    """

    chat: tuple[ScoreQuery, ...]
    completion: tuple[ScoreQuery, ...]
    repeated: tuple[ScoreQuery, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """What one server answered."""

    rendered: Mapping[PromptMode, Mapping[QueryKey, Rendered]]
    scores: Mapping[tuple[PromptMode, ScoringMethod], Scores]
    repeats: Mapping[str, Scores]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything; return the exit status."""
    parser = argparse.ArgumentParser(prog="make test-exact", description=__doc__)
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="STUDY=CSV",
        help="trials of your own, a few of which are scored beside the shipped ones",
    )
    options = parser.parse_args(arguments)
    inputs = {study: Path(path) for study, _, path in (one.partition("=") for one in options.input)}
    console = Console(width=120, highlight=False, soft_wrap=True)
    clock = _Clock(console)

    material = _material(inputs)
    quantised = quantised_weights()
    fp32 = fp32_copy(quantised)
    clock.lap(f"weights: {quantised.path.name} and the same in fp32")
    plain = asyncio.run(_ask(fp32, material, (SEQUENCE, TRIE)))
    clock.lap("embedded server, fp32")
    default = asyncio.run(_ask(quantised.path, material, (SEQUENCE,)))
    clock.lap("embedded server, as shipped")
    # From the shipped file, so that the fp32 copy is checked as well.
    reference = Reference(quantised.path)
    clock.lap("transformers: weights")
    truth = {
        mode: _reference_scores(reference, plain.rendered[mode], plain.scores[mode, SEQUENCE])
        for mode in (CHAT, COMPLETION)
    }
    clock.lap("transformers: scores")

    figures = [
        *_token_figures(reference, material, plain),
        *_exact_figures(reference, plain, truth),
        *_quantised_figures(material, default, truth),
    ]
    clock.lap("figures")
    console.print()
    console.print(table_of(figures))
    failed = [figure.compared for figure in figures if not figure.passed]
    console.print(f"\nover the limit: {'; '.join(failed)}" if failed else "\nall within the limits")
    return 1 if failed else 0


class _Clock:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = self._start = time.monotonic()

    def lap(self, what: str) -> None:
        now = time.monotonic()
        self._console.print(f"{now - self._start:5.0f} s  (+{now - self._last:.0f})  {what}")
        self._last = now


def _material(inputs: Mapping[str, Path]) -> Material:
    shipped = {study: shipped_queries(study, count) for study, count in STIMULI.items()}
    knowledge, politeness = shipped["study1"], shipped["study2"]
    return Material(
        chat=(*knowledge, *politeness, *input_queries(inputs)),
        completion=(
            *one_of_each_probe(knowledge, [probe.name for probe in KNOWLEDGE.candidate_probes]),
            *politeness[:2],
        ),
        repeated=(
            *one_of_each_probe(knowledge, ["state0", "knowledge", "direct"]),
            politeness[-1],
        ),
    )


async def _ask(model: Path, material: Material, methods: Sequence[ScoringMethod]) -> Measured:
    queries = {CHAT: material.chat, COMPLETION: material.completion}
    async with serving(model) as server:
        repeats = await _repeats(server, material.repeated)
        rendered = {mode: await server.rendered(asked, mode) for mode, asked in queries.items()}
        scores = {
            (mode, method): await server.scores(asked, method, mode=mode)
            for method in methods
            for mode, asked in queries.items()
        }
    return Measured(rendered, scores, repeats)


async def _repeats(server: Server, queries: Sequence[ScoreQuery]) -> dict[str, Scores]:
    cold = await server.scores(queries, SEQUENCE, at_once=1, cached=False)
    first = await server.scores(queries, SEQUENCE, at_once=1)
    warm = await server.scores(queries, SEQUENCE, at_once=1)
    together = await server.scores(queries, SEQUENCE, at_once=SLOTS)
    return {
        "nothing cached": cold,
        "beginnings cached": first,
        "everything cached": warm,
        f"{SLOTS} at once": together,
    }
