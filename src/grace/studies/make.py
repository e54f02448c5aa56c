"""
Trials for the two built-in studies, made from the stimuli that Grace ships.

Rows come in the exact input format of each study, participant after
participant. Every participant meets every cell of the design once, each with
another item. However many rows there are, the counts of any two cells differ by
one at most, and so do those of items, of pairings of an item with a cell, and of
pairs of names.

All choices are drawn by hashing the seed, not from a generator with a state: a
row depends on its position and the seed only, so that a smaller file is the
beginning of a larger one, on every platform and every version of Python.
"""

import csv
import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from importlib import resources
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict

from grace.errors import UsageError
from grace.studies.document import parse_document

MAX_ROWS = 1_000_000

_T = TypeVar("_T")
_Text = Annotated[str, AfterValidator(str)]


class _Items(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class _Templates(_Items):
    prior_question: _Text
    speech: _Text
    speech_question: _Text
    knowledge_question: _Text


class _Story(_Items):
    shortname: _Text
    name: _Text
    items: _Text
    property: _Text
    setup: _Text
    report: _Text


class _KnowledgeItems(_Items):
    cells: tuple[tuple[_Text, _Text], ...]
    templates: _Templates
    stories: tuple[_Story, ...]


class _Domain(_Items):
    domain: _Text
    precontext: _Text
    scenario: _Text


class _PolitenessItems(_Items):
    goals: tuple[_Text, ...]
    states: tuple[_Text, ...]
    domains: tuple[_Domain, ...]
    names: tuple[tuple[_Text, _Text], ...]


def make_rows(study_key: str, rows: int, seed: int) -> list[dict[str, str]]:
    """
    Return the rows of a new input file, in order.

    Participants are numbered from 1 and have 6 rows in Study 1, 12 in Study 2;
    the last one may have fewer. `Utterance` in Study 2 is always empty: it is a
    remnant of another experiment, is never part of a prompt, and anything
    written there would look like a response.

    Args:
        study_key: `study1` or `study2`.

        rows: How many; any number up to `MAX_ROWS`.

        seed: Any integer. Another seed pairs and orders the material anew.

    Raises:
        UsageError: There is no such study, or not that many rows can be made.
    """
    return list(_trials(study_key, rows, seed))


def _trials(study_key: str, rows: int, seed: int) -> Iterator[dict[str, str]]:
    make = _MAKERS.get(study_key)
    if make is None:
        raise UsageError(
            f"study is {study_key!r}; trials can be made for {' and '.join(_MAKERS)}: "
            "for a study of your own, write the CSV yourself"
        )
    if not 1 <= rows <= MAX_ROWS:
        raise UsageError(f"rows is {rows}; expected a number from 1 to {MAX_ROWS:,}")
    return islice(make(f"{study_key}/{seed}"), rows)


def write_trials(path: Path, study_key: str, rows: int, seed: int, *, force: bool = False) -> None:
    """
    Write the rows of `make_rows` to a CSV file, completely or not at all.

    Args:
        path: The new file; folders that are missing are made.

        study_key: See `make_rows`.

        rows: See `make_rows`.

        seed: See `make_rows`.

        force: Replace a file that is there already.

    Raises:
        UsageError: The file exists or cannot be written, or see `make_rows`.
    """
    if path.exists() and not force:
        raise UsageError(f"{path}: exists already; name another file, or replace it with --force")
    trials = _trials(study_key, rows, seed)
    first = next(trials)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("w", encoding="utf-8", newline="") as stream:
                writer = csv.DictWriter(
                    stream, list(first), quoting=csv.QUOTE_MINIMAL, lineterminator="\n"
                )
                writer.writeheader()
                writer.writerow(first)
                writer.writerows(trials)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error


def _shuffled(values: Sequence[_T], *context: object) -> list[_T]:
    def rank(position: int) -> bytes:
        text = "/".join(str(part) for part in (*context, position))
        return hashlib.sha256(text.encode()).digest()

    return [values[position] for position in sorted(range(len(values)), key=rank)]


def _assigned(items: int, cells: int, participant: int, seed: str) -> list[int]:
    """
    Return which item a participant meets in each cell, by the cell's number.

    Items lie on a circle and each participant takes the next *cells* of them;
    after every full round the circle turns by one. So many participants as
    there are items make a block, in which each item meets each cell once.
    """
    block, number = divmod(participant, items)
    rounds = number // (items // math.gcd(items, cells))
    circle = _shuffled(range(items), seed, "items", block)
    start = number * cells + rounds
    return [circle[(start + cell) % items] for cell in range(cells)]


def _knowledge_trials(seed: str) -> Iterator[dict[str, str]]:
    material = _load("knowledge.yaml", _KnowledgeItems)
    cells = material.cells
    participant = 0
    while True:
        stories = _assigned(len(material.stories), len(cells), participant, seed)
        for cell in _shuffled(range(len(cells)), seed, "order", participant):
            yield _knowledge_row(
                material, material.stories[stories[cell]], cells[cell], participant + 1
            )
        participant += 1


def _knowledge_row(
    material: _KnowledgeItems, story: _Story, cell: tuple[str, str], participant: int
) -> dict[str, str]:
    access, observe = cell
    variables = {
        "name": story.name,
        "items": story.items,
        "property": story.property,
        "observed": observed(story.property, observe),
        "report": story.report,
        "k": access,
        "o": observe,
    }
    templates = material.templates
    return {
        "participant_id": str(participant),
        "story_shortname": story.shortname,
        "story_setup": story.setup,
        "priorQ": templates.prior_question.format_map(variables),
        "speech": templates.speech.format_map(variables),
        "speechQ": templates.speech_question.format_map(variables),
        "knowledgeQ": templates.knowledge_question.format_map(variables),
        "access": access,
        "observe": observe,
    }


def observed(phrase: str, count: str) -> str:
    """
    Return a property's phrase, which begins with "have", as said of *count* items.

    >>> observed("have a torn tail", "1"), observed("have a torn tail", "2")
    ('has a torn tail', 'have a torn tail')
    """
    return f"has{phrase.removeprefix('have')}" if count == "1" else phrase


def _politeness_trials(seed: str) -> Iterator[dict[str, str]]:
    material = _load("politeness.yaml", _PolitenessItems)
    goals, states = len(material.goals), len(material.states)
    cells = goals * states
    participant = 0
    while True:
        domains = _assigned(len(material.domains), cells, participant, seed)
        goal_order = _shuffled(range(goals), seed, "goals", participant)
        state_order = _shuffled(range(states), seed, "states", participant)
        for position in range(cells):
            # 3 goals and 4 states have no common divisor: going round both at once
            # visits each cell once, and any few rows hold as many of each as they can.
            goal = goal_order[position % goals]
            state = state_order[position % states]
            speaker, listener = _names(material.names, participant * cells + position, seed)
            yield _politeness_row(
                material.domains[domains[goal * states + state]],
                material.goals[goal],
                material.states[state],
                {"SP_Name": speaker, "LS_Name": listener},
                participant + 1,
            )
        participant += 1


def _names(pairs: Sequence[tuple[str, str]], position: int, seed: str) -> tuple[str, str]:
    deck, card = divmod(position, len(pairs))
    number = _deck(len(pairs), seed, deck)[card]
    first, second = _shuffled(pairs[number], seed, "speaker", number)
    return (first, second) if deck % 2 == 0 else (second, first)


@lru_cache(maxsize=8)
def _deck(size: int, seed: str, deck: int) -> tuple[int, ...]:
    return tuple(_shuffled(range(size), seed, "names", deck))


def _politeness_row(
    domain: _Domain, goal: str, state: str, names: Mapping[str, str], participant: int
) -> dict[str, str]:
    return {
        "Participant_ID": str(participant),
        "Domain": domain.domain,
        "Precontext": domain.precontext.format_map(names),
        "Scenario": domain.scenario.format_map(names),
        "Utterance": "",
        "Goal": goal.format_map(names),
        "State": state,
        **names,
    }


_I = TypeVar("_I", bound=_Items)


def _load(name: str, model: type[_I]) -> _I:
    text = resources.files("grace.studies.items").joinpath(name).read_text(encoding="utf-8")
    value, faults = parse_document(text, name)
    if faults:
        raise faults.error()
    return model.model_validate(value)


_MAKERS: Mapping[str, Callable[[str], Iterator[dict[str, str]]]] = MappingProxyType(
    {"study1": _knowledge_trials, "study2": _politeness_trials}
)
