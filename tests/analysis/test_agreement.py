import pytest

from grace.analysis.agreement import agreement_header, agreement_table
from grace.analysis.coherence import coherence_measures
from grace.runs.csvfile import Table
from grace.runs.score_table import SCORE_HEADER
from grace.studies.study import Agreement, Coherence, Column, Study
from grace.studies.trials import TrialSet, parse_trials

STUDY = Study(
    key="mini",
    title="Mini",
    description="A word and four bets.",
    columns=(Column("group", "Condition."), Column("story", "Shown.")),
    stimulus_columns=("story",),
    conditions=("group",),
    agreements=(
        Agreement("verdict", "utterance", ("frame", "word"), "joined"),
        Agreement("bet", "direct", ("0", "1"), "largest"),
    ),
)
FIELDS = ("frame", "word", "0", "1")


def trials(*rows: tuple[str, str]) -> TrialSet:
    lines = ["group,story", *(f"{group},{story}" for group, story in rows)]
    return parse_trials(STUDY, "\n".join(lines).encode(), "mini.csv")


def structured(given: TrialSet, *values: tuple[str, str, str, str]) -> Table:
    repeats = len(values) // len(given.trials)
    rows = [
        (*trial.cells, *cells)
        for trial, cells in zip([*given.trials] * repeats, values, strict=True)
    ]
    return Table((*given.header, *FIELDS), tuple(rows))


def scores(given: TrialSet, shares: dict[str, dict[str, float]]) -> Table:
    """The same distributions for every stimulus."""
    rows = []
    for trial in given.trials:
        for probe, held in shares.items():
            for label, share in held.items():
                cells = dict.fromkeys(SCORE_HEADER, "") | {
                    "row": str(trial.row),
                    "stimulus_id": trial.stimulus_id,
                    "probe": probe,
                    "candidate": label,
                    "probability": str(share),
                }
                rows.append(tuple(cells.values()))
    return Table(SCORE_HEADER, tuple(rows))


SHARES = {"utterance": {"was bad": 0.7, "wasn't bad": 0.3}, "direct": {"0": 0.2, "1": 0.8}}


def read(table: Table) -> dict[tuple[str, str], dict[str, str]]:
    assert table.header == agreement_header(STUDY)
    return {(row[0], row[1]): dict(zip(table.header, row, strict=True)) for row in table.rows}


def test_rows_agree_if_their_answer_is_the_most_probable() -> None:
    given = trials(("x", "A"), ("x", "B"), ("x", "C"))
    table = structured(
        given, ("was", "bad", "10", "90"), ("wasn't", "bad", "60", "40"), ("was", "bad", "0", "100")
    )
    found = read(agreement_table(given, table, scores(given, SHARES)))
    line = found["x", "verdict"]
    assert (line["probe"], line["n_rows"], line["n_used"]) == ("utterance", "3", "3")
    assert float(line["agreement"]) == pytest.approx(2 / 3)
    assert float(line["expected_agreement"]) == pytest.approx(0.7)
    assert float(found["x", "bet"]["expected_agreement"]) == pytest.approx(0.8)
    assert float(line["ci_low"]) < 2 / 3 < float(line["ci_high"])


def test_rows_that_cannot_be_compared_are_counted_by_reason() -> None:
    given = trials(("x", "A"), ("x", "B"), ("x", "C"), ("x", "D"))
    table = structured(
        given,
        ("", "bad", "50", "50"),
        ("was", "uncertain", "", "5"),
        ("was", "bad", "5", "5"),
        ("was", "bad", "1", "99"),
    )
    known = scores(trials(("x", "A"), ("x", "B"), ("x", "C")), SHARES)
    found = read(agreement_table(given, table, known))
    names = ("n_rows", "n_used", "n_unstated", "n_tied", "n_unscored", "agreement")
    assert [found["x", "verdict"][name] for name in names] == ["4", "1", "2", "0", "1", "1"]
    assert [found["x", "bet"][name] for name in names] == ["4", "0", "1", "2", "1", ""]


def test_an_argmax_that_is_shared_is_a_tie() -> None:
    given = trials(("x", "A"))
    table = structured(given, ("was", "bad", "1", "2"))
    tied = {**SHARES, "utterance": {"was bad": 0.5, "wasn't bad": 0.5}}
    found = read(agreement_table(given, table, scores(given, tied)))
    assert (found["x", "verdict"]["n_tied"], found["x", "verdict"]["agreement"]) == ("1", "")


def test_replicates_are_rows_of_the_same_stimulus() -> None:
    given = trials(("x", "A"), ("y", "B"))
    one = ("was", "bad", "1", "2")
    found = read(
        agreement_table(given, structured(given, one, one, one, one), scores(given, SHARES))
    )
    assert [(line["n_rows"], line["n_stimuli"]) for line in found.values()] == [("2", "1")] * 4


COHERENCE = Coherence("states", ("0", "1"), ("a_mean", "b_mean"), "direct")


def test_means_that_should_add_up_are_summed_and_divided() -> None:
    measures = coherence_measures(COHERENCE)
    cells = {"a_mean": "90", "b_mean": "30", "direct_prob_0": "0.5", "direct_prob_1": "0.5"}
    values = {name: read_one(cells) for name, read_one in measures.items()}
    assert values == {
        "states_sum": 120,
        "states_belief_0": 0.75,
        "states_belief_1": 0.25,
        "states_from_direct": 0.25,
    }


@pytest.mark.parametrize(
    ("cells", "known"),
    [
        ({"a_mean": "90", "b_mean": ""}, 0),
        ({"a_mean": "0", "b_mean": "0", "direct_prob_0": "1", "direct_prob_1": "0"}, 1),
        ({"a_mean": "9", "b_mean": "1", "direct_prob_0": "1"}, 3),
    ],
)
def test_what_cannot_be_made_is_missing(cells: dict[str, str], known: int) -> None:
    values = [read_one(cells) for read_one in coherence_measures(COHERENCE).values()]
    assert sum(value is not None for value in values) == known
