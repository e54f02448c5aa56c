"""
What `grace doctor` found, as data: for the screen, for JSON and for notebooks.

Probabilities are those of the model after the rendered prompt, as measured and
not normalised, averaged over the prompts that were measured. What was not
measured is None.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue


class Verdict(StrEnum):
    """Whether probabilities may be taken from this model on this server."""

    SOUND = "sound"
    WARNINGS = "sound with warnings"
    UNSOUND = "unsound"


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TokenReport(_Report):
    """A token: its id and its text; None if the server does not tell."""

    id: int
    text: str | None


class FormReport(_Report):
    """
    One surface form of an answer.

    Attributes:
        answer: The answer's label.

        text: The string, with what separates it from the prompt.

        tokens: How it is cut; empty if it cannot be scored.

        probability: Its mean probability.
    """

    answer: str
    text: str
    tokens: tuple[TokenReport, ...]
    probability: float | None = None


class VariantReport(FormReport):
    """
    A string outside the set that means an answer of it.

    Attributes:
        kind: What is different.
    """

    kind: str


class NextTokenReport(_Report):
    """
    What the model would say right after the prompt.

    Attributes:
        token: The token.

        probability: Its mean probability; it counts as 0 after a prompt where
            it is not among the 20 likeliest.

        begins_answer: Whether a form of the set begins with it.
    """

    token: TokenReport
    probability: float
    begins_answer: bool


class FaultReport(_Report):
    """
    One kind of fault in some prompts of a probe.

    Attributes:
        kind: Which; see `FaultKind`.

        prompts: How many of the inspected prompts have it.

        problem, remedy: The first one, in words.
    """

    kind: str
    prompts: int
    problem: str
    remedy: str


class ProbeReport(_Report):
    """
    One probe after its prompts.

    Attributes:
        study, probe: Which.

        prompts: How many distinct prompts it has.

        inspected: How many of them were rendered and encoded.

        scorable: How many of those have no fault.

        measured: How many were scored.

        prompt_end: The end of the first prompt as the model sees it.

        prompt_tokens: Tokens of the shortest and the longest inspected prompt.

        forms: The set.

        variants: What is outside the set and excludes it.

        coverage: Smallest, median and largest probability of the set.

        next_tokens: What the model would say, the likeliest first.

        faults: What is wrong.

        failures: What went wrong while scoring, one line each.
    """

    study: str
    probe: str
    prompts: int
    inspected: int
    scorable: int
    measured: int
    prompt_end: str
    prompt_tokens: tuple[int, int] | None
    forms: tuple[FormReport, ...]
    variants: tuple[VariantReport, ...] = ()
    coverage: tuple[float, float, float] | None = None
    next_tokens: tuple[NextTokenReport, ...] = ()
    faults: tuple[FaultReport, ...] = ()
    failures: tuple[str, ...] = ()


class ForcedReport(_Report):
    """
    An unlikely token, as listed by the server and as forced or chosen by Grace.

    A server that reports what is left after a mask gives 0 nats to the latter.

    Attributes:
        token: The token.

        listed: Its log-probability in the list of the most probable; None if
            the server gives no list.

        scored: Its log-probability as Grace scores answers.
    """

    token: TokenReport
    listed: float | None
    scored: float


class ServerReport(_Report):
    """
    The server: what it is and what it can do.

    Attributes:
        dialect, version, model: As it says.

        details: What else it says, and what its probes found.

        token_ids, next_token, sequence, json_schema, seed: See `Capabilities`.

        scoring: How Experiment 2 would ask it; None if it cannot be asked.

        refusal: Why it cannot be asked.

        context_length: Tokens of prompt and answer together, if it tells.

        forced: See `ForcedReport`.
    """

    dialect: str
    version: str
    model: str
    details: Mapping[str, JsonValue]
    token_ids: bool
    next_token: bool
    sequence: bool
    json_schema: bool
    seed: bool
    scoring: Literal["trie", "sequence"] | None
    refusal: str = ""
    context_length: int | None = None
    forced: ForcedReport | None = None


class RepeatReport(_Report):
    """
    The same scores asked in two ways.

    Attributes:
        ways: `asked again`, `side by side` or `trie and sequence`.

        queries: How many distributions were compared.

        largest_nats: The largest difference of a form's log-probability.

        where: Study, probe and answer of that difference.
    """

    ways: str
    queries: int
    largest_nats: float
    where: str


class Finding(_Report):
    """Something to know, and what to do about it."""

    severity: Literal["unsound", "warning", "note"]
    where: str
    text: str
    remedy: str = ""


class DoctorReport(_Report):
    """Everything that was found about one model and the studies asked for."""

    model: str
    grace_version: str
    server: ServerReport
    probes: tuple[ProbeReport, ...]
    repeats: tuple[RepeatReport, ...]
    findings: tuple[Finding, ...]
    verdict: Verdict
