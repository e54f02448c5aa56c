import math
from collections.abc import Mapping

import pytest

from grace.analysis.summary import (
    SUMMARY_COLUMNS,
    summarise_probabilities,
    summarise_structured,
    summary_header,
)
from grace.runs.csvfile import Table
from grace.runs.score_table import SCORE_HEADER
from grace.studies.knowledge import KNOWLEDGE
from grace.studies.layout import probability_columns
from grace.studies.make import make_rows
from grace.studies.politeness import POLITENESS
from grace.studies.probes import Answer, CandidateProbe, Turn
from grace.studies.study import AnswerField, Column, Exclusion, Study
from grace.studies.trials import TrialSet, parse_trials

PROBE = CandidateProbe(
    "sure",
    Turn(question="{story}?"),
    (Answer("yes", ("yes",)), Answer("no", ("no",))),
)
HIDDEN = CandidateProbe("extra", Turn(question="{story}!"), PROBE.answers)

STUDY = Study(
    key="mini",
    title="Mini",
    description="A number and a choice by group.",
    columns=(Column("group", "Condition."), Column("story", "Shown.")),
    stimulus_columns=("story",),
    conditions=("group",),
    candidate_probes=(PROBE, HIDDEN),
    probability_columns=probability_columns(PROBE),
    fields=(
        AnswerField("amount", "integer", "A number.", "q", minimum=0, maximum=9),
        AnswerField("verdict", "choice", "A word.", "q", choices=("good", "bad")),
        AnswerField("tone", "choice", "Another.", "q", choices=("warm",), uncertain=True),
        AnswerField("words", "text", "Not summarised.", "q"),
    ),
    joint_fields=(("verdict", "tone"),),
    exclusions=(Exclusion("big", "More than 5.", lambda row: row["amount"] > "5"),),
)
FIELDS = ("amount", "verdict", "tone", "words")

Summary = Mapping[tuple[str, str, str], Mapping[str, str]]


def trials(*rows: tuple[str, str]) -> TrialSet:
    lines = ["group,story", *(f"{group},{story}" for group, story in rows)]
    return parse_trials(STUDY, "\n".join(lines).encode(), "mini.csv")


def structured(given: TrialSet, *values: tuple[str, ...]) -> Table:
    repeats = len(values) // len(given.trials)
    rows = [
        (*trial.cells, *cells)
        for trial, cells in zip([*given.trials] * repeats, values, strict=True)
    ]
    return Table(("group", "story", *FIELDS), tuple(rows))


def read(table: Table) -> Summary:
    """Lines by condition, rows and measure."""
    lines = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    found = {(line[table.header[0]], line["rows"], line["measure"]): line for line in lines}
    assert len(found) == len(lines)
    return found


def test_the_columns_of_the_built_in_studies() -> None:
    assert summary_header(KNOWLEDGE) == ("condition_access", "condition_observe", *SUMMARY_COLUMNS)
    assert summary_header(POLITENESS) == ("condition_goal", "condition_state", *SUMMARY_COLUMNS)
    assert (
        *("rows", "measure", "n_rows", "n_stimuli", "n_used", "n_excluded", "n_missing"),
        *("mean", "se", "ci_low", "ci_high"),
    ) == SUMMARY_COLUMNS


def test_means_errors_and_intervals_by_hand() -> None:
    # Group x: stimulus A says 1 and 3, stimulus B says 5.
    given = trials(("x", "A"), ("x", "A"), ("x", "B"), ("y", "A"))
    table = structured(
        given,
        ("1", "good", "warm", ""),
        ("3", "bad", "uncertain", ""),
        ("5", "good", "warm", ""),
        ("2", "bad", "warm", ""),
    )
    summary = read(summarise_structured(given, table))
    line = summary["x", "all", "amount_mean"]
    # Mean 3; residuals A: -2 + 0, B: 2; se = sqrt(2/1 * (4 + 4)) / 3.
    assert line["mean"] == "3"
    assert float(line["se"]) == pytest.approx(4 / 3)
    assert float(line["ci_low"]) == pytest.approx(3 - 12.706204736174694 * 4 / 3)
    assert float(line["ci_high"]) == pytest.approx(3 + 12.706204736174694 * 4 / 3)
    assert (line["n_rows"], line["n_stimuli"], line["n_used"]) == ("3", "2", "3")
    assert summary["x", "all", "verdict_prop_good"]["mean"] == "0.666666667"
    assert summary["x", "all", "tone_prop_uncertain"]["mean"] == "0.333333333"
    assert summary["x", "all", "prop_good_warm"]["mean"] == "0.666666667"
    assert summary["x", "all", "prop_bad_uncertain"]["mean"] == "0.333333333"
    # One stimulus: a mean without uncertainty.
    single = summary["y", "all", "amount_mean"]
    assert (single["mean"], single["se"], single["ci_low"], single["ci_high"]) == ("2", "", "", "")


def test_excluded_rows_are_counted_and_left_out_where_the_table_says_so() -> None:
    given = trials(("x", "A"), ("x", "B"), ("x", "C"))
    table = structured(
        given, ("1", "good", "warm", ""), ("3", "good", "warm", ""), ("8", "bad", "warm", "")
    )
    summary = read(summarise_structured(given, table))
    assert summary["x", "all", "amount_mean"]["mean"] == "4"
    assert summary["x", "all", "amount_mean"]["n_excluded"] == "0"
    included = summary["x", "included", "amount_mean"]
    assert (included["mean"], included["n_excluded"], included["n_used"]) == ("2", "1", "2")
    assert included["n_rows"] == "3"
    assert summary["x", "all", "excluded_big"]["mean"] == "0.333333333"
    assert ("x", "included", "excluded_big") not in summary


def test_empty_cells_are_missing_and_never_a_zero() -> None:
    given = trials(("x", "A"), ("x", "B"), ("y", "A"))
    table = structured(given, ("4", "good", "", ""), ("", "", "", ""), ("", "", "", ""))
    summary = read(summarise_structured(given, table))
    line = summary["x", "all", "amount_mean"]
    assert (line["mean"], line["n_used"], line["n_missing"], line["n_rows"]) == ("4", "1", "1", "2")
    empty = summary["y", "all", "amount_mean"]
    assert (empty["mean"], empty["se"], empty["n_used"], empty["n_missing"]) == ("", "", "0", "1")
    # A joint proportion needs all of its fields.
    assert summary["x", "all", "prop_good_warm"]["n_missing"] == "2"


def test_replicates_are_further_samples_of_the_same_stimuli() -> None:
    given = trials(("x", "A"), ("x", "B"))
    table = structured(
        given,
        *[("1", "good", "warm", ""), ("3", "good", "warm", "")],
        *[("3", "good", "warm", ""), ("5", "good", "warm", "")],
    )
    line = read(summarise_structured(given, table))["x", "all", "amount_mean"]
    assert (line["mean"], line["n_rows"], line["n_stimuli"]) == ("3", "4", "2")
    # Residuals A: -2 + 0, B: 0 + 2.
    assert float(line["se"]) == pytest.approx(math.sqrt(2 * 8) / 4)


WIDE = ("group", "story", "sure_prob_yes", "sure_prob_no", "sure_entropy")


def probability_tables(given: TrialSet, *shares: float | None) -> tuple[Table, Table]:
    wide, long = [], []
    for trial, share in zip(given.trials, shares, strict=True):
        numbers = ("", "", "") if share is None else (str(share), str(1 - share), "1")
        wide.append((*trial.cells, *numbers))
        for probe in ("sure", "extra"):
            for label, p in (("yes", share), ("no", None if share is None else 1 - share)):
                number, coverage = ("", "") if p is None else (str(p), "0.25")
                cells = dict.fromkeys(SCORE_HEADER, "") | {
                    "row": str(trial.row),
                    "stimulus_id": trial.stimulus_id,
                    "probe": probe,
                    "candidate": label,
                    "probability": number,
                    "coverage": coverage,
                    "outside_leads": "" if share is None else "yes" if share < 0.5 else "no",
                }
                long.append(tuple(cells.values()))
    return Table(WIDE, tuple(wide)), Table(SCORE_HEADER, tuple(long))


def test_a_stimulus_has_one_distribution_however_many_rows_repeat_it() -> None:
    given = trials(("x", "A"), ("x", "A"), ("x", "A"), ("x", "B"))
    summary = read(summarise_probabilities(given, *probability_tables(given, 0.2, 0.2, 0.2, 0.6)))
    line = summary["x", "all", "sure_prob_yes"]
    assert line["mean"] == "0.4"
    assert float(line["se"]) == pytest.approx(0.2)
    assert (line["n_stimuli"], line["n_used"]) == ("2", "2")


def test_coverage_and_probes_without_a_column_are_summarised_too() -> None:
    given = trials(("x", "A"), ("x", "B"))
    summary = read(summarise_probabilities(given, *probability_tables(given, 0.2, 0.6)))
    assert summary["x", "all", "extra_prob_yes"]["mean"] == "0.4"
    assert summary["x", "all", "coverage_sure"]["mean"] == "0.25"
    assert summary["x", "all", "coverage_extra"]["mean"] == "0.25"
    assert summary["x", "all", "outside_leads_sure"]["mean"] == "0.5"


def test_a_distribution_that_failed_is_missing() -> None:
    given = trials(("x", "A"), ("x", "B"))
    summary = read(summarise_probabilities(given, *probability_tables(given, 0.2, None)))
    for measure in ("sure_prob_yes", "sure_entropy", "coverage_sure", "extra_prob_no"):
        line = summary["x", "all", measure]
        assert (line["n_used"], line["n_missing"]) == ("1", "1")


def test_a_stimulus_shown_in_two_conditions_counts_in_both() -> None:
    # The condition need not be part of what the model reads.
    given = trials(("x", "A"), ("y", "A"), ("y", "A"))
    summary = read(summarise_probabilities(given, *probability_tables(given, 0.2, 0.2, 0.2)))
    assert summary["x", "all", "sure_prob_yes"]["mean"] == "0.2"
    assert summary["y", "all", "sure_prob_yes"]["mean"] == "0.2"


def test_the_number_of_rows_is_that_of_the_table() -> None:
    given = trials(("x", "A"), ("x", "A"), ("x", "A"), ("x", "B"))
    summary = read(summarise_probabilities(given, *probability_tables(given, 0.2, 0.2, 0.2, 0.6)))
    assert summary["x", "all", "sure_prob_yes"]["n_rows"] == "4"


def test_conditions_are_in_order_and_those_of_study_1_are_six() -> None:
    rows = make_rows("study1", 12, 1)
    text = "\n".join(
        ",".join('"' + cell.replace('"', '""') + '"' for cell in line)
        for line in [list(rows[0]), *(list(row.values()) for row in rows)]
    )
    given = parse_trials(KNOWLEDGE, text.encode(), "t.csv")
    blank = ("",) * 6
    header = (*given.header, *(f.name for f in KNOWLEDGE.fields))
    table = Table(header, tuple((*trial.cells, *blank) for trial in given.trials))
    summary = summarise_structured(given, table)
    cells = [row[:2] for row in summary.rows]
    assert cells == sorted(cells)
    assert len(set(cells)) == 6
    lines = [row for row in summary.rows if row[3] == "excluded_incomplete"]
    assert {row[summary.header.index("mean")] for row in lines} == {"1"}
