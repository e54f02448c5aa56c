"""Experiment 1: asking dialogues, turn by turn."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from grace.engine.audit import Audit
from grace.engine.events import StopFlag
from grace.engine.execute import Asker
from grace.engine.plan import Dialogue
from grace.engine.record import value_text
from grace.errors import BadReply
from grace.inference.client import GenerationRequest, InferenceClient, Sampling
from grace.studies.prompts import COMPLETION_STOP, PromptMode, build_prompt

_CONTROL_TOKEN = re.compile(r"<[^<>\s]+>")


@dataclass(frozen=True, slots=True)
class ReasoningTags:
    """
    The tags between which a model thinks before it answers.

    Attributes:
        opening: What begins the reasoning.

        closing: What ends it.

        final: What begins the answer, where answers have a channel of their
            own; "" where an answer begins behind `closing`.

        end: The control token behind an answer, if it is known.

        opened: Whether the chat template writes `opening` itself.

        max_tokens: Tokens granted to the reasoning, beyond those of the answer.
    """

    opening: str
    closing: str
    final: str = ""
    end: str = ""
    opened: bool = False
    max_tokens: int = 0

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """The control tokens without which a response cannot be split."""
        found = _CONTROL_TOKEN.findall(f"{self.opening}{self.closing}{self.final}{self.end}")
        return tuple(dict.fromkeys(found))

    def split(self, text: str, *, cut: bool = False) -> tuple[str, str]:
        """
        Return reasoning and answer of a response.

        A response that was cut off while thinking has no answer.

        Args:
            text: The response, with its control tokens where a server shows them.

            cut: Whether the response was cut off at its longest.

        Raises:
            BadReply: The server left out the control tokens between which the
                answer stands.

        >>> ReasoningTags("<think>", "</think>").split("<think>2+2</think>4")
        ('2+2', '4')
        """
        if self.final:
            return self._split_channels(text)
        head, found, tail = text.partition(self.closing)
        if found:
            return head.replace(self.opening, "", 1).strip(), tail
        if self.opening in text:
            return text.replace(self.opening, "", 1).strip(), ""
        return (text.strip(), "") if self.opened and cut else ("", text)

    def _split_channels(self, text: str) -> tuple[str, str]:
        head, found, answer = text.partition(self.final)
        if found:
            for end in filter(None, (self.end, self.closing)):
                answer = answer.partition(end)[0]
        elif not any(token in text for token in self.control_tokens):
            bare = _CONTROL_TOKEN.sub("", self.opening)
            if bare and text.startswith(bare):
                raise BadReply(
                    f"the response begins with {text[:20]!r}: the server left out the control "
                    "tokens that set reasoning and answer apart; use a server that shows them or "
                    "reads them itself (vLLM, llama.cpp)"
                )
            # The server has read them itself: this is the answer alone.
            return "", text
        thought = head.partition(self.opening)[2] or head
        return thought.partition(self.closing)[0].strip(), answer


class Respondent:
    """
    Answers dialogues through a client.

    Args:
        client: The model.

        mode: Chat or completion.

        sampling: How to draw.

        reasoning: The model's reasoning tags, if it has any.

        audit: Keeps the prompts, if they are to be kept.
    """

    def __init__(
        self,
        client: InferenceClient,
        mode: PromptMode,
        sampling: Sampling,
        reasoning: ReasoningTags | None = None,
        audit: Audit | None = None,
    ) -> None:
        self._client = client
        self._mode = mode
        self._sampling = sampling
        self._reasoning = reasoning
        self._audit = audit

    async def hold(self, dialogue: Dialogue, asker: Asker, stop: StopFlag | None = None) -> None:
        """
        Ask the turns in order; end at one that fails.

        Args:
            dialogue: The turns.

            asker: Keeps the answers.

            stop: Ends the dialogue between two turns when it is set.

        Raises:
            ServerUnavailable: See `Asker.ask`.
        """
        responses: list[str] = []
        tags = self._reasoning
        for position, query in enumerate(dialogue.queries):
            if stop is not None and stop.requested and not asker.is_finished(query.key):
                return
            turns = [earlier.turn for earlier in dialogue.queries[: position + 1]]
            prompt = build_prompt(turns, responses, self._mode)
            request = GenerationRequest(
                prompt=prompt,
                sampling=self._sampling,
                max_tokens=query.probe.max_tokens + (tags.max_tokens if tags else 0),
                seed=query.seed,
                stop=COMPLETION_STOP if self._mode is PromptMode.COMPLETION else (),
                control_tokens=tags.control_tokens if tags else (),
            )

            async def call(
                request: GenerationRequest = request, probe: str = query.probe.name
            ) -> Mapping[str, JsonValue]:
                if self._audit is not None:
                    await self._audit.note(self._client, request.prompt, probe)
                return await self._generate(request)

            record = await asker.ask(query.key, query.probe.name, call)
            if record.status != "answered":
                return
            responses.append(value_text(record, "text"))

    async def _generate(self, request: GenerationRequest) -> Mapping[str, JsonValue]:
        generation = await self._client.generate(request)
        reasoning, text = generation.reasoning, generation.text
        if self._reasoning is not None and not reasoning:
            cut = generation.finish_reason == "length"
            reasoning, text = self._reasoning.split(text, cut=cut)
        return {
            "text": text,
            "finish_reason": generation.finish_reason,
            "reasoning": reasoning,
            "prompt_sha256": request.prompt.sha256(),
            "seed": request.seed,
            "prompt_tokens": generation.prompt_tokens,
            "completion_tokens": generation.completion_tokens,
        }
