"""
Questions about a trial.

A response probe asks for free text, a candidate probe for a distribution over
fixed answers. Both are made of turns, whose texts are templates over the
columns and variables of a trial. Nothing here knows how a turn is laid out for
a chat or a base model: see `grace.studies.prompts`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Turn:
    """
    One turn of a dialogue, as templates with `{variable}` placeholders.

    Attributes:
        question: What is asked. It comes last, because what varies between
            probes must come after what they share.

        context: What the model is told before the question. Shared by all
            probes of a trial where possible, so that servers can reuse it.

        instruction: How to answer; between context and question.
    """

    question: str
    context: str = ""
    instruction: str = ""

    def placeholders(self) -> frozenset[str]:
        """Return the names of all variables that the turn's texts use."""
        joined = "\n".join([self.context, self.instruction, self.question])
        return frozenset(_PLACEHOLDER.findall(joined))

    def fill(self, variables: Mapping[str, str]) -> "Turn":
        """
        Return the turn with its placeholders replaced, in one pass.

        Braces inside a value are data and stay as they are.

        Raises:
            KeyError: A placeholder names no variable.

        >>> Turn(question="What did {name} say?").fill({"name": "{Ann}"}).question
        'What did {Ann} say?'
        """

        def replace(text: str) -> str:
            return _PLACEHOLDER.sub(lambda match: variables[match.group(1)], text)

        return Turn(
            question=replace(self.question),
            context=replace(self.context),
            instruction=replace(self.instruction),
        )


@dataclass(frozen=True, slots=True)
class ResponseProbe:
    """
    A question that is answered in free text.

    Attributes:
        name: Identifier; the response is stored in the column `response_{name}`,
            or `response` where a study has one response probe only.

        turn: The text, as a template.

        max_tokens: Longest response, in tokens of the model asked.
    """

    name: str
    turn: Turn
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Answer:
    """
    One answer of a fixed set.

    Attributes:
        label: What tables call it.

        surface_forms: The strings that count as this answer. Their
            probabilities are summed. The first is the canonical one.

        value: The number that the answer stands for, where it has one.
    """

    label: str
    surface_forms: tuple[str, ...]
    value: float | None = None


@dataclass(frozen=True, slots=True)
class CandidateProbe:
    """
    A question whose answers are scored.

    Attributes:
        name: Identifier.

        turn: The text, as a template.

        answers: The fixed set.

        premise: A turn that says what kind of answer is wanted and nothing of
            the trial's material, for PMI-DC (see `grace.scoring.measures`).
            None if the study has none.
    """

    name: str
    turn: Turn
    answers: tuple[Answer, ...]
    premise: Turn | None = None

    def after_premise(self) -> "CandidateProbe | None":
        """
        Return the probe that scores the same answers after the premise, if there is one.

        Its name has a space, which no name of a study can have.
        """
        if self.premise is None:
            return None
        return CandidateProbe(f"{self.name} premise", self.premise, self.answers)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of all answers, in order."""
        return tuple(answer.label for answer in self.answers)
