"""How often a cluster is looked at, and how long it is waited for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pacing:
    """
    How often a cluster is looked at, and how long it is waited for.

    Attributes:
        look_seconds: It is looked at once in that time at least.

        settle_seconds: How long changes are gathered before the next look.

        progress_seconds: How often pods are asked how far they are.

        patience_seconds: How long the API may be unavailable before it is given up.

        claim_seconds: How long a volume claim may take that is not waiting for a pod.
    """

    look_seconds: float = 20
    settle_seconds: float = 1
    progress_seconds: float = 10
    patience_seconds: float = 1800
    claim_seconds: float = 300
