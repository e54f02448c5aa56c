"""A run of Experiment 2 is refused before its first score, if it cannot be scored."""

import json
from pathlib import Path

import pytest

from fake_llamacpp import FakeLlamaCpp, refuse, served
from grace.cli.main import invoke
from grace.runs.csvfile import read_table
from grace.runs.folder import find_runs
from own_study import write_study

ENTRY = {
    "title": "Mine",
    "licence": {"id": "mit", "name": "MIT", "url": "https://example.org", "commercial_use": "yes"},
    "server": "llamacpp",
    "context_length": 2048,
    "cpu": 1,
    "memory_gb": 1,
    "disk_gb": 1,
    "prompt_mode": "chat",
    "weights": "file://model.gguf",
}


def run(out: Path, *flags: str) -> int:
    return invoke(["run", "--experiment", "exp2", "--out", str(out), *flags])


def catalogue(folder: Path, **entry: str) -> list[str]:
    path = folder / "models.yaml"
    path.write_text(json.dumps({"models": {"own": {**ENTRY, **entry}}}))
    return ["--catalogue", str(path), "--model", "own"]


def test_answers_that_begin_each_other_refuse_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = write_study(tmp_path, ["1", "10"])
    assert run(tmp_path / "out", "--dry-run", *flags) == 1
    err = capsys.readouterr().err
    assert "toy: answers that cannot be scored exactly; no probability was asked for" in err
    assert "mine, probe liked, after any of its 4 prompts:" in err
    assert "the tokens of '1' (29) begin those of '10' (29, 28)" in err
    assert "give both an ending, such as % or a full stop" in err
    assert "`grace doctor`" in err
    assert not list((tmp_path / "out").rglob("run.json"))


def test_an_answer_that_merges_with_the_models_prefix_refuses_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = FakeLlamaCpp()
    flags = write_study(tmp_path, ["yes", "no"])
    with served(server) as url:
        merging = catalogue(tmp_path, answer_prefix="Answer:")
        assert run(tmp_path / "out", "--endpoint", url, *flags, *merging) == 1
        err = capsys.readouterr().err
        assert "own: answers that cannot be scored exactly" in err
        assert "the answer 'no' merges with the prompt's end" in err
        assert "the token ':n' (3) belongs to both" in err
        # The two requests of the probe on connecting, and no more.
        assert len(server.asked) == 2
        mended = catalogue(tmp_path, answer_prefix="Answer: ")
        assert run(tmp_path / "out", "--endpoint", url, *flags, *mended) == 0


def test_a_prompt_that_does_not_fit_is_a_warning_and_a_failed_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = FakeLlamaCpp(context=40)
    flags = write_study(tmp_path, ["yes", "no"])
    with served(server) as url:
        server.trouble = lambda _number, payload: (
            refuse(400) if len(payload["prompt"]) > 40 else None
        )
        assert run(tmp_path / "out", "--endpoint", url, *flags, *catalogue(tmp_path)) == 3
    err = capsys.readouterr().err
    assert "mine, probe liked: some of its 4 prompts cannot be scored" in err
    assert "the server's context holds 40" in err
    (folder,) = find_runs(tmp_path / "out")
    table = read_table(folder.table("mine", "scores"))
    failed = [error for error in table.column("error") if error]
    assert failed
    assert set(table.column("status")) == {"answered", "failed"}


def test_a_context_too_small_for_every_prompt_refuses_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = FakeLlamaCpp(context=10)
    flags = write_study(tmp_path, ["yes", "no"])
    with served(server) as url:
        assert run(tmp_path / "out", "--endpoint", url, *flags, *catalogue(tmp_path)) == 1
    err = capsys.readouterr().err
    assert "after any of its 4 prompts:" in err
    assert "but the server's context holds 10" in err


def test_the_check_asks_little_before_it_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = FakeLlamaCpp()
    flags = write_study(tmp_path, ["1", "10"], [f"word {number}" for number in range(200)])
    with served(server) as url:
        assert run(tmp_path / "out", "--endpoint", url, *flags, *catalogue(tmp_path)) == 1
    assert "after 32 of 200 prompts:" in capsys.readouterr().err
    # One for each prompt, and a few for the template and the answers.
    assert server.tokenized < 32 + 16
    assert len(server.asked) == 2


def test_checking_a_sound_run_costs_no_more_for_more_rows(tmp_path: Path) -> None:
    server = FakeLlamaCpp()
    flags = write_study(tmp_path, ["yes", "no"], [f"word {number}" for number in range(12)])
    counted = []
    with served(server) as url:
        for limit in ("3", "12"):
            server.tokenized = 0
            out = tmp_path / limit
            more = ["--limit", limit, "--concurrency", "1", *catalogue(tmp_path)]
            assert run(out, "--endpoint", url, *flags, *more) == 0
            counted.append(server.tokenized)
    # Each further row costs the one encoding of its own query.
    assert counted[1] - counted[0] == 9
