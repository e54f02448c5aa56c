"""
A user's own study, from one YAML file.

Reading finds everything that is wrong with the file, names file, line, place,
value and remedy, and reports it as one `StudyDefinitionError`. What is returned
is a `Study` like the built-in ones: nothing downstream can tell them apart.
"""

from pathlib import Path

from grace.studies.consistency import check_consistency
from grace.studies.definition import (
    AnswerEntry,
    ColumnEntry,
    FieldEntry,
    PremiseEntry,
    StudyEntry,
    TurnEntry,
)
from grace.studies.document import parse_document, read_text
from grace.studies.layout import probability_columns
from grace.studies.probes import Answer, CandidateProbe, ResponseProbe, Turn
from grace.studies.reading import Definition, read_definition
from grace.studies.study import AnswerField, Column, FieldSum, Study


def load_study(path: Path) -> Study:
    """
    Read a study from a YAML file.

    Args:
        path: The file, in UTF-8. The examples in `docs/examples` show all keys.

    Raises:
        StudyDefinitionError: The file cannot be read or does not describe a
            study; all of its faults are named.
    """
    return parse_study(read_text(path), str(path))


def parse_study(text: str, source: str) -> Study:
    """
    Return the study that a YAML text describes.

    Args:
        text: What a study file holds.

        source: What messages call it.

    Raises:
        StudyDefinitionError: It does not describe a study; all faults are named.
    """
    value, faults = parse_document(text, source)
    definition = read_definition(value, faults)
    check_consistency(definition, faults)
    if faults or definition.head is None:
        raise faults.error()
    return _study(definition, definition.head)


def _study(definition: Definition, head: StudyEntry) -> Study:
    used = definition.variables()
    columns = tuple(_column(placed.entry) for placed in definition.columns)
    dialogue = tuple(
        ResponseProbe(placed.entry.name, _turn(placed.entry), placed.entry.max_tokens)
        for placed in definition.dialogue
    )
    candidates = tuple(
        CandidateProbe(
            placed.entry.name,
            _turn(placed.entry),
            tuple(_answer(answer.entry) for answer in definition.answers[placed.place]),
            None if placed.entry.premise is None else _turn(placed.entry.premise),
        )
        for placed in definition.candidates
    )
    default_stimulus = tuple(column.name for column in columns if column.name in used)
    return Study(
        key=head.key,
        title=head.title,
        description=head.description,
        citation=head.citation,
        columns=columns,
        stimulus_columns=head.stimulus_columns or default_stimulus,
        conditions=head.conditions,
        dialogue=dialogue,
        candidate_probes=candidates,
        probability_columns=tuple(
            column for probe in candidates for column in probability_columns(probe)
        ),
        fields=tuple(_field(placed.entry, dialogue) for placed in definition.fields),
        sums=tuple(FieldSum(placed.entry.fields, placed.entry.total) for placed in definition.sums),
    )


def _column(entry: ColumnEntry) -> Column:
    return Column(
        name=entry.name,
        description=entry.description,
        aliases=entry.aliases,
        choices=entry.choices,
        pattern=entry.pattern,
        expected=entry.expected,
        may_be_empty=entry.may_be_empty,
    )


def _turn(entry: TurnEntry | PremiseEntry) -> Turn:
    return Turn(question=entry.question, context=entry.context, instruction=entry.instruction)


def _answer(entry: AnswerEntry) -> Answer:
    forms = (entry.label,) if entry.forms is None else entry.forms
    return Answer(label=entry.label, surface_forms=forms, value=entry.value)


def _field(entry: FieldEntry, dialogue: tuple[ResponseProbe, ...]) -> AnswerField:
    return AnswerField(
        name=entry.name,
        kind=entry.kind,
        description=entry.description,
        probe=dialogue[0].name if entry.probe is None else entry.probe,
        minimum=0 if entry.minimum is None else entry.minimum,
        maximum=0 if entry.maximum is None else entry.maximum,
        choices=entry.choices,
        uncertain=entry.uncertain,
    )
