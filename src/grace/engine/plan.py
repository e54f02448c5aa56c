"""
The plan: which queries answer which rows, each asked once.

Deterministic queries that agree in everything are one query, whose answer is
fanned out to all its rows. Sampled queries are one for each row and replicate,
and differ in their seeds. The plan depends on the study, its trials and the
seed only: it is the same on every machine, before and after an interruption.
"""

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NewType

from pydantic import JsonValue

from grace.studies.probes import CandidateProbe, ResponseProbe, Turn
from grace.studies.streamed import Streamed
from grace.studies.trials import Trial, TrialSet

QueryKey = NewType("QueryKey", str)


@dataclass(frozen=True, slots=True)
class ResponseQuery:
    """
    One turn of a dialogue, to be answered in free text.

    Attributes:
        key: Identifies the query within its run.

        probe: The response probe.

        turn: The turn's texts, filled.

        seed: 32-bit seed of this sample.
    """

    key: QueryKey
    probe: ResponseProbe
    turn: Turn
    seed: int


@dataclass(frozen=True, slots=True)
class Dialogue:
    """The turns of one sample, in order; each sees the answers to those before it."""

    queries: tuple[ResponseQuery, ...]


@dataclass(frozen=True, slots=True)
class ResponseRow:
    """One row of a response table: a trial, a replicate, and the dialogue that answers it."""

    trial: Trial
    replicate: int
    dialogue: Dialogue


@dataclass(frozen=True, slots=True)
class ResponsePlan:
    """
    Experiment 1 of one study.

    Attributes:
        trials: The trials.

        dialogues: Distinct dialogues, ordered so that neighbours share most.

        rows: Table rows in order: by replicate, then as in the input.
    """

    trials: TrialSet
    dialogues: tuple[Dialogue, ...]
    rows: tuple[ResponseRow, ...]

    @property
    def query_keys(self) -> tuple[QueryKey, ...]:
        """The keys of all queries."""
        return tuple(query.key for dialogue in self.dialogues for query in dialogue.queries)


@dataclass(frozen=True, slots=True)
class ScoreQuery:
    """
    A distribution over the answers of a probe, for one stimulus.

    Attributes:
        key: Identifies the query within its run.

        probe: The candidate probe, or the one that scores its answers after its premise.

        turn: The turn's texts, filled.
    """

    key: QueryKey
    probe: CandidateProbe
    turn: Turn


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """
    One row of a probability table.

    Attributes:
        trial: The trial.

        queries: Its query for each probe.

        premises: Its query after the premise, for each probe that has one; empty
            unless they are asked.
    """

    trial: Trial
    queries: Mapping[str, ScoreQuery]
    premises: Mapping[str, ScoreQuery] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScorePlan:
    """
    Experiment 2 of one study.

    Attributes:
        trials: The trials.

        queries: Distinct queries, those after premises included, prefix-sharing first.

        rows: Table rows, as in the input; made again in each pass.

        pmi: Whether premises are asked.
    """

    trials: TrialSet
    queries: tuple[ScoreQuery, ...]
    rows: Sequence[ScoreRow]
    pmi: bool = False

    @property
    def query_keys(self) -> tuple[QueryKey, ...]:
        """The keys of all queries."""
        return tuple(query.key for query in self.queries)


def plan_responses(
    trials: TrialSet, *, seed: int, replicates: int, deterministic: bool
) -> ResponsePlan:
    """
    Plan Experiment 1.

    Args:
        trials: The trials of one study.

        seed: The run's seed.

        replicates: How many samples of every row.

        deterministic: Whether decoding is greedy, so that equal prompts have
            equal answers and are asked once.
    """
    study = trials.study
    seen: Counter[tuple[int, str]] = Counter()
    dialogues: dict[QueryKey, Dialogue] = {}
    rows: list[ResponseRow] = []
    for replicate in range(1, replicates + 1):
        for trial in trials.trials:
            turns = [probe.turn.fill(trial.variables) for probe in study.dialogue]
            queries = []
            for index, (probe, turn) in enumerate(zip(study.dialogue, turns, strict=True)):
                asked = [_texts(earlier) for earlier in turns[: index + 1]]
                # Counted for each turn by itself: rows that share a first turn, but not the
                # second, are samples of their own from the first turn on.
                counted = (replicate, digest([probe.name, *asked]))
                sample = (1, 0) if deterministic else (replicate, seen[counted])
                seen[counted] += 1
                identity: list[JsonValue] = [study.key, probe.name, *asked, *sample]
                queries.append(
                    ResponseQuery(
                        key=QueryKey(digest(["response", *identity])),
                        probe=probe,
                        turn=turn,
                        seed=derive_seed(seed, identity),
                    )
                )
            dialogue = dialogues.setdefault(queries[-1].key, Dialogue(tuple(queries)))
            rows.append(ResponseRow(trial, replicate, dialogue))
    ordered = sorted(
        dialogues.values(), key=lambda d: ([_texts(q.turn) for q in d.queries], d.queries[-1].key)
    )
    return ResponsePlan(trials, tuple(ordered), tuple(rows))


def plan_scores(trials: TrialSet, *, pmi: bool = False) -> ScorePlan:
    """
    Plan Experiment 2: one query for each distinct prompt and answer set.

    Args:
        trials: The trials of one study.

        pmi: Whether answers are scored after their probe's premise as well.
    """
    study = trials.study
    queries: dict[QueryKey, ScoreQuery] = {}

    def planned(probe: CandidateProbe, trial: Trial) -> ScoreQuery:
        turn = probe.turn.fill(trial.variables)
        answers: list[JsonValue] = [[a.label, *a.surface_forms] for a in probe.answers]
        key = QueryKey(digest(["score", study.key, probe.name, _texts(turn), answers]))
        return queries.setdefault(key, ScoreQuery(key, probe, turn))

    premises = {probe.name: probe.after_premise() for probe in study.candidate_probes if pmi}
    # Rows that agree in all that these texts show are answered by the same queries.
    shown = sorted(
        {
            name
            for probe in study.candidate_probes
            for turn in (probe.turn, probe.premise if pmi else None)
            if turn is not None
            for name in turn.placeholders()
        }
    )
    numbers: dict[tuple[str, ...], int] = {}
    answering: list[tuple[Mapping[str, ScoreQuery], Mapping[str, ScoreQuery]]] = []
    places = array("L")
    for trial in trials.trials:
        key = tuple([trial.variables[name] for name in shown])
        number = numbers.setdefault(key, len(answering))
        if number == len(answering):
            answering.append(
                (
                    {probe.name: planned(probe, trial) for probe in study.candidate_probes},
                    {name: planned(one, trial) for name, one in premises.items() if one},
                )
            )
        places.append(number)

    def rows() -> Iterator[ScoreRow]:
        for trial, place in zip(trials.trials, places, strict=True):
            yield ScoreRow(trial, *answering[place])

    ordered = sorted(queries.values(), key=lambda query: (_texts(query.turn), query.key))
    return ScorePlan(trials, tuple(ordered), Streamed(rows, len(places)), pmi)


def derive_seed(run_seed: int, identity: list[JsonValue]) -> int:
    """
    Return the 32-bit seed of one sample.

    Args:
        run_seed: The run's seed.

        identity: What sets the sample apart: the query's texts, the replicate,
            and how many times the same query came before.
    """
    # llama.cpp takes the highest 32-bit value for "draw a seed yourself".
    return min(int(digest(["seed", run_seed, *identity])[:8], 16), 2**32 - 2)


def _texts(turn: Turn) -> list[JsonValue]:
    return [turn.context, turn.instruction, turn.question]


def digest(content: list[JsonValue]) -> str:
    """Return a short hash of JSON content, in hexadecimal."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
