from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fake_server import BOS, FakeTgi, TinyModel, serving

from grace.errors import BadReply, TokenBoundaryError, UnsupportedByServer, UsageError
from grace.inference.client import (
    GenerationRequest,
    NextTokenQuestion,
    Sampling,
    ServerIdentity,
)
from grace.inference.tgi import TgiClient
from grace.inference.transport import Transport
from grace.studies.prompts import Message, Prompt

CHAT = Prompt(messages=(Message("user", "Is it so? yes or no"),))
PLAIN = Prompt(text="Question: is it so?\nAnswer:")


@asynccontextmanager
async def connected(
    server: FakeTgi, model: str | None = None, *, remembered_texts: int = 100
) -> AsyncIterator[tuple[TgiClient, ServerIdentity]]:
    async with serving(server.app()) as url:
        client = TgiClient(Transport(url), model, remembered_texts=remembered_texts)
        try:
            found = await client.connect()
            server.requests.clear()
            yield client, found
        finally:
            await client.aclose()


def ask(prompt: Prompt = CHAT, **changes: Any) -> GenerationRequest:
    given = {"prompt": prompt, "sampling": Sampling(), "max_tokens": 5, "seed": 1}
    return GenerationRequest(**{**given, **changes})


async def test_the_identity_names_the_models_revision() -> None:
    async with connected(FakeTgi()) as (client, found):
        assert (found.dialect, found.version, found.model) == ("tgi", "3.3.6", "org/tiny")
        assert found.details["model_sha"] == "abc"
        assert found.details["logprob_precision"] == "float32"
        assert client.capabilities.sequence
        assert client.capabilities.json_schema
        assert client.capabilities.seed
        assert not client.capabilities.next_token
        assert client.capabilities.preferred_scoring == "sequence"


async def test_another_model_than_asked_for_is_refused() -> None:
    with pytest.raises(UsageError, match="no model 'other' is served there; served: org/tiny"):
        async with connected(FakeTgi(), "other"):
            pass


async def test_rounded_numbers_are_recorded_as_such() -> None:
    async with connected(FakeTgi(half_precision=True)) as (_, found):
        assert found.details["logprob_precision"] == "bfloat16"


@pytest.mark.parametrize("adds_bos", [True, False])
@pytest.mark.parametrize("prompt", [CHAT, PLAIN])
async def test_a_prompt_has_its_bos_once(prompt: Prompt, adds_bos: bool) -> None:  # noqa: FBT001
    server = FakeTgi(model=TinyModel(adds_bos=adds_bos))
    async with connected(server) as (client, _):
        rendered = await client.render(prompt)
        assert rendered.token_ids.count(BOS) == adds_bos
        assert await client.encode(rendered.text) == rendered.token_ids
        longer = await client.encode(rendered.text + " yes")
        assert longer[: len(rendered.token_ids)] == rendered.token_ids


@pytest.mark.parametrize("prompt", [CHAT, PLAIN])
async def test_sequences_have_the_models_own_distribution(prompt: Prompt) -> None:
    server = FakeTgi()
    async with connected(server) as (client, _):
        rendered = await client.render(prompt)
        start = len(rendered.token_ids)
        answers = [(await client.encode(rendered.text + text))[start:] for text in ("yes", "10%")]
        scores = await client.sequence_logprobs(rendered.token_ids, answers)
    for ids, values in zip(answers, scores, strict=True):
        assert values == pytest.approx(server.model.sequence(rendered.token_ids, ids))


async def test_an_answer_encoded_after_one_prompt_serves_another() -> None:
    server = FakeTgi()
    async with connected(server) as (client, _):
        one = await client.render(CHAT)
        other = await client.render(Prompt(messages=(Message("user", "Is it not?"),)))
        answer = (await client.encode(one.text + "yes"))[len(one.token_ids) :]
        (values,) = await client.sequence_logprobs(other.token_ids, [answer])
    assert values == pytest.approx(server.model.sequence(other.token_ids, answer))


async def test_tokens_of_no_known_text_are_refused() -> None:
    async with connected(FakeTgi(), remembered_texts=2) as (client, _):
        rendered = await client.render(PLAIN)
        with pytest.raises(UnsupportedByServer, match="came from no text"):
            await client.sequence_logprobs(rendered.token_ids, [(30, 31)])
        await client.encode("one")
        await client.encode("two")
        with pytest.raises(UnsupportedByServer, match="came from no text"):
            await client.sequence_logprobs(rendered.token_ids, [(30,)])


async def test_tokens_cut_otherwise_by_the_server_are_refused() -> None:
    server = FakeTgi(model=TinyModel(header="Assistant:"))
    async with connected(server) as (client, _):
        rendered = await client.render(CHAT)
        other = await client.render(Prompt(text="Answer"))
        # "no" alone is one token; behind a colon its n belongs to the colon.
        answer = (await client.encode(other.text + "no"))[len(other.token_ids) :]
        with pytest.raises(TokenBoundaryError, match="other tokens"):
            await client.sequence_logprobs(rendered.token_ids, [answer])


async def test_an_answer_prefix_that_merges_with_the_prompt_is_refused() -> None:
    server = FakeTgi(model=TinyModel(header="Assistant:"))
    async with connected(server) as (client, _):
        with pytest.raises(TokenBoundaryError, match="answer prefix 'n'"):
            await client.render(Prompt(messages=CHAT.messages, answer_prefix="n"))


def last_place(change: Callable[[list[Any]], Any]) -> Callable[[Any], Any]:
    def mangle(reply: Any) -> Any:
        change(reply["details"]["prefill"])
        return reply

    return mangle


@pytest.mark.parametrize(
    ("mangle", "message"),
    [
        (last_place(lambda places: places[-1].update(logprob=None)), "None is not a log"),
        (last_place(lambda places: places[-1].update(logprob=0.5)), "0.5 is not a log"),
        (last_place(lambda places: places.clear()), "tokens are missing"),
        (lambda reply: {"generated_text": reply["generated_text"]}, "details: Field required"),
    ],
    ids=["cached", "positive", "empty", "bare"],
)
async def test_a_reply_that_is_not_a_measurement_is_refused(
    mangle: Callable[[Any], Any], message: str
) -> None:
    server = FakeTgi()
    async with connected(server) as (client, _):
        rendered = await client.render(PLAIN)
        answer = (await client.encode(rendered.text + " yes"))[len(rendered.token_ids) :]
        server.mangle = mangle
        with pytest.raises(BadReply, match=message):
            await client.sequence_logprobs(rendered.token_ids, [answer])


async def test_a_server_without_prefill_logprobs_scores_nothing() -> None:
    async with connected(FakeTgi(knows_prefill=False)) as (client, found):
        assert not client.capabilities.sequence
        assert found.details["logprob_precision"] is None
        with pytest.raises(UnsupportedByServer, match="--enable-prefill-logprobs"):
            await client.sequence_logprobs((1,), [(2,)])
        with pytest.raises(UnsupportedByServer):
            await client.next_token_logprobs([NextTokenQuestion((1,), (2,))])


async def test_a_base_model_needs_no_template() -> None:
    async with connected(FakeTgi(has_template=False)) as (client, found):
        assert found.details["chat_probe_sha256"] is None
        assert (await client.render(PLAIN)).token_ids[0] == BOS


async def test_a_chat_is_answered_and_names_no_adapter() -> None:
    server = FakeTgi()
    async with connected(server) as (client, _):
        generation = await client.generate(ask(stop=(" bad",), json_schema={"properties": {}}))
    assert (generation.text, generation.finish_reason) == ("It wasn't", "stop")
    assert server.asked("/v1/chat/completions") == [
        {
            "model": "tgi",
            "messages": [{"role": "user", "content": "Is it so? yes or no"}],
            "stream": False,
            "seed": 1,
            "stop": [" bad"],
            "max_tokens": 5,
            "temperature": 0.7,
            "response_format": {"type": "json", "value": {"properties": {}}},
        }
    ]


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(temperature=0), {"do_sample": False}),
        (Sampling(), {"do_sample": True, "temperature": 0.7}),
        (
            Sampling(top_p=0.9, top_k=5),
            {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 5},
        ),
    ],
    ids=["greedy", "plain", "filtered"],
)
async def test_a_text_is_continued(sampling: Sampling, expected: dict[str, Any]) -> None:
    server = FakeTgi()
    async with connected(server) as (client, _):
        generation = await client.generate(ask(PLAIN, sampling=sampling))
    assert generation.finish_reason == "length"
    (payload,) = server.asked("/generate")
    assert payload["inputs"] == PLAIN.text
    assert payload["parameters"] == {
        "seed": 1,
        "stop": [],
        "max_new_tokens": 5,
        "return_full_text": False,
        "details": True,
        **expected,
    }


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (ask(sampling=Sampling(min_p=0.1)), "min_p is 0.1"),
        (ask(sampling=Sampling(top_k=3)), "top_k is 3"),
        (ask(PLAIN, sampling=Sampling(min_p=0.1)), "min_p is 0.1"),
        (ask(stop=tuple("abcde")), "5 stop strings; this TGI server takes 4"),
    ],
    ids=["min_p", "top_k", "text", "stops"],
)
async def test_what_cannot_be_honoured_is_refused(
    request_: GenerationRequest, message: str
) -> None:
    server = FakeTgi()
    async with connected(server) as (client, _):
        with pytest.raises(UnsupportedByServer, match=message):
            await client.generate(request_)
    assert not server.requests
