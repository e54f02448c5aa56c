"""
Checks of the scores that stand beside an answer's joint log-probability.

Each is made again from the others of its line or of its distribution, as far as
the table holds what it is made from. A cell may be empty only if `not_measured`
gives the reason, and must be then.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

from grace.runs.score_table import END, MEASURED_TOGETHER, OUTSIDE, PMI
from grace.runs.validate_table import number, whole
from grace.studies.probes import CandidateProbe

# Tables hold 9 significant digits.
_RELATIVE = 1e-5
_ABSOLUTE = 1e-6
# Servers round in 32 bits or fewer: masses at one place may exceed 1 by this.
_MASS = 1e-3

_NUMBERS = (
    "logprob",
    "first_token_logprob",
    "first_token_probability",
    "logprob_per_token",
    "logprob_per_character",
)
_LOGPROBS = (
    "first_token_logprob",
    "logprob_per_token",
    "logprob_per_character",
    "premise_logprob",
    "logprob_with_end",
    "outside_logprob",
)

Line = Mapping[str, str]


def measure_faults(probe: CandidateProbe, lines: Sequence[Line]) -> Iterator[str]:
    """
    Yield the faults of one answered distribution's further scores.

    Args:
        probe: The question.

        lines: Its lines of the score table, by column; `logprob` and `n_tokens`
            are sound.
    """
    missing = list(_missing_faults(lines))
    yield from missing
    if missing:
        return
    absent = _absent(lines[0])
    present = [
        n for group, names in MEASURED_TOGETHER.items() if group not in absent for n in names
    ]
    names = [*_NUMBERS, *(name for name in present if name != "outside_token")]
    try:
        numbers = {name: [number(line[name]) for line in lines] for name in names}
    except ValueError as error:
        yield f"a score is not a number: {error}"
        return
    for name, values in numbers.items():
        if not all(math.isfinite(value) for value in values):
            yield f"{name} is not finite"
            return
        if name in _LOGPROBS and max(values) > 0:
            yield f"{name} is {max(values)}; expected at most 0"
            return
    yield from _first_token_faults(lines, numbers)
    yield from _length_faults(probe, lines, numbers)
    if PMI not in absent:
        for logprob, before, pmi in zip(
            numbers["logprob"], numbers["premise_logprob"], numbers["pmi"], strict=True
        ):
            # The difference of two rounded numbers has the rounding of both.
            if not _close(pmi, logprob - before, max(abs(logprob), abs(before), 1.0)):
                yield f"pmi is {pmi}; the log-probabilities give {logprob - before:.9g}"
    if END not in absent:
        yield from _end_faults(numbers)
    yield from _outside_faults(lines, numbers)


def _missing_faults(lines: Sequence[Line]) -> Iterator[str]:
    for name in (*MEASURED_TOGETHER[OUTSIDE], "outside_leads", "not_measured"):
        if len({line[name] for line in lines}) != 1:
            yield f"{name} differs between the answers of one question"
    for line in lines:
        absent = _absent(line)
        for group, names in MEASURED_TOGETHER.items():
            filled = [name for name in names if line[name]]
            if group in absent and filled:
                yield f"{filled[0]} is filled, and not_measured says why it is not"
            if group not in absent and len(filled) < len(names):
                empty = next(name for name in names if not line[name])
                yield f"{empty} is empty, and not_measured does not say why"
        unknown = absent.keys() - MEASURED_TOGETHER.keys()
        if unknown or not all(absent.values()):
            yield f"not_measured is {line['not_measured']!r}; expected NAME: REASON"


def _absent(line: Line) -> dict[str, str]:
    parts = [part for part in line["not_measured"].split("; ") if part]
    return {name: reason for name, _, reason in (part.partition(": ") for part in parts)}


def _first_token_faults(
    lines: Sequence[Line], numbers: Mapping[str, Sequence[float]]
) -> Iterator[str]:
    logprobs, shares = numbers["first_token_logprob"], numbers["first_token_probability"]
    for logprob, first in zip(numbers["logprob"], logprobs, strict=True):
        if logprob > first + _ABSOLUTE * max(1.0, abs(first)):
            yield f"logprob is {logprob}, above that of its first token, {first}"
    counts = [line["first_token_shared"] for line in lines]
    if not all(1 <= (whole(count) or 0) <= len(lines) for count in counts):
        yield f"first_token_shared are {counts}; expected numbers from 1 to {len(lines)}"
        return
    highest = max(logprobs)
    top = shares[logprobs.index(highest)]
    if not 0 < top <= 1:
        yield f"first_token_probability is {top}; expected a number from 0 to 1"
    for logprob, share in zip(logprobs, shares, strict=True):
        expected = top * math.exp(logprob - highest)
        if not abs(share - expected) <= _RELATIVE:
            yield f"first_token_probability is {share}; its logprob gives {expected:.9g}"
    total = math.fsum(shares)
    alone = all(count == "1" for count in counts)
    if total < 1 - _ABSOLUTE or (alone and total > 1 + _ABSOLUTE):
        yield f"first-token probabilities sum to {total:.9g}, not 1"


def _length_faults(
    probe: CandidateProbe, lines: Sequence[Line], numbers: Mapping[str, Sequence[float]]
) -> Iterator[str]:
    for place, (answer, line) in enumerate(zip(probe.answers, lines, strict=True)):
        logprob = numbers["logprob"][place]
        lengths = {
            "logprob_per_token": whole(line["n_tokens"]) or 1,
            "logprob_per_character": len(answer.surface_forms[0]),
        }
        for name, length in lengths.items():
            if not _close(numbers[name][place], logprob / length, abs(logprob)):
                yield (
                    f"{name} is {numbers[name][place]}; {logprob} by {length} is "
                    f"{logprob / length:.9g}"
                )


def _end_faults(numbers: Mapping[str, Sequence[float]]) -> Iterator[str]:
    ended, shares = numbers["logprob_with_end"], numbers["probability_with_end"]
    for logprob, end in zip(numbers["logprob"], ended, strict=True):
        if end > logprob + _ABSOLUTE * max(1.0, abs(logprob)):
            yield f"logprob_with_end is {end}, above {logprob} without it"
    highest = max(ended)
    weights = [math.exp(value - highest) for value in ended]
    total = math.fsum(weights)
    for share, weight in zip(shares, weights, strict=True):
        if not abs(share - weight / total) <= _RELATIVE:
            yield f"probability_with_end is {share}; the logprobs give {weight / total:.9g}"
    if not abs(math.fsum(shares) - 1) <= _ABSOLUTE:
        yield f"probabilities with end sum to {math.fsum(shares):.9g}, not 1"


def _outside_faults(lines: Sequence[Line], numbers: Mapping[str, Sequence[float]]) -> Iterator[str]:
    leads = lines[0]["outside_leads"]
    if leads not in {"yes", "no", ""}:
        yield f"outside_leads is {leads!r}; expected yes, no or nothing"
    if "outside_logprob" not in numbers:
        return
    outside, first = numbers["outside_logprob"][0], max(numbers["first_token_logprob"])
    # Rounded to the same digits, two numbers may have differed.
    if leads != ("yes" if outside > first else "no") and outside != first:
        yield f"outside_leads is {leads!r}; {outside} outside, {first} inside"
    if math.exp(outside) + math.exp(first) > 1 + _MASS:
        yield f"{outside} outside and {first} inside are more probable together than 1"


def _close(value: float, expected: float, scale: float) -> bool:
    return abs(value - expected) <= _RELATIVE * 0.01 * scale + 1e-12
