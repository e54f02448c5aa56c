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
from grace.errors import BadReply
from grace.inference.client import Generation, GenerationRequest, Sampling
from grace.inference.toy import ToyClient
from grace.studies.probes import ResponseProbe, Turn
from grace.studies.prompts import PromptMode

THINK = ReasoningTags("<think>", "</think>")
CHANNELS = ReasoningTags(
    "<|channel|>analysis<|message|>",
    "<|end|>",
    final="<|channel|>final<|message|>",
    end="<|return|>",
    max_tokens=100,
)
ANALYSIS = "<|channel|>analysis<|message|>Two or three?<|end|><|start|>assistant"


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


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        (f"{ANALYSIS}<|channel|>final<|message|>Three.<|return|>", "Two or three?", "Three."),
        (f"{ANALYSIS}<|channel|>final<|message|>Three.", "Two or three?", "Three."),
        ("<|channel|>final<|message|>Three.<|return|>", "", "Three."),
        # A remark in another channel is no part of the answer.
        (
            f"{ANALYSIS}<|channel|>commentary<|message|>So.<|end|><|start|>assistant"
            "<|channel|>final<|message|>Three.<|return|>",
            "Two or three?",
            "Three.",
        ),
        # Cut off in the analysis, or before the final channel: there is no answer.
        ("<|channel|>analysis<|message|>Two or", "Two or", ""),
        (ANALYSIS, "Two or three?", ""),
        # A server that reads the channels itself gives the answer alone.
        ("Three.", "", "Three."),
        ("The analysis says three.", "", "The analysis says three."),
    ],
)
def test_channels_split_analysis_from_answer(text: str, reasoning: str, answer: str) -> None:
    assert CHANNELS.split(text) == (reasoning, answer)


@pytest.mark.parametrize("text", ["analysisTwo or three?assistantfinalThree.", "analysisTwo or"])
def test_channels_without_their_control_tokens_are_refused(text: str) -> None:
    with pytest.raises(BadReply, match="left out the control tokens"):
        CHANNELS.split(text)


@pytest.mark.parametrize(
    ("cut", "expected"), [(True, ("Hm, if two", "")), (False, ("", "Hm, if two"))]
)
def test_a_thought_that_the_template_opened_is_none_if_it_was_cut_off(
    *, cut: bool, expected: tuple[str, str]
) -> None:
    opened = ReasoningTags("<think>", "</think>", opened=True)
    assert opened.split("Hm, if two", cut=cut) == expected
    assert opened.split("Hm.</think>Yes.", cut=cut) == ("Hm.", "Yes.")


async def test_reasoning_has_tokens_of_its_own_and_its_control_tokens_are_asked_for(
    asker: Asker,
) -> None:
    client = Remembering(response=f"{ANALYSIS}<|channel|>final<|message|>Three.<|return|>")
    await Respondent(client, PromptMode.CHAT, Sampling(), CHANNELS).hold(DIALOGUE, asker)
    first, second = client.asked
    assert first.max_tokens == 12 + 100
    assert first.control_tokens == (*("<|channel|>", "<|message|>", "<|end|>", "<|return|>"),)
    assert second.prompt.messages[1].content == "Three."
    assert asker.records[QueryKey("first")].value["text"] == "Three."


async def test_a_response_whose_channels_were_lost_is_a_failure_and_no_text(asker: Asker) -> None:
    client = Remembering(response="analysisHm.assistantfinalThree.")
    await Respondent(client, PromptMode.CHAT, Sampling(), CHANNELS).hold(DIALOGUE, asker)
    record = asker.records[QueryKey("first")]
    assert (record.status, record.error_type) == ("failed", "BadReply")
