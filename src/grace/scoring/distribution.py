"""
Distributions over a fixed set of answers.

With the joint log-probability l_f of each surface form f, an answer's is the
log of the sum over its forms, the coverage is the sum over all forms, and the
normalised probability is the softmax over answers. Mean and standard deviation
(population) are those of the answers' values under the normalised
probabilities; entropy is in bits (Shannon 1948), with 0 log 0 = 0.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from grace.errors import ScoringError


@dataclass(frozen=True, slots=True)
class Distribution:
    """
    Probabilities of answers, as measured and normalised.

    Attributes:
        labels: The answers, in order.

        logprobs: Natural log of each answer's probability, all forms summed.

        probabilities: Normalised over the answers; they sum to 1.

        coverage: Probability of the whole set before normalising; at most 1, and 0 where it
            is smaller than any float.
    """

    labels: tuple[str, ...]
    logprobs: tuple[float, ...]
    probabilities: tuple[float, ...]
    coverage: float

    def by_label(self) -> dict[str, float]:
        """Return the log-probability of each answer."""
        return dict(zip(self.labels, self.logprobs, strict=True))

    def probability(self, labels: Iterable[str]) -> float:
        """Return the summed normalised probability of some answers."""
        wanted = frozenset(labels)
        return math.fsum(
            p for label, p in zip(self.labels, self.probabilities, strict=True) if label in wanted
        )

    def mean(self, values: Sequence[float]) -> float:
        """Return the expected value; *values* are in the order of the labels."""
        return math.fsum(p * v for p, v in zip(self.probabilities, values, strict=True))

    def std(self, values: Sequence[float]) -> float:
        """Return the standard deviation (population) of the values."""
        mean = self.mean(values)
        variance = math.fsum(
            p * (v - mean) ** 2 for p, v in zip(self.probabilities, values, strict=True)
        )
        return math.sqrt(variance)

    def entropy_bits(self, partition: Sequence[Sequence[str]] = ()) -> float:
        """
        Return the entropy in bits, over answers or over groups of answers.

        Args:
            partition: Groups of labels; empty means one group for each answer.
        """
        if partition:
            cells: Iterable[float] = [self.probability(group) for group in partition]
        else:
            cells = self.probabilities
        return max(0.0, -math.fsum(p * math.log2(p) for p in cells if p > 0))


def distribution(
    labels: Sequence[str], form_logprobs: Mapping[str, Sequence[float]]
) -> Distribution:
    """
    Build a distribution from the joint log-probabilities of surface forms.

    Args:
        labels: The answers, in order.

        form_logprobs: For each answer, the natural log-probability of each form.

    Raises:
        ScoringError: An answer has no form, or a number is not a
            log-probability. Nothing is put in its place.
    """
    logprobs = []
    for label in labels:
        forms = form_logprobs.get(label, ())
        if not forms:
            raise ScoringError(f"no log-probability for the answer {label!r}")
        for logprob in forms:
            if not math.isfinite(logprob) or logprob > 0:
                raise ScoringError(f"{logprob} is not a log-probability (answer {label!r})")
        logprobs.append(log_sum_exp(forms))
    total = log_sum_exp(logprobs)
    probabilities = [math.exp(logprob - total) for logprob in logprobs]
    norm = math.fsum(probabilities)
    coverage = math.exp(total)
    # Rounding may lift a sum of exclusive probabilities above 1 by a few ulps; a server
    # whose numbers do not belong together lifts it by much more.
    if coverage > 1 + 1e-3:
        raise ScoringError(f"the answers' probabilities sum to {coverage:.6f}, more than 1")
    return Distribution(
        labels=tuple(labels),
        logprobs=tuple(logprobs),
        probabilities=tuple(p / norm for p in probabilities),
        coverage=min(1.0, coverage),
    )


def log_sum_exp(logprobs: Sequence[float]) -> float:
    """Return the logarithm of summed probabilities, given as logarithms."""
    # Subtracting the maximum keeps exp() from underflowing for long candidates.
    highest = max(logprobs)
    return highest + math.log(math.fsum(math.exp(value - highest) for value in logprobs))
