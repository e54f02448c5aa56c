"""
The rows of an input file, checked or made into trials in pass after pass.

What rows that show the same material have in common is made once. Knows nothing
of how a file's faults are reported.
"""

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NewType

from grace.studies.copies import InputCopy
from grace.studies.known import Known
from grace.studies.study import Column, Study, VariableFault

StimulusId = NewType("StimulusId", str)

MAX_CELL_CHARACTERS = 1_000_000
_MOST_MATERIALS = 4096


@dataclass(frozen=True, slots=True)
class Trial:
    """
    One row of the input.

    Attributes:
        row: Position in the input, from 1; the header is not counted.

        cells: The row's cells as they stand in the input, in its order.

        variables: Values by canonical column name, and what the study derives
            from them: what templates, conditions and exclusions see.

        stimulus_id: The same for all rows that put the same material before a
            model.
    """

    row: int
    cells: tuple[str, ...]
    variables: Mapping[str, str]
    stimulus_id: StimulusId


@dataclass(frozen=True, slots=True)
class _Material:
    """What rows that agree in all that derivation may look at have in common."""

    stimulus_id: StimulusId
    derived: Mapping[str, str]


class InputRows:
    """
    The rows of a file.

    Args:
        study: Whose rows they are.

        header: Column names as spelled in the file.

        names: The same columns' names in Grace.

        copy: The file's text.
    """

    def __init__(
        self, study: Study, header: tuple[str, ...], names: tuple[str, ...], copy: InputCopy
    ) -> None:
        self._study = study
        self._header = header
        self._names = names
        self._copy = copy
        self._shared = tuple(
            column.name for column in study.columns if column.name in study.material_columns
        )
        self._others = tuple(column for column in study.columns if column.name not in self._shared)
        self._materials = Known(self._made, _MOST_MATERIALS)

    def faults(self, cells: Sequence[str]) -> Iterator[str]:
        """Yield what is wrong with a row."""
        if len(cells) != len(self._header):
            yield (
                f"has {len(cells)} cells; expected {len(self._header)}, as in the header (is a "
                "comma or a quotation mark missing?)"
            )
            return
        values = dict(zip(self._names, cells, strict=True))
        # Material that is known has been checked.
        known = self._key(values) in self._materials
        problems = _row_problems(self._others if known else self._study.columns, values)
        if not problems and not known:
            try:
                self._material(values)
            except VariableFault as fault:
                problems = [(fault.column, fault.problem)]
        if problems:
            spelled = dict(zip(self._names, self._header, strict=True))
            yield from (f"{spelled[column]} {problem}" for column, problem in problems)

    def trials(self) -> Iterator[Trial]:
        """Begin a pass."""
        with cells_up_to(MAX_CELL_CHARACTERS):
            # The reader takes the limit at each row: it only ever grows, see `cells_up_to`.
            reader = csv.reader(self._copy.text(), strict=True)
        lines = (row for row in reader if row)
        next(lines)
        for number, cells in enumerate(lines, start=1):
            values = dict(zip(self._names, cells, strict=True))
            material = self._material(values)
            yield Trial(
                row=number,
                cells=tuple(cells),
                variables={**values, **material.derived},
                stimulus_id=material.stimulus_id,
            )

    def _key(self, values: Mapping[str, str]) -> tuple[str, ...]:
        return tuple([values[name] for name in self._shared])

    def _material(self, values: Mapping[str, str]) -> _Material:
        return self._materials[self._key(values)]

    def _made(self, key: tuple[str, ...]) -> _Material:
        shared = dict(zip(self._shared, key, strict=True))
        return _Material(_stimulus_id(self._study, shared), self._study.derive(shared))


@contextmanager
def cells_up_to(characters: int) -> Iterator[None]:
    """
    Let cells be so long, and no longer; afterwards at least so long.

    The limit is global to the csv module and its default, 128 KiB, is below ours.
    """
    before = csv.field_size_limit(characters)
    try:
        yield
    finally:
        csv.field_size_limit(max(before, characters))


def _row_problems(columns: Iterable[Column], values: Mapping[str, str]) -> list[tuple[str, str]]:
    problems = ((column.name, column.fault(values[column.name])) for column in columns)
    return [(name, problem) for name, problem in problems if problem is not None]


def _stimulus_id(study: Study, values: Mapping[str, str]) -> StimulusId:
    content = [values[name] for name in study.stimulus_columns]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    # The leading letter keeps spreadsheets from reading an id such as 12e4 as a number.
    return StimulusId(f"s{digest[:12]}")
