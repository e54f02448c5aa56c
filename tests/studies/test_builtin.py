import itertools
import re
from pathlib import Path

import pytest

from grace.studies.builtin import BUILTIN_STUDIES
from grace.studies.knowledge import KNOWLEDGE
from grace.studies.make import make_rows
from grace.studies.politeness import ASSESSMENTS, FRAMES, POLITENESS
from grace.studies.probes import Turn
from grace.studies.study import Measure, Study, VariableFault
from grace.studies.trials import TrialSet, load_trials, parse_trials

SHARED = Path(__file__).parents[3] / "shared" / "data"
STUDIES = list(BUILTIN_STUDIES.values())


def made(study: Study, rows: int = 12) -> TrialSet:
    lines = make_rows(study.key, rows, 1)
    quoted = [
        ",".join('"' + text.replace('"', '""') + '"' for text in line)
        for line in [list(lines[0]), *(list(row.values()) for row in lines)]
    ]
    return parse_trials(study, "\n".join(quoted).encode(), "made.csv")


def turns_of(study: Study) -> list[Turn]:
    return [
        *(probe.turn for probe in study.dialogue),
        *(probe.turn for probe in study.candidate_probes),
    ]


def text_of(turn: Turn) -> str:
    return f"{turn.context}\n\n{turn.instruction} {turn.question}"


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.key)
def test_every_placeholder_is_a_column_or_is_derived(study: Study) -> None:
    (trial, *_) = made(study).trials
    for turn in turns_of(study):
        assert turn.placeholders() <= set(trial.variables)
        assert "{" not in text_of(turn.fill(trial.variables))


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.key)
def test_a_stimulus_is_decided_by_what_the_model_reads(study: Study) -> None:
    trials = made(study, 48)
    shown: dict[str, str] = {}
    for trial in trials.trials:
        text = "\n".join(text_of(turn.fill(trial.variables)) for turn in turns_of(study))
        assert shown.setdefault(trial.stimulus_id, text) == text
    assert len(set(shown.values())) == len(shown) == trials.stimuli()


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.key)
def test_what_varies_between_probes_comes_after_what_they_share(study: Study) -> None:
    contexts = {probe.turn.context for probe in study.candidate_probes}
    assert len(contexts) == 1


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.key)
def test_columns_of_tables_are_unique_and_described(study: Study) -> None:
    names = [
        *(column.name for column in study.columns),
        *(column.name for column in study.probability_columns),
    ]
    assert len(set(names)) == len(names)
    described = [
        *(column.description for column in (*study.columns, *study.derived_columns)),
        *(column.description for column in study.probability_columns),
        *(answer_field.description for answer_field in study.fields),
    ]
    assert all(described)


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.key)
def test_probability_columns_speak_of_answers_that_exist(study: Study) -> None:
    for column in study.probability_columns:
        probe = study.candidate_probe(column.probe)
        assert set(column.answers) <= set(probe.labels)
        if column.measure is Measure.PROBABILITY:
            assert column.answers
        if column.partition:
            cells = list(itertools.chain(*column.partition))
            assert sorted(cells) == sorted(probe.labels)
        if column.measure in {Measure.MEAN, Measure.STD}:
            assert all(answer.value is not None for answer in probe.answers)


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.key)
def test_headlines_fields_and_sums_name_what_is_there(study: Study) -> None:
    fields = {field.name for field in study.fields}
    probes = {probe.name for probe in study.dialogue}
    assert all(field.probe in probes for field in study.fields)
    assert {name for one in study.sums for name in one.fields} <= fields
    assert {name for group in study.joint_fields for name in group} <= fields
    with pytest.raises(KeyError):
        study.candidate_probe("no such probe")
    with pytest.raises(KeyError):
        study.response_probe("no such probe")


def test_study_1_asks_for_each_state_grammatically() -> None:
    for trial in made(KNOWLEDGE, 72).trials:
        for state in range(4):
            claim = trial.variables[f"claim{state}"]
            assert claim.startswith(f"exactly {state} of the 3 ")
            verb = "has|is|was|does" if state == 1 else "have|are|were|do"
            assert re.search(rf" ({verb})\b", claim), claim


def test_study_1_scores_the_eleven_percentages_the_verdict_and_the_direct_answer() -> None:
    percents = [f"{p}%" for p in range(0, 101, 10)]
    for state in range(4):
        probe = KNOWLEDGE.candidate_probe(f"state{state}")
        assert list(probe.labels) == percents
        assert [answer.value for answer in probe.answers] == [float(p[:-1]) for p in percents]
    assert KNOWLEDGE.candidate_probe("knowledge").labels == ("yes", "no")
    assert KNOWLEDGE.candidate_probe("direct").labels == ("0", "1", "2", "3")
    # The direct measure is reported separately.
    assert "direct" not in {column.probe for column in KNOWLEDGE.probability_columns}


def test_study_1_keeps_to_the_human_procedure() -> None:
    prior, speech, knowledge = KNOWLEDGE.dialogue
    assert prior.turn.context == "{story}"
    assert "speech" not in text_of(prior.turn)
    assert "$100" in speech.turn.instruction
    assert "{knowledge_question}" in knowledge.turn.question


@pytest.mark.parametrize(
    ("access", "observe", "allowed"), [("3", "2", True), ("2", "2", True), ("1", "2", False)]
)
def test_study_1_reports_no_more_than_was_looked_at(
    access: str, observe: str, *, allowed: bool
) -> None:
    row = make_rows("study1", 1, 1)[0] | {"access": access, "observe": observe}
    if allowed:
        assert KNOWLEDGE.derive(row)["story"]
    else:
        with pytest.raises(VariableFault, match="at most access"):
            KNOWLEDGE.derive(row)


def test_study_1_sets_rows_apart_by_the_published_rules() -> None:
    row = {"Prior_A": "3", **dict.fromkeys("0123", "25"), "Knowledge_A": "yes", "access": "3"}
    rules = {rule.name: rule.applies for rule in KNOWLEDGE.exclusions}
    assert not any(applies(row) for applies in rules.values())
    assert rules["incomplete"]({**row, "2": ""})
    assert rules["incomplete"]({**row, "2": "26"})
    assert rules["wrong_prior"]({**row, "Prior_A": "2"})
    assert rules["wrong_prior"]({**row, "Prior_A": ""})
    assert rules["wrong_knowledge"]({**row, "Knowledge_A": "no"})
    assert rules["wrong_knowledge"]({**row, "access": "2"})
    assert rules["wrong_knowledge"]({**row, "Knowledge_A": "uncertain"})
    assert rules["wrong_knowledge"]({**row, "Knowledge_A": ""})
    assert not rules["wrong_knowledge"]({**row, "Knowledge_A": "no", "access": "2"})


def test_study_2_never_shows_the_utterance_and_speaks_of_hearts() -> None:
    for row in make_rows("study2", 12, 1):
        row["Utterance"] = "XYZZY"
        variables = {**row, **POLITENESS.derive(row)}
        for turn in turns_of(POLITENESS):
            text = text_of(turn.fill(variables))
            assert "XYZZY" not in text
            assert "on a scale of 0 to 3 hearts" in text
            assert row["SP_Name"] in text
            assert row["State"] in text
    assert "Utterance" not in POLITENESS.stimulus_columns


def test_study_2_scores_the_eight_utterances() -> None:
    (probe,) = POLITENESS.candidate_probes
    assert [form for answer in probe.answers for form in answer.surface_forms] == [
        f"It {frame} {assessment}" for frame in FRAMES for assessment in ASSESSMENTS
    ]
    assert len(probe.labels) == 8


@pytest.mark.parametrize(
    ("clause", "goal"),
    [
        ("If Ann wanted to make Bob feel good, rather than give informative feedback", "social"),
        (
            "If Ann wanted to give as accurate and informative feedback as possible",
            "informational",
        ),
        (
            "If Ann wanted to give as accurate and informative feedback as possible, rather than "
            "make Bob feel good",
            "informational",
        ),
        (
            "If Ann wanted to BOTH make Bob feel good AND give accurate and informative feedback,",
            "both",
        ),
    ],
)
def test_study_2_reads_the_goal_from_its_clause(clause: str, goal: str) -> None:
    row = make_rows("study2", 1, 1)[0] | {"Goal": clause}
    assert POLITENESS.derive(row)["goal"] == goal


@pytest.mark.parametrize("state", ["0 hearts", "1 heart", "1 hearts", " 2 hearts ", "3 hearts"])
def test_study_2_reads_the_state_from_its_hearts(state: str) -> None:
    row = make_rows("study2", 1, 1)[0] | {"State": state}
    column = next(column for column in POLITENESS.columns if column.name == "State")
    assert column.fault(state) is None
    assert POLITENESS.derive(row)["state"] == state.strip()[0]


@pytest.mark.parametrize("key", BUILTIN_STUDIES)
def test_the_users_own_files_have_no_faults(key: str) -> None:
    path = SHARED / f"{key}.csv"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    study = BUILTIN_STUDIES[key]
    trials = load_trials(study, path)
    cells = {tuple(trial.variables[name] for name in study.conditions) for trial in trials.trials}
    assert len(cells) == {"study1": 6, "study2": 12}[key]


def test_the_hash_of_a_definition_changes_with_what_is_asked_only() -> None:
    assert len({study.definition_sha256() for study in STUDIES}) == 2
    assert KNOWLEDGE.definition_sha256() == KNOWLEDGE.definition_sha256()
