"""
How a container's work ended, in one small file: what Kubernetes calls its termination message.

The file is written at every end, also after an error or a signal; whoever started
the container reads it from the pod's status, without a look at logs.
"""

import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path

from grace.cli.screen import err
from grace.errors import GraceError, InputFaults
from grace.pipeline.outcomes import CellStatus, RunOutcome
from grace.runs.manifest import QueryCounts

MOST_BYTES = 4096
"""What Kubernetes keeps of a termination message."""


class Ending(StrEnum):
    """How the work ended."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    OPEN = "open"
    STOPPED = "stopped"
    FAILED = "failed"


_CELL_ENDINGS = (
    (CellStatus.STOPPED, Ending.STOPPED),
    (CellStatus.INCOMPLETE, Ending.INCOMPLETE),
    (CellStatus.OPEN, Ending.OPEN),
)


def ending_of(outcome: RunOutcome) -> Ending:
    """Return in a word how the cells of a command ended: the worst of them."""
    found = {cell.status for cell in outcome.cells}
    return next((end for status, end in _CELL_ENDINGS if status in found), Ending.COMPLETE)


def public_text(error: GraceError) -> str:
    """
    Return an error's message for a log that others than the user may read.

    What is wrong with an input names cells of it, which participants may have written.
    """
    if isinstance(error, InputFaults):
        return f"{str(error).splitlines()[0]}; `grace studies check` shows them"
    return str(error)


def encoded(ending: Ending, cells: Mapping[str, QueryCounts], error: str = "") -> bytes:
    """
    Return the content of the file, cut so that it is never longer than is kept.

    Args:
        ending: How the work ended.

        cells: Counts by cell, as `exp1/gemma-2-2b`.

        error: Why it failed or stopped.
    """
    counts = {name: one.model_dump() for name, one in cells.items()}
    while True:
        content = {"status": ending.value, "cells": counts, "error": error}
        found = json.dumps(content, allow_nan=False).encode()
        if len(found) <= MOST_BYTES:
            return found
        if error:
            error = error[: len(error) * 3 // 4]
        else:
            counts = {}


class Termination:
    """
    The file of one command.

    Args:
        path: Where it is written; None writes none.

    Attributes:
        counts: Returns the counts by cell, once there are cells.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.counts: Callable[[], Mapping[str, QueryCounts]] = dict

    def write(self, ending: Ending, error: str = "") -> None:
        """Write the file; where that cannot be, say so and end as without it."""
        if self._path is None:
            return
        try:
            counts = self.counts()
        except GraceError:
            # What ended the work may be that this cannot be read.
            counts = {}
        try:
            # In its place: Kubernetes mounts this one file, and looks at nothing else.
            self._path.write_bytes(encoded(ending, counts, error))
        except OSError as failure:
            err.print(f"note: {self._path}: cannot be written: {failure.strerror}", markup=False)
