"""
Other scores of an answer, made from the same log-probabilities.

Write x for the prompt, l_f for the joint log-probability of a surface form f of
the answer a after x, and l_a = log Σ_f exp(l_f). Beside l_a, studies report:

    first token   log Σ_t P(t | x), over the distinct first tokens t of a's forms
    per token     l_a / n, n tokens of the first form      (Brown et al. 2020)
    per character l_a / m, m characters of the first form  (lm-evaluation-harness)
    PMI-DC        l_a - l_a', l_a' after a domain premise   (Holtzman et al. 2021)
    with its end  log Σ_f exp(l_f) · Σ_e P(e | x, f), over the tokens e that end an answer

Natural logarithms throughout. It knows nothing of prompts, servers or tables.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grace.errors import ScoringError
from grace.scoring.distribution import Distribution, distribution, log_sum_exp


@dataclass(frozen=True, slots=True)
class MeasuredForm:
    """
    One surface form of an answer, as measured.

    Attributes:
        label: The answer.

        token_ids: Its tokens after the prompt; at least one.

        logprobs: The log-probability of each.

        end_logprobs: Of each token that may end the answer, right after the
            form; empty if that was not asked.
    """

    label: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    end_logprobs: tuple[float, ...] = ()

    @property
    def logprob(self) -> float:
        """The joint log-probability."""
        return math.fsum(self.logprobs)


@dataclass(frozen=True, slots=True)
class FirstToken:
    """
    How an answer begins.

    Attributes:
        logprob: That the next token begins one of the answer's forms.

        probability: The same, given that it begins any answer of the set.
            Answers that begin alike share it, and then the set's probabilities
            sum to more than 1.

        shared: How many answers begin with one of these tokens, this one included.
    """

    logprob: float
    probability: float
    shared: int


def first_tokens(forms: Sequence[MeasuredForm]) -> dict[str, FirstToken]:
    """
    Return the first-token score of each answer.

    Raises:
        ScoringError: A number is not a log-probability.
    """
    measured: dict[int, float] = {}
    beginnings: dict[str, set[int]] = {}
    for form in forms:
        token, logprob = form.token_ids[0], form.logprobs[0]
        if not math.isfinite(logprob) or logprob > 0:
            raise ScoringError(f"{logprob} is not a log-probability (answer {form.label!r})")
        measured[token] = logprob
        beginnings.setdefault(form.label, set()).add(token)
    total = log_sum_exp(list(measured.values()))
    scores = {}
    for label, tokens in beginnings.items():
        # The sum over tokens that exclude each other exceeds 1 by rounding only.
        logprob = min(0.0, log_sum_exp([measured[token] for token in sorted(tokens)]))
        scores[label] = FirstToken(
            logprob=logprob,
            probability=min(1.0, math.exp(logprob - total)),
            shared=sum(not tokens.isdisjoint(others) for others in beginnings.values()),
        )
    return scores


def per_token(logprob: float, n_tokens: int) -> float:
    """
    Return the mean log-probability of a token (Brown et al. 2020, section 2.4).

    >>> per_token(-3.0, 2)
    -1.5
    """
    return logprob / n_tokens


def per_character(logprob: float, text: str) -> float:
    """
    Return the log-probability for each character, a Unicode code point, of an answer.

    This is what lm-evaluation-harness compares in `acc_norm`.

    Args:
        logprob: The answer's.

        text: Its first surface form, as the study has it: without the space
            that stands before it in a plain-text prompt.

    >>> per_character(-6.0, "100%")
    -1.5
    """
    return logprob / len(text)


def pmi_dc(logprob: float, premise_logprob: float) -> float:
    """
    Return the domain-conditional pointwise mutual information.

    Holtzman et al. (2021), PMI-DC, as a difference of logarithms: how much
    more probable the prompt makes the answer than a premise that only says what
    kind of answer is wanted.

    Args:
        logprob: The answer's after the prompt.

        premise_logprob: The answer's after the premise.
    """
    return logprob - premise_logprob


def with_end(labels: Sequence[str], forms: Sequence[MeasuredForm]) -> Distribution:
    """
    Return the distribution of answers that end where the form does.

    Args:
        labels: The answers, in order.

        forms: Their forms, each with `end_logprobs`.

    Raises:
        ScoringError: A number is missing or is not a log-probability.
    """
    ended: dict[str, list[float]] = {}
    for form in forms:
        if not form.end_logprobs:
            raise ScoringError(f"no log-probability that the answer {form.label!r} ends")
        for logprob in form.end_logprobs:
            if not math.isfinite(logprob) or logprob > 0:
                raise ScoringError(f"{logprob} is not a log-probability (end of {form.label!r})")
        end = min(0.0, log_sum_exp(form.end_logprobs))
        ended.setdefault(form.label, []).append(form.logprob + end)
    return distribution(labels, ended)


def largest_change(first: Mapping[str, float], again: Mapping[str, float]) -> tuple[str, float]:
    """
    Return the answer whose log-probability differs most, and by how many nats.

    Args:
        first: Log-probability by answer.

        again: The same, measured again.

    >>> largest_change({"yes": -1.0, "no": -2.0}, {"yes": -1.0, "no": -2.5})
    ('no', 0.5)
    """
    label = max(first, key=lambda one: abs(first[one] - again[one]))
    return label, abs(first[label] - again[label])
