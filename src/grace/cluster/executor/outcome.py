"""
What pods say when they end: one JSON object as their termination message.

It comes from a container, so it is read with care: a pod that was killed says
nothing, or something else.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from pydantic import JsonValue

from grace.cluster.client import Manifest, at, number, parts, text
from grace.cluster.client.faults import shown


@dataclass(frozen=True, slots=True)
class Counts:
    """
    The accounting of a cell: planned = answered + failed + not_asked.

    Attributes:
        planned: Queries in the plan.

        answered: With an answer.

        failed: Without, and it is known why.

        not_asked: Never sent.
    """

    planned: int = 0
    answered: int = 0
    failed: int = 0
    not_asked: int = 0

    @property
    def missing(self) -> int:
        """How many answers are not there."""
        return self.failed + self.not_asked

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.planned + other.planned,
            self.answered + other.answered,
            self.failed + other.failed,
            self.not_asked + other.not_asked,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    How a step ended.

    Attributes:
        status: `complete`, `incomplete`, `open`, `stopped` or `failed`.

        cells: The accounting of each cell.

        error: What went wrong.
    """

    status: str
    cells: Mapping[str, Counts] = field(default_factory=dict)
    error: str = ""

    @property
    def missing(self) -> int:
        """How many answers are not there."""
        return sum(counts.missing for counts in self.cells.values())

    def as_json(self) -> dict[str, JsonValue]:
        """Return it as a record keeps it."""
        cells: dict[str, JsonValue] = {
            cell: {
                "planned": counts.planned,
                "answered": counts.answered,
                "failed": counts.failed,
                "not_asked": counts.not_asked,
            }
            for cell, counts in self.cells.items()
        }
        return {"status": self.status, "cells": cells, "error": self.error}

    @classmethod
    def of(cls, document: JsonValue) -> Self | None:
        """Read what `as_json` or a pod wrote; None if it is something else."""
        status = text(document, "status")
        cells = at(document, "cells")
        if not status:
            return None
        found = cells.items() if isinstance(cells, dict) else ()
        return cls(
            shown(status),
            {
                shown(cell): Counts(
                    *(
                        max(number(counts, name), 0)
                        for name in ("planned", "answered", "failed", "not_asked")
                    )
                )
                for cell, counts in found
            },
            shown(text(document, "error")),
        )


def read_outcome(message: str) -> Outcome | None:
    """Return what a termination message says; None if it is none of Grace's."""
    try:
        document = json.loads(message)
    except (ValueError, RecursionError):
        return None
    return Outcome.of(document)


def outcome_of_pod(pod: Manifest) -> Outcome | None:
    """Return what a pod said when it ended."""
    for status in parts(pod, "status", "containerStatuses"):
        message = text(status, "state", "terminated", "message")
        if message and (outcome := read_outcome(message)) is not None:
            return outcome
    return None


def together(outcomes: Iterable[Outcome]) -> Outcome | None:
    """Return the outcome of a step from those of its pods; None if none is known."""
    cells: dict[str, Counts] = {}
    worst = None
    for outcome in outcomes:
        for cell, counts in outcome.cells.items():
            cells[cell] = cells.get(cell, Counts()) + counts
        if worst is None or worst.status == "complete":
            worst = outcome
    return None if worst is None else Outcome(worst.status, cells, worst.error)
