"""Whole runs by the command line: killed and continued, and on a server that can do less."""

import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from exact.figures import Figure, table_of
from grace.engine.journal import read_journal
from grace.runs.csvfile import read_table
from grace.runs.folder import RunFolder, find_runs
from grace.runs.manifest import read_manifest
from inputs import input_flags
from processes import Command, Forker, wait_for_lines

pytestmark = pytest.mark.vllm

MODEL = "smollm2-135m"
LIMIT = 2
PATIENCE_SECONDS = 1800.0
SCORES_LIMIT = 1e-4


@dataclass
class Commands:
    """Starts runs of the same cells, each into a folder of its own."""

    forker: Forker
    inputs: Mapping[str, Path]
    folder: Path
    started: int = field(default=0)

    def start(self, out: str, url: str, *more: str) -> Command:
        self.started += 1
        flags = ["--model", MODEL, "--extractor", MODEL, "--limit", str(LIMIT), *more]
        return self.forker.start(
            ["run", "--endpoint", url, "--out", self.folder / out, *flags, *self._inputs],
            self.folder / f"log{self.started}",
        )

    def run(self, out: str, url: str, *more: str) -> Path:
        command = self.start(out, url, *more)
        assert command.wait(PATIENCE_SECONDS) == 0, command.output
        return self.folder / out

    @property
    def _inputs(self) -> list[str]:
        return input_flags(self.inputs)


@pytest.fixture(scope="module")
def commands(
    forker: Forker, small_inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Commands:
    """Both studies, both experiments, and extraction by the model itself."""
    return Commands(forker, small_inputs, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def whole(commands: Commands, vllm_url: str) -> Path:
    """The folder of runs that nothing interrupted."""
    return commands.run("whole", vllm_url)


@pytest.fixture(scope="module")
def continued(commands: Commands, vllm_url: str) -> Path:
    """The same, killed three times: among responses, extractions and scores."""
    out = commands.folder / "continued"
    held: dict[Path, bytes] = {}
    # 8 responses, 4 extractions, 14 distributions.
    for lines in (4, 10, 18):
        command = commands.start(out.name, vllm_url)
        wait_for_lines(out, lines, PATIENCE_SECONDS)
        command.kill()
        assert command.wait() == -signal.SIGKILL
        # What was written before is still there, to the last byte.
        journals = {path: path.read_bytes() for path in out.rglob("journal/*")}
        assert all(journals[path] == content for path, content in held.items())
        held = journals
    return commands.run(out.name, vllm_url)


def tables(out: Path) -> dict[str, bytes]:
    """Return everything that runs publish, but for manifests."""
    return {
        f"{folder.experiment}/{path.name}": path.read_bytes()
        for folder in find_runs(out)
        for path in folder.path.iterdir()
        if path.suffix in {".csv", ".jsonl"}
    }


def scores(folder: RunFolder) -> dict[tuple[str, ...], float]:
    """Return the log-probabilities of a run, by study, row, probe and answer."""
    found = {}
    for study in ("study1", "study2"):
        table = read_table(folder.table(study, "scores"))
        columns = [table.column(name) for name in ("row", "probe", "candidate", "logprob")]
        for *place, logprob in zip(*columns, strict=True):
            found[study, *place] = float(logprob)
    return found


def score_differences(first: RunFolder, second: RunFolder) -> list[float]:
    """Return by how much the log-probabilities of two runs of the same cells differ."""
    one, other = scores(first), scores(second)
    assert one.keys() == other.keys()
    return [abs(one[place] - other[place]) for place in one]


def test_a_run_is_complete_and_valid(whole: Path, commands: Commands) -> None:
    code, output = commands.forker.run(["validate", whole], commands.folder / "validate")
    assert code == 0, output
    assert output.count("valid ") == 2
    responses, probabilities = find_runs(whole)
    for folder in (responses, probabilities):
        manifest = read_manifest(folder)
        assert manifest.complete
        assert manifest.identity.server["dialect"] == "vllm"
        assert manifest.identity.server["version"] == "0.32.0"
        assert manifest.identity.server["logprobs_mode"] == "raw"
        assert all(report.rows == LIMIT for report in manifest.studies.values())
    assert read_manifest(responses).identity.asking["extractor"] == MODEL
    assert read_manifest(probabilities).identity.asking["scoring"] == "trie"


def test_killed_three_times_no_finished_query_is_asked_again(whole: Path, continued: Path) -> None:
    for one, other in zip(find_runs(whole), find_runs(continued), strict=True):
        complete, resumed = read_journal(one.journal), read_journal(other.journal)
        assert resumed.records.keys() == complete.records.keys()
        assert len(resumed.records) == resumed.lines


def test_killed_three_times_responses_are_those_of_an_uninterrupted_run(
    whole: Path, continued: Path
) -> None:
    expected, found = tables(whole), tables(continued)
    assert found.keys() == expected.keys()
    for name in expected:
        if name.startswith("exp1/"):
            assert found[name] == expected[name], name


def test_killed_three_times_scores_are_those_of_an_uninterrupted_run(
    whole: Path, continued: Path, printed: list[Any]
) -> None:
    # Not to the last byte: cache and company may change vLLM's sums, on some processors.
    differences = score_differences(find_runs(whole)[1], find_runs(continued)[1])
    figure = Figure("runs: uninterrupted and killed", differences, limit=SCORES_LIMIT)
    printed.append(table_of([figure]))
    assert figure.passed


def test_killed_before_it_was_closed_the_tables_are_the_same_to_the_last_byte(
    continued: Path, commands: Commands, vllm_url: str
) -> None:
    again = commands.folder / "again"
    shutil.copytree(continued, again)
    expected = tables(again)
    for folder in find_runs(again):
        folder.manifest_path.unlink()
        for path in folder.path.glob("*.csv"):
            path.unlink()
    lines = [read_journal(folder.journal).lines for folder in find_runs(again)]
    commands.run("again", vllm_url)
    assert tables(again) == expected
    assert [read_journal(folder.journal).lines for folder in find_runs(again)] == lines


def test_a_server_that_cannot_list_tokens_is_asked_for_whole_answers(
    whole: Path, commands: Commands, older_url: str, printed: list[Any]
) -> None:
    (folder,) = find_runs(commands.run("older", older_url, "--experiment", "exp2"))
    assert read_manifest(folder).identity.asking["scoring"] == "sequence"
    differences = score_differences(find_runs(whole)[1], folder)
    figure = Figure("runs: trie and sequence", differences, limit=SCORES_LIMIT)
    printed.append(table_of([figure]))
    assert figure.passed


def test_a_run_is_not_continued_by_the_other_method(
    continued: Path, commands: Commands, older_url: str
) -> None:
    shutil.copytree(continued, commands.folder / "other")
    for folder in find_runs(commands.folder / "other"):
        folder.manifest_path.unlink()
    command = commands.start("other", older_url, "--experiment", "exp2")
    assert command.wait(PATIENCE_SECONDS) == 1
    assert "asking.scoring: trie -> sequence" in " ".join(command.output.split())
