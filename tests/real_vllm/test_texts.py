"""Responses and extraction: seeds, stop strings, lengths, and answers of a JSON schema."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest
from pydantic import JsonValue

from grace.errors import QueryRejected
from grace.extraction.model_extractor import ModelExtractor, model_answer
from grace.extraction.schema import extraction_model
from grace.inference.client import Generation, GenerationRequest, Sampling
from grace.inference.vllm import VllmClient
from grace.studies.builtin import BUILTIN_STUDIES
from grace.studies.prompts import Message, Prompt, PromptMode
from real_vllm.conftest import vllm_client

pytestmark = pytest.mark.vllm

PROMPTS: Mapping[str, Prompt] = {
    "plain": Prompt(text="Once upon a time"),
    "chat": Prompt(messages=(Message("user", "Tell me about rivers."),)),
}
SEEDS = range(4)
SHORT = 5

RESPONSES: Mapping[str, Mapping[str, str]] = {
    "study1": {
        "prior": "About two of the three, I would say.",
        "speech": "0: $0, 1: $10, 2: $70, 3: $20",
        "knowledge": "Yes, she looked at every one of them.",
    },
    "study2": {"utterance": "It wasn't amazing."},
}


@dataclass(frozen=True, slots=True)
class Said:
    """
    What the server said; lists are in the order of seeds.

    Attributes:
        alone, together: One request after the other, and side by side.

        greedy: At temperature 0.

        stop, stopped: A piece of the greedy response, and the response to the
            same request with that piece as a stop string.

        short: Of few tokens.
    """

    alone: list[str]
    together: list[str]
    greedy: list[str]
    stop: str
    stopped: Generation
    short: Generation


@pytest.fixture(scope="module")
def said(vllm_url: str) -> Mapping[str, Said]:
    """Responses to each prompt."""

    async def say() -> Mapping[str, Said]:
        async with vllm_client(vllm_url) as client:
            return {kind: await _said(client, prompt) for kind, prompt in PROMPTS.items()}

    return asyncio.run(say())


async def _said(client: VllmClient, prompt: Prompt) -> Said:
    drawn = [GenerationRequest(prompt, Sampling(temperature=1.0), 12, seed) for seed in SEEDS]
    greedy = [replace(request, sampling=Sampling(temperature=0.0)) for request in drawn[:2]]
    alone = [(await client.generate(request)).text for request in drawn]
    short, *rest = await asyncio.gather(
        *map(client.generate, [replace(drawn[0], max_tokens=SHORT), *drawn, *greedy])
    )
    texts = [made.text for made in rest]
    whole = texts[-1]
    # From the end of a word into the next one: no token ends where this does.
    space = whole.index(" ", len(whole) // 2)
    stop = whole[space - 1 : space + 2]
    stopped = await client.generate(replace(greedy[0], stop=("not in it at all", stop)))
    return Said(alone, texts[: len(drawn)], texts[len(drawn) :], stop, stopped, short)


@pytest.mark.parametrize("kind", PROMPTS)
def test_a_response_depends_on_prompt_and_seed_only(said: Mapping[str, Said], kind: str) -> None:
    assert said[kind].alone == said[kind].together
    assert len(set(said[kind].alone)) > 1


@pytest.mark.parametrize("kind", PROMPTS)
def test_greedy_responses_have_no_use_for_a_seed(said: Mapping[str, Said], kind: str) -> None:
    assert len(set(said[kind].greedy)) == 1


@pytest.mark.parametrize("kind", PROMPTS)
def test_a_response_ends_before_its_stop_string(said: Mapping[str, Said], kind: str) -> None:
    whole = said[kind].greedy[0]
    assert said[kind].stopped.text == whole[: whole.index(said[kind].stop)]
    assert said[kind].stopped.finish_reason == "stop"


@pytest.mark.parametrize("kind", PROMPTS)
def test_a_response_is_cut_at_its_length_and_says_so(said: Mapping[str, Said], kind: str) -> None:
    short = said[kind].short
    assert (short.finish_reason, short.completion_tokens) == ("length", SHORT)
    assert said[kind].alone[0].startswith(short.text)


async def test_a_prompt_beyond_the_context_is_refused_and_not_shortened(vllm_url: str) -> None:
    request = GenerationRequest(Prompt(text="word " * 4000), Sampling(), 4, 1)
    async with vllm_client(vllm_url) as client:
        with pytest.raises(QueryRejected, match="2048"):
            await client.generate(request)


async def test_extraction_obeys_the_schema(vllm_url: str) -> None:
    studies = [BUILTIN_STUDIES[key] for key in RESPONSES]
    async with vllm_client(vllm_url) as client:
        assert client.capabilities.json_schema
        extractor = ModelExtractor("smollm2-135m", client, PromptMode.CHAT)
        records = await asyncio.gather(
            *(extractor.extract(study, RESPONSES[study.key]) for study in studies)
        )
    for study, record in zip(studies, records, strict=True):
        # Without a schema, this model answers in prose.
        assert record["problem"] == ""
        assert record["repaired"] is False
        extraction_model(study).model_validate_json(_only(record["raw"]))
        answer = model_answer(study, record, RESPONSES[study.key])
        assert answer is not None
        assert answer.values.keys() == {field.name for field in study.fields}


def _only(raw: JsonValue) -> str:
    assert isinstance(raw, list)
    (text,) = raw
    assert isinstance(text, str)
    return text
