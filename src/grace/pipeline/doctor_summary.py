"""
From what was found after single prompts to the report on a probe.

It computes means and counts, and asks the server for nothing but the texts of
tokens.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from grace.engine.soundness import Fault, FaultKind, Inspected
from grace.pipeline.doctor_measures import (
    Measured,
    TokenTexts,
    mean_likeliest,
    mean_probabilities,
    mean_variants,
)
from grace.pipeline.doctor_report import (
    FaultReport,
    FormReport,
    NextTokenReport,
    ProbeReport,
    VariantReport,
)

_SHOWN_END = 240
_NEXT_TOKENS = 5


@dataclass(slots=True)
class ExaminedProbe:
    """
    A probe, and what was found after each of its prompts.

    Attributes:
        study, name: Which.

        prompts: How many distinct prompts it has.

        inspected: What inspection found, by prompt.

        measured: What scoring found, by prompt.

        failures: Why prompts could not be scored.
    """

    study: str
    name: str
    prompts: int
    inspected: list[Inspected]
    measured: list[Measured] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


async def probe_report(probe: ExaminedProbe, texts: TokenTexts) -> ProbeReport:
    """
    Return the report on a probe.

    Raises:
        InferenceError: The server does not tell the text of a token.
    """
    rendered = [one.rendered for one in probe.inspected if one.rendered is not None]
    sound = [one for one in probe.inspected if one.sound]
    # A sound prompt shows the set as it is scored; otherwise the first shows what is wrong.
    shown = (sound or probe.inspected)[0]
    lengths = [len(one.token_ids) for one in rendered]
    coverages = [one.coverage for one in probe.measured]
    means = mean_probabilities(probe.measured) if probe.measured else []
    forms = [
        FormReport(
            answer=form.label,
            text=form.text,
            tokens=await texts.reports(form.token_ids),
            probability=means[position] if means else None,
        )
        for position, form in enumerate(shown.forms)
    ]
    variants = [
        VariantReport(
            kind=variant.kind,
            answer=variant.label,
            text=variant.text,
            tokens=await texts.reports(token_ids),
            probability=probability,
        )
        for variant, (token_ids, probability) in mean_variants(probe.measured).items()
    ]
    return ProbeReport(
        study=probe.study,
        probe=probe.name,
        prompts=probe.prompts,
        inspected=len(probe.inspected),
        scorable=len(sound),
        measured=len(probe.measured),
        prompt_end=shown.rendered.text[-_SHOWN_END:] if shown.rendered else "",
        prompt_tokens=(min(lengths), max(lengths)) if lengths else None,
        forms=tuple(forms),
        variants=tuple(variants),
        coverage=(min(coverages), statistics.median(coverages), max(coverages))
        if coverages
        else None,
        next_tokens=await _next_tokens(probe, shown, texts),
        faults=fault_reports(probe.inspected),
        failures=tuple(probe.failures),
    )


def fault_reports(inspected: Sequence[Inspected]) -> tuple[FaultReport, ...]:
    """Count the prompts that have each fault."""
    found: dict[tuple[FaultKind, str], list[Fault]] = {}
    for one in inspected:
        for fault in one.faults:
            found.setdefault((fault.kind, fault.about), []).append(fault)
    return tuple(
        FaultReport(
            kind=kind.value,
            prompts=len(faults),
            problem=faults[0].problem,
            remedy=faults[0].remedy,
        )
        for (kind, _), faults in found.items()
    )


async def _next_tokens(
    probe: ExaminedProbe, shown: Inspected, texts: TokenTexts
) -> tuple[NextTokenReport, ...]:
    first = {form.token_ids[0] for form in shown.forms if form.token_ids}
    likeliest = mean_likeliest(probe.measured)[:_NEXT_TOKENS]
    reports = await texts.reports([token for token, _ in likeliest])
    return tuple(
        NextTokenReport(
            token=report,
            probability=probability,
            begins_answer=token in first,
        )
        for report, (token, probability) in zip(reports, likeliest, strict=True)
    )
