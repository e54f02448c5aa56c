"""
Schemas of structured answers: pydantic models made from a study's answer fields.

They follow the specification's JSON, with two additions that real responses
need: null where a response does not state a value, and "uncertain" where it
says that it cannot be said.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, create_model

from grace.extraction.parsed import Value
from grace.studies.study import AnswerField, Study

UNCERTAIN = "uncertain"


def extraction_model(study: Study) -> type[BaseModel]:
    """
    Return a strict pydantic model of a study's structured answer.

    Its aliases are the field names as tables have them (`Was/Wasn't`, `0`).
    Every key must be present; a value that was not stated is null.
    """
    fields: dict[str, object] = {
        f"field_{index}": (_annotation(answer_field), Field(alias=answer_field.name))
        for index, answer_field in enumerate(study.fields)
    }
    config = ConfigDict(extra="forbid", strict=True, frozen=True, title=f"{study.key} answer")
    model: type[BaseModel] = create_model(f"{study.key}_answer", __config__=config, **fields)  # type: ignore[call-overload]
    return model


def json_schema(study: Study) -> dict[str, JsonValue]:
    """Return the JSON schema that constrains an extraction on a server."""
    return extraction_model(study).model_json_schema(by_alias=True)


def field_values(study: Study, answer: BaseModel) -> dict[str, Value]:
    """Return a validated answer's values by field name."""
    dumped = answer.model_dump(by_alias=True)
    return {answer_field.name: dumped[answer_field.name] for answer_field in study.fields}


def sum_problems(study: Study, values: dict[str, Value]) -> list[str]:
    """Return a sentence for each sum of the study that complete values do not meet."""
    problems = []
    for constraint in study.sums:
        stated = [values[name] for name in constraint.fields]
        numbers = [value for value in stated if isinstance(value, int)]
        if len(numbers) == len(stated) and sum(numbers) != constraint.total:
            problems.append(
                f"{', '.join(constraint.fields)} add up to {sum(numbers)}, not {constraint.total}"
            )
    return problems


def _annotation(answer_field: AnswerField) -> object:
    description = Field(description=answer_field.description)
    if answer_field.kind == "integer":
        bounds = Field(ge=answer_field.minimum, le=answer_field.maximum)
        return Annotated[int, bounds] | None
    if answer_field.kind == "choice":
        choices = (*answer_field.choices, *((UNCERTAIN,) if answer_field.uncertain else ()))
        return Annotated[Literal[choices], description] | None
    return Annotated[str, description] | None
