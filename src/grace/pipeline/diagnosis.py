"""
From what was measured to what it means: findings and a verdict. Pure.

The limits, and why they are where they are:

- `FINE_NATS` 0.001: one part in a thousand of a probability, the limit within
  which 32-bit servers agree with an independent computation. Nobody reports
  less.
- `UNSOUND_NATS` 0.5: in bfloat16, a logit between 16 and 32 moves in steps of
  0.125. A server that rounds differently from batch to batch may take one step
  for each token of an answer of four. What moves further is no rounding.
- `LOW_COVERAGE` 0.1: see `grace.pipeline.closing`.
- `NOTICEABLE_SHARE` 0.05: had a variant been counted, a normalised probability
  could move by five percent points.
- `MASKED_NATS` 0.001: a token that is forced through a mask has a masked
  log-probability of 0; one chosen to be unlikely has nothing near that.
"""

import math
from collections.abc import Iterable, Sequence

from grace.pipeline.closing import LOW_COVERAGE
from grace.pipeline.doctor_report import (
    Finding,
    ProbeReport,
    RepeatReport,
    ServerReport,
    VariantReport,
    Verdict,
)

FINE_NATS = 1e-3
UNSOUND_NATS = 0.5
NOTICEABLE_SHARE = 0.05
MASKED_NATS = 1e-3


def verdict_of(findings: Iterable[Finding]) -> Verdict:
    """Return the verdict that the worst finding asks for."""
    severities = {finding.severity for finding in findings}
    if "unsound" in severities:
        return Verdict.UNSOUND
    return Verdict.WARNINGS if "warning" in severities else Verdict.SOUND


def findings_of(
    server: ServerReport, probes: Sequence[ProbeReport], repeats: Sequence[RepeatReport]
) -> tuple[Finding, ...]:
    """Return all findings, the worst first."""
    found = [*_server_findings(server)]
    for probe in probes:
        found += _encoding_findings(probe)
        if server.dialect != "toy":
            found += _mass_findings(probe)
    for repeat in repeats:
        found += _repeat_findings(repeat)
    order = ("unsound", "warning", "note")
    return tuple(sorted(found, key=lambda finding: order.index(finding.severity)))


def _server_findings(server: ServerReport) -> Iterable[Finding]:
    if server.scoring is None:
        yield Finding(
            severity="unsound",
            where="server",
            text=server.refusal,
            remedy="use another server; Experiment 1 may run here: --experiment exp1",
        )
    if server.dialect == "toy":
        yield Finding(
            severity="note",
            where="server",
            text="this is the toy model: its probabilities mean nothing and were not judged",
        )
    forced = server.forced
    if forced is not None:
        name = repr(forced.token.text) if forced.token.text is not None else str(forced.token.id)
        apart = 0.0 if forced.listed is None else abs(forced.listed - forced.scored)
        if abs(forced.scored) < MASKED_NATS:
            yield Finding(
                severity="unsound",
                where="server",
                text=f"the unlikely token {name} is scored as certain (0 nats): what the server "
                "reports is the distribution after a mask",
                remedy="start it so that it reports raw log-probabilities (vLLM: "
                "--logprobs-mode raw_logprobs)",
            )
        elif apart > FINE_NATS:
            yield Finding(
                severity="unsound" if apart > UNSOUND_NATS else "warning",
                where="server",
                text=f"the token {name} has {forced.listed:.4f} nats in the server's list and "
                f"{forced.scored:.4f} when it is scored",
                remedy="see docs/how-to/check-a-model.md#numbers-that-do-not-repeat",
            )
    if server.scoring is not None and server.context_length is None and server.dialect != "toy":
        yield Finding(
            severity="note",
            where="server",
            text="it does not tell its context length: whether all prompts fit is not known",
        )


def _encoding_findings(probe: ProbeReport) -> Iterable[Finding]:
    for fault in probe.faults:
        everywhere = fault.prompts == probe.inspected
        among = f"{fault.prompts} of {probe.inspected} prompts: " if probe.inspected > 1 else ""
        yield Finding(
            severity="unsound" if everywhere else "warning",
            where=_name(probe),
            text=among + fault.problem,
            remedy=fault.remedy,
        )
    if (
        probe.faults
        and not probe.scorable
        and all(fault.prompts < probe.inspected for fault in probe.faults)
    ):
        yield Finding(
            severity="unsound",
            where=_name(probe),
            text=f"none of its {probe.inspected} prompts can be scored",
        )
    if probe.inspected < probe.prompts:
        yield Finding(
            severity="note",
            where=_name(probe),
            text=f"{probe.inspected} of its {probe.prompts} prompts were inspected",
        )
    for failure in probe.failures[:1]:
        tried = probe.measured + len(probe.failures)
        yield Finding(
            severity="warning" if probe.measured else "unsound",
            where=_name(probe),
            text=f"{len(probe.failures)} of {tried} prompts were not scored: {failure}",
        )


def _mass_findings(probe: ProbeReport) -> Iterable[Finding]:
    if probe.coverage is None:
        return
    _, median, _ = probe.coverage
    if median < LOW_COVERAGE:
        instead = ""
        outside = [token for token in probe.next_tokens if not token.begins_answer]
        if outside:
            token = outside[0].token
            name = repr(token.text) if token.text is not None else f"token {token.id}"
            instead = f", and {name} would come next with {outside[0].probability:.0%}"
        yield Finding(
            severity="warning",
            where=_name(probe),
            text=f"the set covers {100 * median:.2g}% of what the model would say "
            f"(median){instead}",
            remedy="ask for the answers in other words, add the forms that the model uses, or "
            "report the coverage beside the distribution",
        )
    counted = math.fsum(form.probability or 0.0 for form in probe.forms)
    for kind, variants in _by_kind(probe.variants).items():
        mass = math.fsum(variant.probability or 0.0 for variant in variants)
        if mass > 0 and mass / (counted + mass) >= NOTICEABLE_SHARE:
            example = max(variants, key=lambda variant: variant.probability or 0.0)
            yield Finding(
                severity="warning",
                where=_name(probe),
                text=f"written with another form ({kind}, as {example.text!r}), the answers have "
                f"{100 * mass:.2g}% beside the set's {100 * counted:.2g}%",
                remedy="add these surface forms to the answers, or say in the paper that they "
                "are not counted",
            )


def _by_kind(variants: Iterable[VariantReport]) -> dict[str, list[VariantReport]]:
    kinds: dict[str, list[VariantReport]] = {}
    for variant in variants:
        kinds.setdefault(variant.kind, []).append(variant)
    return kinds


def _repeat_findings(repeat: RepeatReport) -> Iterable[Finding]:
    if repeat.largest_nats <= FINE_NATS:
        return
    unsound = repeat.largest_nats > UNSOUND_NATS
    what = {
        "asked again": "asked again, a score changes",
        "side by side": "asked side by side with others, a score changes",
    }.get(repeat.ways, "trie and sequence scoring differ")
    # Of two answers at 50 percent, one gains d nats: its share becomes 1 / (1 + exp(-d)).
    points = 50 * math.tanh(repeat.largest_nats / 2)
    yield Finding(
        severity="unsound" if unsound else "warning",
        where="server",
        text=f"{what} by up to {repeat.largest_nats:.2g} nats ({repeat.where}): a probability of "
        f"50% may move by {points:.2g} points",
        remedy="this is more than rounding explains: find the cause first"
        if unsound
        else "do not interpret smaller differences, or serve the model in 32 bits; see "
        "docs/how-to/check-a-model.md#numbers-that-do-not-repeat",
    )


def _name(probe: ProbeReport) -> str:
    return f"{probe.study}, {probe.probe}"
