from pathlib import Path

import pytest

from grace.cli.main import invoke
from grace.studies.builtin import BUILTIN_STUDIES
from grace.studies.trials import load_trials

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "scalar_adjectives"


def shown(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    capsys.readouterr()
    assert invoke(["studies", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_list_names_the_built_in_studies(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "list")
    for study in BUILTIN_STUDIES.values():
        assert study.key in text
        assert study.title in text


@pytest.mark.parametrize("study", [*BUILTIN_STUDIES, f"{EXAMPLE}.yaml"])
def test_show_has_columns_prompts_and_answers(
    study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = " ".join(shown(capsys, "show", study).split())
    for heading in ("Input columns", "Experiment 1", "Experiment 2", "Extracted fields"):
        assert heading in text
    if study in BUILTIN_STUDIES:
        built_in = BUILTIN_STUDIES[study]
        assert all(column.name in text for column in built_in.columns)
        assert all(answer.name in text for answer in built_in.fields)


def test_made_trials_are_in_order_when_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for study, rows in (("study1", 300), ("study2", 2424)):
        path = tmp_path / f"{study}.csv"
        assert f"{rows:,} rows" in shown(capsys, "make", study, path, "--rows", str(rows))
        assert len(load_trials(BUILTIN_STUDIES[study], path).trials) == rows
        text = shown(capsys, "check", study, path)
        assert f"{rows:,} rows" in text
        assert "no faults" in text


def test_an_existing_file_is_replaced_only_by_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "study1.csv"
    shown(capsys, "make", "study1", path, "--rows", "6")
    assert invoke(["studies", "make", "study1", str(path)]) == 2
    assert "--force" in capsys.readouterr().err
    shown(capsys, "make", "study1", path, "--rows", "12", "--force")


def test_check_names_the_faults_and_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "study1.csv"
    shown(capsys, "make", "study1", path, "--rows", "6")
    path.write_text(path.read_text().replace(",3,3\n", ",three,3\n"))
    assert invoke(["studies", "check", "study1", str(path)]) == 2
    err = capsys.readouterr().err
    assert "access is 'three'; expected 0, 1, 2 or 3" in err
    assert ", row " in err
