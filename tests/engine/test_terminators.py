import math
from typing import Any

import pytest

from grace.engine.plan import QueryKey, ScoreQuery
from grace.engine.score import Scorer, ScoringMethod
from grace.engine.terminators import chat_terminators
from grace.errors import (
    QueryRejected,
    ServerUnavailable,
    TokenBoundaryError,
    UnsupportedByServer,
)
from grace.inference.client import Capabilities, NextTokenQuestion, Rendered
from grace.inference.toy import VOCABULARY, ToyClient
from grace.studies.probes import Answer, CandidateProbe, Turn
from grace.studies.prompts import Prompt, PromptMode

CHAT, COMPLETION = PromptMode.CHAT, PromptMode.COMPLETION
TRIE, SEQUENCE = ScoringMethod.TRIE, ScoringMethod.SEQUENCE
END = VOCABULARY.index("<|end|>")


class Templated(ToyClient):
    """The toy with another chat template: what follows a turn of the assistant."""

    def __init__(self, after: str = "<|end|>", *, keeps: bool = True) -> None:
        super().__init__()
        self._after = after
        self._keeps = keeps

    async def render(self, prompt: Prompt) -> Rendered:
        turns = [
            f"<|{m.role}|>{m.content if self._keeps else ''}{self._after}" for m in prompt.messages
        ]
        text = "".join(turns).replace("<|system|>", "<|user|>") + "<|assistant|>"
        return Rendered(text, await self.encode(text))


def query(*forms: tuple[str, ...]) -> ScoreQuery:
    answers = tuple(Answer(each[0], each) for each in forms)
    probe = CandidateProbe("sure", Turn(question="Is it so?"), answers)
    return ScoreQuery(QueryKey("k"), probe, probe.turn)


ASKED = query(("yes", "Yes"), ("no",), ("10%",), ("100%",))


async def value_of(scorer: Scorer, asked: ScoreQuery = ASKED) -> Any:
    return await scorer.score(asked)


async def test_the_end_of_a_turn_is_what_the_template_writes_after_one() -> None:
    assert await chat_terminators(ToyClient()) == (END,)
    # Where it is known, the template is not looked at.
    assert await chat_terminators(Templated(" so on"), "<|end|>") == (END,)


@pytest.mark.parametrize("after", ["\n<|end|>", " and so on", "<|eot|>"])
async def test_an_end_that_is_not_one_control_token_is_refused(after: str) -> None:
    with pytest.raises(TokenBoundaryError):
        await chat_terminators(Templated(after))


async def test_a_template_that_forgets_earlier_turns_is_refused() -> None:
    with pytest.raises(QueryRejected, match="leaves out"):
        await chat_terminators(Templated(keeps=False))


@pytest.mark.parametrize("mode", [CHAT, COMPLETION])
async def test_ends_are_the_models_own_next_tokens(mode: PromptMode) -> None:
    toy = ToyClient()
    value = await value_of(Scorer(toy, mode, TRIE, terminators=True))
    prompt = "<|user|>Is it so?<|end|><|assistant|>"
    ends = [END]
    if mode is COMPLETION:
        prompt = "Question: Is it so?\nAnswer:"
        ends = list(await toy.encode("\n"))
    ids = await toy.encode(prompt)
    assert value["end"] == {"token_ids": ends}
    for form in value["forms"]:
        question = NextTokenQuestion((*ids, *form["token_ids"]), tuple(ends))
        (truth,) = await toy.next_token_logprobs([question])
        assert form["end_logprobs"] == [truth[end] for end in ends]


@pytest.mark.parametrize("mode", [CHAT, COMPLETION])
async def test_ends_change_neither_the_other_numbers_nor_the_way_they_are_asked(
    mode: PromptMode,
) -> None:
    plain = await value_of(Scorer(ToyClient(), mode, TRIE))
    trie, sequence = [
        await value_of(Scorer(ToyClient(), mode, method, terminators=True))
        for method in ScoringMethod
    ]
    assert trie == sequence
    assert "end" not in plain
    for form in trie["forms"]:
        del form["end_logprobs"]
    assert trie["forms"] == plain["forms"]


class SequenceOnly(ToyClient):
    """The toy as a server that scores whole sequences only."""

    takes_ends = True

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            token_ids=True, next_token=False, sequence=True, json_schema=False, seed=True
        )

    async def sequence_logprobs(
        self, prompt: tuple[int, ...], continuations: Any
    ) -> list[tuple[float, ...]]:
        if not self.takes_ends and any(END in ids for ids in continuations):
            raise UnsupportedByServer("takes text")
        return await super().sequence_logprobs(prompt, continuations)


async def test_a_server_of_whole_sequences_measures_ends_as_well() -> None:
    trie = await value_of(Scorer(ToyClient(), CHAT, TRIE, terminators=True))
    client = SequenceOnly()
    value = await value_of(Scorer(client, CHAT, SEQUENCE, terminators=True))
    assert (value["forms"], value["end"]) == (trie["forms"], trie["end"])
    # One sequence a form, its end included.
    assert client.requests == 5


async def test_a_server_that_takes_no_control_token_gives_the_reason_and_all_else() -> None:
    client = SequenceOnly()
    client.takes_ends = False
    value = await value_of(Scorer(client, CHAT, SEQUENCE, terminators=True))
    assert value["end"] == {"reason": "takes text"}
    assert value["forms"] == (await value_of(Scorer(ToyClient(), CHAT, TRIE)))["forms"]


async def test_the_end_costs_one_question_a_form() -> None:
    asked = []
    for terminators in (False, True):
        client = ToyClient()
        await value_of(Scorer(client, CHAT, TRIE, terminators=terminators))
        asked.append(client.requests)
    assert asked[1] - asked[0] == 5


async def test_a_server_that_cannot_show_the_end_gives_the_reason_and_all_else() -> None:
    value = await value_of(Scorer(Templated(" so on"), CHAT, TRIE, terminators=True))
    assert "no control token" in value["end"]["reason"]
    assert all("end_logprobs" not in form for form in value["forms"])


async def test_a_lost_server_is_not_a_reason() -> None:
    class Lost(ToyClient):
        async def render(self, prompt: Prompt) -> Rendered:
            if len(prompt.messages) > 1:
                raise ServerUnavailable("gone")
            return await super().render(prompt)

    with pytest.raises(ServerUnavailable):
        await value_of(Scorer(Lost(), CHAT, TRIE, terminators=True))


async def test_a_line_break_that_joins_an_answer_gives_no_end() -> None:
    class Joining(ToyClient):
        async def encode(self, text: str) -> tuple[int, ...]:
            return await super().encode(text.replace("%\n", "#"))

    value = await value_of(Scorer(Joining(), COMPLETION, TRIE, terminators=True))
    assert "' 10%' and a line break" in value["end"]["reason"]
    assert math.isfinite(value["forms"][0]["logprobs"][0])


@pytest.mark.parametrize("method", [TRIE, SEQUENCE])
async def test_the_best_token_outside_begins_no_answer(method: ScoringMethod) -> None:
    toy = ToyClient()
    value = await value_of(Scorer(toy, CHAT, method))
    ids = await toy.encode("<|user|>Is it so?<|end|><|assistant|>")
    everything = NextTokenQuestion(ids, tuple(range(len(VOCABULARY))))
    (truth,) = await toy.next_token_logprobs([everything])
    inside = {form["token_ids"][0] for form in value["forms"]}
    best = max(truth.keys() - inside, key=lambda token: truth[token])
    assert value["outside"] == {
        "token_id": best,
        "text": VOCABULARY[best],
        "logprob": truth[best],
    }


async def test_what_the_server_does_not_tell_of_the_outside_is_said() -> None:
    class Silent(ToyClient):
        @property
        def capabilities(self) -> Capabilities:
            return Capabilities(
                token_ids=True, next_token=True, sequence=True, json_schema=False, seed=True
            )

    value = await value_of(Scorer(Silent(), CHAT, TRIE))
    assert value["outside"] == {"reason": "this server does not tell the most probable token"}


async def test_a_server_that_lists_only_the_best_of_all_says_that_an_answer_leads() -> None:
    class TopOnly(ToyClient):
        async def next_token_logprobs(self, questions: Any) -> list[dict[int, float]]:
            found = await super().next_token_logprobs(questions)
            return [
                {token: values[token] for token in question.tokens}
                for question, values in zip(questions, found, strict=True)
            ]

    value = await value_of(Scorer(TopOnly(), CHAT, TRIE))
    assert value["outside"]["leads"] is False
    assert "begins an answer" in value["outside"]["reason"]


async def test_a_token_that_cannot_be_written_out_is_named_by_its_number() -> None:
    class Mute(ToyClient):
        async def decode(self, token_ids: Any) -> str:
            raise QueryRejected("no such path")

    value = await value_of(Scorer(Mute(), CHAT, TRIE))
    assert value["outside"]["text"] == f"<token {value['outside']['token_id']}>"
