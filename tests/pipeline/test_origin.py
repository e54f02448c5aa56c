"""A run that came from a cluster is gone on with there."""

import shutil
from pathlib import Path

import pytest

from grace.pipeline.origin import POD_RESULTS, Origin, cluster_command, write_origin
from grace.pipeline.reopen import input_copies
from grace.runs.folder import RunFolder, RunRecord


@pytest.fixture
def collected(toy_runs: tuple[RunFolder, RunFolder], tmp_path: Path) -> tuple[RunFolder, RunRecord]:
    """A run folder as a pod wrote it, somewhere else."""
    first = toy_runs[0]
    folder = RunFolder(tmp_path / "my results" / first.experiment / first.model / first.timestamp)
    shutil.copytree(first.path, folder.path)
    record = folder.read_record()
    request = record.request.model_copy(update={"out": Path(POD_RESULTS)})
    return folder, record.model_copy(update={"request": request})


def test_its_namespace_is_the_one_that_was_noted(collected: tuple[RunFolder, RunRecord]) -> None:
    folder, record = collected
    out = folder.path.parents[2]
    begun = f"grace cluster resume {folder.timestamp} --namespace"
    assert cluster_command(folder, record) == f"{begun} NAMESPACE --out '{out}'"
    input_copies(out, folder.timestamp).mkdir(parents=True)
    write_origin(out, folder.timestamp, Origin(namespace="lab"))
    assert cluster_command(folder, record) == f"{begun} lab --out '{out}'"
    for odd in (
        '{"namespace": 7}',
        '{"namespace": "lab; rm x"}',
        '{"namespace": "\\u001b[2J"}',
        "",
    ):
        (input_copies(out, folder.timestamp) / "cluster.json").write_text(odd)
        assert cluster_command(folder, record) == f"{begun} NAMESPACE --out '{out}'"


def test_the_usual_folder_need_not_be_named(
    collected: tuple[RunFolder, RunRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, record = collected
    out = folder.path.parents[2]
    out.rename(out.with_name("results"))
    monkeypatch.chdir(out.parent)
    here = RunFolder(Path("results", *folder.path.parts[-3:]))
    assert cluster_command(here, record).endswith("--namespace NAMESPACE")


def test_a_run_of_this_machine_and_one_in_its_pod_go_on_where_they_are(
    collected: tuple[RunFolder, RunRecord],
) -> None:
    folder, record = collected
    assert cluster_command(folder, folder.read_record()) == ""
    in_pod = RunFolder(Path(POD_RESULTS, *folder.path.parts[-3:]))
    assert cluster_command(in_pod, record) == ""
