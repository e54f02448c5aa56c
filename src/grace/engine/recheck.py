"""
The plan of a second measurement: which distributions are scored again.

The sample is drawn by a hash, so it is the same on every machine and after an
interruption, and its order has nothing to do with the order of the first
measurement: a query meets other neighbours on the server. A second measurement
has a key of its own and never takes the place of the first.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from grace.engine.journal import Record, is_answered
from grace.engine.plan import QueryKey, ScorePlan, ScoreQuery, digest


@dataclass(frozen=True, slots=True)
class Recheck:
    """
    One distribution to be scored again.

    Attributes:
        query: The query, under the key of the second measurement.

        first: Key of the first measurement.
    """

    query: ScoreQuery
    first: QueryKey


def plan_recheck(
    plan: ScorePlan, records: Mapping[QueryKey, Record], *, percent: float, seed: int
) -> tuple[Recheck, ...]:
    """
    Return what to score again, in the order to ask it.

    What was scored again before is part of it, whatever the share is now.

    Args:
        plan: The plan of the first measurement.

        records: The journal.

        percent: Share of the answered queries, rounded up.

        seed: The run's seed.
    """
    answered = [query for query in plan.queries if is_answered(records, query.key)]
    order = sorted(answered, key=lambda query: digest(["recheck order", seed, query.key]))
    wanted = sample_size(len(order), percent)
    again = [(query, recheck_key(query.key)) for query in order]
    return tuple(
        Recheck(replace(query, key=key), query.key)
        for place, (query, key) in enumerate(again)
        if place < wanted or key in records
    )


def recheck_key(first: QueryKey) -> QueryKey:
    """Return the key of the second measurement of a query."""
    return QueryKey(digest(["recheck", first]))


def sample_size(queries: int, percent: float) -> int:
    """
    Return how many of some queries are a share of them.

    >>> sample_size(36, 10), sample_size(36, 0), sample_size(3, 1)
    (4, 0, 1)
    """
    return min(queries, math.ceil(queries * percent / 100))
