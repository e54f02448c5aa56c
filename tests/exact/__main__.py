"""Measure, compare, print; exit with 1 if a difference is over its limit."""

import argparse
import asyncio
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from exact.figures import (
    METHOD_LIMIT,
    QUANTISED_LIMIT,
    REFERENCE_LIMIT,
    REPEAT_LIMIT,
    Figure,
    coverage_differences,
    distribution_pairs,
    favourite_differences,
    form_differences,
    mean_differences,
    probability_differences,
    table_of,
    token_differences,
)
from exact.materials import STIMULI, input_queries, one_of_each_probe, shipped_queries
from exact.measure import SLOTS, Form, Scores, Server, prompt_of, serving
from exact.reference import Reference
from exact.weights import fp32_copy, quantised_weights
from grace.engine.plan import QueryKey, ScoreQuery
from grace.engine.score import ScoringMethod
from grace.inference.client import Rendered
from grace.studies.knowledge import KNOWLEDGE
from grace.studies.prompts import PromptMode

CHAT, COMPLETION = PromptMode.CHAT, PromptMode.COMPLETION
ALONE = "nothing cached"
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
        own, children = (
            resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        spent = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
        self._console.print(f"{now - self._start:5.0f} s, of CPU {spent:4.0f} s  {what}")
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
    cold: dict[QueryKey, tuple[Form, ...]] = {}
    warm: dict[QueryKey, tuple[Form, ...]] = {}
    for query in queries:
        async with server.emptied() as emptied:
            cold |= await emptied.scores([query], SEQUENCE, at_once=1)
            warm |= await emptied.scores([query], SEQUENCE, at_once=1)
    async with server.emptied() as emptied:
        together = await emptied.scores(queries, SEQUENCE, at_once=SLOTS)
    return {ALONE: cold, "asked again": warm, f"{SLOTS} at once": together}


def _reference_scores(
    reference: Reference, rendered: Mapping[QueryKey, Rendered], scores: Scores
) -> Scores:
    """Score the very same token ids with the reference."""
    truth = {}
    for key, forms in scores.items():
        values = reference.score(rendered[key].token_ids, [form.token_ids for form in forms])
        truth[key] = tuple(
            form.model_copy(update={"logprobs": logprobs})
            for form, logprobs in zip(forms, values, strict=True)
        )
    return truth


def _token_figures(reference: Reference, material: Material, plain: Measured) -> list[Figure]:
    if not reference.has_chat_template:
        raise SystemExit("transformers found no chat template in the file")
    prompts = [
        _differing(
            plain.rendered[CHAT][query.key].token_ids,
            reference.chat_ids(prompt_of(query, CHAT).messages),
        )
        for query in material.chat
    ]
    joined = [
        _differing(
            (*plain.rendered[mode][key].token_ids, *form.token_ids),
            reference.text_ids(plain.rendered[mode][key].text + form.text),
        )
        for mode in (CHAT, COMPLETION)
        for key, forms in plain.scores[mode, SEQUENCE].items()
        for form in forms
    ]
    return [
        Figure("chat template: the server's token ids and transformers'", prompts, "ids", 1),
        Figure("prompt with answer, cut as one text by transformers", joined, "ids", 1),
    ]


def _exact_figures(
    reference: Reference, plain: Measured, truth: Mapping[PromptMode, Scores]
) -> list[Figure]:
    figures = [
        Figure(
            f"fp32 and reference, {mode.value}, {method.value}",
            form_differences(scores, truth[mode]),
            limit=REFERENCE_LIMIT,
        )
        for (mode, method), scores in plain.scores.items()
    ]
    figures += [
        Figure(
            f"fp32, trie and sequence, {mode.value}",
            form_differences(plain.scores[mode, TRIE], plain.scores[mode, SEQUENCE]),
            limit=METHOD_LIMIT,
        )
        for mode in (CHAT, COMPLETION)
    ]
    figures += _repeat_figures("fp32", plain, REPEAT_LIMIT)
    whole = {
        key: tuple(
            form.model_copy(
                update={
                    "logprobs": reference.whole(plain.rendered[CHAT][key].token_ids, form.token_ids)
                }
            )
            for form in truth[CHAT][key][:2]
        )
        for key in plain.repeats[ALONE]
    }
    kept = {key: truth[CHAT][key][:2] for key in whole}
    figures.append(
        Figure(
            "reference, with shared beginnings and in one pass",
            form_differences(kept, whole),
            limit=METHOD_LIMIT,
        )
    )
    return figures


def _repeat_figures(name: str, measured: Measured, limit: float | None) -> list[Figure]:
    alone = measured.repeats[ALONE]
    return [
        Figure(f"{name}, {ALONE} and {how}", form_differences(alone, scores), limit=limit)
        for how, scores in measured.repeats.items()
        if how != ALONE
    ]


def _differing(first: Sequence[int], second: Sequence[int]) -> float:
    pairs = zip(first, second, strict=False)
    return float(sum(one != other for one, other in pairs) + abs(len(first) - len(second)))


def _quantised_figures(
    material: Material, default: Measured, truth: Mapping[PromptMode, Scores]
) -> list[Figure]:
    figures = [
        Figure(
            f"as shipped and reference, {mode.value}",
            form_differences(scores, truth[mode]),
            limit=QUANTISED_LIMIT,
        )
        for (mode, _), scores in default.scores.items()
    ]
    pairs = distribution_pairs(material.chat, default.scores[CHAT, SEQUENCE], truth[CHAT])
    return [
        *figures,
        Figure(
            "the same, each token", token_differences(default.scores[CHAT, SEQUENCE], truth[CHAT])
        ),
        Figure("the same, normalised probabilities", probability_differences(pairs), "points"),
        Figure("the same, means of percentages", mean_differences(pairs), "points"),
        Figure("the same, coverage", coverage_differences(pairs), "points"),
        Figure("the same, most probable answer", favourite_differences(pairs), "differ"),
        *_repeat_figures("as shipped", default, limit=None),
    ]


if __name__ == "__main__":
    sys.exit(main())
