"""
The plan: which queries answer which rows, each asked once.

Deterministic queries that agree in everything are one query, whose answer is
fanned out to all its rows. Sampled queries are one for each row and replicate,
and differ in their seeds. The plan depends on the study, its trials and the
seed only: it is the same on every machine, before and after an interruption.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from grace.engine.dialogues import Dialogues
from grace.engine.queries import (
    Dialogue,
    QueryKey,
    ResponseQuery,
    ScoreQuery,
    derive_seed,
    digest,
    turn_texts,
)
from grace.studies.probes import CandidateProbe
from grace.studies.streamed import Streamed
from grace.studies.trials import Trial, TrialSet

__all__ = [
    "Dialogue",
    "QueryKey",
    "ResponsePlan",
    "ResponseQuery",
    "ResponseRow",
    "ScorePlan",
    "ScoreQuery",
    "ScoreRow",
    "derive_seed",
    "digest",
    "plan_responses",
    "plan_scores",
]


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

        shares: Whether dialogues may share a query; samples never do.
    """

    trials: TrialSet
    dialogues: Sequence[Dialogue]
    rows: Sequence[ResponseRow]
    shares: bool

    @property
    def query_keys(self) -> Sequence[QueryKey]:
        """The keys of all queries, each once."""
        return self._keys(slice(None))

    def turn_keys(self, position: int) -> Sequence[QueryKey]:
        """Return the keys of all queries of one turn, each once."""
        return self._keys(slice(position, position + 1))

    def _keys(self, turns: slice) -> Sequence[QueryKey]:
        def keys() -> Iterator[QueryKey]:
            for dialogue in self.dialogues:
                for query in dialogue.queries[turns]:
                    yield query.key

        if self.shares:
            return tuple(dict.fromkeys(keys()))
        turned = len(self.trials.study.dialogue[turns])
        return Streamed(keys, turned * len(self.dialogues))


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
    made = Dialogues(trials, seed=seed, replicates=replicates, deterministic=deterministic)
    places = made.distinct()

    def rows() -> Iterator[ResponseRow]:
        dialogues = made.of_rows()
        for replicate in range(1, replicates + 1):
            for trial in trials.trials:
                yield ResponseRow(trial, replicate, next(dialogues))

    return ResponsePlan(
        trials,
        Streamed(lambda: map(made.at, places), len(places)),
        Streamed(rows, replicates * len(trials.trials)),
        shares=deterministic,
    )


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
        key = QueryKey(digest(["score", study.key, probe.name, turn_texts(turn), answers]))
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
    places = array("I")
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

    ordered = sorted(queries.values(), key=lambda query: (turn_texts(query.turn), query.key))
    return ScorePlan(trials, tuple(ordered), Streamed(rows, len(places)), pmi)
