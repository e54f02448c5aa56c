"""Differences between two sets of scores, and the table of them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table

from exact.measure import Form, Scores
from grace.engine.plan import ScoreQuery
from grace.scoring.distribution import Distribution, distribution


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


def form_differences(first: Scores, second: Scores) -> list[float]:
    """Return the difference of every surface form's joint log-probability, in nats."""
    return [abs(one.logprob - other.logprob) for one, other in _same_forms(first, second)]


def sibling_differences(first: Scores, second: Scores) -> list[float]:
    """
    Return how far differences lie apart among tokens after the same prefix, in nats.

    An error of the normaliser is the same for all of them and drops out.
    """
    ranges = []
    for key, forms in first.items():
        nodes: defaultdict[tuple[int, ...], list[float]] = defaultdict(list)
        for one, other in _same_forms({key: forms}, {key: second[key]}):
            for depth, (here, there) in enumerate(zip(one.logprobs, other.logprobs, strict=True)):
                nodes[one.token_ids[:depth]].append(here - there)
        ranges += [max(values) - min(values) for values in nodes.values() if len(values) > 1]
    return ranges


def query_differences(first: Scores, second: Scores) -> list[float]:
    """Return 1 for each query with a form that differs by over 0.01 nats, otherwise 0."""
    return [
        float(max(form_differences({key: forms}, {key: second[key]})) > 0.01)
        for key, forms in first.items()
    ]


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
        Pair(query, _distribution(query, first[query.key]), _distribution(query, second[query.key]))
        for query in queries
    )


def probability_differences(pairs: Sequence[Pair]) -> list[float]:
    """Return the difference of every normalised probability, in percent points."""
    return [
        100 * abs(one - other)
        for pair in pairs
        for one, other in zip(pair.first.probabilities, pair.second.probabilities, strict=True)
    ]


def mean_differences(pairs: Sequence[Pair]) -> list[float]:
    """Return the difference of the means of answers in percent, in percent points."""
    differences = []
    for pair in pairs:
        answers = pair.query.probe.answers
        values = [a.value for a in answers if a.value is not None and a.label.endswith("%")]
        if len(values) == len(answers):
            differences.append(abs(pair.first.mean(values) - pair.second.mean(values)))
    return differences


def coverage_differences(pairs: Sequence[Pair]) -> list[float]:
    """Return the difference of every coverage, in percent points."""
    return [100 * abs(pair.first.coverage - pair.second.coverage) for pair in pairs]


def favourite_differences(pairs: Sequence[Pair]) -> list[float]:
    """Return 1 for each query whose most probable answer differs, otherwise 0."""
    return [float(_favourite(pair.first) != _favourite(pair.second)) for pair in pairs]


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
        verdict = "ok" if figure.passed else "FAILED"
        table.add_row(
            figure.compared,
            f"{len(figure.differences)}",
            f"{figure.largest:.2g}",
            f"{figure.mean:.2g}",
            figure.unit,
            "" if figure.limit is None else f"{figure.limit:g}",
            "" if figure.limit is None else verdict,
        )
    return table


def _same_forms(first: Scores, second: Scores) -> Iterable[tuple[Form, Form]]:
    assert first.keys() == second.keys()
    for key, forms in first.items():
        for one, other in zip(forms, second[key], strict=True):
            assert (one.label, one.token_ids) == (other.label, other.token_ids)
            yield one, other


def _distribution(query: ScoreQuery, forms: Iterable[Form]) -> Distribution:
    by_label: defaultdict[str, list[float]] = defaultdict(list)
    for form in forms:
        by_label[form.label].append(form.logprob)
    return distribution(query.probe.labels, by_label)


def _favourite(made: Distribution) -> str:
    return max(zip(made.probabilities, made.labels, strict=True))[1]
