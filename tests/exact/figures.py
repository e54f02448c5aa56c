"""Differences between two sets of scores, and the table of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table

from exact.measure import Form, Scores, distribution_of
from grace.engine.plan import ScoreQuery
from grace.scoring.distribution import Distribution

# Exact means: equal up to fp32 rounding, which adds up over 30 layers and a few tokens.
REFERENCE_LIMIT = 1e-3
METHOD_LIMIT = 1e-4
REPEAT_LIMIT = 1e-5
QUANTISED_LIMIT = 1.0


@dataclass(frozen=True, slots=True)
class Figure:
    """
    Absolute differences of one kind.

    Attributes:
        compared: What was compared with what.

        differences: One for each pair.

        unit: Of the differences.

        limit: What the largest must stay below; None for what is only reported.
    """

    compared: str
    differences: Sequence[float]
    unit: str = "nats"
    limit: float | None = None

    @property
    def largest(self) -> float:
        """The largest difference."""
        return max(self.differences)

    @property
    def mean(self) -> float:
        """The mean difference."""
        return sum(self.differences) / len(self.differences)

    @property
    def passed(self) -> bool:
        """Whether the largest difference is below its limit."""
        return self.limit is None or self.largest < self.limit


def form_differences(first: Scores, second: Scores) -> tuple[float, ...]:
    """Return the difference of every surface form's joint log-probability, in nats."""
    return tuple(abs(one.logprob - other.logprob) for one, other in _same_forms(first, second))


def token_differences(first: Scores, second: Scores) -> tuple[float, ...]:
    """Return the difference of every token's log-probability, in nats."""
    return tuple(
        abs(here - there)
        for one, other in _same_forms(first, second)
        for here, there in zip(one.logprobs, other.logprobs, strict=True)
    )


@dataclass(frozen=True, slots=True)
class Pair:
    """The distributions of one query by two ways."""

    query: ScoreQuery
    first: Distribution
    second: Distribution


def distribution_pairs(
    queries: Iterable[ScoreQuery], first: Scores, second: Scores
) -> tuple[Pair, ...]:
    """Return the distributions of queries under two sets of scores."""
    return tuple(
        Pair(
            query,
            distribution_of(query, first[query.key]),
            distribution_of(query, second[query.key]),
        )
        for query in queries
    )


def probability_differences(pairs: Sequence[Pair]) -> tuple[float, ...]:
    """Return the difference of every normalised probability, in percent points."""
    return tuple(
        100 * abs(one - other)
        for pair in pairs
        for one, other in zip(pair.first.probabilities, pair.second.probabilities, strict=True)
    )


def coverage_differences(pairs: Sequence[Pair]) -> tuple[float, ...]:
    """Return the difference of every coverage, in percent points."""
    return tuple(100 * abs(pair.first.coverage - pair.second.coverage) for pair in pairs)


def mean_differences(pairs: Sequence[Pair]) -> tuple[float, ...]:
    """Return the difference of the means of the percentages, in percent points."""
    differences = []
    for pair in pairs:
        answers = pair.query.probe.answers
        values = [answer.value for answer in answers if answer.value is not None]
        if len(values) == len(answers) and answers[0].label.endswith("%"):
            differences.append(abs(pair.first.mean(values) - pair.second.mean(values)))
    return tuple(differences)


def favourite_differences(pairs: Sequence[Pair]) -> tuple[float, ...]:
    """Return 1 for each query whose most probable answer differs, otherwise 0."""
    return tuple(float(_favourite(pair.first) != _favourite(pair.second)) for pair in pairs)


def table_of(figures: Sequence[Figure]) -> Table:
    """Return a table for people."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("compared")
    for title in ("n", "largest", "mean"):
        table.add_column(title, justify="right")
    table.add_column("unit")
    table.add_column("limit", justify="right")
    table.add_column("")
    for figure in figures:
        table.add_row(
            figure.compared,
            f"{len(figure.differences)}",
            f"{figure.largest:.2g}",
            f"{figure.mean:.2g}",
            figure.unit,
            "" if figure.limit is None else f"{figure.limit:g}",
            "" if figure.limit is None else "ok" if figure.passed else "FAILED",
        )
    return table


def _same_forms(first: Scores, second: Scores) -> Iterable[tuple[Form, Form]]:
    assert first.keys() == second.keys()
    for key, forms in first.items():
        for one, other in zip(forms, second[key], strict=True):
            assert (one.label, one.token_ids) == (other.label, other.token_ids)
            yield one, other


def _favourite(made: Distribution) -> str:
    return made.labels[max(range(len(made.labels)), key=made.probabilities.__getitem__)]
