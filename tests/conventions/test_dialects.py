"""The dialects' own rendering and encoding, on real tokens: vLLM's, and a real llama.cpp."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from conventions.client import TokenizerClient
from conventions.conftest import named
from conventions.families import FAMILIES, Family
from conventions.test_answer_positions import QUESTION, probe, queries
from grace.catalogue.progress import SilentProgress
from grace.catalogue.spec import load_catalogue
from grace.catalogue.store import default_store
from grace.catalogue.weights import ensure_weights
from grace.engine.score import Scorer, ScoringMethod
from grace.inference.client import GenerationRequest, Sampling
from grace.inference.llamacpp import LlamaCppClient
from grace.inference.transport import Transport
from grace.inference.vllm import VllmClient
from grace.pipeline.connection import model_use
from grace.serving.embedded import EmbeddedSettings, embedded_server
from grace.studies.prompts import Message, PromptMode, build_prompt

pytestmark = pytest.mark.tokenizers


class TokenizerEndpoints:
    """What vLLM's `/tokenize` and `/detokenize` reply, without the server around them."""

    base_url = "tokenizer"

    def __init__(self, client: TokenizerClient) -> None:
        self._client = client

    async def post(self, path: str, payload: Mapping[str, Any]) -> Any:
        vocabulary = self._client.vocabulary
        if path == "/detokenize":
            return {"prompt": vocabulary.decode(payload["tokens"])}
        if "messages" in payload:
            turns = [Message(turn["role"], turn["content"]) for turn in payload["messages"]]
            return {"tokens": list(vocabulary.encode(self._client.chat(turns)))}
        special = payload["add_special_tokens"]
        return {"tokens": list(vocabulary.encode(payload["prompt"], special=special))}


def vllm(family: Family) -> VllmClient:
    endpoints = TokenizerEndpoints(family.client(pinned=False))
    return VllmClient(cast(Transport, endpoints), "tokenizer", template_date=family.date)


@pytest.mark.parametrize("name", [one.name for one in FAMILIES if one.mode is PromptMode.CHAT])
async def test_vllm_gives_the_tokens_of_the_template_and_no_others(name: str) -> None:
    family = named(name)
    served, plain = vllm(family), family.client()
    scorers = [
        Scorer(client, family.mode, ScoringMethod.TRIE, family.convention)
        for client in (served, plain)
    ]
    for query in queries(rows=1):
        prompt = build_prompt([query.turn], [], family.mode, family.convention)
        rendered = await served.render(prompt)
        assert rendered == await plain.render(prompt)
        one, other = [
            await scorer.encode_candidates(query.probe, prompt, rendered) for scorer in scorers
        ]
        assert one == other


async def test_a_real_llama_cpp_server_has_smollm2s_conventions() -> None:
    spec = load_catalogue().get("smollm2-135m")
    convention = model_use(spec).convention
    weights = ensure_weights(spec, default_store(), SilentProgress())
    settings = EmbeddedSettings(slots=1, threads=1)
    async with embedded_server(weights.path, spec.key, settings) as running:
        client = LlamaCppClient(Transport(running.url), running.details)
        try:
            scorer = Scorer(client, PromptMode.CHAT, ScoringMethod.TRIE, convention)
            for query in queries(rows=1):
                prompt = build_prompt([query.turn], [], PromptMode.CHAT, convention)
                rendered = await client.render(prompt)
                assert rendered.text.endswith("<|im_end|>\n<|im_start|>assistant\n")
                candidates = await scorer.encode_candidates(query.probe, prompt, rendered)
                for form in candidates.forms:
                    whole = await client.encode(rendered.text + form.text)
                    assert whole == (*rendered.token_ids, *form.token_ids)
            prompt = build_prompt([QUESTION, QUESTION], ["Seven."], PromptMode.CHAT, convention)
            text = (await client.render(prompt)).text
            assert text.partition("Seven.")[2].startswith(convention.end_of_turn)
            assert len(await client.encode(convention.end_of_turn)) == 1
            digits = await scorer.encode_candidates(
                probe("10%", "100%"), prompt, await client.render(prompt)
            )
            assert [len(form.token_ids) for form in digits.forms] == [3, 4]
            # The server knows the field with which control tokens are shown.
            request = GenerationRequest(
                prompt, Sampling(temperature=0), 2, 1, control_tokens=(convention.end_of_turn,)
            )
            assert (await client.generate(request)).completion_tokens in {1, 2}
        finally:
            await client.aclose()
