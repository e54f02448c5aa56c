"""
What the journal holds of a distribution, read back and turned into scores.

A record that lacks what later versions of Grace measure beside the answers is
read all the same: what it does not hold is missing, with the reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from grace.engine.journal import Record
from grace.engine.plan import QueryKey, ScorePlan, ScoreQuery
from grace.engine.record import corrupt
from grace.errors import ScoringError
from grace.scoring.distribution import Distribution, distribution
from grace.scoring.measures import FirstToken, MeasuredForm, first_tokens, with_end

ANSWERED, FAILED, NOT_ASKED = "answered", "failed", "not_asked"

MOST_KNOWN = 1024
"""How many distinct distributions tables keep as text: rows mostly repeat fewer."""
# No log-probability is anywhere near; the sum of a few must not overflow.
_LARGEST = 1e100

_OLDER = "the version of Grace that asked did not record it"


@dataclass(frozen=True, slots=True)
class Outside:
    """
    The most probable token after the prompt that begins no answer.

    Attributes:
        leads: Whether it is more probable than every token that begins one;
            None if that is not known.

        token: Its text; empty if it is not known.

        logprob: Its log-probability; None if it is not known.

        reason: Why it is not known.
    """

    leads: bool | None = None
    token: str = ""
    logprob: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ScoredQuery:
    """
    A score query's outcome.

    Attributes:
        query: The query.

        distribution: Its distribution; None if there is none.

        n_tokens: Tokens of each answer's first form.

        status, error: How it ended, and why there is no distribution.

        first: How each answer begins.

        outside: The best token that begins no answer.

        ended: The distribution of answers that end there; None if there is none.

        why_not_ended: Why there is none.
    """

    query: ScoreQuery
    distribution: Distribution | None
    n_tokens: Mapping[str, int]
    status: str
    error: str
    first: Mapping[str, FirstToken] = field(default_factory=dict)
    outside: Outside = field(default_factory=Outside)
    ended: Distribution | None = None
    why_not_ended: str = ""


def score_all(plan: ScorePlan, records: Mapping[QueryKey, Record]) -> dict[QueryKey, ScoredQuery]:
    """Turn the records of all queries of a plan into distributions."""
    return {query.key: scored_query(query, records.get(query.key)) for query in plan.queries}


def scored_query(query: ScoreQuery, record: Record | None) -> ScoredQuery:
    """Turn a query's record into a distribution over its answers."""
    if record is None:
        return ScoredQuery(query, None, {}, NOT_ASKED, "the run ended before")
    if record.status != ANSWERED:
        return ScoredQuery(query, None, {}, FAILED, f"{record.error_type}: {record.error}")
    labels = query.probe.labels
    try:
        forms = measured_forms(record)
        made = distribution(labels, _by_label(forms))
        first = first_tokens(forms)
        outside = _outside(record, first)
        reason = _why_not_ended(record)
        ended = None if reason else with_end(labels, forms)
    except ScoringError as error:
        return ScoredQuery(query, None, {}, FAILED, f"ScoringError: {error}")
    n_tokens: dict[str, int] = {}
    for form in forms:
        n_tokens.setdefault(form.label, len(form.token_ids))
    return ScoredQuery(
        query, made, n_tokens, ANSWERED, "", first, outside, ended=ended, why_not_ended=reason
    )


def measured_forms(record: Record) -> tuple[MeasuredForm, ...]:
    """
    Return the forms that an answered record holds.

    Raises:
        ScoringError: A form has no token, or another number of log-probabilities.
    """
    forms = []
    for form in _list(record, record.value.get("forms")):
        if not isinstance(form, dict) or not isinstance(label := form.get("label"), str):
            raise corrupt(record, f"a form is {str(form)[:60]!r}; expected a mapping with a label")
        ids = tuple(_whole(record, token) for token in _list(record, form.get("token_ids")))
        logprobs = _numbers(record, form.get("logprobs"))
        if not ids or len(ids) != len(logprobs):
            raise ScoringError(
                f"{len(logprobs)} log-probabilities of {len(ids)} tokens (answer {label!r})"
            )
        forms.append(MeasuredForm(label, ids, logprobs, _numbers(record, form.get("end_logprobs"))))
    return tuple(forms)


def _by_label(forms: tuple[MeasuredForm, ...]) -> dict[str, list[float]]:
    joint: dict[str, list[float]] = {}
    for form in forms:
        joint.setdefault(form.label, []).append(form.logprob)
    return joint


def _outside(record: Record, first: Mapping[str, FirstToken]) -> Outside:
    held = record.value.get("outside")
    if not isinstance(held, dict):
        return Outside(reason=_OLDER)
    if "logprob" not in held:
        leads = held.get("leads")
        return Outside(bool(leads) if leads is not None else None, reason=_reason(record, held))
    logprob = _number(record, held["logprob"])
    if logprob > 0:
        raise ScoringError(f"{logprob} is not a log-probability (best token outside the set)")
    text = held.get("text")
    if not isinstance(text, str):
        raise corrupt(record, f"the text of a token is {str(text)[:40]!r}; expected text")
    leads = all(logprob > beginning.logprob for beginning in first.values())
    return Outside(leads, text, logprob)


def _why_not_ended(record: Record) -> str:
    held = record.value.get("end")
    if held is None:
        return "not asked (--terminators)"
    return _reason(record, held) if isinstance(held, dict) and "reason" in held else ""


def _reason(record: Record, held: Mapping[str, JsonValue]) -> str:
    reason = held.get("reason")
    if not isinstance(reason, str) or not reason:
        raise corrupt(record, f"a reason is {str(reason)[:40]!r}; expected text")
    return reason


def _list(record: Record, value: JsonValue) -> list[JsonValue]:
    if value is not None and not isinstance(value, list):
        raise corrupt(record, f"a list is {str(value)[:40]!r}")
    return value or []


def _numbers(record: Record, value: JsonValue) -> tuple[float, ...]:
    return tuple(_number(record, number) for number in _list(record, value))


def _number(record: Record, value: JsonValue) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise corrupt(record, f"a number is {str(value)[:40]!r}")
    if not abs(value) <= _LARGEST:
        raise ScoringError(f"{str(value)[:40]} is not a log-probability")
    return float(value)


def _whole(record: Record, value: JsonValue) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise corrupt(record, f"a token is {str(value)[:40]!r}; expected its number")
    return value
