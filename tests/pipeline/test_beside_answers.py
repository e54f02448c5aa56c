"""What may be asked beyond the answers: premises, ends, and a second measurement."""

import json
from pathlib import Path

import pytest

from grace.cli.main import invoke
from grace.engine.journal import read_journal
from grace.runs.csvfile import read_table
from grace.runs.folder import RunFolder, find_runs
from grace.runs.manifest import read_manifest
from inputs import input_flags


@pytest.fixture
def command(small_inputs: dict[str, Path], tmp_path: Path) -> list[str]:
    flags = ["--dry-run", "--experiment", "exp2", "--study", "study2", "--limit", "2"]
    given = {"study2": small_inputs["study2"]}
    return ["run", *flags, *input_flags(given), "--out", str(tmp_path / "out")]


def only_run(tmp_path: Path) -> RunFolder:
    (folder,) = find_runs(tmp_path / "out")
    return folder


def test_everything_at_once_is_valid_and_accounted_for(command: list[str], tmp_path: Path) -> None:
    assert invoke([*command, "--pmi", "--terminators", "--recheck", "50"]) == 0
    folder = only_run(tmp_path)
    assert invoke(["validate", str(folder.path)]) == 0
    manifest = read_manifest(folder)
    report = manifest.studies["study2"]
    assert {name: counts.answered for name, counts in report.queries.items()} == {
        "utterance": 2,
        "utterance premise": 1,
    }
    assert set(report.coverage) == {"utterance"}
    assert report.recheck is not None
    # Premises are measurements too: 50% of 3.
    assert (report.recheck.planned, report.recheck.answered) == (2, 2)
    assert report.recheck.largest_change == 0
    scores = read_table(folder.table("study2", "scores"))
    assert set(scores.column("not_measured")) == {""}
    assert sorted(manifest.seconds) == ["recheck", "score"]


def test_a_finished_run_is_checked_again_without_asking_or_changing_the_first_measurement(
    command: list[str], tmp_path: Path
) -> None:
    assert invoke(command) == 0
    folder = only_run(tmp_path)
    first = read_journal(folder.journal).records
    tables = {path.name: path.read_bytes() for path in folder.path.glob("*.csv")}
    assert read_manifest(folder).studies["study2"].recheck is None
    assert invoke([*command, "--recheck", "100"]) == 0
    assert {path.name: path.read_bytes() for path in folder.path.glob("*.csv")} == tables
    again = read_journal(folder.journal).records
    assert {key: again[key] for key in first} == first
    assert {one.stage for key, one in again.items() if key not in first} == {"recheck"}
    assert len(again) == 2 * len(first)
    # The same command finds it done; a smaller share does not undo it.
    lines = read_journal(folder.journal).lines
    assert invoke([*command, "--recheck", "100"]) == 0
    assert invoke([*command, "--recheck", "10"]) == 0
    assert read_journal(folder.journal).lines == lines
    report = read_manifest(folder).studies["study2"].recheck
    assert report is not None
    assert report.planned == 2


def test_an_interrupted_recheck_is_continued(command: list[str], tmp_path: Path) -> None:
    assert invoke([*command, "--recheck", "100"]) == 0
    folder = only_run(tmp_path)
    whole = read_manifest(folder).studies["study2"].recheck
    (journal,) = folder.journal.glob("recheck-*.jsonl")
    journal.write_bytes(journal.read_bytes()[:-5])
    folder.manifest_path.unlink()
    assert invoke([*command, "--recheck", "100"]) == 0
    assert read_manifest(folder).studies["study2"].recheck == whole
    assert invoke(["validate", str(folder.path)]) == 0


def test_numbers_that_do_not_repeat_are_a_warning(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke([*command, "--recheck", "100"]) == 0
    folder = only_run(tmp_path)
    (journal,) = folder.journal.glob("recheck-*.jsonl")
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    lines[0]["value"]["forms"][2]["logprobs"][0] -= 0.25
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    folder.manifest_path.unlink()
    capsys.readouterr()
    assert invoke([*command, "--recheck", "100"]) == 0
    manifest = read_manifest(folder)
    report = manifest.studies["study2"].recheck
    assert report is not None
    assert report.largest_change == pytest.approx(0.25)
    assert report.candidate == "was good"
    (warning,) = [one for one in manifest.warnings if "in another order" in one]
    assert "changed by 0.25 nats, more than 0.01" in warning
    shown = capsys.readouterr().out
    assert "largest change of a log-probability: 0.25 nats (utterance, was good)" in shown


def test_a_recheck_whose_counts_do_not_reconcile_is_found(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke([*command, "--recheck", "100"]) == 0
    folder = only_run(tmp_path)
    manifest = json.loads(folder.manifest_path.read_text())
    manifest["studies"]["study2"]["recheck"]["answered"] += 1
    folder.manifest_path.write_text(json.dumps(manifest))
    assert invoke(["validate", str(folder.path)]) == 1
    assert "study2 recheck: counts do not reconcile" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "field"),
    [("--pmi", "asking.premises_sha256.study2"), ("--terminators", "asking.terminators")],
)
def test_what_is_measured_beside_the_answers_is_part_of_the_identity(
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flag: str,
    field: str,
) -> None:
    assert invoke(command) == 0
    only_run(tmp_path).manifest_path.unlink()
    capsys.readouterr()
    assert invoke([*command, flag]) == 1
    assert f"  {field}: (absent) -> " in capsys.readouterr().err


def test_a_run_of_an_older_version_is_continued_and_says_what_it_lacks(
    command: list[str], tmp_path: Path
) -> None:
    assert invoke(command) == 0
    folder = only_run(tmp_path)
    before = read_table(folder.table("study2", "scores"))
    (journal,) = folder.journal.iterdir()
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines:
        del line["value"]["outside"]
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    folder.manifest_path.unlink()
    assert invoke(command) == 0
    after = read_table(folder.table("study2", "scores"))
    assert after.column("logprob_per_token") == before.column("logprob_per_token")
    assert set(after.column("outside_logprob")) == {""}
    assert all("did not record it" in reason for reason in after.column("not_measured"))
    assert invoke(["validate", str(folder.path)]) == 0


def test_the_plan_shows_what_extras_cost(
    small_inputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--experiment", "exp2", *input_flags(small_inputs)]
    assert invoke(["plan", *flags]) == 0
    shown = capsys.readouterr().out
    assert not any(word in shown for word in ("premise", "--pmi", "--terminators", "--recheck"))
    assert invoke(["plan", *flags, "--pmi", "--terminators", "--recheck", "10"]) == 0
    shown = capsys.readouterr().out
    assert "knowledge premise" in shown
    assert "--pmi: 7 of these queries score the answers after a premise" in shown
    # Study 1: 4 times 11 answers, 4 forms of yes and no, 4 numbers; Study 2: 8. 3 stimuli, 1 premise.
    assert f"--terminators: {4 * (4 * 11 + 4 + 4 + 8)} next-token questions more" in shown
    assert "--recheck 10: 4 of these queries are asked twice" in shown


def test_both_experiments_are_compared_where_both_are_finished(
    toy_runs: tuple[RunFolder, RunFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    out = toy_runs[0].path.parents[2]
    assert invoke(["summarise", str(out)]) == 0
    shown = capsys.readouterr().out
    place = out / "agreement" / "toy" / toy_runs[0].timestamp
    written = sorted(place.iterdir())
    assert [path.name for path in written] == [
        "toy_study1_agreement.csv",
        "toy_study2_agreement.csv",
    ]
    assert all(shown.count(str(path)) == 1 for path in written)
    table = read_table(written[0])
    assert sum(int(rows) for rows in table.column("n_rows")) == 2 * 4
    # It lies outside of both runs, which stay as their manifests say.
    assert invoke(["validate", str(out)]) == 0
    toy_runs[1].manifest_path.unlink()
    for path in written:
        path.unlink()
    assert invoke(["summarise", str(toy_runs[0].path)]) == 0
    assert list(place.iterdir()) == []
