"""`--audit`: what a run keeps of its prompts, beside what it always keeps."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from fake_llamacpp import FakeLlamaCpp, refuse, served
from grace.cli.main import invoke
from grace.engine.audit import read_audit
from grace.engine.journal import read_journal
from grace.runs.folder import RunFolder, find_runs
from grace.runs.manifest import read_manifest
from inputs import input_flags
from processes import Forker, wait_for_lines

FLAGS = ("--extractor", "rules+smollm2-135m", "--recheck", "20")


def tables(folder: RunFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.path.glob("*.csv")}


def test_every_prompt_that_was_sent_is_kept_once_and_tables_are_the_same(
    tmp_path: Path, small_inputs: Mapping[str, Path]
) -> None:
    server = FakeLlamaCpp()
    flags = [*FLAGS, *input_flags(small_inputs)]
    with served(server) as url:
        assert invoke(["run", "--endpoint", url, "--out", str(tmp_path / "plain"), *flags]) == 0
        server.asked.clear()
        command = ["run", "--endpoint", url, "--audit", "--out", str(tmp_path / "kept"), *flags]
        assert invoke(command) == 0
    sent = {one.prompt for one in server.asked}
    kept: set[tuple[int, ...]] = set()
    for plain, folder in zip(
        find_runs(tmp_path / "plain"), find_runs(tmp_path / "kept"), strict=True
    ):
        assert not plain.audit.exists()
        assert tables(plain) == tables(folder)
        copies = list(read_audit(folder.audit))
        hashes = [one.prompt_sha256 for one in copies]
        assert len(hashes) == len(set(hashes))
        records = read_journal(folder.journal).records.values()
        wanted = {
            str(one.value["prompt_sha256"]) for one in records if "prompt_sha256" in one.value
        }
        assert wanted <= set(hashes)
        kept |= {tuple(one.token_ids or ()) for one in copies}
        assert all(one.rendered and one.rendered.endswith("<|assistant|>") for one in copies)
        manifest = read_manifest(folder)
        names = {f"audit/{path.name}" for path in folder.audit.iterdir()}
        assert names == {name for name in manifest.files if name.startswith("audit/")}
        assert not any("audit" in one for one in manifest.warnings)
        # It is not part of what the run is.
        assert "audit" not in json.dumps(folder.read_record().identity.model_dump())
    # A score is asked for after the prompt and the beginning of an answer.
    assert all(any(one[: len(copy)] == copy for one in sent) for copy in kept)
    others = {one for one in sent if not any(one[: len(copy)] == copy for copy in kept)}
    # `connect` probes the server: that is no query of the run.
    assert len(others) <= 1
    assert invoke(["validate", str(tmp_path / "kept")]) == 0


def test_a_copy_that_was_changed_later_is_found(
    tmp_path: Path, small_inputs: Mapping[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--experiment", "exp2", "--study", "study2", "--out", str(tmp_path)]
    assert invoke(["run", "--dry-run", "--audit", "--limit", "1", *flags]) == 0
    (folder,) = find_runs(tmp_path)
    (path,) = folder.audit.iterdir()
    path.write_bytes(path.read_bytes() + b"\n")
    assert invoke(["validate", str(tmp_path)]) == 1
    assert f"{path}: differs from the manifest's hash" in capsys.readouterr().err


def test_a_run_that_is_resumed_goes_on_with_its_copy_and_says_what_it_lacks(
    tmp_path: Path, small_inputs: Mapping[str, Path]
) -> None:
    server = FakeLlamaCpp()
    flags = ["--experiment", "exp2", "--out", str(tmp_path), *input_flags(small_inputs)]
    with served(server) as url:
        command = ["run", "--endpoint", url, *flags]
        server.trouble = lambda number, _: refuse(503, {"Retry-After": "0"}) if number > 9 else None
        assert invoke(command) == 1
        server.trouble = lambda _number, _payload: None
        assert invoke([*command, "--audit"]) == 0
    (folder,) = find_runs(tmp_path)
    manifest = read_manifest(folder)
    (warning,) = [one for one in manifest.warnings if "audit" in one]
    total = len(
        {one.value["prompt_sha256"] for one in read_journal(folder.journal).records.values()}
    )
    copies = len(list(read_audit(folder.audit)))
    assert 0 < copies < total
    assert warning == (
        f"{total - copies} of {total} prompts are not in the audit copy: they were sent without "
        "--audit"
    )


def test_killed_at_any_moment_the_copy_has_every_answered_prompt_once(
    tmp_path: Path, small_inputs: Mapping[str, Path], forker: Forker
) -> None:
    server = FakeLlamaCpp(delay_seconds=0.005)
    out = tmp_path / "out"
    flags = ["--extractor", "rules", "--audit", "--out", str(out), *input_flags(small_inputs)]
    with served(server) as url:
        command = ["run", "--endpoint", url, *flags, "--concurrency", "3"]
        for lines in (2, 7, 13, 20, 26):
            started = forker.start(command, tmp_path / "log")
            wait_for_lines(out, lines)
            started.kill()
            started.wait()
            for folder in find_runs(out):
                check_copy(folder)
        code, shown = forker.run(command, tmp_path / "log")
        assert code == 0, shown
    folders = find_runs(out)
    assert len(folders) == 2
    for folder in folders:
        check_copy(folder)
        assert not any("audit" in one for one in read_manifest(folder).warnings)
    assert invoke(["validate", str(out)]) == 0


def check_copy(folder: RunFolder) -> None:
    hashes = [one.prompt_sha256 for one in read_audit(folder.audit)]
    assert len(hashes) == len(set(hashes))
    records = read_journal(folder.journal).records.values()
    assert {str(one.value["prompt_sha256"]) for one in records} <= set(hashes)


def test_a_full_disk_is_named_and_the_run_goes_on_later(
    tmp_path: Path, small_inputs: Mapping[str, Path], forker: Forker
) -> None:
    out = tmp_path / "out"
    # The copy is larger than the journal: it meets the end of the disk first.
    flags = ["--dry-run", "--audit", "--experiment", "exp1", "--out", str(out)]
    command = ["run", *flags, *input_flags(small_inputs)]
    code, shown = forker.run(command, tmp_path / "log", largest_file=6000)
    assert code == 1
    assert "/audit/respond-0001.jsonl: cannot be written: File too large" in shown
    assert "give the same command again" in shown
    assert "Traceback" not in shown
    code, shown = forker.run(command, tmp_path / "log")
    assert code == 0, shown
    (folder,) = find_runs(out)
    check_copy(folder)
    assert invoke(["validate", str(out)]) == 0
