"""
The stages of a cell (one experiment on one model) and what each needs.

The local executor, Jobs and workflows run the same graph; containers run single
stages of it through `grace stage`.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from grace.settings import Experiment


class Stage(StrEnum):
    """One step of a cell."""

    SMOKE = "smoke"
    RESPOND = "respond"
    EXTRACT = "extract"
    SCORE = "score"
    RECHECK = "recheck"
    TABULATE = "tabulate"
    SUMMARISE = "summarise"
    VALIDATE = "validate"


NEEDS: Mapping[Stage, tuple[Stage, ...]] = MappingProxyType(
    {
        Stage.SMOKE: (),
        Stage.RESPOND: (),
        Stage.EXTRACT: (Stage.RESPOND,),
        Stage.SCORE: (),
        Stage.RECHECK: (Stage.SCORE,),
        Stage.TABULATE: (Stage.EXTRACT, Stage.SCORE),
        Stage.SUMMARISE: (Stage.EXTRACT, Stage.SCORE),
        Stage.VALIDATE: (Stage.SUMMARISE, Stage.RECHECK),
    }
)
"""What has to be finished before a stage, where the experiment has it."""

STAGES: Mapping[Experiment, tuple[Stage, ...]] = MappingProxyType(
    {
        "exp1": (
            Stage.SMOKE,
            Stage.RESPOND,
            Stage.EXTRACT,
            Stage.TABULATE,
            Stage.SUMMARISE,
            Stage.VALIDATE,
        ),
        "exp2": (
            Stage.SMOKE,
            Stage.SCORE,
            Stage.RECHECK,
            Stage.TABULATE,
            Stage.SUMMARISE,
            Stage.VALIDATE,
        ),
    }
)
"""The stages of each experiment, in order."""

USUAL: frozenset[Stage] = frozenset(Stage) - {Stage.SMOKE, Stage.TABULATE}
"""What one process needs that runs a whole cell: it tries the server and writes tables anyway."""

SHARED: frozenset[Stage] = frozenset({Stage.RESPOND, Stage.EXTRACT, Stage.SCORE, Stage.RECHECK})
"""The stages whose queries several processes can share."""

SERVED: frozenset[Stage] = frozenset({Stage.SMOKE, Stage.RESPOND, Stage.SCORE, Stage.RECHECK})
"""The stages that need the server of the cell's model."""

_NOUNS: Mapping[Stage, str] = MappingProxyType(
    {
        Stage.RESPOND: "responses",
        Stage.EXTRACT: "extraction",
        Stage.SCORE: "probabilities",
        Stage.RECHECK: "recheck",
    }
)


def shown_name(study: str, stage: Stage) -> str:
    """
    Return the name under which people hear of a stage that asks.

    >>> shown_name("study1", Stage.RESPOND)
    'study1 responses'
    """
    return f"{study} {_NOUNS[stage]}"


def stage_of(name: str) -> tuple[str, Stage | None]:
    """Return study and stage of such a name; None if it names no stage."""
    study, _, noun = name.rpartition(" ")
    return study, next((stage for stage, known in _NOUNS.items() if known == noun), None)
