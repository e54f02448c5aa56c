"""
A study as data: its columns, probes, output columns, answer fields and rules.

Everything downstream (planning, tables, extraction, validation, summaries,
documentation) is driven by this description. There is no code per study
anywhere else, except the deterministic parsers in `grace.extraction`.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, TypeVar

from grace.studies.probes import CandidateProbe, ResponseProbe

_P = TypeVar("_P", ResponseProbe, CandidateProbe)


@dataclass(frozen=True, slots=True)
class Column:
    """
    One column of a study's input.

    Attributes:
        name: The column's name in Grace.

        description: What it holds, for the codebook.

        aliases: Other spellings that are accepted; the user's own is kept in
            all outputs.

        choices: The only values allowed, if the column is a closed choice.

        pattern: A regular expression that the whole value must match.

        expected: The end of the sentence "expected ...", for error messages.

        may_be_empty: Whether an empty cell is allowed.
    """

    name: str
    description: str
    aliases: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    pattern: str = ""
    expected: str = ""
    may_be_empty: bool = False

    def fault(self, value: str) -> str | None:
        """Return what is wrong with *value*, as "is ...; expected ...", or None."""
        if "\0" in value:
            return "holds a NUL character; expected text"
        if not value.strip():
            return None if self.may_be_empty else f"is empty; expected {self.expectation}"
        if self.choices and value not in self.choices:
            return f"is {_shown(value)}; expected {self.expectation}"
        if self.pattern and not re.fullmatch(self.pattern, value, re.DOTALL):
            return f"is {_shown(value)}; expected {self.expectation}"
        return None

    @property
    def expectation(self) -> str:
        """What the column should hold, in words."""
        if self.expected:
            return self.expected
        if self.choices:
            *rest, last = self.choices
            return f"{', '.join(rest)} or {last}" if rest else last
        return "text"


def _shown(value: str, limit: int = 60) -> str:
    shown = value if len(value) <= limit else value[: limit - 1] + "…"
    return repr(shown)


class Measure(StrEnum):
    """What a column of a probability table holds."""

    PROBABILITY = "probability"
    MEAN = "mean"
    STD = "std"
    ENTROPY = "entropy"


@dataclass(frozen=True, slots=True)
class ProbabilityColumn:
    """
    One column of a probability table, computed from one probe's distribution.

    Attributes:
        name: Column name.

        probe: Name of the candidate probe.

        measure: `probability` sums the normalised probability of *answers*;
            `mean` and `std` are those of the answers' values (std: population);
            `entropy` is in bits, over the cells of *partition*.

        description: For the codebook.

        answers: Labels, for `probability`.

        partition: Labels in groups, for `entropy`; empty means one group each.
    """

    name: str
    probe: str
    measure: Measure
    description: str
    answers: tuple[str, ...] = ()
    partition: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class AnswerField:
    """
    One structured field that is extracted from responses.

    Attributes:
        name: Column name, and key in the extraction's JSON.

        kind: `integer` within bounds, `choice` among values, or free `text`.

        description: What it means; goes into the extraction prompt and codebook.

        probe: The response probe whose response states it.

        minimum, maximum: Bounds of an integer, inclusive.

        choices: Values of a choice, as the specification's schema has them.

        uncertain: Whether "uncertain" is a possible value as well: the response
            states that it cannot be said. Absence is an empty cell instead.
    """

    name: str
    kind: Literal["integer", "choice", "text"]
    description: str
    probe: str
    minimum: int = 0
    maximum: int = 0
    choices: tuple[str, ...] = ()
    uncertain: bool = False


@dataclass(frozen=True, slots=True)
class FieldSum:
    """Integer fields that must add up to a total."""

    fields: tuple[str, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Coherence:
    """
    Means that should add up: likelihoods, asked one by one, of states that exclude each other.

    Attributes:
        name: Begins the names of the summary's measures.

        labels: The states, which are also answers of the direct probe.

        columns: For each state, the column of the probability table with its mean.

        direct: The candidate probe that asks for the state itself.
    """

    name: str
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    direct: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """
    A structured answer of Experiment 1 that a candidate probe asks for as well.

    Attributes:
        name: What tables call the comparison.

        probe: The candidate probe.

        fields: The fields that state the answer.

        rule: `joined`: their values, with a space between them, are the
            answer's label. `largest`: the name of the field with the largest
            number is.
    """

    name: str
    probe: str
    fields: tuple[str, ...]
    rule: Literal["joined", "largest"]


@dataclass(frozen=True, slots=True)
class Exclusion:
    """
    A rule that sets a structured row apart in summaries.

    Attributes:
        name: Short name, as `wrong_prior`.

        description: The rule in words.

        applies: Whether a row (input columns by canonical name, derived
            variables and answer fields; all text) falls under the rule.
    """

    name: str
    description: str
    applies: Callable[[Mapping[str, str]], bool]


def no_variables(_values: Mapping[str, str]) -> Mapping[str, str]:
    """Derive nothing."""
    return {}


@dataclass(frozen=True)
class Study:
    """
    A study: what is asked about its trials and what comes out.

    Attributes:
        key: `study1`, `study2` or the user's own; part of file names.

        title, description, citation: For people.

        columns: The input's columns, in order.

        stimulus_columns: The columns whose values reach a prompt. Rows that
            agree in them show the same stimulus.

        conditions: Columns or derived variables that define the cells of the
            design, for summaries.

        derive: Computes further template variables from a row's values (by
            canonical column name) in `material_columns`. Raises `VariableFault`
            if it cannot.

        derived_columns: Variables that are written to response tables, after
            the input columns.

        dialogue: Response probes; each is the next turn of one dialogue.

        candidate_probes: Probes of the probability experiment.

        probability_columns: The probability table after the input columns.

        fields: Structured answers, in table order.

        sums: Constraints on integer fields.

        joint_fields: Groups of choice fields whose combinations are summarised.

        exclusions: Rules that set rows apart.

        coherence: Means that should add up, if there are such.

        agreements: What both experiments ask.

        headlines: Summary measures that are shown first, with a short name each.
    """

    key: str
    title: str
    description: str
    columns: tuple[Column, ...]
    stimulus_columns: tuple[str, ...]
    conditions: tuple[str, ...]
    citation: str = ""
    derive: Callable[[Mapping[str, str]], Mapping[str, str]] = no_variables
    derived_columns: tuple[Column, ...] = ()
    dialogue: tuple[ResponseProbe, ...] = ()
    candidate_probes: tuple[CandidateProbe, ...] = ()
    probability_columns: tuple[ProbabilityColumn, ...] = ()
    fields: tuple[AnswerField, ...] = ()
    sums: tuple[FieldSum, ...] = ()
    joint_fields: tuple[tuple[str, ...], ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
    coherence: Coherence | None = None
    agreements: tuple[Agreement, ...] = ()
    headlines: Mapping[str, str] = field(default_factory=dict)

    @property
    def material_columns(self) -> frozenset[str]:
        """
        The columns that variables are derived from: the stimulus, and conditions.

        Rows that agree in them differ in nothing that Grace computes from a row.
        """
        return frozenset((*self.stimulus_columns, *self.conditions))

    def response_column(self, probe: ResponseProbe) -> str:
        """Return the column that holds a probe's response."""
        return "response" if len(self.dialogue) == 1 else f"response_{probe.name}"

    def candidate_probe(self, name: str) -> CandidateProbe:
        """
        Return the candidate probe of that name.

        Raises:
            KeyError: The study has no such probe.
        """
        return next_or_key_error(self.candidate_probes, name)

    def response_probe(self, name: str) -> ResponseProbe:
        """
        Return the response probe of that name.

        Raises:
            KeyError: The study has no such probe.
        """
        return next_or_key_error(self.dialogue, name)

    def definition_sha256(self) -> str:
        """
        Return the hash of everything that decides what is asked.

        Two runs with the same hash put the same words and the same answer sets
        before a model. Descriptions are not part of it.
        """
        content = {
            "key": self.key,
            "columns": [column.name for column in self.columns],
            "stimulus": self.stimulus_columns,
            "dialogue": [
                [p.name, p.turn.context, p.turn.instruction, p.turn.question, p.max_tokens]
                for p in self.dialogue
            ],
            "candidates": [
                [
                    p.name,
                    [p.turn.context, p.turn.instruction, p.turn.question],
                    [[a.label, a.surface_forms, a.value] for a in p.answers],
                ]
                for p in self.candidate_probes
            ],
            "fields": [
                [f.name, f.kind, f.minimum, f.maximum, f.choices, f.uncertain] for f in self.fields
            ],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def premises_sha256(self) -> str:
        """
        Return the hash of the premises of all candidate probes.

        They are not part of `definition_sha256`, since most runs do not ask them.
        """
        premises = [(p.name, p.premise) for p in self.candidate_probes if p.premise is not None]
        content = [[name, turn.context, turn.instruction, turn.question] for name, turn in premises]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


class VariableFault(ValueError):
    """
    A variable cannot be derived from a row.

    Args:
        column: The column at fault, by its canonical name.

        problem: As `Column.fault` words it: "is ...; expected ...".
    """

    def __init__(self, column: str, problem: str) -> None:
        self.column = column
        self.problem = problem
        super().__init__(f"{column} {problem}")


def next_or_key_error(probes: tuple[_P, ...], name: str) -> _P:
    """Return the probe called *name*, or raise `KeyError`."""
    for probe in probes:
        if probe.name == name:
            return probe
    raise KeyError(name)
