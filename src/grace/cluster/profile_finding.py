"""What a check of a profile finds."""

from dataclasses import dataclass
from enum import StrEnum


class Standing(StrEnum):
    """What a finding means."""

    WRONG = "wrong"
    """A run would fail."""
    DOUBTFUL = "doubtful"
    """It may."""
    UNKNOWN = "unknown"
    """The cluster would not say."""


@dataclass(frozen=True, slots=True)
class ProfileFinding:
    """
    Something that a profile and a cluster do not agree about.

    Attributes:
        standing: What it means.

        field: Of the profile: `storage.output.storage_class`; empty if none.

        words: What each of them says.

        remedy: What to do.
    """

    standing: Standing
    field: str
    words: str
    remedy: str

    def __str__(self) -> str:
        """Return it in one line."""
        return f"{self.words}; {self.remedy}"
