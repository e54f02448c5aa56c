"""The order in which a run reaches the disk: nothing counts before what it rests on."""

import os
from pathlib import Path

import pytest

from grace.cli.main import invoke
from grace.runs.folder import find_runs
from inputs import input_flags


def test_folders_identity_journal_tables_and_manifest_reach_the_disk_in_this_order(
    tmp_path: Path, small_inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # No test can cut the power: what is forced to the disk is noted instead.
    synced: list[Path] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").resolve())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    out = tmp_path / "new" / "out"
    flags = ["--dry-run", "--experiment", "exp1", *input_flags(small_inputs)]
    assert invoke(["run", *flags, "--out", str(out)]) == 0
    (folder,) = find_runs(out)
    names = [str(path.relative_to(tmp_path.resolve())) for path in synced]
    run = str(folder.path.relative_to(tmp_path))
    cell = str(folder.path.parent.relative_to(tmp_path))

    def place(name: str) -> int:
        return names.index(name)

    # The folders, before the run is begun.
    for parent in (".", "new", "new/out", "new/out/exp1", cell):
        assert place(parent) < place(f"{run}/.run.json.part")
    assert place(f"{run}/.run.json.part") < place(run) < place(f"{run}/journal")
    assert place(f"{run}/journal") < place(f"{run}/journal/respond-0001.jsonl")
    assert place(f"{run}/journal/respond-0001.jsonl") < place(
        f"{run}/.toy_study1_raw_responses.csv.part"
    )
    # The last two: the manifest's content, and its name.
    assert names[-2:] == [f"{run}/.manifest.json.part", run]
