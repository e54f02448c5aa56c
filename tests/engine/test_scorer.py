import asyncio
import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from grace.engine.plan import QueryKey, ScoreQuery, plan_scores
from grace.engine.score import Scorer, ScoringMethod, choose_method
from grace.errors import ScoringError, ServerUnavailable, TokenBoundaryError, UnsupportedByServer
from grace.inference.client import Capabilities, Rendered
from grace.inference.toy import VOCABULARY, ToyClient
from grace.pipeline.inputs import load_inputs
from grace.settings import RunSettings
from grace.studies.probes import Answer, CandidateProbe, Turn
from grace.studies.prompts import Convention, Prompt, PromptMode

CHAT, COMPLETION = PromptMode.CHAT, PromptMode.COMPLETION
TRIE, SEQUENCE = ScoringMethod.TRIE, ScoringMethod.SEQUENCE


def query(*answers: str | tuple[str, ...], question: str = "Is it so?") -> ScoreQuery:
    made = tuple(
        Answer(forms[0], forms)
        for forms in (answer if isinstance(answer, tuple) else (answer,) for answer in answers)
    )
    probe = CandidateProbe("sure", Turn(question=question), made)
    return ScoreQuery(QueryKey("k"), probe, probe.turn)


class Counting(ToyClient):
    """The toy, which counts encodings, and may begin every text with a token."""

    def __init__(self, begin: str = "") -> None:
        super().__init__()
        self.encoded: list[str] = []
        self._begin = begin

    async def encode(self, text: str) -> tuple[int, ...]:
        self.encoded.append(text)
        ids = await super().encode(text)
        return (VOCABULARY.index(self._begin), *ids) if self._begin else ids


def text_of(ids: Sequence[int]) -> str:
    return "".join(VOCABULARY[token] for token in ids)


def forms_of(value: Mapping[str, Any]) -> list[dict[str, Any]]:
    forms: list[dict[str, Any]] = value["forms"]
    return forms


@pytest.mark.parametrize("mode", [CHAT, COMPLETION])
async def test_both_methods_give_the_same_numbers(mode: PromptMode) -> None:
    asked = query("It was good", "It wasn't good", "It was bad", ("100%", "50%"))
    values = [await Scorer(ToyClient(), mode, method).score(asked) for method in ScoringMethod]
    assert values[0] == values[1]


@pytest.mark.parametrize("mode", [CHAT, COMPLETION])
async def test_the_numbers_are_the_models_own_for_exactly_that_text(mode: PromptMode) -> None:
    toy = ToyClient()
    value = await Scorer(toy, mode, TRIE).score(query("10%", "100%"))
    prompt = (
        "<|user|>Is it so?<|end|><|assistant|>" if mode is CHAT else "Question: Is it so?\nAnswer:"
    )
    ids = await toy.encode(prompt)
    assert value["prompt_tokens"] == len(ids)
    for form, text in zip(forms_of(value), ["10%", "100%"], strict=True):
        whole = await toy.encode(prompt + form["text"])
        assert form["text"] == (text if mode is CHAT else f" {text}")
        assert (*ids, *form["token_ids"]) == whole
        (truth,) = await toy.sequence_logprobs(ids, [tuple(form["token_ids"])])
        assert tuple(form["logprobs"]) == truth


async def test_all_forms_of_an_answer_are_scored_under_its_label() -> None:
    value = await Scorer(ToyClient(), CHAT, TRIE).score(query(("yes", "Yes"), ("no", "No")))
    assert [(form["label"], form["text"]) for form in forms_of(value)] == [
        ("yes", "yes"),
        ("yes", "Yes"),
        ("no", "no"),
        ("no", "No"),
    ]


async def test_an_answer_that_would_merge_with_the_prompt_is_refused() -> None:
    # The toy has the token ":n"; a chat template that ends in a colon invites it.
    scorer = Scorer(ToyClient(), CHAT, TRIE, Convention(answer_prefix="Answer:"))
    with pytest.raises(TokenBoundaryError, match=r"probe sure, answer 'no' after '.*Answer:'"):
        await scorer.score(query("yes", "no"))
    assert await scorer.score(query("yes", "No"))


async def test_a_separator_is_a_part_of_the_answer_and_keeps_it_from_merging() -> None:
    spaced = Convention(answer_prefix="Answer:", answer_separator=" ")
    value = await Scorer(ToyClient(), CHAT, TRIE, spaced).score(query("yes", "no"))
    assert [form["text"] for form in forms_of(value)] == [" yes", " no"]


async def test_a_header_that_only_looks_like_a_control_token_is_not_remembered() -> None:
    class Markup(Counting):
        """Its `<b>` is an ordinary token, which is cut otherwise behind some characters."""

        async def encode(self, text: str) -> tuple[int, ...]:
            ids = await super().encode(text.replace("<b>", "wa"))
            return ids if ".<b>" not in text else (*ids[:-1], VOCABULARY.index("w"), ids[-1])

        async def render(self, prompt: Prompt) -> Rendered:
            text = "".join(m.content for m in prompt.messages) + "<b>"
            return Rendered(text, await self.encode(text))

    client = Markup()
    scorer = Scorer(client, CHAT, TRIE)
    for question in ("First?", "Second?"):
        client.encoded.clear()
        await scorer.score(query("yes", "No", question=question))
    assert len(client.encoded) == 3


async def test_the_space_of_completion_mode_keeps_answers_from_merging() -> None:
    value = await Scorer(ToyClient(), COMPLETION, TRIE).score(query("yes", "no"))
    assert [form["text"] for form in forms_of(value)] == [" yes", " no"]


async def test_a_merge_inside_an_answer_is_no_fault() -> None:
    value = await Scorer(ToyClient(), CHAT, TRIE).score(query("It was good", "It wasn't bad"))
    first = forms_of(value)[0]["token_ids"]
    assert [VOCABULARY[token] for token in first] == [
        *("It", " w", "a", "s", " ", "g", "oo", "d"),
    ]


async def test_answers_that_begin_each_other_are_refused_with_the_probes_name() -> None:
    with pytest.raises(ScoringError, match=r"probe sure: the tokens of '10' begin those of '10a'"):
        await Scorer(ToyClient(), CHAT, TRIE).score(query("10", "10a", "5"))


async def test_an_empty_answer_is_refused() -> None:
    with pytest.raises(TokenBoundaryError, match="adds no token"):
        await Scorer(ToyClient(), CHAT, TRIE).score(query("", "no"))


@pytest.mark.parametrize("begin", ["", "<|user|>"], ids=["no BOS", "BOS"])
@pytest.mark.parametrize("prefix", ["", "<final>"])
async def test_the_remembered_header_gives_the_same_tokens_as_encoding_everything(
    begin: str, prefix: str
) -> None:
    client = Counting(begin)
    scorer = Scorer(client, CHAT, TRIE, Convention(answer_prefix=prefix))
    for number in range(3):
        asked = query("yes", "no", "100%", question=f"Is it so, {number} times?")
        value = await scorer.score(asked)
        rendered = f"<|user|>Is it so, {number} times?<|end|><|assistant|>{prefix}"
        prompt = await client.encode(rendered)
        for form in forms_of(value):
            whole = await client.encode(rendered + form["text"])
            assert (*prompt, *form["token_ids"]) == whole


async def test_answers_are_encoded_once_for_all_chat_prompts() -> None:
    client = Counting()
    scorer = Scorer(client, CHAT, TRIE)
    await scorer.score(query("yes", "no", question="First?"))
    client.encoded.clear()
    await scorer.score(query("yes", "no", question="Second?"))
    assert client.encoded == ["<|user|>Second?<|end|><|assistant|>"]


async def test_without_a_control_token_every_prompt_is_encoded_with_its_answers() -> None:
    class Plain(Counting):
        """A chat template in plain words: nothing keeps tokens from crossing the seam."""

        async def render(self, prompt: Prompt) -> Rendered:
            text = "".join(f"User: {m.content}\n" for m in prompt.messages) + "Model:"
            return Rendered(text, await self.encode(text))

    client = Plain()
    scorer = Scorer(client, CHAT, TRIE)
    await scorer.score(query("yes", "Yes", question="First?"))
    client.encoded.clear()
    await scorer.score(query("yes", "Yes", question="Second?"))
    assert len(client.encoded) == 3
    with pytest.raises(TokenBoundaryError):
        await scorer.score(query("yes", "no"))


async def test_many_at_once_give_what_each_gives_alone() -> None:
    questions = [query("yes", "no", question=f"Number {n}?") for n in range(8)]
    scorer = Scorer(ToyClient(), CHAT, TRIE)
    together = await asyncio.gather(*(scorer.score(one) for one in questions))
    for one, value in zip(questions, together, strict=True):
        assert value == await Scorer(ToyClient(), CHAT, TRIE).score(one)


@pytest.mark.parametrize("mode", [CHAT, COMPLETION])
async def test_every_answer_set_of_the_built_in_studies_can_be_scored(mode: PromptMode) -> None:
    scorer = Scorer(ToyClient(), mode, TRIE)
    for trials in load_inputs(RunSettings(limit=1)):
        for asked in plan_scores(trials).queries:
            value = await scorer.score(asked)
            logprobs = [math.fsum(form["logprobs"]) for form in forms_of(value)]
            assert all(logprob < 0 for logprob in logprobs)
            assert math.fsum(map(math.exp, logprobs)) <= 1


def able(*, trie: bool = True, sequence: bool = True, ids: bool = True) -> Capabilities:
    return Capabilities(
        token_ids=ids,
        next_token=trie,
        sequence=sequence,
        json_schema=False,
        seed=True,
        preferred_scoring="sequence",
    )


def test_the_servers_cheaper_way_is_taken_if_none_is_asked_for() -> None:
    assert choose_method(able(), None) is SEQUENCE
    assert choose_method(able(sequence=False), None) is TRIE
    assert choose_method(able(), TRIE) is TRIE


@pytest.mark.parametrize(
    ("capabilities", "wanted"),
    [
        (able(trie=False, sequence=False), None),
        (able(ids=False), None),
        (able(trie=False), TRIE),
        (able(sequence=False), SEQUENCE),
    ],
)
def test_a_server_that_cannot_score_exactly_is_refused(
    capabilities: Capabilities, wanted: ScoringMethod | None
) -> None:
    with pytest.raises(UnsupportedByServer, match="--experiment exp1"):
        choose_method(capabilities, wanted)


class Watched(ToyClient):
    """The toy, which counts what it renders with and without text."""

    def __init__(self) -> None:
        super().__init__()
        self.with_text: list[Prompt] = []
        self.without: list[Prompt] = []

    async def render(self, prompt: Prompt) -> Rendered:
        self.with_text.append(prompt)
        return await super().render(prompt)

    async def prompt_tokens(self, prompt: Prompt) -> tuple[int, ...]:
        self.without.append(prompt)
        return (await super().render(replace(prompt, answer_prefix=""))).token_ids


@pytest.mark.parametrize("prefix", ["", "<|end|>Final: ", "It's "])
async def test_once_a_set_is_encoded_a_prompt_of_the_same_template_needs_no_text(
    prefix: str,
) -> None:
    client = Watched()
    scorer = Scorer(client, CHAT, TRIE, Convention(prefix))
    first = query("10%", "100%")
    asked = [replace(first, turn=Turn(question=f"How {word}?")) for word in ("much", "so", "many")]
    answers = [await scorer.score(one) for one in asked]
    assert len(client.without) == 2
    # Two to find the header, and the first prompt.
    assert len(client.with_text) == 3
    for one, answer in zip(asked, answers, strict=True):
        assert answer == await Scorer(ToyClient(), CHAT, TRIE, Convention(prefix)).score(one)


async def test_each_set_of_answers_is_encoded_after_a_whole_prompt_once() -> None:
    client = Watched()
    scorer = Scorer(client, CHAT, TRIE)
    await scorer.score(query("10%", "100%"))
    await scorer.score(query("yes", "no"))
    assert client.without == []


async def test_queries_in_company_get_what_they_get_alone() -> None:
    asked = [query("10%", "100%", question=f"How {word}?") for word in ("much", "so", "many")]
    asked.append(query("a", "ab"))
    client = ToyClient()
    scorer = Scorer(client, CHAT, TRIE)
    gathering = scorer.gathering(len(asked))

    async def ask(member: int) -> Mapping[str, Any] | ScoringError:
        try:
            return await scorer.score(asked[member], gathering.questions_of(member))
        except ScoringError as error:
            return error
        finally:
            gathering.leave(member)

    answers = await asyncio.gather(*(ask(member) for member in range(4)))
    assert isinstance(answers[3], ScoringError)
    for one, answer in zip(asked[:3], answers, strict=False):
        assert answer == await Scorer(ToyClient(), CHAT, TRIE).score(one)


async def test_what_a_failing_server_answered_while_the_header_was_sought_is_kept() -> None:
    class Failing(Counting):
        """Every third encoding fails."""

        async def encode(self, text: str) -> tuple[int, ...]:
            ids = await super().encode(text)
            if len(self.encoded) % 3 == 0:
                raise ServerUnavailable("busy")
            return ids

    # Beginning anew each time, no attempt would ever end: the header alone takes more than three.
    scorer = Scorer(Failing(), CHAT, TRIE)
    attempts = 0
    value: Mapping[str, Any] = {}
    while not value and attempts < 12:
        attempts += 1
        with contextlib.suppress(ServerUnavailable):
            value = await scorer.score(query("yes", "no"))
    assert value == await Scorer(ToyClient(), CHAT, TRIE).score(query("yes", "no"))
