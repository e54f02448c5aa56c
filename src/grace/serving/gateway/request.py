"""
From a request's fields to a prompt and a probe: what several fields decide together.

Pure. All faults of a request are found before the server is asked anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from grace.serving.gateway.messages import (
    MAX_FORMS,
    Candidate,
    ChatRequest,
    CompletionRequest,
)
from grace.serving.gateway.problems import Fault, RefusedRequest, invalid
from grace.studies.probes import Answer, CandidateProbe, Turn
from grace.studies.prompts import (
    COMPLETION_SEPARATOR,
    Convention,
    Message,
    Prompt,
    PromptMode,
)


class Prompting(Protocol):
    """What must be known of a model to lay out a request for it."""

    @property
    def key(self) -> str:
        """The model's key."""
        ...

    @property
    def mode(self) -> PromptMode:
        """Chat or completion."""
        ...

    @property
    def convention(self) -> Convention:
        """Where its answers begin."""
        ...

    @property
    def system_role(self) -> bool:
        """Whether it knows a system role."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """
    A request, laid out.

    Attributes:
        prompt: Messages or text.

        probe: The answers.
    """

    prompt: Prompt
    probe: CandidateProbe

    @property
    def forms(self) -> list[tuple[str, str]]:
        """Label and text of every form, separator included."""
        return [
            (answer.label, self.prompt.answer_separator + form)
            for answer in self.probe.answers
            for form in answer.surface_forms
        ]


def read_request(request: CompletionRequest | ChatRequest, model: Prompting) -> Question:
    """
    Lay out a request for a model.

    Raises:
        RefusedRequest: The fields do not fit each other or the model; all
            faults are named.
    """
    answers = tuple(_answer(candidate) for candidate in request.candidates)
    faults = _set_faults(answers)
    if isinstance(request, ChatRequest):
        faults += _chat_faults(request, model)
        prefix = request.options.answer_prefix
        prompt = Prompt(
            messages=tuple(Message(one.role, one.content) for one in request.messages),
            answer_prefix=model.convention.answer_prefix if prefix is None else prefix,
            answer_separator=model.convention.answer_separator,
        )
    else:
        faults += _completion_faults(request, answers)
        prompt = Prompt(text=request.prompt, answer_separator=COMPLETION_SEPARATOR)
    if faults:
        raise RefusedRequest(invalid(tuple(faults)))
    wanted = request.options.answer_separator
    if wanted is not None:
        prompt = replace(prompt, answer_separator=wanted)
    return Question(prompt, CandidateProbe("candidates", Turn(question=""), answers))


def _answer(candidate: str | Candidate) -> Answer:
    if isinstance(candidate, str):
        return Answer(candidate, (candidate,))
    return Answer(
        candidate.label, tuple(candidate.forms or [candidate.label]), _float(candidate.value)
    )


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _set_faults(answers: Sequence[Answer]) -> list[Fault]:
    faults = []
    labels: dict[str, int] = {}
    forms: dict[str, str] = {}
    for index, answer in enumerate(answers):
        pointer = f"/candidates/{index}"
        if answer.label in labels:
            faults.append(
                Fault(
                    pointer=pointer,
                    candidate=answer.label,
                    message=f"the label {answer.label!r} is also that of candidate "
                    f"{labels[answer.label]}",
                    remedy="Give each candidate a label of its own.",
                )
            )
        labels.setdefault(answer.label, index)
        for form in answer.surface_forms:
            if form in forms:
                faults.append(
                    Fault(
                        pointer=pointer,
                        candidate=answer.label,
                        form=form,
                        message=f"the form {form!r} is given twice (first for {forms[form]!r})",
                        remedy="Keep one of them: a form counts for one answer, once.",
                    )
                )
            forms.setdefault(form, answer.label)
    given = [answer.value is not None for answer in answers]
    if any(given) and not all(given):
        without = given.index(False)
        faults.append(
            Fault(
                pointer=f"/candidates/{without}",
                candidate=answers[without].label,
                message="this candidate has no value, but others have",
                remedy="Give a value to every candidate, or to none.",
            )
        )
    count = sum(len(answer.surface_forms) for answer in answers)
    if count > MAX_FORMS:
        faults.append(
            Fault(
                pointer="/candidates",
                message=f"the candidates have {count} forms; at most {MAX_FORMS} are scored",
                remedy="Send fewer candidates or forms.",
            )
        )
    return faults


def _chat_faults(request: ChatRequest, model: Prompting) -> list[Fault]:
    faults = []
    if model.mode is PromptMode.COMPLETION:
        faults.append(
            Fault(
                pointer="/messages",
                message=f"{model.key} is a base model and has no chat template",
                remedy="Send a prompt, as plain text.",
            )
        )
    last = len(request.messages) - 1
    if request.messages[last].role != "user":
        faults.append(
            Fault(
                pointer=f"/messages/{last}/role",
                message="the last message is not the user's, so there is nothing to answer",
                remedy="End the messages with one of role user; what begins the answer is an "
                "answer_prefix.",
            )
        )
    for index, message in enumerate(request.messages):
        if message.role != "system":
            continue
        if index:
            problem = "a system message is only possible at the beginning"
        elif not model.system_role:
            problem = f"the chat template of {model.key} knows no system role"
        else:
            continue
        faults.append(
            Fault(
                pointer=f"/messages/{index}/role",
                message=problem,
                remedy="Put its text into the first message of the user.",
            )
        )
    return faults


def _completion_faults(request: CompletionRequest, answers: Sequence[Answer]) -> list[Fault]:
    faults = []
    if request.options.answer_prefix is not None:
        faults.append(
            Fault(
                pointer="/options/answer_prefix",
                message="an answer prefix needs a chat; this is a text",
                remedy="Write it at the end of the prompt.",
            )
        )
    if request.options.answer_separator is not None:
        return faults
    # One space is put between text and answer; another one beside it is hardly ever meant.
    doubled = [form for one in answers for form in one.surface_forms if form[0].isspace()]
    if request.prompt[-1].isspace() or doubled:
        who = f"the form {doubled[0]!r} begins" if doubled else "the prompt ends"
        faults.append(
            Fault(
                pointer="/options/answer_separator",
                form=doubled[0] if doubled else None,
                message=f"{who} with a space, and one more would be put between prompt and answer",
                remedy='Set answer_separator: "" if the space is there already, " " for both.',
            )
        )
    return faults
