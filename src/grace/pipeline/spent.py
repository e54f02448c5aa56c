"""
What stages cost that other processes ran: noted by each, added up when the run is closed.

A run on a cluster is asked by many processes and closed by one, which has asked
nothing itself. Each that runs a stage to its end leaves a small file of its own;
one that is killed leaves none, as its answers tell how far it came.
"""

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from grace.engine.disk import make_folder, numbered
from grace.errors import RunFolderError
from grace.pipeline.cell import Cell
from grace.runs.folder import read_json
from grace.runs.manifest import StageCost, StageForecast

FOLDER = "costs"

_COUNTED = (
    "requests",
    "prompts",
    "prompt_tokens",
    "computed_tokens",
    "generated_tokens",
)
_FORECAST = ("prompts", "prompt_tokens", "computed_tokens", "generated_tokens", "requests")


class Spent(BaseModel):
    """
    What one process, or several together, spent on a cell.

    Attributes:
        seconds: Wall time by stage, added up over processes.

        costs: By study and stage.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seconds: Mapping[str, float] = {}
    costs: Mapping[str, StageCost] = {}


def note_spent(cell: Cell) -> None:
    """Leave a file that says what this process spent on a cell, if it asked anything."""
    spent = Spent(seconds=dict(cell.seconds), costs=dict(cell.costs))
    if not spent.costs:
        return
    stages = "-".join(cell.seconds)
    folder = cell.folder.path / FOLDER
    # Nothing depends on it: where it cannot be written, the figures are missing.
    with contextlib.suppress(OSError):
        make_folder(folder)
        for path in numbered(folder, "-".join(filter(None, (stages, cell.writer))), "json"):
            with contextlib.suppress(FileExistsError):
                with path.open("x", encoding="utf-8") as file:
                    file.write(spent.model_dump_json() + "\n")
                break


def spent_on(cell: Cell) -> Spent:
    """Return what this process and those before it spent on a cell."""
    parts = [*_noted(cell.folder.path / FOLDER), Spent(seconds=cell.seconds, costs=cell.costs)]
    seconds: dict[str, float] = {}
    costs: dict[str, StageCost] = {}
    for part in parts:
        for stage, more in part.seconds.items():
            seconds[stage] = round(seconds.get(stage, 0.0) + more, 3)
        for name, cost in part.costs.items():
            costs[name] = together(costs[name], cost) if name in costs else cost
    return Spent(seconds=seconds, costs=costs)


def _noted(folder: Path) -> Iterable[Spent]:
    for path in sorted(folder.glob("*.json")):
        # A killed process may have left a part of a line.
        with contextlib.suppress(RunFolderError, FileNotFoundError):
            yield read_json(path, Spent)


def together(one: StageCost, other: StageCost) -> StageCost:
    """Return two costs of a stage added up; what one of them does not know is not known."""
    if one.computed_from != other.computed_from:
        one = one.model_copy(update={"computed_tokens": None, "computed_from": None})
    forecast = None
    if one.forecast is not None and other.forecast is not None:
        forecast = StageForecast.model_validate(
            {name: _sum(one.forecast, other.forecast, name) for name in _FORECAST}
        )
    return StageCost.model_validate(
        {
            "queries": one.queries + other.queries,
            "retries": one.retries + other.retries,
            "seconds": round(one.seconds + other.seconds, 3),
            **{name: _sum(one, other, name) for name in _COUNTED},
            "computed_from": one.computed_from,
            "requests_at_once": max(one.requests_at_once, other.requests_at_once),
            "queries_per_request": max(one.queries_per_request, other.queries_per_request),
            "forecast": forecast,
        }
    )


def _sum(one: BaseModel, other: BaseModel, name: str) -> int | None:
    first, second = getattr(one, name), getattr(other, name)
    return None if first is None or second is None else first + second
