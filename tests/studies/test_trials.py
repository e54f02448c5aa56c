import codecs
import csv
import hashlib
import io
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.errors import InputFaults, UsageError
from grace.runs.csvfile import csv_bytes
from grace.studies.knowledge import KNOWLEDGE
from grace.studies.make import make_rows
from grace.studies.politeness import POLITENESS
from grace.studies.study import Column, Study
from grace.studies.trials import MAX_FAULTS_SHOWN, TrialSet, load_trials, parse_trials

PLAIN = Study(
    key="plain",
    title="Plain",
    description="Two columns of text.",
    columns=(Column("who", "Anyone.", may_be_empty=True), Column("what", "Anything.")),
    stimulus_columns=("what",),
    conditions=(),
)


def as_csv(rows: list[dict[str, str]], **options: object) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), **{"lineterminator": "\n", **options})  # type: ignore[arg-type]
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def knowledge(**changed: str) -> list[dict[str, str]]:
    rows = make_rows("study1", 3, 1)
    rows[1] |= changed
    return rows


def faults(study: Study, content: bytes) -> tuple[str, ...]:
    with pytest.raises(InputFaults) as caught:
        parse_trials(study, content, "trials.csv")
    assert str(caught.value).splitlines()[0].endswith("; nothing was sent")
    return caught.value.faults


cell = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@given(st.lists(st.tuples(cell, cell.filter(lambda text: text.strip())), min_size=1, max_size=6))
def test_cells_are_kept_character_by_character(rows: list[tuple[str, str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerows([("who", "what"), *rows])
    content = text.getvalue().encode()
    trials = parse_trials(PLAIN, content, "t.csv")
    assert [trial.cells for trial in trials.trials] == rows
    assert [trial.row for trial in trials.trials] == list(range(1, len(rows) + 1))
    assert trials.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", [b"", codecs.BOM_UTF8], ids=["no BOM", "BOM"])
@pytest.mark.parametrize("last", ["", "\n", "\n\n"], ids=["open", "closed", "blank"])
def test_files_of_all_programs_are_read_alike(ending: str, start: bytes, last: str) -> None:
    lines = ["who,what", "1,a", '2,"b, ""c"""', ",d"]
    content = start + (ending.join(lines) + last).encode()
    trials = parse_trials(PLAIN, content, "t.csv")
    assert trials.header == ("who", "what")
    assert [trial.cells for trial in trials.trials] == [("1", "a"), ("2", 'b, "c"'), ("", "d")]


def test_rows_that_show_the_same_share_a_stimulus() -> None:
    trials = parse_trials(PLAIN, b"who,what\n1,a\n2,a\n3,b\n", "t.csv")
    first, second, third = (trial.stimulus_id for trial in trials.trials)
    assert first == second != third
    assert trials.stimuli() == 2
    assert first.startswith("s")


def test_columns_may_be_in_any_order_and_under_their_other_names() -> None:
    rows = knowledge()
    usual = parse_trials(KNOWLEDGE, as_csv(rows), "t.csv")
    turned = [
        {
            {"speech": "speach", "speechQ": "speachQ"}.get(name, name): row[name]
            for name in reversed(row)
        }
        for row in rows
    ]
    other = parse_trials(KNOWLEDGE, as_csv(turned), "t.csv")
    assert other.header[::-1][4:6] == ("speach", "speachQ")
    for one, two in zip(usual.trials, other.trials, strict=True):
        assert one.variables == two.variables
        assert one.stimulus_id == two.stimulus_id
        assert one.cells == two.cells[::-1]


def test_a_limit_takes_the_first_rows_and_keeps_the_files_hash() -> None:
    trials = parse_trials(PLAIN, b"who,what\n1,a\n2,b\n3,c\n", "t.csv")
    assert trials.limited(2) == replace(trials, trials=trials.trials[:2])
    assert trials.limited(None) is trials.limited(3) is trials.limited(9) is trials


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty; expected a header line and rows"),
        (b"\n\n", "is empty"),
        (b"who,what\n", "has a header but no rows"),
        (b"who,what\n1\n", "row 1: has 1 cells; expected 2"),
        (b"who,what\n1,a\n1,a,b\n", "row 2: has 3 cells; expected 2"),
        (b"who,what\n1,\xff\n", "line 2: byte 0xff is not UTF-8; save the file as 'CSV UTF-8'"),
        ("who,what\n1,a\n".encode("utf-16"), "is not UTF-8"),
        ("who,what\n1,a\n".encode("utf-16-le"), "NUL character"),
        (b'who,what\n1,"a\n', "not valid CSV"),
        (b"who,what,why\n1,a,b\n", "unknown column 'why'"),
        (b"who\n1\n", "column 'what' is missing"),
        (b"who,what,what\n1,a,b\n", "column 'what' appears 2 times"),
        (b"who,what\n1, \n", "row 1: what is empty"),
    ],
)
def test_a_file_that_is_no_input_is_refused_with_the_place(content: bytes, problem: str) -> None:
    assert any(problem in fault for fault in faults(PLAIN, content))


def test_two_spellings_of_a_column_are_one_column_too_many() -> None:
    rows = [{**row, "speach": row["speech"]} for row in knowledge()]
    assert any("'speech' appears 2 times" in fault for fault in faults(KNOWLEDGE, as_csv(rows)))


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"access": "four"}, "row 2: access is 'four'; expected 0, 1, 2 or 3"),
        ({"access": "3.0"}, "row 2: access is '3.0'; expected 0, 1, 2 or 3"),
        ({"access": " 3"}, "row 2: access is ' 3'; expected 0, 1, 2 or 3"),
        ({"observe": ""}, "row 2: observe is empty; expected 0, 1, 2 or 3"),
        ({"access": "1", "observe": "2"}, "row 2: observe is '2'; expected at most access, 1"),
        ({"priorQ": "How many?"}, "row 2: priorQ is 'How many?'; expected 'How many of the 3"),
        ({"story_setup": "  "}, "row 2: story_setup is empty"),
    ],
)
def test_a_bad_value_in_study_1_names_row_column_value_and_remedy(
    changed: dict[str, str], problem: str
) -> None:
    (fault,) = faults(KNOWLEDGE, as_csv(knowledge(**changed)))
    assert fault.startswith(f"trials.csv, {problem}")


def test_much_white_space_before_a_line_break_is_read_in_no_time() -> None:
    def steps(length: int) -> float:
        setup = f"a{' ' * length}b<br> c"
        before = time.process_time()
        assert parse_trials(KNOWLEDGE, as_csv(knowledge(story_setup=setup)), "trials.csv").trials
        return time.process_time() - before

    short, long = (min(steps(length) for _ in range(3)) for length in (5_000, 20_000))
    # Quadratic time would be 16 times as much: a second.
    assert long < 8 * short + 0.1


def test_a_long_question_is_cut_in_the_message() -> None:
    (fault,) = faults(KNOWLEDGE, as_csv(knowledge(priorQ="How many? " * 10_000)))
    assert len(fault) < 400


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"State": "4 hearts"}, "State is '4 hearts'; expected 0 hearts, 1 heart, 2 hearts or"),
        ({"State": "hearts"}, "State is 'hearts'"),
        ({"Goal": "to be kind"}, "Goal is 'to be kind'; expected 'If NAME wanted to make"),
        ({"SP_Name": ""}, "SP_Name is empty"),
    ],
)
def test_a_bad_value_in_study_2_names_row_column_value_and_remedy(
    changed: dict[str, str], problem: str
) -> None:
    rows = make_rows("study2", 2, 1)
    rows[1] |= changed
    (fault,) = faults(POLITENESS, as_csv(rows))
    assert fault.startswith(f"trials.csv, row 2: {problem}")


def test_the_aliased_spelling_is_used_in_messages() -> None:
    rows = [
        {"speach" if name == "speech" else name: text for name, text in row.items()}
        for row in knowledge(speech="")
    ]
    (fault,) = faults(KNOWLEDGE, as_csv(rows))
    assert "row 2: speach is empty" in fault


def test_every_fault_of_a_file_is_named_at_once_up_to_a_hundred() -> None:
    rows = [{**make_rows("study1", 1, 1)[0], "access": "x", "observe": "y"} for _ in range(3)]
    assert len(faults(KNOWLEDGE, as_csv(rows))) == 6
    many = faults(KNOWLEDGE, as_csv(rows * 100))
    assert len(many) == MAX_FAULTS_SHOWN + 1
    assert many[-1] == "... and 500 more faults"


def test_a_long_value_is_shortened_in_messages() -> None:
    (fault,) = faults(KNOWLEDGE, as_csv(knowledge(access="x" * 5000)))
    assert len(fault) < 200


def test_a_line_break_inside_a_cell_does_not_shift_row_numbers() -> None:
    rows = make_rows("study1", 3, 1)
    rows[0]["story_setup"] += "\n\nAnd more."
    rows[2]["access"] = "x"
    (fault,) = faults(KNOWLEDGE, as_csv(rows))
    assert ", row 3: " in fault


def test_files_that_cannot_be_read_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.csv: no such file.*--input study1=PATH"):
        load_trials(KNOWLEDGE, tmp_path / "nowhere.csv")
    with pytest.raises(UsageError, match="is a folder; expected a CSV file"):
        load_trials(KNOWLEDGE, tmp_path)


def test_a_file_is_read_as_its_bytes_are(tmp_path: Path) -> None:
    path = tmp_path / "study1.csv"
    path.write_bytes(as_csv(knowledge()))
    trials: TrialSet = load_trials(KNOWLEDGE, path)
    assert trials.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert trials.source == str(path)


def test_a_cell_of_a_million_characters_is_read_and_a_longer_one_refused() -> None:
    long = "x" * 999_999
    assert len(parse_trials(PLAIN, f"who,what\n1,{long}\n".encode(), "t.csv").trials) == 1
    (fault,) = faults(PLAIN, f"who,what\n1,{long * 2}\n".encode())
    assert "not valid CSV" in fault


def test_long_names_and_values_are_cut_in_messages() -> None:
    header = ",".join(f"{'x' * 5_000}{number}" for number in range(500))
    with pytest.raises(InputFaults) as caught:
        parse_trials(POLITENESS, header.encode(), "t.csv")
    assert len(str(caught.value)) < 30_000
    row = {**make_rows("study2", 1, 1)[0], "Goal": "x" * 100_000}
    content = csv_bytes(tuple(row), [tuple(row.values())])
    with pytest.raises(InputFaults) as caught:
        parse_trials(POLITENESS, content, "t.csv")
    assert len(str(caught.value)) < 500
