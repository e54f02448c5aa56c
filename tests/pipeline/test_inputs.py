from pathlib import Path
from typing import Any

import pytest

from grace.errors import InputFaults, UsageError
from grace.pipeline.inputs import describe_inputs, load_inputs, resolve_study
from grace.pipeline.overview import plan_overview
from grace.settings import RunSettings
from grace.studies.knowledge import KNOWLEDGE

SHARED = Path(__file__).parents[3] / "shared" / "data"
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "scalar_adjectives"


def settings(**values: Any) -> RunSettings:
    return RunSettings.model_validate(values)


def test_a_study_is_found_by_key_or_file() -> None:
    assert resolve_study("study1") is KNOWLEDGE
    assert resolve_study(f"{EXAMPLE}.yaml").key == "scalar_adjectives"
    with pytest.raises(
        UsageError, match=r"there is no study 'study3'; built in are study1, study2"
    ):
        resolve_study("study3")


def test_without_an_input_the_shipped_items_are_taken() -> None:
    inputs = load_inputs(settings())
    assert [len(trials.trials) for trials in inputs] == [48, 192]
    assert describe_inputs(inputs)[0] == "study1: 48 rows, 48 stimuli (items shipped with Grace)"


def test_the_shipped_items_are_always_the_same() -> None:
    first, second = load_inputs(settings()), load_inputs(settings())
    assert [one.sha256 for one in first] == [one.sha256 for one in second]


def test_a_study_of_ones_own_needs_its_trials() -> None:
    with pytest.raises(UsageError, match=r"needs its trials: give --input scalar_adjectives="):
        load_inputs(settings(study=(f"{EXAMPLE}.yaml",)))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"study": ("study1", "study1")}, "a study is given twice: study1, study1"),
        ({"input": {"study3": "x.csv"}}, "--input names study3, which is not among the studies"),
        ({"study": ("study1",), "input": {"study2": "x.csv"}}, "--input names study2"),
    ],
)
def test_flags_that_do_not_fit_together_are_refused(values: Any, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        load_inputs(settings(**values))


def test_the_faults_of_several_files_are_reported_together(tmp_path: Path) -> None:
    paths = {}
    for key in ("study1", "study2"):
        paths[key] = tmp_path / f"{key}.csv"
        paths[key].write_text("a,b\n1,2\n")
    with pytest.raises(UsageError) as caught:
        load_inputs(settings(input=paths))
    assert "study1.csv" in str(caught.value)
    assert "study2.csv" in str(caught.value)
    with pytest.raises(InputFaults):
        load_inputs(settings(study=("study1",), input={"study1": paths["study1"]}))


def test_the_overview_counts_what_will_be_asked() -> None:
    if not SHARED.exists():
        pytest.skip("the users' data are not here")
    lines = plan_overview(
        settings(input={"study1": SHARED / "study1.csv", "study2": SHARED / "study2.csv"})
    )
    counted = {(one.study, one.probe): (one.rows, one.distinct, one.queries) for one in lines}
    assert counted["study1", "prior"][0::2] == (300, 300)
    assert counted["study1", "knowledge"] == (300, 36, 36)
    assert counted["study1", "state0"] == (300, 36, 36)
    exp1 = [one for one in lines if one.experiment == "exp1"]
    assert sum(one.queries for one in exp1) == 900 + 2424
    exp2 = [one for one in lines if one.experiment == "exp2"]
    assert sum(one.queries for one in exp2) == 6 * 36 + 2046


def test_greedy_decoding_and_replicates_change_the_counts() -> None:
    def queries(**values: Any) -> int:
        lines = plan_overview(settings(study=("study1",), experiment=("exp1",), **values))
        return sum(one.queries for one in lines)

    assert queries() == 48 * 3
    assert queries(replicates=2) == 48 * 3 * 2
    assert queries(replicates=2, temperature=0) == 48 * 3
    assert queries(limit=5) == 15
