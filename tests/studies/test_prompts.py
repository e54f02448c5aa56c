import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.studies.probes import Turn
from grace.studies.prompts import Convention, Message, Prompt, PromptMode, build_prompt
from strategies import any_text

CHAT, COMPLETION = PromptMode.CHAT, PromptMode.COMPLETION
FIRST = Turn(context="A story.", instruction="One number.", question="How many?")
SECOND = Turn(question="And now?")
CHANNEL = Convention(answer_prefix="<final>", answer_separator="_")


def test_a_chat_has_context_instruction_and_question_in_one_message() -> None:
    prompt = build_prompt([FIRST], [], CHAT)
    assert prompt.messages == (Message("user", "A story.\n\nOne number. How many?"),)
    assert (prompt.mode, prompt.answer_separator) == (CHAT, "")


def test_a_dialogue_alternates_and_ends_with_the_user() -> None:
    prompt = build_prompt([FIRST, SECOND, SECOND], [" 3\n", "2"], CHAT)
    assert [message.role for message in prompt.messages] == [
        *("user", "assistant", "user", "assistant", "user"),
    ]
    assert prompt.messages[1].content == "3"


def test_a_base_model_gets_the_same_words_as_text() -> None:
    prompt = build_prompt([FIRST, SECOND], ["3"], COMPLETION)
    assert prompt.text == (
        "A story.\n\nOne number.\n\nQuestion: How many?\nAnswer: 3\n\nQuestion: And now?\nAnswer:"
    )
    assert (prompt.mode, prompt.answer_separator) == (COMPLETION, " ")


def test_nothing_stands_before_a_question_without_context() -> None:
    assert build_prompt([SECOND], [], CHAT).messages[0].content == "And now?"
    assert build_prompt([SECOND], [], COMPLETION).text == "Question: And now?\nAnswer:"


def test_an_answer_prefix_is_for_chats_only() -> None:
    assert build_prompt([SECOND], [], CHAT, CHANNEL).answer_prefix == "<final>"
    assert build_prompt([SECOND], [], COMPLETION, CHANNEL).answer_prefix == ""


def test_an_answer_separator_is_of_the_model_in_a_chat_and_a_space_in_plain_text() -> None:
    assert build_prompt([SECOND], [], CHAT, CHANNEL).answer_separator == "_"
    assert build_prompt([SECOND], [], COMPLETION, CHANNEL).answer_separator == " "


def test_a_separator_makes_another_prompt() -> None:
    spaced = build_prompt([SECOND], [], CHAT, Convention(answer_separator=" "))
    assert spaced.sha256() != build_prompt([SECOND], [], CHAT).sha256()


@pytest.mark.parametrize("mode", PromptMode)
@pytest.mark.parametrize("responses", [[], ["1", "2"]])
def test_responses_must_fit_the_turns(mode: PromptMode, responses: list[str]) -> None:
    with pytest.raises(ValueError, match="2 turns need 1 responses"):
        build_prompt([FIRST, SECOND], responses, mode)


prompts = st.builds(
    Prompt,
    messages=st.lists(
        st.builds(Message, st.sampled_from(["user", "assistant", "system"]), any_text), max_size=3
    ).map(tuple),
    text=any_text,
    answer_prefix=any_text,
)


@given(prompts, prompts)
def test_prompts_have_the_same_hash_exactly_if_they_are_the_same(one: Prompt, two: Prompt) -> None:
    assert (one.sha256() == two.sha256()) == (one == two)


def test_the_hash_of_a_prompt_never_changes() -> None:
    # Hashes of prompts stand in journals and manifests of published runs.
    assert build_prompt([FIRST], [], CHAT).sha256()[:16] == "60c223224f859917"
    assert build_prompt([FIRST], [], COMPLETION).sha256()[:16] == "0f8119a1e6d7c969"


@given(st.dictionaries(st.sampled_from("abc"), any_text, min_size=3))
def test_values_are_filled_in_once_and_never_read_as_templates(values: dict[str, str]) -> None:
    turn = Turn(context="<{a}>", instruction="<{b}>", question="<{c}{c}>")
    filled = turn.fill(values)
    assert filled.context == f"<{values['a']}>"
    assert filled.instruction == f"<{values['b']}>"
    assert filled.question == f"<{values['c']}{values['c']}>"
    assert turn.placeholders() == {"a", "b", "c"}


def test_an_unknown_variable_is_an_error() -> None:
    with pytest.raises(KeyError):
        Turn(question="{a}").fill({})
