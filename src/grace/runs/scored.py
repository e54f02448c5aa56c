"""
What the journal holds of a distribution, read back and turned into scores.

A record that lacks what later versions of Grace measure beside the answers is
read all the same: what it does not hold is missing, with the reason.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from grace.engine.journal import Record
from grace.engine.plan import QueryKey, ScorePlan, ScoreQuery
from grace.errors import ScoringError
from grace.scoring.distribution import Distribution, distribution
from grace.scoring.measures import FirstToken, MeasuredForm, first_tokens, with_end

ANSWERED, FAILED, NOT_ASKED = "answered", "failed", "not_asked"

MOST_KNOWN = 1024
"""How many distinct distributions tables keep as text: rows mostly repeat fewer."""

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
        outside = _outside(record.value.get("outside"), first)
        reason = _why_not_ended(record.value.get("end"))
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
    held = record.value.get("forms")
    forms = []
    for form in held if isinstance(held, list) else []:
        if not isinstance(form, dict):
            continue
        ids = tuple(int(str(token)) for token in _list(form.get("token_ids")))
        logprobs = _numbers(form.get("logprobs"))
        label = str(form["label"])
        if not ids or len(ids) != len(logprobs):
            raise ScoringError(
                f"{len(logprobs)} log-probabilities of {len(ids)} tokens (answer {label!r})"
            )
        forms.append(MeasuredForm(label, ids, logprobs, _numbers(form.get("end_logprobs"))))
    return tuple(forms)


def _by_label(forms: tuple[MeasuredForm, ...]) -> dict[str, list[float]]:
    joint: dict[str, list[float]] = {}
    for form in forms:
        joint.setdefault(form.label, []).append(form.logprob)
    return joint


def _outside(held: JsonValue, first: Mapping[str, FirstToken]) -> Outside:
    if not isinstance(held, dict):
        return Outside(reason=_OLDER)
    if "logprob" not in held:
        leads = held.get("leads")
        return Outside(bool(leads) if leads is not None else None, reason=str(held["reason"]))
    logprob = float(str(held["logprob"]))
    if not math.isfinite(logprob) or logprob > 0:
        raise ScoringError(f"{logprob} is not a log-probability (best token outside the set)")
    leads = all(logprob > beginning.logprob for beginning in first.values())
    return Outside(leads, str(held["text"]), logprob)


def _why_not_ended(held: JsonValue) -> str:
    if held is None:
        return "not asked (--terminators)"
    return str(held["reason"]) if isinstance(held, dict) and "reason" in held else ""


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []


def _numbers(value: JsonValue) -> tuple[float, ...]:
    return tuple(float(str(number)) for number in _list(value))
