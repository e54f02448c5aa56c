import shutil
from pathlib import Path

import pytest

from grace.cli.main import invoke
from grace.errors import RunFolderError
from grace.pipeline.reopen import input_copies, reopen
from grace.runs.folder import RunFolder, find_runs
from inputs import input_flags, write_inputs

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "scalar_adjectives"


@pytest.fixture
def runs(tmp_path: Path) -> list[RunFolder]:
    """Two runs whose inputs are their own, so that these can be lost."""
    (tmp_path / "inputs").mkdir()
    inputs = write_inputs(tmp_path / "inputs")
    out = str(tmp_path / "out")
    assert invoke(["run", "--dry-run", "--out", out, *input_flags(inputs)]) == 0
    return find_runs(tmp_path / "out")


def test_inputs_are_found_again(runs: list[RunFolder]) -> None:
    for folder in runs:
        reopened = reopen(folder, folder.read_record())
        assert [len(trials.trials) for trials in reopened.inputs] == [4, 4]
        assert reopened.notes == ()


def test_lost_inputs_are_read_back_from_the_runs_own_tables(
    runs: list[RunFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [reopen(folder, folder.read_record()).inputs for folder in runs]
    shutil.rmtree(tmp_path / "inputs")
    for folder, inputs in zip(runs, before, strict=True):
        reopened = reopen(folder, folder.read_record())
        assert len(reopened.notes) == 2
        for found, lost in zip(reopened.inputs, inputs, strict=True):
            assert found.trials == lost.trials
            assert (found.header, found.sha256) == (lost.header, lost.sha256)
    assert invoke(["validate", str(tmp_path / "out")]) == 0
    assert "is gone; its rows are taken from the run's own tables" in capsys.readouterr().err
    assert invoke(["summarise", str(tmp_path / "out")]) == 0


def test_a_results_folder_may_be_moved(runs: list[RunFolder], tmp_path: Path) -> None:
    assert runs
    shutil.move(tmp_path / "out", tmp_path / "elsewhere")
    for command in ("status", "validate", "summarise"):
        assert invoke([command, str(tmp_path / "elsewhere")]) == 0


def test_a_changed_input_is_noticed(runs: list[RunFolder], tmp_path: Path) -> None:
    path = tmp_path / "inputs" / "study1.csv"
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(RunFolderError, match=r"study1\.csv has changed since the run; put back"):
        reopen(runs[0], runs[0].read_record())
    assert invoke(["validate", str(runs[0].path)]) == 1


def test_a_changed_study_is_noticed(tmp_path: Path) -> None:
    study = tmp_path / "own.yaml"
    shutil.copy(f"{EXAMPLE}.yaml", study)
    flags = ["--study", str(study), "--input", f"scalar_adjectives={EXAMPLE}.csv", "--limit", "1"]
    assert invoke(["run", "--dry-run", "--out", str(tmp_path / "out"), *flags]) == 0
    (folder, *_) = find_runs(tmp_path / "out")
    text = study.read_text()
    study.write_text(text.replace("question: ", "question: So, ", 1))
    assert study.read_text() != text
    with pytest.raises(RunFolderError, match="the definition of scalar_adjectives has changed"):
        reopen(folder, folder.read_record())


def test_an_unfinished_run_without_its_inputs_cannot_go_on_and_says_why(
    runs: list[RunFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(tmp_path / "inputs")
    runs[0].manifest_path.unlink()
    assert invoke(["resume", str(runs[0].path)]) == 2
    assert "is not there any more" in capsys.readouterr().err


def test_copies_beside_the_results_stand_for_what_is_gone(tmp_path: Path) -> None:
    there, out = tmp_path / "there", tmp_path / "out"
    there.mkdir()
    for ending in (".yaml", ".csv"):
        shutil.copy(EXAMPLE.with_suffix(ending), there / f"mine{ending}")
    own = ["--study", str(there / "mine.yaml"), "--input", f"scalar_adjectives={there}/mine.csv"]
    assert invoke(["run", "--dry-run", "--out", str(out), *own]) == 0
    runs = find_runs(out)
    copies = input_copies(out, runs[0].timestamp)
    copies.mkdir(parents=True)
    for path in there.iterdir():
        path.rename(copies / path.name)
    for folder in runs:
        reopened = reopen(folder, folder.read_record())
        assert reopened.notes == ()
        assert reopened.inputs[0].source == str(copies / "mine.csv")
    assert invoke(["validate", str(out)]) == 0
    (copies / "mine.csv").write_bytes((copies / "mine.csv").read_bytes() + b"\n")
    with pytest.raises(RunFolderError, match="has changed since the run"):
        reopen(runs[0], runs[0].read_record())
