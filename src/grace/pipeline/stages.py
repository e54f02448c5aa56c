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
        "exp1": (Stage.RESPOND, Stage.EXTRACT, Stage.SUMMARISE, Stage.VALIDATE),
        "exp2": (Stage.SCORE, Stage.RECHECK, Stage.SUMMARISE, Stage.VALIDATE),
    }
)
"""The stages of each experiment, in order."""
