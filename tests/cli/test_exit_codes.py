import csv
import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fake_llamacpp import FakeLlamaCpp, refuse, served
from grace.cli.main import invoke
from grace.runs.folder import find_runs
from grace.studies.make import make_rows
from inputs import input_flags
from processes import Forker


def grace(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, list[str]]:
    """Run a command line; return exit code, standard output, and the lines of standard error."""
    capsys.readouterr()
    code = invoke([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    assert "Traceback" not in shown.out + shown.err
    return code, shown.out, shown.err.splitlines()


def made(study: str, rows: int) -> list[dict[str, str]]:
    return make_rows(study, rows, 1)


def write(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue())
    return path


def test_0_is_complete(tmp_path: Path, capsys: Any) -> None:
    code, out, _ = grace(capsys, "run", "--dry-run", "--limit", "1", "--out", tmp_path)
    assert code == 0
    assert out.count(": complete") == 2


def test_1_is_failed_with_one_message(tmp_path: Path, capsys: Any) -> None:
    with served(FakeLlamaCpp()) as url:
        pass
    # Nobody listens there any more.
    flags: list[str | Path] = [
        "run",
        "--endpoint",
        url,
        "--server",
        "llamacpp",
        "--out",
        tmp_path / "out",
    ]
    code, _, err = grace(capsys, *flags)
    assert code == 1
    assert err[-1].startswith("error: ") or err[-2].startswith("error: ")


def test_3_is_finished_with_missing_answers(
    tmp_path: Path, small_inputs: dict[str, Path], capsys: Any
) -> None:
    server = FakeLlamaCpp()
    server.trouble = lambda number, _: refuse(400) if number > 2 else None
    with served(server) as url:
        flags: list[str | Path] = ["--endpoint", url, "--out", tmp_path, *input_flags(small_inputs)]
        code, out, _ = grace(capsys, "run", *flags)
    assert code == 3
    assert out.count(": incomplete") == 2
    assert grace(capsys, "status", tmp_path)[0] == 3
    # The tables are what they should be: empty cells with reasons.
    assert grace(capsys, "validate", tmp_path)[0] == 0


def test_an_unfinished_run_is_shown_with_what_is_missing(
    tmp_path: Path, toy_runs: tuple[Any, Any], capsys: Any
) -> None:
    toy_runs[0].manifest_path.unlink()
    code, out, _ = grace(capsys, "status", toy_runs[0].path)
    assert code == 3
    assert "unfinished" in out
    assert "nobody is working on it" in out
    assert f"grace resume {toy_runs[0].path}" in out


def test_2_is_usage_for_a_file_that_is_not_there(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "nowhere.csv"
    code, _, err = grace(
        capsys, "run", "--dry-run", "--input", f"study1={path}", "--out", tmp_path / "out"
    )
    assert code == 2
    assert err == [
        f"error: {path}: no such file; give the CSV of study1 as --input study1=PATH",
    ]
    assert not (tmp_path / "out").exists()


def test_a_wrong_column_is_named_with_those_that_are_expected(tmp_path: Path, capsys: Any) -> None:
    rows = [
        {"speeech" if name == "speech" else name: cell for name, cell in row.items()}
        for row in made("study1", 3)
    ]
    path = write(tmp_path / "study1.csv", rows)
    code, _, err = grace(
        capsys, "run", "--dry-run", "--input", f"study1={path}", "--out", tmp_path / "out"
    )
    assert code == 2
    text = "\n".join(err)
    assert "header: unknown column 'speeech'" in text
    assert "column 'speech' (or speach) is missing" in text
    assert not (tmp_path / "out").exists()


def test_a_bad_value_in_row_1700_is_one_message_with_everything_in_it(
    tmp_path: Path, capsys: Any
) -> None:
    rows = made("study2", 2000)
    rows[1699]["State"] = "5 hearts"
    path = write(tmp_path / "trials.csv", rows)
    code, _, err = grace(
        capsys, "run", "--dry-run", "--input", f"study2={path}", "--out", tmp_path / "out"
    )
    assert code == 2
    assert err == [
        f"error: {path}: 1 fault; nothing was sent",
        f"{path}, row 1700: State is '5 hearts'; expected 0 hearts, 1 heart, 2 hearts or 3 hearts",
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--model", "smollm"], "there is no model 'smollm'"),
        (["--study", "study9"], "there is no study 'study9'"),
        (["--experiment", "exp3"], "experiment"),
        (["--input", "study1"], "expected STUDY=CSV"),
        (["--input", "study1=a", "--input", "study1=b"], "gives study1 twice"),
        (["--timestamp", "yesterday"], "expected UTC as 20260131T235959Z"),
        (["--new", "--timestamp", "20260131T235959Z"], "leave out --timestamp"),
        (["--seed", "-1"], "seed"),
        (["--temperature", "9"], "temperature"),
        (["--limit", "-3"], "limit"),
        (["--concurrency", "100000"], "concurrency"),
        (["--scoring", "magic"], "scoring"),
        (["--server", "ollama"], "server"),
        (["--extractor", "deepseek"], "DEEPSEEK_API_KEY"),
        (["--catalogue", "/nowhere/catalogue.yaml"], "/nowhere/catalogue.yaml"),
        (["--config", "/nowhere/grace.yaml"], "No such file"),
        (["--limit", "many"], "Invalid value for '--limit'"),
        (["--no-such-flag"], "--no-such-flag"),
        (["surplus"], "surplus"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_flags_exit_with_2_and_say_what_is_wrong(
    tmp_path: Path, capsys: Any, arguments: list[str], problem: str
) -> None:
    flags = ["--dry-run"] if "--model" not in arguments else []
    code, _, err = grace(capsys, "run", *flags, "--out", tmp_path / "out", *arguments)
    assert code == 2
    assert problem in " ".join(err)
    assert not (tmp_path / "out").exists()


def test_an_address_that_is_none_leaves_no_folder(tmp_path: Path, capsys: Any) -> None:
    flags: list[str | Path] = [
        "--endpoint",
        "localhost:8000",
        "--model",
        "gpt2",
        "--out",
        tmp_path / "out",
    ]
    code, _, err = grace(capsys, "run", *flags)
    assert code == 2
    assert "expected a URL such as" in err[-1]
    assert not (tmp_path / "out").exists()


def test_an_out_that_is_a_file_is_refused(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "out").write_text("")
    code, _, err = grace(capsys, "run", "--dry-run", "--limit", "1", "--out", tmp_path / "out")
    assert code == 2
    assert "which is a file; expected a folder" in err[-1]


def test_an_out_beneath_a_file_ends_in_a_message(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = grace(
        capsys, "run", "--dry-run", "--limit", "1", "--out", tmp_path / "file" / "out"
    )
    assert code in {1, 2}
    assert "choose another --out" in err[-1]


def test_the_same_experiment_twice_is_refused_or_run_once(tmp_path: Path, capsys: Any) -> None:
    twice = ["--experiment", "exp1", "--experiment", "exp1"]
    code, out, _ = grace(capsys, "run", "--dry-run", "--limit", "1", "--out", tmp_path, *twice)
    assert code == 2 or out.count("Experiment 1") == 1


@pytest.mark.parametrize("command", ["status", "validate", "summarise"])
@pytest.mark.parametrize("kind", ["nothing", "empty folder", "file"])
def test_a_path_without_a_run_is_refused(
    tmp_path: Path, capsys: Any, command: str, kind: str
) -> None:
    path = tmp_path / "path"
    if kind == "empty folder":
        path.mkdir()
    elif kind == "file":
        path.write_text("")
    code, _, err = grace(capsys, command, path)
    assert code == 1
    assert "holds no run" in err[0]


def test_resuming_what_is_no_run_is_refused(tmp_path: Path, capsys: Any) -> None:
    code, _, err = grace(capsys, "resume", tmp_path)
    assert code == 1
    assert "is not a run folder" in err[0]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', "\0"])
@pytest.mark.parametrize("command", ["status", "validate", "summarise", "resume"])
def test_a_broken_record_ends_in_a_message(
    toy_runs: tuple[Any, Any], capsys: Any, command: str, content: str
) -> None:
    toy_runs[0].record_path.write_text(content)
    toy_runs[0].manifest_path.unlink()
    code, _, err = grace(capsys, command, toy_runs[0].path)
    assert code == 1
    assert err[0].startswith(("error: ", "FAULTY "))


@pytest.mark.parametrize("command", ["status", "validate", "summarise", "resume"])
def test_a_broken_manifest_ends_in_a_message(
    toy_runs: tuple[Any, Any], capsys: Any, command: str
) -> None:
    toy_runs[0].manifest_path.write_text("{}")
    code, _, err = grace(capsys, command, toy_runs[0].path)
    assert code == 1
    assert "manifest.json" in err[-1]


def test_validate_goes_on_after_an_unfinished_run(toy_runs: tuple[Any, Any], capsys: Any) -> None:
    toy_runs[0].manifest_path.unlink()
    path = toy_runs[1].table("study1", "probabilities")
    path.write_bytes(path.read_bytes().replace(b"0.", b"1.", 1))
    code, _, err = grace(capsys, "validate", toy_runs[0].path.parents[2])
    assert code == 1
    assert "is not finished" in "\n".join(err)
    assert str(path) in "\n".join(err)


def test_summarise_writes_the_summaries_again_and_the_run_stays_valid(
    toy_runs: tuple[Any, Any], capsys: Any
) -> None:
    for folder in toy_runs:
        before = folder.table("study1", "summary").read_bytes()
        folder.table("study1", "summary").unlink()
        code, out, _ = grace(capsys, "summarise", folder.path)
        assert code == 0
        assert folder.table("study1", "summary").read_bytes() == before
        assert str(folder.table("study1", "summary")) in out
        assert grace(capsys, "validate", folder.path)[0] == 0


def test_plan_sends_nothing_and_writes_nothing(
    tmp_path: Path, small_inputs: dict[str, Path], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = grace(capsys, "plan", *input_flags(small_inputs))
    assert code == 0
    assert "Nothing was sent." in out
    # 4 rows: 12 + 4 responses; 3 stimuli: 18 + 3 distributions.
    assert "37 queries for each model" in out
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_named_with_the_remedy(tmp_path: Path, forker: Forker) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    entry = {
        "title": "Mine",
        "repository": "someone/model",
        "licence": {
            "id": "mit",
            "name": "MIT",
            "url": "https://example.org/mit",
            "commercial_use": "yes",
        },
        "server": "llamacpp",
        "context_length": 2048,
        "cpu": 1,
        "memory_gb": 1,
        "disk_gb": 1,
        "prompt_mode": "completion",
        "weights": "file://model.gguf",
    }
    catalogue = tmp_path / "mine.yaml"
    catalogue.write_text(json.dumps({"models": {"mine": entry}}))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        flags = ["mine", "--port", str(port), "--catalogue", str(catalogue)]
        code, shown = forker.run(["serve", *flags], tmp_path / "log")
    assert code == 1
    assert f"port {port} is in use; choose another with --port" in shown
    assert "Traceback" not in shown


def test_serve_refuses_what_llama_cpp_does_not_run(capsys: Any) -> None:
    code, _, err = grace(capsys, "serve", "gpt2")
    assert code == 2
    assert "gpt2 is served by vllm" in err[0]


def test_a_full_disk_ends_in_a_message_and_the_run_goes_on_later(
    tmp_path: Path, small_inputs: dict[str, Path], forker: Forker
) -> None:
    flags: list[str | Path] = [
        *("run", "--dry-run", "--out"),
        tmp_path / "out",
        *input_flags(small_inputs),
    ]
    # Enough for run.json, too little for the journal.
    code, shown = forker.run(flags, tmp_path / "log", largest_file=3000)
    assert code == 1
    assert "File too large" in shown
    assert "give the same command again" in shown
    assert "Traceback" not in shown
    assert forker.run(flags, tmp_path / "log") == (0, (tmp_path / "log").read_text())
    assert all(folder.closed for folder in find_runs(tmp_path / "out"))


def test_python_m_grace_is_grace(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "grace", "plan", "--study", "study9"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "100"},
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no study 'study9'")
    assert done.stdout == ""
