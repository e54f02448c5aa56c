"""Every field of a run's identity stops a resume that differs in it, and is named."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fake_llamacpp import FakeLlamaCpp, served
from grace.cli.main import invoke
from grace.engine.journal import read_journal
from grace.runs.folder import RunFolder, find_runs
from grace.settings import RunSettings
from inputs import input_flags

MODEL = ("--model", "smollm2-135m")
STAMP = "20260131T235959Z"
EXTRACTOR = ("--extractor", "rules+smollm2-135m")

# What must be there, whatever else is. Which file was read, who was asked, and how.
NEEDED = {
    "exp1": {
        "experiment",
        "model.key",
        "model.repository",
        "model.revision",
        "model.weights",
        "model.prompt_mode",
        "model.answer_prefix",
        "model.lora_base",
        "studies.study1.input_sha256",
        "studies.study1.definition_sha256",
        "studies.study1.rows",
        "server.dialect",
        "server.version",
        "server.model",
        "server.quantisation",
        "server.context_length",
        "server.chat_template_sha256",
        "asking.sampling.temperature",
        "asking.sampling.top_p",
        "asking.sampling.top_k",
        "asking.sampling.min_p",
        "asking.seed",
        "asking.replicates",
        "asking.extractor",
        "asking.layout_sha256",
    },
    "exp2": {
        "model.answer_separator",
        "model.end_of_turn",
        "model.reasoning",
        "studies.study2.stimuli",
        "server.logprobs",
        "asking.scoring",
        "asking.layout_sha256",
        "asking.terminators",
        "asking.premises_sha256.study1",
    },
}

# Settings that change no number, so that a run may go on under others.
NOT_IDENTITY = {
    "as_catalogued",
    "endpoint",
    "server",
    "api_key_env",
    "audit",
    "request_seconds",
    "attempts",
    "patience_seconds",
    "retry_wait_seconds",
    "out",
    "timestamp",
    "concurrency",
    "extractor_endpoint",
    "recheck",
    "catalogue",
    "threads",
    "drain_seconds",
    "new",
    "retry_failed",
}
IDENTITY = {
    "study": "studies.",
    "input": "studies.",
    "limit": "studies.",
    "experiment": "experiment",
    "model": "model.",
    "dry_run": "model.",
    "seed": "asking.seed",
    "replicates": "asking.replicates",
    "temperature": "asking.sampling.temperature",
    "top_p": "asking.sampling.top_p",
    "top_k": "asking.sampling.top_k",
    "min_p": "asking.sampling.min_p",
    "extractor": "asking.extractor",
    "scoring": "asking.scoring",
    "pmi": "asking.premises_sha256",
    "terminators": "asking.terminators",
}


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))
    else:
        yield path


def changed(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return f"{value}, but another"


@pytest.mark.parametrize("experiment", ["exp1", "exp2"])
def test_a_difference_in_any_field_stops_the_run_and_is_named(
    experiment: str,
    tmp_path: Path,
    small_inputs: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    server, out = FakeLlamaCpp(), tmp_path / "out"
    flags = [*MODEL, *EXTRACTOR, *input_flags(small_inputs), "--experiment", experiment]
    flags += ["--out", str(out), "--limit", "1", "--pmi", "--terminators"]
    stage = "respond" if experiment == "exp1" else "score"
    with served(server) as url:
        flags += ["--endpoint", url]
        assert invoke(["stage", stage, "--timestamp", STAMP, *flags]) == 0
        (folder,) = find_runs(out)
        written = folder.record_path.read_bytes()
        journals = {path: path.read_bytes() for path in folder.journal.iterdir()}
        fields = set(leaves(json.loads(written)["identity"]))
        assert {".".join(path) for path in fields} >= NEEDED[experiment]
        for path in sorted(fields):
            record = json.loads(written)
            inner = record["identity"]
            for name in path[:-1]:
                inner = inner[name]
            inner[path[-1]] = changed(inner[path[-1]])
            folder.record_path.write_text(json.dumps(record))
            capsys.readouterr()
            code = invoke(["run", *flags])
            shown = capsys.readouterr().err
            assert code == 1, path
            assert f"  {'.'.join(path)}: " in shown
            assert shown.count(" -> ") == 1, shown
            assert "--new" in shown
        assert {path: path.read_bytes() for path in folder.journal.iterdir()} == journals
        assert not folder.closed
        # The identity is as it was: the run goes on.
        folder.record_path.write_bytes(written)
        assert invoke(["run", *flags]) == 0


def test_every_setting_is_part_of_the_identity_or_changes_no_number() -> None:
    assert set(RunSettings.model_fields) == NOT_IDENTITY | set(IDENTITY)


@pytest.mark.parametrize("experiment", ["exp1", "exp2"])
def test_the_identity_is_on_the_disk_before_the_first_query(
    experiment: str, tmp_path: Path, small_inputs: dict[str, Path]
) -> None:
    out, server = tmp_path / "out", FakeLlamaCpp()
    seen: list[list[str]] = []

    def look(_number: int, _payload: Mapping[str, Any]) -> None:
        # Before there is a folder, the server itself is examined.
        if list(out.glob("*/*/*")):
            seen.append([path.name for path in out.rglob("*.json")])

    server.trouble = look
    flags = [*MODEL, "--extractor", "rules", *input_flags(small_inputs), "--out", str(out)]
    with served(server) as url:
        assert invoke(["run", *flags, "--endpoint", url, "--experiment", experiment]) == 0
    queries = [names for names in seen if names]
    assert len(queries) > 10
    assert all(names == ["run.json"] for names in queries)
    # What was sent before are the two questions of connecting.
    assert len(seen) - len(queries) == 2


@pytest.fixture
def half_extracted(
    tmp_path: Path, small_inputs: dict[str, Path]
) -> Iterator[tuple[RunFolder, FakeLlamaCpp, list[str]]]:
    """A run whose extraction by another server's model ended in the middle."""
    answering, extracting, out = FakeLlamaCpp(), FakeLlamaCpp(), tmp_path / "out"
    flags = [*MODEL, "--extractor", "smollm2-135m", *input_flags(small_inputs)]
    flags += ["--experiment", "exp1", "--out", str(out)]
    with served(answering) as url, served(extracting) as other:
        command = ["run", *flags, "--endpoint", url, "--extractor-endpoint", other]
        assert invoke(command) == 0
        (folder,) = find_runs(out)
        folder.manifest_path.unlink()
        for journal in folder.journal.glob("extract-*.jsonl"):
            lines = journal.read_bytes().splitlines(keepends=True)
            journal.write_bytes(b"".join(lines[: len(lines) // 2]))
        yield folder, extracting, command


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("build", "extractor.server.version"),
        ("template", "extractor.server.chat_template_sha256"),
        ("model", "extractor.server.model"),
    ],
)
def test_an_extraction_goes_on_with_the_same_extractor_only(
    half_extracted: tuple[RunFolder, FakeLlamaCpp, list[str]],
    field: str,
    name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, extracting, command = half_extracted
    before = len(read_journal(folder.journal).records)
    was = getattr(extracting, field)
    setattr(extracting, field, "another")
    capsys.readouterr()
    assert invoke(command) == 1
    shown = capsys.readouterr().err
    assert f"  {name}: " in shown
    assert "--new" in shown
    assert len(read_journal(folder.journal).records) == before
    setattr(extracting, field, was)
    assert invoke(command) == 0
    assert len(read_journal(folder.journal).records) > before
