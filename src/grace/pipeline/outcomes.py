"""What became of a run's cells when a command ends."""

from dataclasses import dataclass
from enum import StrEnum

from grace.runs.folder import RunFolder
from grace.runs.manifest import RunManifest


class CellStatus(StrEnum):
    """How a cell stands when a command ends."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    STOPPED = "stopped"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class CellOutcome:
    """
    What became of a cell.

    Attributes:
        folder: Its run folder.

        status: `incomplete` is closed with missing answers, `stopped` was
            interrupted, `open` had only some of its stages run.

        manifest: Present if the run is closed.

        already: Whether it was closed before this command.
    """

    folder: RunFolder
    status: CellStatus
    manifest: RunManifest | None
    already: bool = False


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What became of a run's cells."""

    cells: tuple[CellOutcome, ...]

    @property
    def complete(self) -> bool:
        """Whether every cell has every answer."""
        return all(cell.status is CellStatus.COMPLETE for cell in self.cells)

    @property
    def stopped(self) -> bool:
        """Whether the run was interrupted on request."""
        return any(cell.status is CellStatus.STOPPED for cell in self.cells)
