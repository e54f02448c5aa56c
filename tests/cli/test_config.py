from pathlib import Path
from typing import Any

import pytest

from grace.cli.options import merge_settings, parse_inputs
from grace.errors import UsageError
from grace.settings import RunSettings, make_settings, read_config


def config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "grace.yaml"
    path.write_text(text)
    return path


def test_flags_win_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    path = config(tmp_path, "seed: 5\nlimit: 7\nmodel: gpt2\n")
    merged = merge_settings(path, {"seed": 6, "limit": None, "dry_run": False})
    assert (merged.seed, merged.limit, merged.model) == (6, 7, ("gpt2",))
    assert merged.temperature == RunSettings().temperature


def test_every_setting_can_stand_in_a_file(tmp_path: Path) -> None:
    given = RunSettings(
        study=("study1",),
        input={"study1": Path("a.csv")},
        experiment=("exp2",),
        endpoint="http://x",
        temperature=0,
        seed=0,
        dry_run=True,
    )
    path = config(tmp_path, given.model_dump_json())
    assert merge_settings(path, {}) == given


def test_names_may_be_written_as_on_the_command_line(tmp_path: Path) -> None:
    path = config(tmp_path, "dry-run: true\napi-key-env: MY_KEY\n")
    merged = merge_settings(path, {})
    assert (merged.dry_run, merged.api_key_env) == (True, "MY_KEY")


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert merge_settings(config(tmp_path, ""), {}) == RunSettings()


@pytest.mark.parametrize(
    ("flag", "value"),
    [("seed", 0), ("temperature", 0.0), ("threads", 0)],
)
def test_a_zero_on_the_command_line_is_a_value(tmp_path: Path, flag: str, value: Any) -> None:
    path = config(tmp_path, "seed: 5\ntemperature: 0.5\nthreads: 2\n")
    assert getattr(merge_settings(path, {flag: value}), flag) == value


def test_a_limit_of_zero_is_refused_and_not_ignored() -> None:
    with pytest.raises(UsageError, match="limit"):
        merge_settings(None, {"limit": 0})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("sead: 5", r"grace.yaml: unknown option 'sead'; known are study, input"),
        ("seed: five", r"grace.yaml: seed is 'five'"),
        ("limit: 0", r"grace.yaml: limit is 0"),
        ("experiment: [exp1, exp9]", r"grace.yaml: experiment.1 is 'exp9'"),
        ("input: study1.csv", r"grace.yaml: input is 'study1.csv'"),
        ("- seed", "expected a mapping of options"),
        ("just text", "expected a mapping of options"),
        ("seed: [1", "line 1: not valid YAML"),
        ("seed: 1\nseed: 2", "line 2: found duplicate key 'seed'"),
        ("\t", "not valid YAML"),
        ("temperature: .nan", "temperature"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        merge_settings(config(tmp_path, text), {})


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        make_settings({"seed": "x", "limit": -1, "nope": 1}, "here")
    assert len(str(caught.value).splitlines()) == 3


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_config(tmp_path / "nowhere.yaml")
    with pytest.raises(UsageError, match="cannot be read"):
        read_config(tmp_path)
    (tmp_path / "x.yaml").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="cannot be read"):
        read_config(tmp_path / "x.yaml")


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        RunSettings().seed = 3  # type: ignore[misc]


def test_inputs_are_pairs() -> None:
    assert parse_inputs(None) is None
    assert parse_inputs(["study1=a=b.csv", "mine=c.csv"]) == {"study1": "a=b.csv", "mine": "c.csv"}
    for wrong in ("study1", "=a.csv", "study1="):
        with pytest.raises(UsageError, match="expected STUDY=CSV"):
            parse_inputs([wrong])
