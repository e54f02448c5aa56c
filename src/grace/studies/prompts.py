"""
Prompts: turns laid out for a chat model or for a base model.

A chat model gets messages, which its own chat template renders; a base model
gets one plain text in question-and-answer form. The words are the same.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from grace.studies.probes import Turn


class PromptMode(StrEnum):
    """How a model is prompted: by its chat template, or by plain text."""

    CHAT = "chat"
    COMPLETION = "completion"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Convention:
    """
    Where a chat model's answer begins and ends, as far as its template does not show it.

    Attributes:
        answer_prefix: Text after the template's header, before the answer (a
            final channel's prefix, a closed reasoning block). It is a part of
            the prompt.

        answer_separator: What an answer begins with after all this: a space
            where a template ends with `Assistant:`. It is a part of the answer,
            since tokenizers join a space with the word behind it.

        end_of_turn: The control token with which the model ends an answer; ""
            if the catalogue does not say.
    """

    answer_prefix: str = ""
    answer_separator: str = ""
    end_of_turn: str = ""


PLAIN = Convention()
"""An answer follows right after the template's header."""

COMPLETION_SEPARATOR = " "
"""What stands between `Answer:` and an answer in plain text."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """
    What a model is given: messages for its chat template, or plain text.

    Attributes:
        messages: The chat so far, ending with the user; empty in completion mode.

        text: The plain text in completion mode; otherwise empty.

        answer_prefix: See `Convention`. Chat mode only.

        answer_separator: What every scored answer begins with.
    """

    messages: tuple[Message, ...] = ()
    text: str = ""
    answer_prefix: str = ""
    answer_separator: str = ""

    @property
    def mode(self) -> PromptMode:
        """Whether this goes through a chat template."""
        return PromptMode.CHAT if self.messages else PromptMode.COMPLETION

    def sha256(self) -> str:
        """Return the hash of the prompt's content, in hexadecimal."""
        content = [
            [[m.role, m.content] for m in self.messages],
            self.text,
            self.answer_prefix,
            *([self.answer_separator] if self.messages and self.answer_separator else []),
        ]
        return hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()


COMPLETION_STOP = ("\n",)
"""Where a base model's answer ends: it would go on to write the next question."""


def build_prompt(
    turns: Sequence[Turn],
    responses: Sequence[str],
    mode: PromptMode,
    convention: Convention = PLAIN,
) -> Prompt:
    """
    Lay out filled turns and the responses to all but the last of them.

    Args:
        turns: The dialogue so far; the last one is being asked.

        responses: What was answered to the earlier turns, in order.

        mode: Chat or completion.

        convention: Where the model's answer begins; ignored in completion mode.

    Raises:
        ValueError: The number of responses does not fit the turns.
    """
    if len(responses) != len(turns) - 1:
        raise ValueError(
            f"{len(turns)} turns need {len(turns) - 1} responses, not {len(responses)}"
        )
    if mode is PromptMode.COMPLETION:
        blocks = [_completion_block(turn) for turn in turns]
        answered = [
            f"{block}{COMPLETION_SEPARATOR}{response.strip()}"
            for block, response in zip(blocks[:-1], responses, strict=True)
        ]
        text = "\n\n".join([*answered, blocks[-1]])
        return Prompt(text=text, answer_separator=COMPLETION_SEPARATOR)
    messages: list[Message] = []
    for turn, response in zip(turns[:-1], responses, strict=True):
        messages += [
            Message("user", _chat_content(turn)),
            Message("assistant", response.strip()),
        ]
    messages.append(Message("user", _chat_content(turns[-1])))
    return Prompt(tuple(messages), "", convention.answer_prefix, convention.answer_separator)


def _chat_content(turn: Turn) -> str:
    request = f"{turn.instruction} {turn.question}".strip()
    return f"{turn.context}\n\n{request}".strip()


def _completion_block(turn: Turn) -> str:
    told = "\n\n".join(part for part in (turn.context, turn.instruction) if part)
    asked = f"Question: {turn.question}\nAnswer:"
    return f"{told}\n\n{asked}" if told else asked


def layout_sha256(mode: PromptMode, convention: Convention = PLAIN) -> str:
    """
    Return the hash of how turns are laid out, whatever their words.

    A study's definition holds its words only; another version of Grace may put
    the same words before a model in another way.
    """
    turns = [Turn("context", "instruction", "question"), Turn("", "instruction", "question")]
    turns.append(Turn(question="question"))
    shown = [
        build_prompt(turns[: count + 1], ["response"] * count, mode, convention).sha256()
        for count in range(len(turns))
    ]
    return hashlib.sha256("\n".join([*shown, *COMPLETION_STOP]).encode()).hexdigest()
