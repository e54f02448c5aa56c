"""
Extraction by a language model: schema in the prompt, answer validated, one repair.

What the model says is taken only if it fits the study's schema and, for
numbers, if the number stands in the response: a value that the text does not
state is left out. The model's raw text is kept in the journal in any case.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue, ValidationError

from grace.engine.audit import Audit
from grace.engine.plan import QueryKey, digest
from grace.extraction.parsed import AMOUNT_WORDS, Value
from grace.extraction.schema import extraction_model, field_values, json_schema
from grace.inference.client import GenerationRequest, InferenceClient, Sampling
from grace.studies.prompts import PLAIN, Convention, Message, Prompt, PromptMode
from grace.studies.study import AnswerField, Study

_GREEDY = Sampling(temperature=0.0)
_LONGEST_NAME_SHOWN = 11
_MAX_TOKENS = 400
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """
    What a model extracted.

    Attributes:
        values: By field name; None where it says that nothing is stated, or
            where its value does not stand in the response.

        problems: Values that were left out, and why.
    """

    values: Mapping[str, Value]
    problems: tuple[str, ...]


def extraction_key(study: Study, extractor: str, responses: Mapping[str, str]) -> QueryKey:
    """Return the key of an extraction: equal responses are extracted once."""
    return QueryKey(digest(["extract", study.key, extractor, dict(responses)]))


class ModelExtractor:
    """
    Extracts by asking a model.

    Args:
        name: The model's catalogue key, as tables name it.

        client: The model; connected.

        mode: Chat or completion.

        convention: Where the model's answer begins. A server that renders chats
            itself is sent none of it.

        audit: Keeps the prompts, if they are to be kept.
    """

    def __init__(
        self,
        name: str,
        client: InferenceClient,
        mode: PromptMode,
        convention: Convention = PLAIN,
        audit: Audit | None = None,
    ) -> None:
        self.name = name
        self._client = client
        self._mode = mode
        self._convention = convention
        self._audit = audit

    async def extract(self, study: Study, responses: Mapping[str, str]) -> Mapping[str, JsonValue]:
        """
        Return the extraction as the journal keeps it.

        The record holds every raw text, whether a repair was needed, and the
        values if an answer was valid, else the reason.

        Raises:
            InferenceError: The server did not answer.
        """
        request = extraction_prompt(study, responses)
        messages = [Message("user", request)]
        raw: list[JsonValue] = []
        problem = ""
        for _attempt in ("first", "repair"):
            text = await self._generate(study, messages)
            raw.append(text)
            values, problem = _validated(study, text)
            if values is not None:
                return {"raw": raw, "repaired": len(raw) > 1, "values": {**values}, "problem": ""}
            messages += [
                Message("assistant", text or "(empty)"),
                Message(
                    "user",
                    f"That is not valid: {problem}. Answer again with the corrected JSON object "
                    "and nothing else.",
                ),
            ]
        return {"raw": raw, "repaired": False, "values": None, "problem": problem}

    async def _generate(self, study: Study, messages: list[Message]) -> str:
        if self._mode is PromptMode.CHAT:
            # JSON is demanded from the first token on: what comes before an answer is skipped.
            prompt = Prompt(messages=tuple(messages), answer_prefix=self._convention.answer_prefix)
        else:
            prompt = Prompt(text="\n\n".join([*(m.content for m in messages), "JSON:"]))
        if self._audit is not None:
            await self._audit.note(self._client, prompt, "extraction")
        constrained = self._client.capabilities.json_schema
        generation = await self._client.generate(
            GenerationRequest(
                prompt=prompt,
                sampling=_GREEDY,
                max_tokens=_MAX_TOKENS,
                seed=0,
                json_schema=json_schema(study) if constrained else None,
            )
        )
        return generation.text


def extraction_prompt(study: Study, responses: Mapping[str, str]) -> str:
    """Return the request put before an extracting model."""
    asked = "\n\n".join(
        f"Response to the question {probe.name!r}:\n<<<\n{responses[probe.name]}\n>>>"
        for probe in study.dialogue
    )
    fields = "\n".join(_field_line(answer_field) for answer_field in study.fields)
    schema = json.dumps(json_schema(study), ensure_ascii=False)
    return (
        "Read the responses below and write down what they state, as one JSON object and nothing "
        "else. Use null for what a response does not state; do not guess.\n\n"
        f"Fields:\n{fields}\n\nJSON schema:\n{schema}\n\n{asked}"
    )


def extraction_layout_sha256(studies: Sequence[Study], mode: PromptMode) -> str:
    """Return the hash of what an extracting model is asked, whatever the responses."""
    shown = [
        extraction_prompt(study, {probe.name: "response" for probe in study.dialogue})
        for study in studies
    ]
    return hashlib.sha256("\n".join([mode.value, str(_MAX_TOKENS), *shown]).encode()).hexdigest()


def model_answer(
    study: Study, record: Mapping[str, JsonValue], responses: Mapping[str, str]
) -> ModelAnswer | None:
    """
    Read an extraction's journal record, and hold its numbers against the text.

    Returns:
        The answer, or None if no valid one was given.
    """
    held = record.get("values")
    if not isinstance(held, dict):
        return None
    values: dict[str, Value] = {}
    problems = []
    for answer_field in study.fields:
        value = held.get(answer_field.name)
        kept = value if isinstance(value, int | str) else None
        if isinstance(kept, int) and not _is_stated(kept, responses[answer_field.probe]):
            problems.append(
                f"{answer_field.name}: the model says {kept}, which the response does not state"
            )
            kept = None
        values[answer_field.name] = kept
    return ModelAnswer(values, tuple(problems))


def _field_line(answer_field: AnswerField) -> str:
    kind = "text"
    if answer_field.kind == "integer":
        kind = f"integer from {answer_field.minimum} to {answer_field.maximum}"
    elif answer_field.kind == "choice":
        kind = " or ".join(json.dumps(choice) for choice in answer_field.choices)
        if answer_field.uncertain:
            kind += ', or "uncertain" if the response says that it cannot be said'
    return f"- {json.dumps(answer_field.name)} ({kind}): {answer_field.description}"


def _validated(study: Study, text: str) -> tuple[dict[str, Value] | None, str]:
    begin, end = text.find("{"), text.rfind("}")
    if not 0 <= begin < end:
        return None, "there is no JSON object"
    try:
        answer = extraction_model(study).model_validate_json(text[begin : end + 1])
    except ValidationError as error:
        problem = error.errors()[0]
        where = str(problem["loc"][0]) if problem["loc"] else ""
        known = {answer_field.name for answer_field in study.fields}
        if where not in known and len(where) > _LONGEST_NAME_SHOWN:
            # It may be anything that the model took for a name, such as what somebody wrote.
            where = "a name that is none of the fields"
        return None, f"{where}: {problem['msg']}" if where else str(problem["msg"])
    return field_values(study, answer), ""


def _is_stated(value: int, response: str) -> bool:
    # Zero may be stated by naming other amounts that use up the total.
    if value == 0 or str(value) in _NUMBER.findall(response):
        return True
    words = (word for word, number in AMOUNT_WORDS.items() if number == value)
    return any(re.search(rf"\b{word}\b", response, re.IGNORECASE) for word in words)
