"""Every candidate of both studies: vLLM by both methods, and transformers in fp32."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from exact.comparison import reference_scores, token_figures
from exact.figures import Figure, distribution_pairs, form_differences, table_of
from exact.figures import probability_differences as percent_point_differences
from exact.materials import CHAT, COMPLETION, Material, default_material
from exact.measure import SEQUENCE, TRIE, Measured, Scores, prompt_of, score_with
from exact.reference import Reference
from exact.weights import quantised_weights
from grace.engine.plan import QueryKey, ScoreQuery
from grace.engine.score import ScoringMethod, choose_method
from grace.inference.client import Rendered
from grace.studies.builtin import BUILTIN_STUDIES
from grace.studies.prompts import PromptMode
from real_vllm.conftest import vllm_client
from real_vllm.older import OlderVllm
from real_vllm.server import VllmServer

pytestmark = pytest.mark.vllm

STIMULI = {"study1": 5, "study2": 24}
OWN_DATA = Path(__file__).parents[3] / "shared" / "data"
AT_ONCE = 8

# In nats, for a whole answer.
REFERENCE_LIMIT = 2e-4
METHOD_LIMIT = 1e-4

Rendering = Mapping[PromptMode, Mapping[QueryKey, Rendered]]


@dataclass(frozen=True, slots=True)
class Compared:
    """What the servers and the reference say about the same prompts and answers."""

    material: Material
    measured: Measured
    truth: Mapping[PromptMode, Scores]
    reference: Reference
    fall_back: ScoringMethod


@pytest.fixture(scope="module")
def material() -> Material:
    """Prompts of both studies from the items that Grace ships, and from the user's rows."""
    files = {study: OWN_DATA / f"{study}.csv" for study in STIMULI}
    return default_material({key: path for key, path in files.items() if path.exists()}, STIMULI)


@pytest.fixture(scope="module")
def compared(vllm: VllmServer, older_url: str, material: Material) -> Compared:
    """All scores; the reference is computed while the fall-back is waited for."""
    reference = Reference(quantised_weights().path)

    async def measure() -> Compared:
        by_method: dict[tuple[PromptMode, ScoringMethod], Scores] = {}
        async with vllm_client(vllm.url) as client:
            preferred = choose_method(client.capabilities, None)
            rendered = {
                mode: {query.key: await client.render(prompt_of(query, mode)) for query in asked}
                for mode, asked in _asked(material).items()
            }
            cold = await score_with(client, material.repeated, CHAT, preferred)
            for mode, asked in _asked(material).items():
                by_method[mode, TRIE] = await score_with(client, asked, mode, TRIE, AT_ONCE)
            warm = await score_with(client, material.repeated, CHAT, preferred)
        fall_back, truth = await asyncio.gather(
            _by_fall_back(older_url, material),
            asyncio.to_thread(
                lambda: {
                    mode: reference_scores(reference, rendered[mode], by_method[mode, TRIE])
                    for mode in rendered
                }
            ),
        )
        method, sequences = fall_back
        by_method |= {(mode, SEQUENCE): scores for mode, scores in sequences.items()}
        together = {query.key: by_method[CHAT, TRIE][query.key] for query in material.repeated}
        measured = Measured(rendered, by_method, preferred, cold, warm, together)
        return Compared(material, measured, truth, reference, method)

    return asyncio.run(measure())


async def _by_fall_back(
    url: str, material: Material
) -> tuple[ScoringMethod, Mapping[PromptMode, Scores]]:
    async with vllm_client(url) as client:
        method = choose_method(client.capabilities, None)
        return method, {
            mode: await score_with(client, asked, mode, method, AT_ONCE)
            for mode, asked in _asked(material).items()
        }


def _asked(material: Material) -> Mapping[PromptMode, Sequence[ScoreQuery]]:
    return {CHAT: material.chat, COMPLETION: material.completion}


def _by_probe(queries: Sequence[ScoreQuery]) -> Mapping[str, list[QueryKey]]:
    """Return the keys of queries by study and probe."""
    study_of = {
        probe.name: key
        for key, study in BUILTIN_STUDIES.items()
        for probe in study.candidate_probes
    }
    groups: defaultdict[str, list[QueryKey]] = defaultdict(list)
    for query in queries:
        groups[f"{study_of[query.probe.name]} {query.probe.name}"].append(query.key)
    return groups


def _check(figures: Sequence[Figure], printed: list[Any]) -> None:
    printed.append(table_of(figures))
    assert not [f"{f.compared}: {f.largest:.2g} {f.unit}" for f in figures if not f.passed]


def test_at_least_fifty_prompts_are_compared(material: Material) -> None:
    assert len(material.chat) >= 50
    assert {query.probe.name for query in material.chat} == {
        probe.name for study in BUILTIN_STUDIES.values() for probe in study.candidate_probes
    }


def test_prompts_and_answers_have_the_tokens_of_transformers(
    compared: Compared, printed: list[Any]
) -> None:
    _check(token_figures(compared.reference, compared.material, compared.measured), printed)


def test_every_answer_has_the_score_of_transformers_by_both_methods(
    compared: Compared, printed: list[Any]
) -> None:
    figures = []
    for (mode, method), scores in compared.measured.scores.items():
        for name, keys in _by_probe(_asked(compared.material)[mode]).items():
            differences = form_differences(
                {key: scores[key] for key in keys},
                {key: compared.truth[mode][key] for key in keys},
            )
            title = f"{name}, {mode}, {method}: vLLM and transformers"
            figures.append(Figure(title, differences, limit=REFERENCE_LIMIT))
    pairs = distribution_pairs(
        compared.material.chat, compared.measured.scores[CHAT, TRIE], compared.truth[CHAT]
    )
    differences = percent_point_differences(pairs)
    figures.append(Figure("probabilities: vLLM and transformers", differences, "points"))
    _check(figures, printed)


def test_the_methods_agree_and_a_score_does_not_depend_on_cache_or_company(
    compared: Compared, printed: list[Any]
) -> None:
    measured = compared.measured
    figures = [
        Figure(
            f"trie and sequence, {mode}",
            form_differences(measured.scores[mode, TRIE], measured.scores[mode, SEQUENCE]),
            limit=METHOD_LIMIT,
        )
        for mode in (CHAT, COMPLETION)
    ]
    for title, other in (
        ("nothing and everything cached", measured.warm),
        (f"alone and {AT_ONCE} at once", measured.together),
    ):
        differences = form_differences(measured.cold, other)
        figures.append(Figure(title, differences, limit=METHOD_LIMIT))
    _check(figures, printed)


def test_a_server_that_does_not_list_tokens_is_found_out(
    compared: Compared, older: OlderVllm, older_url: str
) -> None:
    assert compared.measured.preferred is TRIE
    assert compared.fall_back is SEQUENCE

    async def connect() -> None:
        dropped = older.dropped
        async with vllm_client(older_url) as client:
            # One question is enough; then it is not asked again.
            assert older.dropped == dropped + 1
            assert client.capabilities.sequence
            assert not client.capabilities.next_token

    asyncio.run(connect())
