from collections.abc import Callable
from typing import Any

import pytest
from fake_server import BOS, FakeVllm, TinyModel, chat_reply, serving, vllm_client

from grace.errors import (
    BadReply,
    IdentityMismatch,
    QueryRejected,
    ServerUnavailable,
    TokenBoundaryError,
    UnsupportedByServer,
    UsageError,
)
from grace.inference.client import (
    GenerationRequest,
    NextTokenQuestion,
    Sampling,
    ServerIdentity,
)
from grace.inference.transport import Transport
from grace.inference.vllm import VllmClient
from grace.studies.prompts import Message, Prompt

CHAT = Prompt(messages=(Message("user", "Is it so? yes or no"),))
PLAIN = Prompt(text="Question: is it so?\nAnswer:")


async def identity(server: FakeVllm, model: str | None = None) -> ServerIdentity:
    async with serving(server.app()) as url:
        client = VllmClient(Transport(url), model)
        try:
            return await client.connect()
        finally:
            await client.aclose()


def ask(chat: bool = True, **changes: Any) -> GenerationRequest:  # noqa: FBT001, FBT002
    given = {"prompt": CHAT if chat else PLAIN, "sampling": Sampling(), "max_tokens": 5, "seed": 1}
    return GenerationRequest(**{**given, **changes})


# Who answers, and what it can do


async def test_the_identity_names_what_decides_the_numbers_and_no_address() -> None:
    found = await identity(FakeVllm())
    assert (found.dialect, found.version, found.model) == ("vllm", "0.32.0", "tiny")
    assert found.details["max_model_len"] == 512
    assert found.details["logprobs_mode"] == "raw"
    assert found.details["root"] == "org/tiny"
    assert "127.0.0.1" not in repr(found)


async def test_a_path_of_the_weights_stays_out_of_the_identity() -> None:
    found = await identity(FakeVllm(root="/home/someone/tiny"))
    assert "someone" not in repr(found)


async def test_another_chat_template_is_another_identity() -> None:
    one = await identity(FakeVllm())
    same = await identity(FakeVllm())
    other = await identity(FakeVllm(model=TinyModel(header="<|assistant|>think")))
    assert one == same
    assert one.details["chat_probe_sha256"] != other.details["chat_probe_sha256"]


async def test_a_base_model_has_no_chat_template_to_hash() -> None:
    server = FakeVllm(has_template=False)
    assert (await identity(server)).details["chat_probe_sha256"] is None
    async with vllm_client(server) as client:
        assert client.capabilities.token_ids
        assert (await client.render(PLAIN)).text == "<s>" + PLAIN.text
        with pytest.raises(QueryRejected, match="no chat template"):
            await client.render(CHAT)


async def test_a_router_that_hides_the_version_is_no_obstacle() -> None:
    assert (await identity(FakeVllm(version=None))).version == ""


async def test_a_model_is_named_where_several_are_served() -> None:
    server = FakeVllm(names=("tiny", "adapter"))
    assert (await identity(server, "adapter")).model == "adapter"
    with pytest.raises(UsageError, match="name the model to use; served: tiny, adapter"):
        await identity(server)


async def test_an_unknown_model_is_answered_with_those_served() -> None:
    with pytest.raises(UsageError, match="no model 'huge' is served there; served: tiny"):
        await identity(FakeVllm(), "huge")


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (FakeVllm(), "token_ids next_token sequence json_schema seed"),
        (FakeVllm(knows_listed=False), "token_ids sequence json_schema seed"),
        (FakeVllm(knows_prompt_logprobs=False), "token_ids next_token json_schema seed"),
        (FakeVllm(mode="processed"), "token_ids sequence json_schema seed"),
        (FakeVllm(mode="logits"), "token_ids json_schema seed"),
        (FakeVllm(knows_schema=False), "token_ids next_token sequence seed"),
        (FakeVllm(knows_seed=False), "token_ids next_token sequence json_schema"),
        (FakeVllm(has_tokenizer=False), ""),
        (FakeVllm(rejects=frozenset({"seed"})), "token_ids next_token sequence json_schema"),
        (FakeVllm(rejects=frozenset({"response_format"})), "token_ids next_token sequence seed"),
        (FakeVllm(rejects=frozenset({"allowed_token_ids"})), "token_ids sequence json_schema seed"),
    ],
)
async def test_capabilities_are_measured(server: FakeVllm, expected: str) -> None:
    names = ("token_ids", "next_token", "sequence", "json_schema", "seed")
    async with vllm_client(server) as client:
        found = [name for name in names if getattr(client.capabilities, name)]
    assert " ".join(found) == expected


async def test_two_ways_that_contradict_each_other_are_both_refused() -> None:
    server = FakeVllm()

    def shift(reply: Any) -> Any:
        for choice in reply["choices"]:
            for place in choice.get("prompt_logprobs") or []:
                for entry in (place or {}).values():
                    entry["logprob"] -= 5
        return reply

    server.mangle = shift
    assert (await identity(server)).details["logprobs_mode"] == "contradictory"
    async with vllm_client(server) as client:
        assert not client.capabilities.next_token
        assert not client.capabilities.sequence


async def test_what_a_server_cannot_do_is_refused_without_asking() -> None:
    server = FakeVllm(knows_listed=False, knows_prompt_logprobs=False, knows_schema=False)
    async with vllm_client(server) as client:
        with pytest.raises(UnsupportedByServer):
            await client.next_token_logprobs([NextTokenQuestion((1,), (2,))])
        with pytest.raises(UnsupportedByServer):
            await client.sequence_logprobs((1,), [(2,)])
        with pytest.raises(UnsupportedByServer):
            await client.generate(ask(json_schema={"type": "object"}))
    assert not server.requests


# Prompts and tokens


async def test_a_chat_is_rendered_as_the_server_sees_it() -> None:
    server = FakeVllm()
    async with vllm_client(server) as client:
        rendered = await client.render(CHAT)
        assert rendered.text == "<s><|user|>Is it so? yes or no<|end|><|assistant|>"
        assert rendered.token_ids.count(BOS) == 1
        assert await client.encode(rendered.text) == rendered.token_ids


async def test_a_plain_text_gets_its_bos_once() -> None:
    async with vllm_client(FakeVllm()) as client:
        rendered = await client.render(PLAIN)
        assert rendered.text == "<s>" + PLAIN.text
        assert rendered.token_ids[0] == BOS
        assert rendered.token_ids.count(BOS) == 1
        longer = await client.encode(rendered.text + " yes")
        assert longer[: len(rendered.token_ids)] == rendered.token_ids


async def test_a_model_without_bos_gets_none() -> None:
    async with vllm_client(FakeVllm(model=TinyModel(adds_bos=False))) as client:
        assert BOS not in (await client.render(PLAIN)).token_ids
        assert BOS not in (await client.render(CHAT)).token_ids
        assert await client.encode("") == ()


async def test_two_bos_tokens_are_refused() -> None:
    async with vllm_client(FakeVllm()) as client:
        with pytest.raises(UnsupportedByServer, match="two BOS"):
            await client.render(Prompt(text="<s>Answer:"))


async def test_the_answer_prefix_follows_the_template() -> None:
    async with vllm_client(FakeVllm()) as client:
        bare = await client.render(CHAT)
        rendered = await client.render(Prompt(messages=CHAT.messages, answer_prefix="So:"))
        assert rendered.text == bare.text + "So:"
        assert rendered.token_ids[: len(bare.token_ids)] == bare.token_ids


async def test_an_answer_prefix_that_merges_with_the_prompt_is_refused() -> None:
    server = FakeVllm(model=TinyModel(header="Assistant:"))
    async with vllm_client(server) as client:
        with pytest.raises(TokenBoundaryError, match="'n' changes the prompt's own tokens"):
            await client.render(Prompt(messages=CHAT.messages, answer_prefix="n"))


async def test_a_prompt_that_does_not_survive_decoding_is_refused() -> None:
    async with vllm_client(FakeVllm(loses_double_spaces=True)) as client:
        with pytest.raises(UnsupportedByServer, match="decoded and encoded again"):
            await client.render(Prompt(messages=(Message("user", "Is it  so?"),)))


# Responses


async def test_every_sampling_parameter_is_sent() -> None:
    server = FakeVllm()
    sampling = Sampling(temperature=0.5, top_p=0.9, top_k=0, min_p=0.1)
    async with vllm_client(server) as client:
        await client.generate(ask(sampling=sampling, stop=("\n",), seed=77))
    (payload,) = server.asked("/v1/chat/completions")
    assert payload.pop("messages") == [{"role": "user", "content": "Is it so? yes or no"}]
    assert payload == {
        "model": "tiny",
        "n": 1,
        "stream": False,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": -1,
        "min_p": 0.1,
        "repetition_penalty": 1,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "seed": 77,
        "max_tokens": 5,
        "stop": ["\n"],
    }


async def test_a_base_model_continues_the_text() -> None:
    server = FakeVllm()
    async with vllm_client(server) as client:
        generation = await client.generate(ask(chat=False, sampling=Sampling(top_k=3)))
    (payload,) = server.asked("/v1/completions")
    assert payload["prompt"] == PLAIN.text
    assert payload["top_k"] == 3
    assert generation.finish_reason == "length"
    assert generation.prompt_tokens is not None


async def test_the_answer_prefix_is_for_scoring_only() -> None:
    server = FakeVllm()
    async with vllm_client(server) as client:
        await client.generate(ask(prompt=Prompt(messages=CHAT.messages, answer_prefix="So:")))
    assert "So:" not in repr(server.requests)


async def test_one_seed_gives_one_response() -> None:
    async with vllm_client(FakeVllm()) as client:
        first = await client.generate(ask(seed=1))
        assert await client.generate(ask(seed=1)) == first
        assert await client.generate(ask(seed=2)) != first


async def test_a_schema_is_sent_as_a_response_format() -> None:
    server = FakeVllm()
    async with vllm_client(server) as client:
        await client.generate(ask(json_schema={"type": "object"}))
    (payload,) = server.asked("/v1/chat/completions")
    assert payload["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
    }


@pytest.mark.parametrize(
    ("reply", "text", "reasoning"),
    [
        (chat_reply("Yes.", reasoning="Hm."), "Yes.", "Hm."),
        (chat_reply("Yes.", reasoning_content="Hm."), "Yes.", "Hm."),
        (chat_reply("<think>\nHm.\n</think>\n\nYes."), "Yes.", "Hm."),
        (chat_reply("Hm.</think>Yes."), "Yes.", "Hm."),
        (chat_reply("<think>Hm", "length"), "", "Hm"),
        (chat_reply(" Yes. "), " Yes. ", ""),
        (chat_reply(""), "", ""),
    ],
)
async def test_reasoning_is_kept_apart(reply: dict[str, Any], text: str, reasoning: str) -> None:
    async with vllm_client(FakeVllm(chat_reply=reply)) as client:
        generation = await client.generate(ask())
    assert (generation.text, generation.reasoning) == (text, reasoning)
    assert (generation.prompt_tokens, generation.completion_tokens) == (7, 3)


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (chat_reply(None), BadReply, "content is null$"),
        (chat_reply(None, "length", reasoning="Hm"), BadReply, "max_tokens on reasoning"),
        (chat_reply("x", None), BadReply, "finish_reason is None"),
        (chat_reply("x", "tool_calls"), BadReply, "finish_reason is 'tool_calls'"),
        (chat_reply("x", "abort"), ServerUnavailable, "broke off"),
        (chat_reply("x", "content_filter"), QueryRejected, "filter"),
        ({"choices": []}, BadReply, "0 choices; expected 1"),
        ({"choices": chat_reply("x")["choices"] * 2}, BadReply, "2 choices; expected 1"),
        ({"choices": [{"message": {"content": ["x"]}}]}, BadReply, "content: Input should be"),
        ({"choices": [{"text": "x"}]}, BadReply, "message: Field required"),
        ({"error": "x"}, BadReply, "choices: Field required"),
    ],
)
async def test_a_response_that_is_none_is_refused(
    reply: dict[str, Any], kind: type[Exception], message: str
) -> None:
    async with vllm_client(FakeVllm(chat_reply=reply)) as client:
        with pytest.raises(kind, match=message):
            await client.generate(ask())


# Whether it is still the same


def naming(name: str) -> Callable[[Any], Any]:
    return lambda reply: {**reply, "model": name}


async def test_an_answer_of_another_model_is_no_answer() -> None:
    server = FakeVllm(mangle=naming("tiny"))
    async with vllm_client(server) as client:
        question = NextTokenQuestion((1, 2), (3, 4))
        assert await client.next_token_logprobs([question])
        server.mangle = naming("another")
        with pytest.raises(IdentityMismatch) as caught:
            await client.next_token_logprobs([question])
        assert caught.value.differences == ("model: 'tiny' before, 'another' now",)


async def test_another_name_of_the_same_model_in_its_replies_is_part_of_the_identity() -> None:
    assert "answers_as" not in (await identity(FakeVllm(mangle=naming("tiny")))).details
    found = await identity(FakeVllm(mangle=naming("first-name")))
    assert found.details["answers_as"] == "first-name"


async def test_asked_again_it_tells_version_and_model() -> None:
    server = FakeVllm()
    async with vllm_client(server) as client:
        before = await client.connect()
        assert before.differences_to(await client.identify()) == []
        server.names = ("other",)
        assert before.differences_to(await client.identify()) == [
            "model: 'tiny' before, 'other' now"
        ]
