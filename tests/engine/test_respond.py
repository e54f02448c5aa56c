from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.engine.events import QuietHook
from grace.engine.execute import Asker, RetryPolicy
from grace.engine.journal import JournalWriter
from grace.engine.pace import Pace
from grace.engine.plan import Dialogue, QueryKey, ResponseQuery
from grace.engine.respond import ReasoningTags, Respondent
from grace.inference.client import Generation, GenerationRequest, Sampling
from grace.inference.toy import ToyClient
from grace.studies.probes import ResponseProbe, Turn
from grace.studies.prompts import PromptMode

THINK = ReasoningTags("<think>", "</think>")


def query(name: str, question: str, seed: int = 1) -> ResponseQuery:
    probe = ResponseProbe(name, Turn(question=question), max_tokens=12)
    return ResponseQuery(QueryKey(name), probe, probe.turn, seed)


DIALOGUE = Dialogue((query("first", "How many?", 11), query("second", "And now?", 12)))


class Remembering(ToyClient):
    """The toy, which remembers what it was asked."""

    def __init__(self, max_tokens: int | None = None, response: str = "3") -> None:
        super().__init__(max_tokens, [response])
        self.asked: list[GenerationRequest] = []

    async def generate(self, request: GenerationRequest) -> Generation:
        self.asked.append(request)
        return await super().generate(request)


@pytest.fixture
def asker(tmp_path: Path) -> Iterator[Asker]:
    with JournalWriter(tmp_path, "respond") as writer:
        keys = [one.key for one in DIALOGUE.queries]
        yield Asker("s", "respond", {}, keys, writer, QuietHook(), RetryPolicy(), Pace(1))


async def test_each_turn_sees_the_answers_to_those_before_it(asker: Asker) -> None:
    client = Remembering()
    await Respondent(client, PromptMode.CHAT, Sampling()).hold(DIALOGUE, asker)
    first, second = client.asked
    assert [message.content for message in first.prompt.messages] == ["How many?"]
    assert [(m.role, m.content) for m in second.prompt.messages] == [
        ("user", "How many?"),
        ("assistant", "3"),
        ("user", "And now?"),
    ]
    assert (first.seed, second.seed) == (11, 12)
    assert (first.max_tokens, first.stop) == (12, ())


async def test_the_record_says_what_was_asked_and_what_came(asker: Asker) -> None:
    client = Remembering()
    await Respondent(client, PromptMode.CHAT, Sampling()).hold(DIALOGUE, asker)
    record = asker.records[QueryKey("first")]
    assert record.value == {
        "text": "3",
        "finish_reason": "stop",
        "reasoning": "",
        "prompt_sha256": client.asked[0].prompt.sha256(),
        "seed": 11,
        "prompt_tokens": len((await client.render(client.asked[0].prompt)).token_ids),
        "completion_tokens": 1,
    }


async def test_a_base_model_is_stopped_before_it_asks_itself(asker: Asker) -> None:
    client = Remembering()
    await Respondent(client, PromptMode.COMPLETION, Sampling()).hold(DIALOGUE, asker)
    assert client.asked[0].stop == ("\n",)
    assert client.asked[1].prompt.text == (
        "Question: How many?\nAnswer: 3\n\nQuestion: And now?\nAnswer:"
    )


async def test_nothing_is_asked_after_a_turn_that_failed(asker: Asker) -> None:
    await Respondent(Remembering(max_tokens=3), PromptMode.CHAT, Sampling()).hold(DIALOGUE, asker)
    assert asker.records[QueryKey("first")].error_type == "QueryRejected"
    assert QueryKey("second") not in asker.records
    assert asker.counts.not_asked == 1


async def test_a_dialogue_is_taken_up_where_it_was_broken_off(asker: Asker) -> None:
    client = Remembering()
    respondent = Respondent(client, PromptMode.CHAT, Sampling())
    await respondent.hold(Dialogue(DIALOGUE.queries[:1]), asker)
    await respondent.hold(DIALOGUE, asker)
    assert [request.seed for request in client.asked] == [11, 12]
    assert client.asked[1].prompt.messages[1].content == "3"


async def test_reasoning_is_kept_apart_and_never_shown_to_the_next_turn(asker: Asker) -> None:
    client = Remembering(response="<think>Two or three?</think>\n\nThree.")
    await Respondent(client, PromptMode.CHAT, Sampling(), THINK).hold(DIALOGUE, asker)
    value = asker.records[QueryKey("first")].value
    assert (value["reasoning"], value["text"]) == ("Two or three?", "\n\nThree.")
    assert client.asked[1].prompt.messages[1].content == "Three."


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("Yes.", "", "Yes."),
        ("<think>Hm.</think>Yes.", "Hm.", "Yes."),
        # Some templates open the tag themselves.
        ("Hm.</think>Yes.", "Hm.", "Yes."),
        # Cut off while thinking: there is no answer.
        ("<think>Hm, if two", "Hm, if two", ""),
    ],
)
def test_tags_split_reasoning_from_answer(text: str, reasoning: str, answer: str) -> None:
    assert THINK.split(text) == (reasoning, answer)


@given(st.text())
def test_text_without_tags_is_all_answer(text: str) -> None:
    assert THINK.split(text.replace("think>", "")) == ("", text.replace("think>", ""))
