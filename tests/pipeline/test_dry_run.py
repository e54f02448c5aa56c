import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from grace.cli.main import invoke
from grace.engine.journal import read_journal
from grace.runs.csvfile import read_table
from grace.runs.folder import RunFolder, find_runs
from grace.runs.manifest import read_manifest
from inputs import ODD_CELL, input_flags

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "scalar_adjectives"
KINDS = {
    "exp1": {"raw_responses", "structured", "summary"},
    "exp2": {"probabilities", "scores", "summary"},
}


def dry_run(out: Path, *flags: str) -> int:
    return invoke(["run", "--dry-run", "--out", str(out), *flags])


def tables(folder: RunFolder) -> dict[str, bytes]:
    """The bytes of everything that a run publishes, but for the manifest."""
    return {
        path.name: path.read_bytes()
        for path in folder.path.iterdir()
        if path.suffix in {".csv", ".jsonl"}
    }


def contents(path: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(one.relative_to(path)): (one.read_bytes(), one.stat().st_mtime_ns)
        for one in path.rglob("*")
        if one.is_file()
    }


def test_every_study_and_experiment_gives_all_its_tables(
    toy_runs: tuple[RunFolder, RunFolder],
) -> None:
    for folder in toy_runs:
        manifest = read_manifest(folder)
        assert manifest.complete
        assert set(manifest.studies) == {"study1", "study2"}
        for study, report in manifest.studies.items():
            assert (report.rows, report.stimuli, report.complete_rows) == (4, 3, 4)
            for kind in KINDS[folder.experiment]:
                assert len(read_table(folder.table(study, kind)).rows) >= 4


def test_the_users_rows_stay_as_they_are(toy_runs: tuple[RunFolder, RunFolder]) -> None:
    responses, probabilities = toy_runs
    for folder, kind in (
        (responses, "raw_responses"),
        (responses, "structured"),
        (probabilities, "probabilities"),
    ):
        table = read_table(folder.table("study1", kind))
        assert table.header[4:6] == ("speach", "speachQ")
        assert table.column("participant_id")[3] == ODD_CELL
        first, *_, last = read_table(folder.table("study2", kind)).rows
        assert last[0] == ODD_CELL
        assert first[1:9] == last[1:9]


def test_the_same_command_again_asks_nothing_and_changes_nothing(
    tmp_path: Path, small_inputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = input_flags(small_inputs)
    assert dry_run(tmp_path, *flags) == 0
    before = contents(tmp_path)
    capsys.readouterr()
    assert dry_run(tmp_path, *flags) == 0
    assert contents(tmp_path) == before
    shown = capsys.readouterr()
    assert shown.out.count("finished before") == 2
    assert "connecting" not in shown.err


def test_two_runs_of_the_same_seed_are_identical_and_of_another_seed_are_not(
    tmp_path: Path, toy_runs: tuple[RunFolder, RunFolder], small_inputs: dict[str, Path]
) -> None:
    flags = input_flags(small_inputs)
    assert dry_run(tmp_path / "same", *flags) == 0
    assert dry_run(tmp_path / "other", "--seed", "2", *flags) == 0
    same, other = find_runs(tmp_path / "same"), find_runs(tmp_path / "other")
    assert [*map(tables, same)] == [*map(tables, toy_runs)]
    assert tables(other[0]) != tables(toy_runs[0])
    # Probabilities do not depend on a seed.
    assert tables(other[1]) == tables(toy_runs[1])


def test_concurrency_changes_no_table(
    tmp_path: Path, toy_runs: tuple[RunFolder, RunFolder], small_inputs: dict[str, Path]
) -> None:
    assert dry_run(tmp_path, "--concurrency", "1", *input_flags(small_inputs)) == 0
    assert [*map(tables, find_runs(tmp_path))] == [*map(tables, toy_runs)]


def test_both_scoring_methods_give_the_same_tables(
    tmp_path: Path, toy_runs: tuple[RunFolder, RunFolder], small_inputs: dict[str, Path]
) -> None:
    flags = ["--experiment", "exp2", "--scoring", "sequence", *input_flags(small_inputs)]
    assert dry_run(tmp_path, *flags) == 0
    (folder,) = find_runs(tmp_path)
    assert tables(folder) == tables(toy_runs[1])
    assert folder.read_record().identity.asking["scoring"] == "sequence"


def stages(out: Path, timestamp: str, flags: Sequence[str]) -> list[int]:
    return [
        invoke(
            [
                *("stage", name, "--experiment", experiment, "--model", "toy", "--dry-run"),
                *("--timestamp", timestamp, "--out", str(out), *flags),
            ]
        )
        for experiment, names in {
            "exp1": ("respond", "extract", "summarise", "validate"),
            "exp2": ("score", "summarise", "validate"),
        }.items()
        for name in names
    ]


def test_stage_by_stage_gives_the_same_tables_and_closes_the_runs(
    tmp_path: Path, toy_runs: tuple[RunFolder, RunFolder], small_inputs: dict[str, Path]
) -> None:
    assert stages(tmp_path, "20260131T235959Z", input_flags(small_inputs)) == [0] * 7
    found = find_runs(tmp_path)
    assert [*map(tables, found)] == [*map(tables, toy_runs)]
    assert all(read_manifest(folder).complete for folder in found)
    assert invoke(["validate", str(tmp_path)]) == 0


@pytest.mark.parametrize("stage", ["extract", "summarise", "validate"])
def test_a_stage_before_its_time_is_refused(
    tmp_path: Path, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--experiment", "exp1", "--model", "toy", "--timestamp", "20260131T235959Z"]
    code = invoke(["stage", stage, "--dry-run", "--limit", "1", "--out", str(tmp_path), *flags])
    assert code == 1
    assert "run.json" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.csv"))


def test_replicates_are_further_rows_of_the_same_table(
    tmp_path: Path, toy_runs: tuple[RunFolder, RunFolder], small_inputs: dict[str, Path]
) -> None:
    flags = ["--experiment", "exp1", "--replicates", "2", *input_flags(small_inputs)]
    assert dry_run(tmp_path, *flags) == 0
    (folder,) = find_runs(tmp_path)
    once = read_table(toy_runs[0].table("study1", "raw_responses"))
    twice = read_table(folder.table("study1", "raw_responses"))
    assert twice.rows[:4] == once.rows
    assert twice.column("replicate") == ("1",) * 4 + ("2",) * 4
    assert twice.column("participant_id")[:4] == twice.column("participant_id")[4:]


def test_greedy_decoding_asks_equal_prompts_once(
    tmp_path: Path, small_inputs: dict[str, Path]
) -> None:
    config = tmp_path / "grace.yaml"
    config.write_text("temperature: 0\nexperiment: exp1\n")
    flags = ["--config", str(config), *input_flags(small_inputs)]
    assert dry_run(tmp_path / "out", *flags) == 0
    (folder,) = find_runs(tmp_path / "out")
    table = read_table(folder.table("study1", "raw_responses"))
    assert table.rows[0][9:] == table.rows[3][9:]
    # Of 4 rows, 3 are distinct.
    assert len(read_journal(folder.journal).records) == 3 * 3 + 3
    assert read_journal(folder.journal).lines == 3 * 3 + 3


def test_a_limit_takes_the_first_rows(
    tmp_path: Path, toy_runs: tuple[RunFolder, RunFolder], small_inputs: dict[str, Path]
) -> None:
    assert dry_run(tmp_path, "--limit", "2", *input_flags(small_inputs)) == 0
    for folder, whole in zip(find_runs(tmp_path), toy_runs, strict=True):
        kind = "structured" if folder.experiment == "exp1" else "probabilities"
        for study in ("study1", "study2"):
            short, long = (read_table(one.table(study, kind)) for one in (folder, whole))
            assert short.rows == long.rows[:2]


def test_another_run_is_begun_only_on_request_or_for_another_question(
    tmp_path: Path, small_inputs: dict[str, Path]
) -> None:
    flags = ["--experiment", "exp2", *input_flags(small_inputs)]
    for more, count in (
        ([], 1),
        ([], 1),
        (["--new"], 2),
        ([], 2),
        (["--limit", "2"], 3),
        (["--limit", "2"], 3),
    ):
        assert dry_run(tmp_path, *flags, *more) == 0
        assert len(find_runs(tmp_path)) == count


def test_runs_begun_within_a_second_do_not_share_a_folder(
    tmp_path: Path, small_inputs: dict[str, Path]
) -> None:
    flags = ["--experiment", "exp2", "--limit", "1", "--new", *input_flags(small_inputs)]
    for _ in range(3):
        assert dry_run(tmp_path, *flags) == 0
    assert len({folder.timestamp for folder in find_runs(tmp_path)}) == 3


def test_a_second_experiment_joins_the_run_of_the_first(
    tmp_path: Path, small_inputs: dict[str, Path]
) -> None:
    flags = input_flags(small_inputs)
    assert dry_run(tmp_path, "--experiment", "exp1", *flags) == 0
    assert dry_run(tmp_path, *flags) == 0
    first, second = find_runs(tmp_path)
    assert first.timestamp == second.timestamp


def test_a_study_of_the_users_own_runs_through_everything(tmp_path: Path) -> None:
    flags = ["--study", f"{EXAMPLE}.yaml", "--limit", "3"]
    key = "scalar_adjectives"
    assert dry_run(tmp_path, *flags, "--input", f"{key}={EXAMPLE}.csv") == 0
    for folder in find_runs(tmp_path):
        assert read_manifest(folder).complete
        for kind in KINDS[folder.experiment]:
            assert folder.table(key, kind).is_file()
    assert invoke(["validate", str(tmp_path)]) == 0


def test_the_shipped_items_are_run_where_no_input_is_given(tmp_path: Path) -> None:
    assert dry_run(tmp_path, "--limit", "1") == 0
    for folder in find_runs(tmp_path):
        assert read_manifest(folder).studies["study1"].rows == 1


def test_the_error_log_names_every_row_without_a_complete_extraction(
    toy_runs: tuple[RunFolder, RunFolder],
) -> None:
    folder = toy_runs[0]
    log = [json.loads(line) for line in folder.extraction_log.read_text().splitlines()]
    for study in ("study1", "study2"):
        statuses = read_table(folder.table(study, "structured")).column("extraction_status")
        named = {line["table_row"] for line in log if line["study"] == study}
        assert named == {n for n, text in enumerate(statuses, 1) if not text.startswith("ok")}
    assert all(line["extraction_error"] for line in log)
