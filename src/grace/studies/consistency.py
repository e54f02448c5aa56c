"""
How the parts of a study file must fit together.

Each check looks at what could be read, even when other parts are faulty, so
that one reading finds as much as possible.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence

from grace.studies.builtin import BUILTIN_STUDIES
from grace.studies.definition import AnswerEntry, CandidateEntry, FieldEntry, SumEntry
from grace.studies.document import MAX_FAULTS_SHOWN, Faults, Place, place_text, shown
from grace.studies.layout import RESERVED_COLUMNS, column_word
from grace.studies.reading import Definition, Placed, template_variables, texts

_KEY = re.compile(r"[a-z][a-z0-9_-]{0,40}")
_PLACEHOLDER = re.compile(r"\{[^{}]*\}")
_UNCERTAIN = "uncertain"
_LISTED = 20
# Matching is slow, and a file may name thousands of columns and misspell them all.
_MATCHED = 200


def check_consistency(definition: Definition, faults: Faults) -> None:
    """Note everything about *definition* that cannot become a study."""
    if not definition.raw:
        return
    _check_head(definition, faults)
    _check_templates(definition, faults)
    for placed in definition.columns:
        _check_distinct(placed.entry.choices, (*placed.place, "choices"), faults)
    for candidate in definition.candidates:
        _check_answers(candidate, definition.answers[candidate.place], faults)
    for field in definition.fields:
        _check_field(field, definition, faults)
    for total in definition.sums:
        _check_sum(total, definition, faults)
    _check_names(definition, faults)


def _choice(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name.strip(), known[:_MATCHED], n=1)
    meant = f" (did you mean {close[0]}?)" if close else ""
    listed = [*known[:_LISTED], "..."] if len(known) > _LISTED else known
    return f"{', '.join(listed) or 'none, for there are none'}{meant}"


def _check_distinct(values: Iterable[str], place: Place, faults: Faults) -> None:
    seen: set[str] = set()
    for position, value in enumerate(values):
        if value in seen:
            faults.add(
                (*place, position), f"is {shown(value)}, as one before it; expected each only once"
            )
        seen.add(value)


def _check_head(definition: Definition, faults: Faults) -> None:
    raw = definition.raw
    key = raw.get("key")
    if isinstance(key, str) and key in BUILTIN_STUDIES:
        faults.add(("key",), f"is {shown(key)}; expected another, for this study comes with Grace")
    elif isinstance(key, str) and not _KEY.fullmatch(key):
        faults.add(
            ("key",),
            f"is {shown(key)}; expected a small letter and then small letters, digits, _ or - "
            "(at most 41), because file names are made of it",
        )
    if raw.get("columns") == ():
        faults.add(("columns",), "is an empty list; expected the columns of the study's CSV")
    if not raw.get("dialogue") and not raw.get("candidates"):
        faults.add((), "asks nothing; expected a dialogue, candidates or both")
    known = [name for _, name in definition.names("columns")]
    for section in ("stimulus_columns", "conditions"):
        named = list(texts(raw.get(section), (section,)))
        for place, name in named:
            if name not in known:
                faults.add(place, f"is {shown(name)}; expected {_choice(name, known)}")
        _check_distinct([name for _, name in named], (section,), faults)
    stimulus = raw.get("stimulus_columns")
    if isinstance(stimulus, tuple):
        missing = definition.variables().intersection(known).difference(stimulus)
        if missing:
            faults.add(
                ("stimulus_columns",),
                f"leaves out {', '.join(sorted(missing))}; expected every column that a template "
                "uses, or two different prompts would count as one stimulus",
            )


def _check_templates(definition: Definition, faults: Faults) -> None:
    known = [name for _, name in definition.names("columns")]
    templates = list(definition.templates())
    for place, text in templates:
        for name in sorted(template_variables(text).difference(known))[:MAX_FAULTS_SHOWN]:
            faults.add(
                place,
                f"uses the unknown variable {shown('{' + name + '}')}; expected columns: "
                f"{_choice(name, known)}",
            )
        if re.search(r"[{}]", _PLACEHOLDER.sub("", text)):
            faults.add(
                place, f"is {shown(text)}; expected {{ and }} in pairs around a column's name"
            )
    if templates and not any(template_variables(text) for _, text in templates):
        faults.add((), "has templates without a {column}; expected one, or all rows ask the same")


def _check_answers(
    candidate: Placed[CandidateEntry], answers: Sequence[Placed[AnswerEntry]], faults: Faults
) -> None:
    place = (*candidate.place, "answers")
    count = len(candidate.entry.answers)
    if count < 2:
        faults.add(place, f"has {count}; expected at least two answers to choose between")
    labels: dict[str, Place] = {}
    words: dict[str, Place] = {}
    owners: dict[str, Place] = {}
    for placed in answers:
        label = placed.entry.label
        word = column_word(label)
        repeated = label in labels
        if repeated:
            faults.add(
                placed.place,
                f"is {shown(label)}, as {place_text(labels[label])}; expected each label once",
            )
        elif not word:
            faults.add(
                placed.place,
                f"is {shown(label)}; expected a label with a letter or digit, because a column is "
                "named by it: give such a label, and this text under forms",
            )
        elif word in words:
            faults.add(
                placed.place,
                f"is {shown(label)}; its column would be {word!r}, as that of "
                f"{place_text(words[word])}: change the label and give the text under forms",
            )
        labels.setdefault(label, placed.place)
        words.setdefault(word, placed.place)
        # A repeated label is its own surface form again: one fault, not two.
        if not repeated or placed.entry.forms is not None:
            _check_forms(placed, owners, faults)


def _check_forms(placed: Placed[AnswerEntry], owners: dict[str, Place], faults: Faults) -> None:
    forms = placed.entry.forms
    if forms == ():
        faults.add(
            (*placed.place, "forms"), "is an empty list; expected at least one text, or no forms"
        )
    for form in (placed.entry.label,) if forms is None else forms:
        owner = owners.setdefault(form, placed.place)
        if owner != placed.place:
            faults.add(
                placed.place,
                f"has the surface form {shown(form)}, which {place_text(owner)} has as well; "
                "expected each text under one answer only",
            )
    _check_distinct(forms or (), (*placed.place, "forms"), faults)


def _check_field(placed: Placed[FieldEntry], definition: Definition, faults: Faults) -> None:
    entry, place = placed.entry, placed.place
    probes = [name for _, name in definition.names("dialogue")]
    if entry.probe is None and len(probes) != 1:
        faults.add(
            place,
            f"has no probe; expected the name of a turn of the dialogue: {_choice('', probes)}",
        )
    elif entry.probe is not None and entry.probe not in probes:
        faults.add(
            (*place, "probe"),
            f"is {shown(entry.probe)}; expected a turn of the dialogue: "
            f"{_choice(entry.probe, probes)}",
        )
    _check_bounds(placed, faults)
    if entry.kind == "choice":
        if not entry.choices:
            faults.add(place, "has no choices; expected the values that the answer can have")
        if _UNCERTAIN in entry.choices:
            faults.add(
                (*place, "choices"),
                f"holds {_UNCERTAIN!r}; expected `uncertain: true` beside the choices instead",
            )
        _check_distinct(entry.choices, (*place, "choices"), faults)
    elif entry.choices:
        faults.add((*place, "choices"), f"is for kind choice, not {entry.kind}; remove it")
    if entry.kind == "text" and entry.uncertain:
        faults.add((*place, "uncertain"), "is true; expected it for integer and choice only")


def _check_bounds(placed: Placed[FieldEntry], faults: Faults) -> None:
    entry, place = placed.entry, placed.place
    bounds = {"minimum": entry.minimum, "maximum": entry.maximum}
    for name, bound in bounds.items():
        if entry.kind == "integer" and bound is None:
            faults.add(place, f"has no {name}; expected both bounds of an integer")
        if entry.kind != "integer" and bound is not None:
            faults.add((*place, name), f"is for kind integer, not {entry.kind}; remove it")
    if (
        entry.kind == "integer"
        and entry.minimum is not None
        and entry.maximum is not None
        and entry.minimum > entry.maximum
    ):
        faults.add(
            (*place, "minimum"),
            f"is {entry.minimum}, above the maximum {entry.maximum}; expected at most that",
        )


def _check_sum(placed: Placed[SumEntry], definition: Definition, faults: Faults) -> None:
    entry, place = placed.entry, placed.place
    fields = {field.entry.name: field.entry for field in definition.fields}
    known = [name for _, name in definition.names("fields")]
    _check_distinct(entry.fields, (*place, "fields"), faults)
    if len(set(entry.fields)) < 2:
        faults.add((*place, "fields"), f"has {len(entry.fields)}; expected at least two fields")
    lowest = highest = 0
    for position, name in enumerate(entry.fields):
        if name not in known:
            faults.add(
                (*place, "fields", position), f"is {shown(name)}; expected {_choice(name, known)}"
            )
        field = fields.get(name)
        if field is None or field.minimum is None or field.maximum is None:
            if field is not None and field.kind != "integer":
                faults.add(
                    (*place, "fields", position),
                    f"is {shown(name)}, of kind {field.kind}; expected integer fields",
                )
            return
        lowest, highest = lowest + field.minimum, highest + field.maximum
    if not lowest <= entry.total <= highest:
        faults.add(
            (*place, "total"),
            f"is {entry.total}; expected a sum that the fields can reach, {lowest} to {highest}",
        )


def _check_names(definition: Definition, faults: Faults) -> None:
    for section in ("dialogue", "candidates"):
        _claim(definition.names(section), {}, faults)
    taken: dict[str, str] = dict.fromkeys(RESERVED_COLUMNS, "a column that Grace writes")
    turns = list(definition.names("dialogue"))
    responses = ["response"] if len(turns) == 1 else [f"response_{name}" for _, name in turns]
    taken.update(dict.fromkeys(responses, "a column with responses"))
    _claim(_spellings(definition), taken, faults)
    _claim(definition.names("fields"), dict(taken), faults)
    _claim(_probability_names(definition), dict(taken), faults)


def _claim(names: Iterable[tuple[Place, str]], taken: dict[str, str], faults: Faults) -> None:
    for place, name in names:
        if name in taken:
            faults.add(place, f"is {shown(name)}, the name of {taken[name]}; expected another name")
        else:
            taken[name] = place_text(place)


def _spellings(definition: Definition) -> Iterator[tuple[Place, str]]:
    yield from definition.names("columns")
    for place, item in definition.items("columns"):
        yield from texts(item.get("aliases"), (*place, "aliases"))


def _probability_names(definition: Definition) -> Iterator[tuple[Place, str]]:
    for candidate in definition.candidates:
        name = candidate.entry.name
        answers = definition.answers[candidate.place]
        # Collisions within a probe are named by its answers.
        for word in dict.fromkeys(column_word(answer.entry.label) for answer in answers):
            yield candidate.place, f"{name}_prob_{word}"
        for statistic in ("mean", "std", "entropy"):
            yield candidate.place, f"{name}_{statistic}"
