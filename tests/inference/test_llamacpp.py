import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings

from fake_llamacpp import FakeLlamaCpp, refuse, serving
from grace.errors import BadReply, QueryRejected, ServerUnavailable, UnsupportedByServer
from grace.inference.client import GenerationRequest, NextTokenQuestion, Sampling
from grace.inference.llamacpp import LlamaCppClient, wait_until_ready
from grace.inference.toy import VOCABULARY, ToyClient
from grace.inference.transport import Transport
from grace.studies.prompts import Message, Prompt
from strategies import prefix_free

CHAT = Prompt(messages=(Message("user", "Is it so? Answer yes or no."),))
PROMPT = (3, 5, 7)


@asynccontextmanager
async def client(server: FakeLlamaCpp, details: Any = None) -> AsyncIterator[LlamaCppClient]:
    """Serve and connect; what connecting asked is forgotten."""
    async with serving(server.app()) as url:
        connected = LlamaCppClient(Transport(url, timeout_seconds=20), details)
        try:
            await connected.connect()
            server.asked.clear()
            yield connected
        finally:
            await connected.aclose()


async def test_the_identity_holds_what_decides_the_numbers_and_no_address() -> None:
    async with serving(FakeLlamaCpp().app()) as url:
        connected = LlamaCppClient(Transport(url), {"cache_type": "f32"})
        identity = await connected.connect()
        await connected.aclose()
    assert (identity.dialect, identity.version, identity.model) == ("llamacpp", "b11549", "tiny")
    assert identity.details["cache_type"] == "f32"
    assert identity.details["logprobs"] == "raw"
    assert identity.details["context_length"] == 2048
    assert url.rsplit(":", 1)[1] not in str(identity)


@pytest.mark.parametrize(
    "change",
    [{"template": "other"}, {"build": "b2"}, {"model": "m"}, {"context": 9}, {"raw": False}],
    ids=lambda change: next(iter(change)),
)
async def test_what_differs_between_servers_differs_in_their_identities(change: Any) -> None:
    identities = []
    for server in (FakeLlamaCpp(), FakeLlamaCpp(**change)):
        async with serving(server.app()) as url:
            connected = LlamaCppClient(Transport(url))
            identities.append(await connected.connect())
            await connected.aclose()
    assert identities[0] != identities[1]


@pytest.mark.parametrize("listed", [None, 3, 1], ids=["all listed", "3 listed", "1 listed"])
async def test_scores_are_exact_whatever_the_server_lists(listed: int | None) -> None:
    sequences = [(1, 2), (1, 3), (4,), (5, 6, 7)]
    async with client(FakeLlamaCpp(listed=listed)) as connected:
        scores = await connected.sequence_logprobs(PROMPT, sequences)
    truth = await ToyClient().sequence_logprobs(PROMPT, sequences)
    for values, wanted in zip(scores, truth, strict=True):
        assert values == pytest.approx(wanted)


@settings(max_examples=10)
@given(prefix_free())
async def test_any_answer_set_is_scored_exactly(sequences: list[tuple[int, ...]]) -> None:
    async with client(FakeLlamaCpp(listed=5)) as connected:
        scores = await connected.sequence_logprobs(PROMPT, sequences)
    truth = await ToyClient().sequence_logprobs(PROMPT, sequences)
    assert [len(values) for values in scores] == [len(ids) for ids in sequences]
    for values, wanted in zip(scores, truth, strict=True):
        assert values == pytest.approx(wanted)


async def test_siblings_are_read_from_the_lists_and_not_asked_again() -> None:
    server = FakeLlamaCpp()
    async with client(server) as connected:
        await connected.sequence_logprobs(PROMPT, [(1, 2), (1, 3), (4,), (5,)])
    assert [one.path for one in server.asked] == [(1, 2)]


async def test_next_tokens_are_scored_as_answers_of_one_token() -> None:
    question = NextTokenQuestion(PROMPT, (9, 10))
    async with client(FakeLlamaCpp(listed=2)) as connected:
        (answer,) = await connected.next_token_logprobs([question])
    (truth,) = await ToyClient().next_token_logprobs([question])
    assert answer == pytest.approx(truth)


@pytest.mark.parametrize("listed", [None, 4], ids=["all listed", "4 listed"])
async def test_the_best_other_token_is_read_from_the_list_for_nothing(listed: int | None) -> None:
    server = FakeLlamaCpp(listed=listed)
    everything = NextTokenQuestion(PROMPT, tuple(range(len(VOCABULARY))))
    (truth,) = await ToyClient().next_token_logprobs([everything])
    ranked = sorted(truth, key=lambda token: -truth[token])
    # The best two are asked about, so the third is the best of the others.
    question = NextTokenQuestion(PROMPT, tuple(ranked[:2]), best_other=True)
    async with client(server) as connected:
        assert connected.capabilities.most_probable
        server.asked.clear()
        (answer,) = await connected.next_token_logprobs([question])
        assert len(server.asked) == 1
        assert await connected.decode([ranked[2]]) == VOCABULARY[ranked[2]]
    assert answer == pytest.approx({token: truth[token] for token in ranked[:3]})


async def test_a_list_of_tokens_that_were_all_asked_about_tells_no_other() -> None:
    everything = NextTokenQuestion(PROMPT, tuple(range(len(VOCABULARY))))
    (truth,) = await ToyClient().next_token_logprobs([everything])
    best = max(truth, key=lambda token: truth[token])
    async with client(FakeLlamaCpp(listed=1)) as connected:
        question = NextTokenQuestion(PROMPT, (best,), best_other=True)
        (answer,) = await connected.next_token_logprobs([question])
    assert set(answer) == {best}


async def test_a_server_whose_scores_are_masked_is_found_out() -> None:
    async with client(FakeLlamaCpp(raw=False)) as connected:
        assert not connected.capabilities.sequence
        assert not connected.capabilities.next_token
        with pytest.raises(UnsupportedByServer):
            await connected.sequence_logprobs(PROMPT, [(1,)])


def in_steps(change: Callable[[dict[str, Any]], None]) -> Callable[[Any], Any]:
    def mangle(reply: Any) -> Any:
        for step in reply["completion_probabilities"]:
            change(step)
        return reply

    return mangle


@pytest.mark.parametrize(
    "value", [None, 0.5, "much"], ids=["missing", "a probability", "no number"]
)
async def test_what_is_not_a_logprob_is_refused(value: Any) -> None:
    server = FakeLlamaCpp()
    async with client(server) as connected:
        server.mangle = in_steps(lambda step: step.update(logprob=value))
        with pytest.raises(BadReply):
            await connected.sequence_logprobs(PROMPT, [(1, 2)])


# What llama.cpp writes for the logarithm of 0, since JSON has no infinity.
LOWEST = -3.4028234663852886e38


async def test_the_constant_for_minus_infinity_is_no_measurement() -> None:
    server = FakeLlamaCpp()
    async with client(server) as connected:
        server.mangle = in_steps(lambda step: step.update(logprob=LOWEST))
        with pytest.raises(BadReply):
            await connected.sequence_logprobs(PROMPT, [(1, 2)])


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(LOWEST, id="lowest"),
        pytest.param(3.0, id="a logit"),
        pytest.param(None, id="missing"),
    ],
)
async def test_a_listed_sibling_without_a_logprob_is_asked_about_itself(value: Any) -> None:
    server = FakeLlamaCpp()

    def spoil(step: dict[str, Any]) -> None:
        for listed in step["top_logprobs"]:
            if listed["id"] != step["id"]:
                listed["logprob"] = value

    async with client(server) as connected:
        server.mangle = in_steps(spoil)
        scores = await connected.sequence_logprobs(PROMPT, [(1,), (2,)])
    assert scores == await ToyClient().sequence_logprobs(PROMPT, [(1,), (2,)])


async def test_a_server_that_left_the_forced_path_is_refused() -> None:
    server = FakeLlamaCpp()
    async with client(server) as connected:
        server.mangle = in_steps(lambda step: step.update(id=9))
        with pytest.raises(BadReply, match="forced tokens"):
            await connected.sequence_logprobs(PROMPT, [(1, 2)])


@pytest.mark.parametrize(
    ("status", "error"), [(503, ServerUnavailable), (429, ServerUnavailable), (400, QueryRejected)]
)
async def test_http_errors_are_translated(status: int, error: type[Exception]) -> None:
    server = FakeLlamaCpp()
    async with client(server) as connected:
        server.trouble = lambda _number, _payload: refuse(status)
        with pytest.raises(error, match="as told"):
            await connected.sequence_logprobs(PROMPT, [(1,)])


@pytest.mark.parametrize("bos", ["", "<|end|>"], ids=["no BOS", "BOS"])
async def test_a_bos_that_the_template_wrote_is_not_doubled(bos: str) -> None:
    async with client(FakeLlamaCpp(bos=bos)) as connected:
        rendered = await connected.render(Prompt(messages=(Message("user", "a"),)))
        plain = await connected.render(Prompt(text="a"))
    start = [VOCABULARY.index(bos)] if bos else []
    assert rendered.text == f"{bos}<|user|>a<|end|><|assistant|>"
    assert list(rendered.token_ids) == [
        *start,
        *map(VOCABULARY.index, ("<|user|>", "a", "<|end|>", "<|assistant|>")),
    ]
    assert list(plain.token_ids) == [*start, VOCABULARY.index("a")]


async def test_an_answer_prefix_follows_the_template() -> None:
    async with client(FakeLlamaCpp()) as connected:
        rendered = await connected.render(
            Prompt(messages=(Message("user", "a"),), answer_prefix="<final>")
        )
    assert rendered.text.endswith("<|assistant|><final>")


async def test_every_sampling_parameter_is_sent_and_no_default_is_left_to_the_server() -> None:
    payloads: list[Any] = []
    server = FakeLlamaCpp()
    async with client(server) as connected:
        server.trouble = lambda _, payload: payloads.append(payload)
        await connected.generate(
            GenerationRequest(
                CHAT,
                Sampling(temperature=0.3, top_p=0.9, top_k=7, min_p=0.1),
                max_tokens=11,
                seed=5,
                stop=("\n",),
            )
        )
    (payload,) = payloads
    for name, value in {
        "temperature": 0.3,
        "top_p": 0.9,
        "top_k": 7,
        "min_p": 0.1,
        "seed": 5,
        "n_predict": 11,
        "stop": ["\n"],
        "repeat_penalty": 1.0,
    }.items():
        assert payload[name] == value
    assert "json_schema" not in payload


@pytest.mark.parametrize(("stop_type", "finish"), [("limit", "length"), ("eos", "stop")])
async def test_a_response_says_why_it_ended(stop_type: str, finish: str) -> None:
    server = FakeLlamaCpp()
    async with client(server) as connected:
        server.mangle = lambda reply: {**reply, "stop_type": stop_type}
        made = await connected.generate(GenerationRequest(CHAT, Sampling(), 9, seed=1))
    assert made.finish_reason == finish
    assert made.text in {"Yes.", "No.", "It cannot be said."}
    assert made.prompt_tokens


async def test_an_empty_prompt_is_refused_before_it_is_sent() -> None:
    server = FakeLlamaCpp()
    async with client(server) as connected:
        with pytest.raises(QueryRejected, match="no tokens"):
            await connected.sequence_logprobs((), [(1,)])
    assert not server.asked


async def test_two_prompts_are_never_in_one_slot_at_once() -> None:
    server = FakeLlamaCpp(slots=3, delay_seconds=0.005, listed=1)
    async with client(server) as connected:
        await asyncio.gather(
            *(connected.sequence_logprobs((n,), [(1, 2), (3,)]) for n in range(12))
        )
    assert server.most_at_once == 3
    assert server.shared_slots == 0


async def test_the_distribution_over_all_tokens_is_one() -> None:
    question = NextTokenQuestion(PROMPT, tuple(range(len(VOCABULARY))))
    async with client(FakeLlamaCpp()) as connected:
        (values,) = await connected.next_token_logprobs([question])
    assert math.fsum(map(math.exp, values.values())) == pytest.approx(1)


async def test_a_template_that_is_no_text_for_a_file_is_hashed_all_the_same() -> None:
    server = FakeLlamaCpp(template="half of a pair: \ud800")
    async with serving(server.app()) as url:
        client = LlamaCppClient(Transport(url))
        identity = await client.connect()
        await client.aclose()
    assert len(str(identity.details["chat_template_sha256"])) == 64


@pytest.mark.parametrize("slots", [-1, 10**14])
async def test_a_number_of_slots_that_no_server_has_is_refused(slots: int) -> None:
    async with serving(FakeLlamaCpp(slots=slots).app()) as url:
        client = LlamaCppClient(Transport(url))
        with pytest.raises(BadReply, match="total_slots"):
            await client.connect()
        await client.aclose()


async def test_a_server_that_still_loads_its_model_is_not_ready() -> None:
    async with serving(FakeLlamaCpp(healthy=False).app()) as url:
        transport = Transport(url)
        with pytest.raises(ServerUnavailable, match="not ready"):
            await wait_until_ready(transport)
        await transport.aclose()
    async with serving(FakeLlamaCpp().app()) as url:
        transport = Transport(url)
        await wait_until_ready(transport)
        await transport.aclose()


async def test_another_kind_of_reply_is_refused() -> None:
    server = FakeLlamaCpp()
    async with client(server) as connected:
        server.mangle = lambda _: {"choices": []}
        with pytest.raises(BadReply, match="/completion"):
            await connected.generate(GenerationRequest(CHAT, Sampling(), 9, seed=1))


@pytest.mark.parametrize(
    "more",
    [
        {"stop_type": "none"},
        {"stop_type": "x" * 10_000},
        {"content": 5},
        {"tokens_predicted": "5"},
        {"tokens_predicted": True},
        {"tokens_evaluated": 5.0},
        {"tokens": ["5"]},
    ],
    ids=map(str, range(7)),
)
async def test_a_reply_is_never_turned_into_something_else(more: dict[str, object]) -> None:
    server = FakeLlamaCpp()
    async with client(server) as connected:
        server.mangle = lambda reply: {**reply, **more}
        with pytest.raises(BadReply) as caught:
            await connected.generate(GenerationRequest(CHAT, Sampling(), 9, seed=1))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("logprob", ["-0.5", True])
async def test_a_score_that_is_no_number_is_refused(logprob: object) -> None:
    def mangle(reply: dict[str, Any]) -> dict[str, Any]:
        for step in reply.get("completion_probabilities", []):
            step["logprob"] = logprob
        return reply

    server = FakeLlamaCpp()
    async with client(server) as connected:
        server.mangle = mangle
        with pytest.raises(BadReply, match="logprob"):
            await connected.sequence_logprobs(PROMPT, [(1, 2)])
