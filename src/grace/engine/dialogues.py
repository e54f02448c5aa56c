"""
The dialogues of Experiment 1, made when they are needed.

There may be a million of them, each with a key and a seed for every turn. Kept
is only, for each row of the input, which material it shows and how many rows
with the same turn came before it: a dialogue follows from these numbers.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from grace.engine.queries import (
    Dialogue,
    Digests,
    QueryKey,
    ResponseQuery,
    seed_of,
    turn_texts,
)
from grace.studies.probes import ResponseProbe, Turn
from grace.studies.trials import TrialSet


@dataclass(frozen=True, slots=True)
class _Asked:
    """A turn of some material: what all samples of it share."""

    probe: ResponseProbe
    turn: Turn
    keys: Digests
    seeds: Digests
    number: int

    def key(self, replicate: int, sample: int) -> QueryKey:
        return QueryKey(self.keys.of(replicate, sample))

    def query(self, replicate: int, sample: int) -> ResponseQuery:
        seed = seed_of(self.seeds.of(replicate, sample))
        return ResponseQuery(self.key(replicate, sample), self.probe, self.turn, seed)


class Dialogues:
    """
    The dialogues of all rows and replicates.

    Args:
        trials: The trials of one study.

        seed: The run's seed.

        replicates: How many samples of every row.

        deterministic: Whether equal prompts have equal answers and are asked once.
    """

    def __init__(
        self, trials: TrialSet, *, seed: int, replicates: int, deterministic: bool
    ) -> None:
        self._trials = trials
        self._seed = seed
        self._replicates = replicates
        self._materials: list[tuple[_Asked, ...]] = []
        self._texts: dict[tuple[Turn, ...], int] = {}
        self._turns: dict[tuple[Turn, ...], int] = {}
        self._material = array("I")
        self._samples = [array("I") for _ in trials.study.dialogue]
        self._read(counting=not deterministic)
        self._fixed: list[Dialogue] | None = None
        if deterministic:
            self._fixed = [
                Dialogue(tuple(asked.query(1, 0) for asked in material))
                for material in self._materials
            ]

    def of_rows(self) -> Iterator[Dialogue]:
        """Go through the dialogues of all rows in order, by replicate."""
        for replicate in range(1, self._replicates + 1):
            for row in range(len(self._material)):
                yield self._dialogue(row, replicate)

    def distinct(self) -> Sequence[int]:
        """
        Return the places of all distinct dialogues, ordered so that neighbours share most.

        By the texts of their turns, and then by the key of the last one.
        """
        texts = [[turn_texts(one.turn) for one in material] for material in self._materials]
        ordered = sorted(range(len(texts)), key=texts.__getitem__)
        if self._fixed is not None:
            return ordered
        rows = len(self._material)
        members = [array("I") for _ in ordered]
        for row, material in enumerate(self._material):
            members[material].append(row)
        places = array("I")
        for material in ordered:
            last, samples = self._materials[material][-1], self._samples[-1]
            of_this = [
                replicate * rows + row
                for replicate in range(self._replicates)
                for row in members[material]
            ]
            keys = {place: last.key(place // rows + 1, samples[place % rows]) for place in of_this}
            places.extend(sorted(of_this, key=keys.__getitem__))
        return places

    def at(self, place: int) -> Dialogue:
        """Return the dialogue at one of the places of `distinct`."""
        if self._fixed is not None:
            return self._fixed[place]
        replicate, row = divmod(place, len(self._material))
        return self._dialogue(row, replicate + 1)

    def _dialogue(self, row: int, replicate: int) -> Dialogue:
        if self._fixed is not None:
            return self._fixed[self._material[row]]
        material = self._materials[self._material[row]]
        return Dialogue(
            tuple(
                [
                    asked.query(replicate, samples[row])
                    for asked, samples in zip(material, self._samples, strict=True)
                ]
            )
        )

    def _read(self, *, counting: bool) -> None:
        """Note the material of each row, and how many rows came before with each turn of it."""
        probes = self._trials.study.dialogue
        shown = sorted({name for probe in probes for name in probe.turn.placeholders()})
        numbers: dict[tuple[str, ...], int] = {}
        seen: list[int] = []
        for trial in self._trials.trials:
            key = tuple([trial.variables[name] for name in shown])
            number = numbers.get(key)
            if number is None:
                number = numbers[key] = self._number(
                    tuple(probe.turn.fill(trial.variables) for probe in probes)
                )
                seen.extend([0] * (len(self._turns) - len(seen)))
            self._material.append(number)
            if not counting:
                continue
            # Counted for each turn by itself: rows that share a first turn, but not the
            # second, are samples of their own from the first turn on.
            for asked, samples in zip(self._materials[number], self._samples, strict=True):
                samples.append(seen[asked.number])
                seen[asked.number] += 1

    def _number(self, turns: tuple[Turn, ...]) -> int:
        """Return the number of a dialogue's texts."""
        number = self._texts.setdefault(turns, len(self._materials))
        if number == len(self._materials):
            study = self._trials.study
            material = []
            for position, probe in enumerate(study.dialogue, start=1):
                texts: list[JsonValue] = [turn_texts(turn) for turn in turns[:position]]
                identity: list[JsonValue] = [study.key, probe.name, *texts]
                material.append(
                    _Asked(
                        probe,
                        turns[position - 1],
                        Digests(["response", *identity]),
                        Digests(["seed", self._seed, *identity]),
                        self._turns.setdefault(turns[:position], len(self._turns)),
                    )
                )
            self._materials.append(tuple(material))
        return number
