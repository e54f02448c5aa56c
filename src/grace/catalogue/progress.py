"""How long work on weights reports itself; the command line shows it."""

from typing import Protocol


class ProgressHook(Protocol):
    """Hears what is being done; never decides anything."""

    def began(self, step: str, total_bytes: int | None) -> None:
        """Start a step, which ends the one before; its size may be unknown."""

    def advanced(self, count_bytes: int) -> None:
        """Count bytes of the current step; negative if some have to be done again."""

    def noted(self, message: str) -> None:
        """Say something that happened."""


class SilentProgress:
    """Hears everything and says nothing."""

    def began(self, step: str, total_bytes: int | None) -> None:
        """Ignore it."""

    def advanced(self, count_bytes: int) -> None:
        """Ignore it."""

    def noted(self, message: str) -> None:
        """Ignore it."""
