"""
What servers reply, read strictly: what is missing or odd is a `BadReply`.

The shapes that several dialects share are here, with the checks that keep a
placeholder from passing for a measurement. It knows nothing of requests.
"""

import math
from collections.abc import Collection, Sequence
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from grace.errors import BadReply, IdentityMismatch, QueryRejected, ServerUnavailable, UsageError
from grace.hiding import printable
from grace.inference.client import Generation
from grace.inference.usage import Usage

_M = TypeVar("_M", bound="Reply")

# vLLM writes this where a log-probability is minus infinity.
_FLOOR = -9999.0
# Rounding in 32 bits puts a sure token slightly above 0.
_ROUNDING = 1e-4
_MASS_ROUNDING = 1e-3
_SHOWN_NAMES = 20
_SHOWN_NAME = 100


class Reply(BaseModel):
    """A part of a reply: types are not coerced, numbers are finite, more is allowed."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)


class PromptDetails(Reply):
    """What became of a prompt's tokens; not every server tells."""

    cached_tokens: int | None = None


class TokenCounts(Reply):
    """Token counts, as the server counted."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None

    @property
    def cached_tokens(self) -> int | None:
        """Prompt tokens that came from the server's cache."""
        return self.prompt_tokens_details.cached_tokens if self.prompt_tokens_details else None


class ModelCard(Reply):
    """One entry of `/v1/models`."""

    id: str
    owned_by: str | None = None
    root: str | None = None
    max_model_len: int | None = None


class ModelCards(Reply):
    """The reply of `/v1/models`."""

    data: list[ModelCard]


class _Message(Reply):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class _ChatChoice(Reply):
    message: _Message
    finish_reason: str | None = None


class _ChatReply(Reply):
    choices: list[_ChatChoice]
    usage: TokenCounts | None = None


class _TextChoice(Reply):
    text: str
    finish_reason: str | None = None


class _TextReply(Reply):
    choices: list[_TextChoice]
    usage: TokenCounts | None = None


def parse(kind: type[_M], reply: JsonValue, where: str) -> _M:
    """
    Read a reply as *kind*.

    Args:
        kind: The shape that is expected.

        reply: What came.

        where: Server and path, for the message.

    Raises:
        BadReply: It has another shape, or a number that is not finite.
    """
    try:
        return kind.model_validate(reply)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"]) or "the reply"
        raise BadReply(f"{where}: {place}: {problem['msg']}") from error


def checked_logprob(value: float | None, where: str) -> float:
    """
    Return *value* if it is a measured log-probability.

    Raises:
        BadReply: It is missing, not finite, above 0 by more than rounding, or
            the constant that stands for minus infinity.

    >>> checked_logprob(3e-7, "example")
    0.0
    """
    if value is None or not math.isfinite(value) or value > _ROUNDING:
        raise BadReply(f"{where}: {value} is not a log-probability")
    if value <= _FLOOR:
        raise BadReply(f"{where}: {value} stands for minus infinity; it was not measured")
    return min(0.0, value)


def check_mass(logprobs: Collection[float], where: str) -> None:
    """
    Check that the probabilities of distinct tokens at one place do not exceed 1.

    A server started to report logits instead of log-probabilities fails this.

    Raises:
        BadReply: They do.
    """
    # A logit may be too large for exp.
    too_high = bool(logprobs) and max(logprobs) > 1
    mass = math.e if too_high else math.fsum(map(math.exp, logprobs))
    if mass > 1 + _MASS_ROUNDING:
        raise BadReply(f"{where}: {len(logprobs)} tokens have a probability of {mass:.4g} or more")


def chat_generation(reply: JsonValue, where: str) -> Generation:
    """
    Read the reply of a chat completion with one choice.

    Raises:
        BadReply: It has no choice, more than one, or no content.

        ServerUnavailable, QueryRejected: The server broke off.
    """
    parsed = parse(_ChatReply, reply, where)
    choice = _only(parsed.choices, where)
    finish = finish_reason(choice.finish_reason, where)
    message = choice.message
    reasoning = message.reasoning or message.reasoning_content or ""
    if message.content is None:
        hint = "; it spent max_tokens on reasoning" if reasoning and finish == "length" else ""
        raise BadReply(f"{where}: choices.0.message.content is null{hint}")
    return _generation(message.content, finish, parsed.usage, reasoning)


def text_generation(reply: JsonValue, where: str) -> Generation:
    """
    Read the reply of a completion with one choice.

    Raises:
        BadReply: It has no choice, or more than one.

        ServerUnavailable, QueryRejected: The server broke off.
    """
    parsed = parse(_TextReply, reply, where)
    choice = _only(parsed.choices, where)
    return _generation(choice.text, finish_reason(choice.finish_reason, where), parsed.usage, "")


def counted(generation: Generation, usage: Usage) -> Generation:
    """Add a response's figures to the totals, and return it."""
    usage.add(1, generation.prompt_tokens or 0, generation.completion_tokens or 0, None)
    return generation


def finish_reason(reason: str | None, where: str) -> Literal["stop", "length"]:
    """
    Translate why a response ended.

    Raises:
        ServerUnavailable: The server ran out of resources or was stopped.

        QueryRejected: A filter cut the response.

        BadReply: The reason is unknown.
    """
    match reason:
        case "stop" | "eos_token" | "stop_sequence":
            return "stop"
        case "length":
            return "length"
        case "abort" | "insufficient_system_resource":
            raise ServerUnavailable(f"{where}: the server broke off: {reason}")
        case "content_filter":
            raise QueryRejected(f"{where}: the server's content filter cut the response")
        case _:
            raise BadReply(
                f"{where}: finish_reason is {repr(reason)[:60]}; expected 'stop' or 'length'"
            )


def set_reasoning_apart(text: str) -> tuple[str, str]:
    r"""
    Split a response into reasoning and answer at a model's `<think>` tags.

    Some templates open the tag themselves, so only its end is in the response.

    >>> set_reasoning_apart("<think>Hm.</think>\n\nYes.")
    ('Hm.', 'Yes.')
    >>> set_reasoning_apart("Yes.")
    ('', 'Yes.')
    >>> set_reasoning_apart("<think>Hm")
    ('Hm', '')
    """
    opened = text.lstrip().startswith("<think>")
    thought, closed, answer = text.partition("</think>")
    if not closed and not opened:
        return "", text
    return thought.lstrip().removeprefix("<think>").strip(), answer.lstrip()


def choose_model(asked: str | None, served: Sequence[str], where: str) -> str:
    """
    Return the model to use: the one asked for, or the only one.

    Raises:
        UsageError: It is not served, or there are several to choose from.
    """
    if asked in served:
        return str(asked)
    names = (printable(name[:_SHOWN_NAME]) for name in served[:_SHOWN_NAMES])
    shown = ", ".join(names) or "none"
    if len(served) > _SHOWN_NAMES:
        shown += f" and {len(served) - _SHOWN_NAMES} more"
    if asked is not None:
        raise UsageError(f"{where}: no model {asked!r} is served there; served: {shown}")
    if len(served) != 1:
        raise UsageError(f"{where}: name the model to use; served: {shown}")
    return served[0]


class SameModel:
    """
    Holds a server to the model that its first reply names.

    That need not be the name that was asked for: servers have several for a
    model, and hosted ones name the version behind it.

    Attributes:
        name: The model that replies name, or "" if none did yet.
    """

    def __init__(self) -> None:
        self.name = ""

    def check(self, reply: JsonValue, where: str) -> None:
        """
        Look at a reply, if it names its model.

        Raises:
            IdentityMismatch: It is another one than before.
        """
        named = reply.get("model") if isinstance(reply, dict) else None
        if not isinstance(named, str) or named == self.name:
            return
        if self.name:
            raise IdentityMismatch(
                f"{where}: the answer is of another model than those before",
                [f"model: {self.name[:_SHOWN_NAME]!r} before, {named[:_SHOWN_NAME]!r} now"],
            )
        self.name = named


_C = TypeVar("_C")


def _only(choices: Sequence[_C], where: str) -> _C:
    if len(choices) != 1:
        raise BadReply(f"{where}: {len(choices)} choices; expected 1")
    return choices[0]


def _generation(
    text: str, finish: Literal["stop", "length"], usage: TokenCounts | None, reasoning: str
) -> Generation:
    if not reasoning:
        reasoning, text = set_reasoning_apart(text)
    return Generation(
        text=text,
        finish_reason=finish,
        prompt_tokens=usage.prompt_tokens if usage else None,
        completion_tokens=usage.completion_tokens if usage else None,
        reasoning=reasoning,
    )
