"""Studies from YAML: what a file means, and that every fault is named at once."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from grace.errors import StudyDefinitionError, UsageError
from grace.plain_yaml import MAX_BYTES
from grace.studies.layout import column_word, probability_columns
from grace.studies.loader import load_study, parse_study
from grace.studies.probes import Answer, CandidateProbe, Turn
from grace.studies.study import Measure, Study
from grace.studies.trials import load_trials

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
EXAMPLE = EXAMPLES / "scalar_adjectives.yaml"

SMALL = """\
key: small
title: Small
description: As small as a study can be.
columns:
  - name: word
    description: A word.
  - name: kind
    description: Its kind.
    choices: [real, invented]
dialogue:
  - name: think
    question: What does {word} mean?
    max_tokens: 20
candidates:
  - name: familiar
    question: Do you know {word}?
    answers: [yes, no]
fields:
  - name: length
    kind: integer
    description: How long the meaning is.
    minimum: 1
    maximum: 9
"""


PREMISED = SMALL.replace(
    "    answers: [yes, no]\n",
    "    answers: [yes, no]\n"
    "    premise:\n      instruction: Say yes or no.\n      question: What do you say?\n",
)


def faults_of(text: str) -> list[str]:
    with pytest.raises(StudyDefinitionError) as caught:
        parse_study(text, "my.yaml")
    first, *lines = str(caught.value).splitlines()
    assert first in ("my.yaml: 1 fault", f"my.yaml: {len(lines)} faults")
    assert all(re.match(r"my\.yaml, line \d+: \S", line) for line in lines)
    return [line.removeprefix("my.yaml, ") for line in lines]


def only_fault(text: str) -> str:
    faults = faults_of(text)
    assert len(faults) == 1, faults
    return faults[0]


def turns_of(study: Study) -> list[Turn]:
    return [
        *(probe.turn for probe in study.dialogue),
        *(probe.turn for probe in study.candidate_probes),
    ]


def with_answers(answers: str) -> str:
    return SMALL.replace("answers: [yes, no]", f"answers: {answers}")


# What a file means.


def test_the_example_is_a_study_whose_trials_load() -> None:
    study = load_study(EXAMPLE)
    trials = load_trials(study, EXAMPLE.with_suffix(".csv"))

    assert study.key == EXAMPLE.stem
    assert 12 <= len(trials.trials) <= 24
    assert trials.stimuli() == len(trials.trials)
    assert [probe.name for probe in study.dialogue] == ["bet", "reason"]
    first = trials.trials[0].variables
    for turn in turns_of(study):
        assert "{" not in turn.fill(first).question


def test_the_columns_that_templates_use_make_the_stimulus() -> None:
    assert parse_study(SMALL, "my.yaml").stimulus_columns == ("word",)
    explicit = f"{SMALL}stimulus_columns: [kind, word]\n"
    assert parse_study(explicit, "my.yaml").stimulus_columns == ("kind", "word")


def test_a_bare_label_is_its_own_surface_form() -> None:
    answers = parse_study(SMALL, "my.yaml").candidate_probe("familiar").answers

    assert answers == (Answer("yes", ("yes",)), Answer("no", ("no",)))


def test_unquoted_numbers_are_values_and_quoted_ones_are_text() -> None:
    def answers(text: str) -> tuple[Answer, ...]:
        return parse_study(with_answers(text), "my.yaml").candidate_probes[0].answers

    assert answers("[1.50, -2]") == (Answer("1.50", ("1.50",), 1.5), Answer("-2", ("-2",), -2.0))
    assert answers("['1', '2']") == (Answer("1", ("1",)), Answer("2", ("2",)))
    assert answers("[{label: low, forms: [1, one], value: 0.5}, {label: 7}]") == (
        Answer("low", ("1", "one"), 0.5),
        Answer("7", ("7",)),
    )


@pytest.mark.parametrize(
    "text", ["no", "true", "007", "1_000", "0x1F", "2026-01-02", "12:30", ".5"]
)
def test_what_is_written_is_never_turned_into_something_else(text: str) -> None:
    study = parse_study(
        with_answers(f"[{text}, other]").replace("[real, invented]", f"[{text}, other]"), "my.yaml"
    )

    assert study.candidate_probes[0].labels[0] == text
    assert study.columns[1].choices[0] == text


def test_block_texts_lose_the_line_break_at_their_end() -> None:
    text = SMALL.replace(
        "question: What does {word} mean?", "question: |\n      What does\n      {word} mean?\n"
    )
    assert parse_study(text, "my.yaml").dialogue[0].turn.question == "What does\n{word} mean?"


def test_a_field_belongs_to_the_only_turn_unless_it_names_one() -> None:
    assert parse_study(SMALL, "my.yaml").fields[0].probe == "think"


def test_the_definition_hash_depends_on_what_is_asked_and_not_on_the_layout() -> None:
    reference = parse_study(SMALL, "my.yaml").definition_sha256()
    flow = json.dumps(as_data(SMALL))

    assert parse_study(flow, "other.yaml").definition_sha256() == reference
    assert (
        parse_study(SMALL.replace("Do you know", "Did you know"), "my.yaml").definition_sha256()
        != reference
    )


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode())

    assert load_study(path) == parse_study(SMALL, "my.yaml")


# Probability columns.


def test_values_of_all_answers_give_mean_and_std() -> None:
    study = parse_study(with_answers("[1, 2, 3]"), "my.yaml")

    assert [column.name for column in study.probability_columns] == [
        "familiar_prob_1",
        "familiar_prob_2",
        "familiar_prob_3",
        "familiar_mean",
        "familiar_std",
        "familiar_entropy",
    ]
    assert study.probability_columns[1].answers == ("2",)
    assert study.probability_columns[-1].measure is Measure.ENTROPY


def test_without_all_values_there_is_no_mean() -> None:
    study = parse_study(with_answers("[1, 2, unsure]"), "my.yaml")

    assert [column.name for column in study.probability_columns] == [
        "familiar_prob_1",
        "familiar_prob_2",
        "familiar_prob_unsure",
        "familiar_entropy",
    ]


def test_layout_refuses_answers_without_distinct_columns() -> None:
    for labels in (("a b", "a-b"), ("!", "a")):
        probe = CandidateProbe("p", Turn("?"), tuple(Answer(label, (label,)) for label in labels))
        with pytest.raises(ValueError, match="do not give distinct columns"):
            probability_columns(probe)


@given(st.text())
def test_a_column_word_is_a_word_or_empty(label: str) -> None:
    word = column_word(label)

    assert word == "" or re.fullmatch(r"\w+", word)
    assert column_word(word) == word


# Faults.


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("key: small", "key: Small Study", "line 1: key is 'Small Study'; expected a small letter"),
        ("key: small", "key: study1", "key is 'study1'; expected another, for this study comes"),
        ("key: small\n", "", "line 1: key is missing; add it"),
        ("title: Small", "title:", "line 2: title is empty; expected text"),
        ("title: Small", "titl: Small", "did you mean title?"),
        ("title: Small", "title: [a]", "line 2: title is a list of 1; expected text"),
        ("{word} mean", "{wrd} mean", "dialogue[0].question uses the unknown variable '{wrd}'; "),
        ("{word} mean", "{wrd} mean", "expected columns: word, kind (did you mean word?)"),
        ("{word} mean", "{word mean", "expected { and } in pairs"),
        ("max_tokens: 20", "max_tokens: 0", "dialogue[0].max_tokens is 0; expected a whole number"),
        ("max_tokens: 20", "max_tokens: 4097", "is 4097; expected a whole number from 1 to 4096"),
        ("max_tokens: 20", "max_tokens: '20'", "expected a whole number without quotation marks"),
        ("max_tokens: 20", "max_tokens: 2.5", "max_tokens is '2.5'; expected a whole number"),
        ("[yes, no]", "[yes]", "candidates[0].answers has 1; expected at least two answers"),
        ("[yes, no]", "[]", "candidates[0].answers has 0; expected at least two answers"),
        ("[yes, no]", "yes or no", "candidates[0].answers is 'yes or no'; expected a list"),
        ("[yes, no]", "[yes, '']", "candidates[0].answers[1].label is empty; expected text"),
        ("[yes, no]", "[yes, null]", "(null as an answer needs quotation marks)"),
        ("[yes, no]", "[yes, no, yes]", "answers[2] is 'yes', as candidates[0].answers[0]"),
        ("[yes, no]", "[yes, ' no']", "answers[1].label is ' no'; expected one line of text"),
        ("[yes, no]", "[yes, {label: no, forms: []}]", "answers[1].forms is an empty list"),
        ("[yes, no]", "[yes, {label: no, value: high}]", "is 'high'; expected a number"),
        ("[yes, no]", "[yes, {label: no, value: .inf}]", "is '.inf'; expected a number"),
        ("[yes, no]", "[yes, {label: no, forms: [n, n]}]", "answers[1].forms[1] is 'n', as one"),
        ("[yes, no]", "[yes, '?']", "answers[1] is '?'; expected a label with a letter or digit"),
        ("[yes, no]", "[a b, a-b]", "its column would be 'a_b', as that of candidates[0].answers"),
        (
            "[yes, no]",
            "[yes, {label: no, forms: [no, yes]}]",
            "answers[1] has the surface form 'yes', which candidates[0].answers[0] has as well",
        ),
        ("name: think", "name: a b", "dialogue[0].name is 'a b'; expected a letter and then"),
        ("name: kind", "name: word", "columns[1].name is 'word', the name of columns[0].name"),
        ("name: kind", "name: status", "is 'status', the name of a column that Grace writes"),
        ("name: kind", "name: response", "is 'response', the name of a column with responses"),
        ("name: kind", "name: familiar_prob_yes", "candidates[0] is 'familiar_prob_yes', the name"),
        ("name: kind", "name: '{kind}'", "expected a column name of at most 80 characters"),
        ("[real, invented]", "[real, real]", "columns[1].choices[1] is 'real', as one before it"),
        ("choices: [real, invented]", "pattern: '['", "columns[1].pattern is '['; expected a reg"),
        ("choices: [real, invented]", "pattern: '[[a]'", "expected a regular expression"),
        ("choices: [real, invented]", "aliases: [word]", "columns[1].aliases[0] is 'word', the na"),
        ("choices: [real, invented]", "may_be_empty: yes", "is 'yes'; expected true or false"),
        ("minimum: 1", "minimum: 10", "fields[0].minimum is 10, above the maximum 9"),
        ("    minimum: 1\n", "", "fields[0] has no minimum; expected both bounds"),
        ("kind: integer", "kind: number", "is 'number'; expected 'integer', 'choice' or 'text'"),
        ("maximum: 9", "maximum: 9\n    probe: thnk", "is 'thnk'; expected a turn of the dialogue"),
        ("maximum: 9", "maximum: 9\n    choices: [a]", "choices is for kind choice, not integer"),
        ("name: length", "name: word", "fields[0].name is 'word', the name of columns[0].name"),
        (
            "key: small",
            "key: small\nconditions: [colour]",
            "conditions[0] is 'colour'; expected wor",
        ),
        ("key: small", "key: small\nconditions: [kind, kind]", "conditions[1] is 'kind', as one"),
        ("key: small", "key: small\nstimulus_columns: [knd]", "(did you mean kind?)"),
        ("key: small", "key: small\nstimulus_columns: [kind]", "stimulus_columns leaves out word"),
        ("key: small", "key: small\nkey: large", "key appears twice, on lines 1 and 2"),
        ("key: small", 'key: small\ncitation: "a\\ud800"', "citation holds the character U+D800"),
        ("key: small", "key: small\nsums: [{fields: [length, x], total: 3}]", "fields[1] is 'x'"),
        ("key: small", "key: small\nsums: [{fields: [length], total: 3}]", "at least two fields"),
    ],
)
def test_a_fault_is_named_with_place_value_and_remedy(old: str, new: str, expected: str) -> None:
    assert old in SMALL
    faults = faults_of(SMALL.replace(old, new, 1))

    assert any(expected in fault for fault in faults), faults


CHOICES = """\
  - name: sort
    kind: choice
    description: Which sort.
    choices: [a, uncertain, a]
  - name: gist
    kind: text
    description: In short.
    minimum: 1
    uncertain: true
  - name: other
    kind: choice
    description: Which other.
  - name: width
    kind: integer
    description: How wide.
    minimum: 0
    maximum: 5
sums:
  - fields: [length, gist]
    total: 3
  - fields: [length, width]
    total: 15
"""


def test_fields_and_sums_that_cannot_hold_are_faults() -> None:
    assert faults_of(SMALL + CHOICES) == [
        "line 27: fields[1].choices holds 'uncertain'; expected `uncertain: true` beside the "
        "choices instead",
        "line 27: fields[1].choices[2] is 'a', as one before it; expected each only once",
        "line 31: fields[2].minimum is for kind integer, not text; remove it",
        "line 32: fields[2].uncertain is true; expected it for integer and choice only",
        "line 33: fields[3] has no choices; expected the values that the answer can have",
        "line 42: sums[0].fields[1] is 'gist', of kind text; expected integer fields",
        "line 45: sums[1].total is 15; expected a sum that the fields can reach, 1 to 14",
    ]


def test_all_faults_of_a_file_are_reported_at_once_in_the_order_of_its_lines() -> None:
    faults = faults_of(
        SMALL.replace("key: small", "key: Small")
        .replace("description: A word.", "desc: A word.")
        .replace("max_tokens: 20", "max_tokens: many")
        .replace("{word} mean", "{wort} mean")
        .replace("[yes, no]", "[yes, {labl: no}, yes]")
        .replace("maximum: 9", "maximum: 0")
    )

    assert [fault.split(";")[0] for fault in faults] == [
        "line 1: key is 'Small'",
        "line 5: columns[0].description is missing",
        "line 6: columns[0].desc is not a key that is known here",
        "line 12: dialogue[0].question uses the unknown variable '{wort}'",
        "line 13: dialogue[0].max_tokens is 'many'",
        "line 17: candidates[0].answers[1].label is missing",
        "line 17: candidates[0].answers[1].labl is not a key that is known here",
        "line 17: candidates[0].answers[2] is 'yes', as candidates[0].answers[0]",
        "line 22: fields[0].minimum is 1, above the maximum 0",
    ]


def test_a_study_that_asks_nothing_is_refused() -> None:
    text = SMALL.split("dialogue:")[0]

    assert only_fault(text) == (
        "line 1: the file asks nothing; expected a dialogue, candidates or both"
    )


def test_a_study_whose_prompts_never_vary_is_refused() -> None:
    assert "templates without a {column}" in only_fault(SMALL.replace("{word}", "it"))


def test_fields_need_a_dialogue() -> None:
    before, after = SMALL.split("dialogue:")
    text = before + "candidates:" + after.split("candidates:")[1]

    assert "expected the name of a turn of the dialogue: none" in only_fault(text)


def test_with_several_turns_a_field_must_name_one() -> None:
    text = SMALL.replace("candidates:", "  - name: more\n    question: And {word}?\ncandidates:")

    assert "fields[0] has no probe; expected the name of a turn" in only_fault(text)


def test_a_hundred_faults_are_enough_to_show() -> None:
    columns = "".join(f"  - name: ' {number}'\n" for number in range(80))
    with pytest.raises(StudyDefinitionError) as caught:
        parse_study(SMALL.replace("dialogue:", f"{columns}dialogue:"), "my.yaml")

    assert str(caught.value).endswith("... and 60 more faults")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the file is empty; expected keys and values"),
        ("- a\n- b\n", "the file is a list of 2; expected keys and values"),
        ("just words", "the file is 'just words'; expected keys and values"),
    ],
)
def test_a_document_of_another_shape_is_refused(text: str, expected: str) -> None:
    assert expected in only_fault(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("key: [a\ntitle: b", "line 2: not valid YAML: "),
        ("key: a: b", "line 1: not valid YAML: mapping values are not allowed here"),
        ("key: a\n\ttitle: b", "line 2: not valid YAML: "),
        ('key: "\\U00110000"', "not valid YAML: "),
        ("key: a\x07", "not valid YAML: unacceptable character"),
        ("a: &x 1\nb: 2", "line 1: an anchor (&) or alias (*) is used; write the text out"),
        ("a: 1\nb: *x", "line 2: an anchor (&) or alias (*) is used"),
        ("a: !!python/object:os.system 1", "line 1: the tag "),
        ("a: !!str 1", "line 1: the tag "),
        ("a: 1\n---\nb: 2", "line 2: a second document begins; expected only one"),
        ("%YAML 1.1\n---\na: yes", "the file has a % directive; remove it"),
        ("? [a]\n: b", "line 1: a key is not plain text"),
        ("[" * 100_000, "line 1: is nested more than 12 deep"),
        ("- " * 100 + "a", "line 1: is nested more than 12 deep"),
        ("- a\n" * 30_000, "line 20000: has more than 20,000 parts; such a file is small"),
    ],
)
def test_what_grace_does_not_read_is_refused_with_its_line(text: str, expected: str) -> None:
    with pytest.raises(StudyDefinitionError) as caught:
        parse_study(text, "my.yaml")

    assert str(caught.value).startswith("my.yaml")
    assert expected in str(caught.value)


def test_an_expanding_file_is_refused_before_it_expands() -> None:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]

    with pytest.raises(StudyDefinitionError, match="anchor"):
        parse_study("\n".join(lines), "bomb.yaml")


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (lambda path: None, "no such file; give the path of a study"),
        (lambda path: path.mkdir(), "is not a file"),
        (lambda path: path.write_bytes(b"key: a\ntitle: \xff\n"), "line 2: byte 0xff is not UTF-8"),
        (lambda path: path.write_bytes(b"#" * (MAX_BYTES + 1)), "is larger than 1,000,000 bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, prepare: Callable[[Path], object], expected: str
) -> None:
    path = tmp_path / "my.yaml"
    prepare(path)

    with pytest.raises(UsageError) as caught:
        load_study(path)

    assert str(caught.value).startswith(str(path))
    assert expected in str(caught.value)


# Anything at all.


def as_data(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def outcome(text: str) -> Study | str:
    try:
        return parse_study(text, "my.yaml")
    except StudyDefinitionError as error:
        return str(error)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["{word}", "{", "word", "yes", "", "choice", "uncertain", "think"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "label", "forms", "value", "fields", "total", "question", "x"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


@given(st.text())
@settings(deadline=None)
def test_any_text_is_a_study_or_a_definition_error(text: str) -> None:
    assert str(outcome(text)).startswith("my.yaml")


@given(position=st.integers(0, len(SMALL)), cut=st.integers(0, 9), put=st.text(max_size=4))
@settings(deadline=None, max_examples=150)
def test_any_edit_of_a_study_is_a_study_or_a_definition_error(
    position: int, cut: int, put: str
) -> None:
    result = outcome(SMALL[:position] + put + SMALL[position + cut :])

    assert isinstance(result, Study) or result.startswith("my.yaml")


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container in *value* with each of its keys or positions."""
    steps = value.items() if isinstance(value, dict) else enumerate(value)
    inner = [
        place for _, child in steps if isinstance(child, dict | list) for place in places(child)
    ]
    return [(value, step) for step in (value if isinstance(value, dict) else range(len(value)))] + (
        inner
    )


@given(data=st.data(), changes=st.integers(1, 3))
@settings(deadline=None, max_examples=150)
def test_any_value_at_any_place_is_a_study_or_a_definition_error(
    data: st.DataObject, changes: int
) -> None:
    value = json.loads(json.dumps(as_data(SMALL + CHOICES)))
    for _ in range(changes):
        container, step = data.draw(st.sampled_from(places(value)))
        container[step] = data.draw(VALUES)

    result = outcome(json.dumps(value))

    if isinstance(result, Study):
        row = {column.name: "{odd}" for column in result.columns}
        for turn in turns_of(result):
            turn.fill(row)
        assert result.definition_sha256()
        names = [column.name for column in result.probability_columns]
        assert len(names) == len(set(names))
    else:
        assert result.startswith("my.yaml")


def test_a_premise_is_a_turn_without_the_trials_material() -> None:
    study, bare = parse_study(PREMISED, "p.yaml"), parse_study(SMALL, "s.yaml")
    (probe,) = study.candidate_probes
    assert probe.premise == Turn("What do you say?", instruction="Say yes or no.")
    after = probe.after_premise()
    assert after is not None
    assert (after.name, after.turn, after.answers) == (
        "familiar premise",
        probe.premise,
        probe.answers,
    )
    assert bare.candidate_probes[0].after_premise() is None
    # Most runs do not ask it: the definition is the same, the premises are not.
    assert study.definition_sha256() == bare.definition_sha256()
    assert study.premises_sha256() != bare.premises_sha256()


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("      question: What do you say?\n", "", "premise.question is missing"),
        ("What do you say?", "What of {thing}?", "premise.question uses the unknown variable"),
        ("What do you say?", "What {?", "premise.question is 'What {?'; expected { and } in pairs"),
        ("instruction: Say", "instructions: Say", "premise.instructions is not a key"),
    ],
)
def test_a_faulty_premise_is_named(before: str, after: str, fault: str) -> None:
    (line,) = faults_of(PREMISED.replace(before, after))
    assert fault in line


@pytest.mark.parametrize("value", ["1e300", "-1e13", "1e308"])
def test_a_value_whose_variance_would_overflow_is_refused(value: str) -> None:
    text = OWN.replace("ANSWERS", f"[1, {value}]")
    with pytest.raises(StudyDefinitionError, match=r"answers\[1\].value is .*; expected a number"):
        parse_study(text, "my.yaml")
    study = parse_study(OWN.replace("ANSWERS", "[1, 1e12]"), "my.yaml")
    assert study.candidate_probes[0].answers[1].value == 1e12


OWN = """\
key: mine
title: Mine
description: For tests.
columns: [{name: word, description: A word.}]
dialogue: [{name: q, question: "How many {word}?"}]
candidates: [{name: liked, question: "Do you like {word}?", answers: ANSWERS}]
fields:
  - {name: a, kind: integer, description: A., minimum: 0, maximum: 9007199254740993}
"""


def test_a_whole_number_keeps_its_digits() -> None:
    study = parse_study(OWN.replace("ANSWERS", "[1, 2]"), "my.yaml")
    assert study.fields[0].maximum == 9_007_199_254_740_993


def test_a_path_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    for name in ("x" * 300 + ".yaml", "a\0b.yaml"):
        with pytest.raises(StudyDefinitionError):
            load_study(tmp_path / name)


def test_a_fault_of_any_length_is_cut() -> None:
    long = "x" * 100_000
    for text in (f"{long}: 1", OWN.replace("{word}", f"{{{long}}}").replace("ANSWERS", "[1, 2]")):
        with pytest.raises(StudyDefinitionError) as caught:
            parse_study(text.replace("name: word", f'name: word, aliases: ["{long}"]'), "my.yaml")
        assert len(str(caught.value)) < 12_000
