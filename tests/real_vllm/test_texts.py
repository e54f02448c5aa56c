"""Responses and extraction: seeds, stop strings, lengths, and answers of a JSON schema."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from grace.errors import QueryRejected
from grace.extraction.model_extractor import ModelExtractor, model_answer
from grace.extraction.schema import extraction_model
from grace.inference.client import Generation, GenerationRequest, Sampling
from grace.studies.builtin import BUILTIN_STUDIES
from grace.studies.prompts import Message, Prompt, PromptMode
from real_vllm.conftest import vllm_client
from real_vllm.server import VllmServer

pytestmark = pytest.mark.vllm

PLAIN = GenerationRequest(Prompt(text="Once upon a time"), Sampling(temperature=1.0), 12, seed=0)
CHAT = replace(PLAIN, prompt=Prompt(messages=(Message("user", "Tell me about rivers."),)))
GREEDY = Sampling(temperature=0.0)

RESPONSES: Mapping[str, Mapping[str, str]] = {
    "study1": {
        "prior": "About two of the three, I would say.",
        "speech": "0: $0, 1: $10, 2: $70, 3: $20",
        "knowledge": "Yes, she looked at every one of them.",
    },
    "study2": {"utterance": "It wasn't amazing."},
}


async def ask(server: VllmServer, *requests: GenerationRequest) -> list[Generation]:
    """Ask all requests side by side."""
    async with vllm_client(server.url) as client:
        return await asyncio.gather(*map(client.generate, requests))


@pytest.mark.parametrize("request_", [PLAIN, CHAT], ids=["plain", "chat"])
async def test_a_response_depends_on_prompt_and_seed_only(
    vllm: VllmServer, request_: GenerationRequest
) -> None:
    requests = [replace(request_, seed=seed) for seed in range(6)]
    alone = [(await ask(vllm, request))[0].text for request in requests]
    together = [made.text for made in await ask(vllm, *requests)]
    assert alone == together
    assert len(set(alone)) > 1


async def test_greedy_responses_have_no_use_for_a_seed(vllm: VllmServer) -> None:
    requests = [replace(CHAT, sampling=GREEDY, seed=seed) for seed in range(3)]
    assert len({made.text for made in await ask(vllm, *requests)}) == 1


async def test_a_response_is_cut_at_its_length_and_says_so(vllm: VllmServer) -> None:
    (made,) = await ask(vllm, replace(CHAT, max_tokens=5))
    assert (made.finish_reason, made.completion_tokens) == ("length", 5)
    assert made.prompt_tokens is not None
    assert made.prompt_tokens > 5


@pytest.mark.parametrize("request_", [PLAIN, CHAT], ids=["plain", "chat"])
async def test_a_response_ends_before_its_stop_string(
    vllm: VllmServer, request_: GenerationRequest
) -> None:
    greedy = replace(request_, sampling=GREEDY, max_tokens=24)
    (whole,) = await ask(vllm, greedy)
    # From the middle of a word to the middle of the next: no token ends there.
    middle = whole.text.index(" ", len(whole.text) // 2)
    stop = whole.text[middle - 1 : middle + 2]
    (cut,) = await ask(vllm, replace(greedy, stop=("not in it at all", stop)))
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"


async def test_a_prompt_beyond_the_context_is_refused_and_not_shortened(vllm: VllmServer) -> None:
    with pytest.raises(QueryRejected):
        await ask(vllm, replace(PLAIN, prompt=Prompt(text="word " * 4000)))


@pytest.mark.parametrize("key", BUILTIN_STUDIES)
async def test_extraction_obeys_the_schema(vllm: VllmServer, key: str) -> None:
    study = BUILTIN_STUDIES[key]
    async with vllm_client(vllm.url) as client:
        assert client.capabilities.json_schema
        extractor = ModelExtractor("smollm2-135m", client, PromptMode.CHAT)
        record = await extractor.extract(study, RESPONSES[key])
    raw = record["raw"]
    assert isinstance(raw, list)
    # This model does not know when to end a text field; what is complete, fits.
    for text in raw:
        assert str(text).lstrip().startswith("{")
    if record["values"] is not None:
        extraction_model(study).model_validate(json.loads(str(raw[-1])))
        answer = model_answer(study, record, RESPONSES[key])
        assert answer is not None
        assert set(answer.values) == {field.name for field in study.fields}
