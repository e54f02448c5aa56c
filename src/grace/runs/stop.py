"""
Why a run stopped, for whoever looks at it later.

`stopped.json` is written when an error stops a run, and removed when the run
goes on. It is no part of the results: nothing depends on it, and where it cannot
be written, the run ends as it would have.
"""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict

from grace.errors import GraceError, RunFolderError
from grace.runs.csvfile import write_bytes
from grace.runs.folder import RunFolder, read_json

STOP_FILE = "stopped.json"
_MOST_CHARACTERS = 2_000


class StopNote(BaseModel):
    """
    Why a run stopped.

    Attributes:
        moment: When.

        reason: The message that was shown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    moment: AwareDatetime
    reason: str


@contextmanager
def stop_noted(
    folder: RunFolder, now: datetime | None = None, *, shared: bool = False
) -> Iterator[None]:
    """
    Write down which error stopped what is done in a `with` block, and forget an earlier one.

    Args:
        folder: The run.

        now: The moment; None for the clock.

        shared: Whether other processes work on the run as well: then it has not
            stopped, and nothing is written down.
    """
    path = folder.path / STOP_FILE
    with contextlib.suppress(OSError):
        path.unlink()
    try:
        yield
    except GraceError as error:
        if shared:
            raise
        note = StopNote(moment=now or datetime.now(UTC), reason=str(error)[:_MOST_CHARACTERS])
        # Whatever stopped the run is the story, also where this cannot be written.
        with contextlib.suppress(RunFolderError):
            write_bytes(path, (note.model_dump_json(indent=2) + "\n").encode())
        raise


def read_stop(folder: RunFolder) -> StopNote | None:
    """Return why a run stopped; None if nothing readable says so."""
    try:
        return read_json(folder.path / STOP_FILE, StopNote)
    except (FileNotFoundError, RunFolderError):
        return None
