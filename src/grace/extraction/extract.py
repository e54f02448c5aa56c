"""
Extraction of all rows: rules first, a model for what they leave open.

The same responses always give the same extraction. A model is asked once for
equal responses, and its records are journalled like any other query.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from grace.engine.journal import Record
from grace.engine.plan import QueryKey
from grace.engine.record import value_text
from grace.extraction.model_extractor import ModelAnswer, extraction_key, model_answer
from grace.extraction.parsed import Parsed, Value
from grace.extraction.result import RULES, Extraction, extraction, not_attempted
from grace.extraction.rules import parse_by_rules
from grace.extraction.schema import sum_problems
from grace.studies.known import Known
from grace.studies.study import Study

_MOST_KNOWN = 1024


@dataclass(frozen=True, slots=True)
class RowText:
    """A row's responses by probe, or why they are not all there."""

    responses: Mapping[str, str]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class OpenExtraction:
    """Responses that go to a model, once."""

    key: QueryKey
    responses: Mapping[str, str]


def plan_extraction(
    study: Study, rows: Iterable[RowText], extractor: str, *, rules_first: bool
) -> tuple[OpenExtraction, ...]:
    """
    Return the distinct responses that a model has to read.

    Args:
        study: The study.

        rows: All rows' texts.

        extractor: The model's name.

        rules_first: Whether rows that the rules read completely are left out.
    """
    wanted: dict[QueryKey, OpenExtraction] = {}
    for row in rows:
        if row.reason:
            continue
        key = extraction_key(study, extractor, row.responses)
        if key in wanted or (rules_first and parse_by_rules(study, row.responses).complete):
            continue
        wanted[key] = OpenExtraction(key, row.responses)
    return tuple(sorted(wanted.values(), key=lambda one: one.key))


def extract_rows(
    study: Study,
    rows: Iterable[RowText],
    records: Mapping[QueryKey, Record],
    extractor: str,
    *,
    rules_first: bool,
) -> Iterator[Extraction]:
    """
    Yield every row's extraction, from the rules and from a model's records.

    Args:
        study: The study.

        rows: All rows' texts.

        records: The journal's records of model extractions; empty without a model.

        extractor: The model's name, or `rules`.

        rules_first: Whether the rules read first.
    """
    one = _extractor(study, records, extractor, rules_first=rules_first)
    names = [probe.name for probe in study.dialogue]

    def extracted(texts: tuple[str, ...]) -> Extraction:
        return one(dict(zip(names, texts, strict=True)))

    # Samples hardly ever repeat: memory must not grow with their number.
    known = Known(extracted, _MOST_KNOWN)
    for row in rows:
        if row.reason:
            yield not_attempted(study, row.reason)
            continue
        yield known[tuple(row.responses[name] for name in names)]


def _extractor(
    study: Study, records: Mapping[QueryKey, Record], extractor: str, *, rules_first: bool
) -> Callable[[Mapping[str, str]], Extraction]:
    def extract_one(responses: Mapping[str, str]) -> Extraction:
        parsed = parse_by_rules(study, responses) if rules_first else None
        if parsed is not None and (parsed.complete or extractor == RULES):
            made_by = dict.fromkeys(
                (name for name, value in parsed.values.items() if value is not None), RULES
            )
            missing = [name for name, value in parsed.values.items() if value is None]
            problems = parsed.problems or ([f"not stated: {', '.join(missing)}"] if missing else ())
            return extraction(study, parsed.values, made_by, problems, complete=parsed.complete)
        record = records.get(extraction_key(study, extractor, responses))
        answer, trouble = _read_record(study, extractor, record, responses)
        return _merged(study, extractor, parsed, answer, trouble)

    return extract_one


def _read_record(
    study: Study, extractor: str, record: Record | None, responses: Mapping[str, str]
) -> tuple[ModelAnswer | None, str]:
    if record is None:
        return None, f"{extractor} was not asked: the run ended before"
    if record.status != "answered":
        return None, f"{extractor}: {record.error_type}: {record.error}"
    answer = model_answer(study, record.value, responses)
    if answer is None:
        return None, f"{extractor} gave no valid JSON: {value_text(record, 'problem')}"
    return answer, ""


def _merged(
    study: Study,
    extractor: str,
    parsed: Parsed | None,
    answer: ModelAnswer | None,
    trouble: str,
) -> Extraction:
    values: dict[str, Value] = {}
    made_by: dict[str, str] = {}
    problems = [trouble] if trouble else []
    if answer is not None:
        problems += answer.problems
    for answer_field in study.fields:
        name = answer_field.name
        by_rules = parsed.values[name] if parsed is not None else None
        by_model = answer.values[name] if answer is not None else None
        values[name] = by_rules if by_rules is not None else by_model
        if by_rules is not None:
            made_by[name] = RULES
        elif by_model is not None:
            made_by[name] = extractor
    missing = [name for name, value in values.items() if value is None]
    if missing:
        problems.append(f"not stated: {', '.join(missing)}")
        if parsed is not None:
            problems += [f"{RULES}: {problem}" for problem in parsed.problems]
    problems += sum_problems(study, values)
    if not made_by:
        made_by = {answer_field.name: extractor for answer_field in study.fields}
    return extraction(
        study, values, made_by, problems, complete=not missing and not sum_problems(study, values)
    )
