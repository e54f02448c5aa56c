"""Experiment 1: asking dialogues, turn by turn."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from grace.engine.events import StopFlag
from grace.engine.execute import Asker
from grace.engine.plan import Dialogue
from grace.inference.client import GenerationRequest, InferenceClient, Sampling
from grace.studies.prompts import COMPLETION_STOP, PromptMode, build_prompt


@dataclass(frozen=True, slots=True)
class ReasoningTags:
    """The tags between which a model thinks before it answers."""

    opening: str
    closing: str

    def split(self, text: str) -> tuple[str, str]:
        """
        Return reasoning and answer of a response.

        A response that was cut off while thinking has no answer.

        >>> ReasoningTags("<think>", "</think>").split("<think>2+2</think>4")
        ('2+2', '4')
        """
        head, found, tail = text.partition(self.closing)
        if found:
            return head.replace(self.opening, "", 1).strip(), tail
        if self.opening in text:
            return text.replace(self.opening, "", 1).strip(), ""
        return "", text


class Respondent:
    """
    Answers dialogues through a client.

    Args:
        client: The model.

        mode: Chat or completion.

        sampling: How to draw.

        reasoning: The model's reasoning tags, if it has any.
    """

    def __init__(
        self,
        client: InferenceClient,
        mode: PromptMode,
        sampling: Sampling,
        reasoning: ReasoningTags | None = None,
    ) -> None:
        self._client = client
        self._mode = mode
        self._sampling = sampling
        self._reasoning = reasoning

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
        for position, query in enumerate(dialogue.queries):
            if stop is not None and stop.requested and not asker.is_finished(query.key):
                return
            turns = [earlier.turn for earlier in dialogue.queries[: position + 1]]
            prompt = build_prompt(turns, responses, self._mode)
            request = GenerationRequest(
                prompt=prompt,
                sampling=self._sampling,
                max_tokens=query.probe.max_tokens,
                seed=query.seed,
                stop=COMPLETION_STOP if self._mode is PromptMode.COMPLETION else (),
            )

            async def call(request: GenerationRequest = request) -> Mapping[str, JsonValue]:
                return await self._generate(request)

            record = await asker.ask(query.key, query.probe.name, call)
            if record.status != "answered":
                return
            responses.append(str(record.value["text"]))

    async def _generate(self, request: GenerationRequest) -> Mapping[str, JsonValue]:
        generation = await self._client.generate(request)
        reasoning, text = generation.reasoning, generation.text
        if self._reasoning is not None and not reasoning:
            reasoning, text = self._reasoning.split(text)
        return {
            "text": text,
            "finish_reason": generation.finish_reason,
            "reasoning": reasoning,
            "prompt_sha256": request.prompt.sha256(),
            "seed": request.seed,
            "prompt_tokens": generation.prompt_tokens,
            "completion_tokens": generation.completion_tokens,
        }
