"""
What an extraction yields for one row.

`status` begins with an outcome and names who made each value:

    ok:rules                             every field stated, all by the rules
    ok:rules+deepseek(0,1,2,3)           these four by deepseek, the rest by the rules
    incomplete:rules                     some field not stated, or a sum not met
    failed:rules                         no field stated
    not_attempted                        there is no response to read
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from grace.extraction.parsed import Value
from grace.studies.study import Study

RULES = "rules"


class Outcome(StrEnum):
    """How an extraction ended."""

    OK = "ok"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    NOT_ATTEMPTED = "not_attempted"


@dataclass(frozen=True, slots=True)
class Extraction:
    """
    One row's structured answer.

    Attributes:
        values: By field name; None where the response does not state one.

        status: Outcome and sources, as the module describes.

        error: What is missing or suspect; empty if nothing is.
    """

    values: Mapping[str, Value]
    status: str
    error: str

    @property
    def outcome(self) -> Outcome:
        """The outcome alone."""
        return Outcome(self.status.partition(":")[0])


def not_attempted(study: Study, reason: str) -> Extraction:
    """Return the extraction of a row that has no response."""
    values = dict.fromkeys((answer_field.name for answer_field in study.fields), None)
    return Extraction(values, Outcome.NOT_ATTEMPTED, reason)


def extraction(
    study: Study,
    values: Mapping[str, Value],
    made_by: Mapping[str, str],
    problems: Sequence[str],
    *,
    complete: bool,
) -> Extraction:
    """
    Assemble an extraction.

    Args:
        study: Whose fields these are.

        values: By field name.

        made_by: Source (`rules` or a model's key) by field name.

        problems: What is missing or suspect.

        complete: Whether every field is stated and every sum met.
    """
    stated = any(
        values[answer_field.name] is not None
        for answer_field in study.fields
        if answer_field.kind != "text"
    ) or (complete and bool(study.fields))
    if complete:
        outcome = Outcome.OK
    elif stated:
        outcome = Outcome.INCOMPLETE
    else:
        outcome = Outcome.FAILED
    return Extraction(values, f"{outcome}:{_sources(made_by)}", "; ".join(problems))


def _sources(made_by: Mapping[str, str]) -> str:
    models = sorted({source for source in made_by.values() if source != RULES})
    if not models:
        return RULES
    by_model = {
        model: [name for name, source in made_by.items() if source == model] for model in models
    }
    if RULES not in made_by.values() and len(models) == 1:
        return models[0]
    named = [f"{model}({','.join(names)})" for model, names in by_model.items()]
    return "+".join([*([RULES] if RULES in made_by.values() else []), *named])
