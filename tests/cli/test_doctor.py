"""`grace doctor`: verdict, exit code, screen and JSON, on servers that behave and misbehave."""

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import grace
from fake_llamacpp import FakeLlamaCpp, refuse, served
from grace.cli.doctor_tables import percent, visible
from grace.cli.main import invoke
from own_study import write_study

MODEL = ("--model", "smollm2-135m")


@pytest.fixture
def server() -> FakeLlamaCpp:
    return FakeLlamaCpp()


@pytest.fixture
def flags(server: FakeLlamaCpp, tmp_path: Path) -> Iterator[list[str]]:
    with served(server) as url:
        yield [*MODEL, *write_study(tmp_path, ["yes", "no"]), "--endpoint", url]


def examined(
    capsys: pytest.CaptureFixture[str], code: int, *flags: str
) -> tuple[dict[str, Any], str]:
    """Return the report on the screen, once its exit code was as expected."""
    assert invoke(["doctor", "--json", "-", *flags]) == code
    shown = capsys.readouterr()
    report: dict[str, Any] = json.loads(shown.out)
    return report, shown.err


def texts(report: dict[str, Any], severity: str) -> list[str]:
    return [one["text"] for one in report["findings"] if one["severity"] == severity]


def test_a_server_that_behaves_is_found_to(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    report, _ = examined(capsys, 0, *flags)
    assert report["verdict"] in {"sound", "sound with warnings"}
    assert texts(report, "unsound") == []
    assert report["server"]["scoring"] == "trie"
    assert report["server"]["context_length"] == 2048
    forced = report["server"]["forced"]
    assert forced["scored"] == pytest.approx(forced["listed"])
    assert forced["scored"] < -1
    assert [one["ways"] for one in report["repeats"]] == [
        "asked again",
        "side by side",
        "trie and sequence",
    ]
    assert [one["largest_nats"] for one in report["repeats"]] == pytest.approx([0, 0, 0])
    (probe,) = report["probes"]
    assert (probe["prompts"], probe["scorable"], probe["measured"]) == (4, 4, 3)
    assert probe["prompt_end"].endswith("<|end|><|assistant|>")
    assert [[token["text"] for token in form["tokens"]] for form in probe["forms"]] == [
        ["y", "e", "s"],
        ["n", "o"],
    ]
    total = sum(form["probability"] for form in probe["forms"])
    low, _, high = probe["coverage"]
    assert low <= total <= high
    assert probe["next_tokens"][0]["probability"] >= probe["next_tokens"][-1]["probability"]


def test_the_screen_shows_tokens_prompt_end_and_verdict(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["doctor", *flags, "--prompts", "1"]) == 0
    out = capsys.readouterr().out
    assert "mine: liked" in out
    assert "<|assistant|> ▏answer" in out
    assert "y│e│s" in out
    assert "repeated scores" in out
    assert "verdict: sound" in out
    assert max(map(len, out.splitlines())) <= 110


def test_answers_that_overlap_are_unsound_and_still_shown(
    tmp_path: Path, server: FakeLlamaCpp, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(server) as url:
        flags = [*write_study(tmp_path, ["1", "10"]), *MODEL, "--endpoint", url]
        report, _ = examined(capsys, 1, *flags)
        assert invoke(["doctor", *flags]) == 1
    assert report["verdict"] == "unsound"
    (text,) = texts(report, "unsound")
    assert text.startswith("4 of 4 prompts: the tokens of '1' (29) begin those of '10' (29, 28)")
    (probe,) = report["probes"]
    assert (probe["scorable"], probe["measured"], probe["coverage"]) == (0, 0, None)
    out = capsys.readouterr().out
    assert "1│0" in out
    assert "verdict: unsound" in out


def test_masked_probabilities_are_unsound(
    server: FakeLlamaCpp, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    server.raw = False
    report, _ = examined(capsys, 1, *flags)
    assert "gives no exact log-probabilities" in texts(report, "unsound")[0]
    assert report["server"]["details"]["logprobs"] == "processed"
    # Tokens can be shown all the same.
    assert report["probes"][0]["forms"][0]["tokens"]


def drifting(nats: float) -> Callable[[Any], Any]:
    """Make each reply of a server a little lower than the one before."""
    numbers = itertools.count()

    def mangle(reply: Any) -> Any:
        lower = nats * (next(numbers) % 2)
        for step in reply.get("completion_probabilities", []):
            step["logprob"] -= lower
            for one in step["top_logprobs"]:
                one["logprob"] -= lower
        return reply

    return mangle


@pytest.mark.parametrize(
    ("nats", "code", "verdict"), [(0.05, 0, "sound with warnings"), (0.9, 1, "unsound")]
)
def test_scores_that_drift_are_found_out(
    server: FakeLlamaCpp,
    flags: list[str],
    nats: float,
    code: int,
    verdict: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Not while the server is probed: that would end the matter.
    mangle = drifting(nats)
    server.mangle = lambda reply: mangle(reply) if len(server.asked) > 2 else reply
    report, _ = examined(capsys, code, *flags)
    assert report["verdict"] == verdict
    found = [*texts(report, "warning"), *texts(report, "unsound")]
    assert any("a score changes by up to" in text for text in found)


def test_prompts_that_fail_are_told(
    server: FakeLlamaCpp, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    server.trouble = lambda number, _: refuse(400) if number > 2 else None
    report, _ = examined(capsys, 1, *flags)
    assert "3 of 3 prompts were not scored" in texts(report, "unsound")[0]
    assert report["repeats"] == []


def test_a_prompt_that_does_not_fit_is_a_warning(
    server: FakeLlamaCpp, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    server.context = 40
    report, _ = examined(capsys, 0, *flags)
    assert report["verdict"] == "sound with warnings"
    assert any("context holds 40" in text for text in texts(report, "warning"))
    assert report["probes"][0]["scorable"] == 3


def test_the_report_is_also_written_to_a_file(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "report.json"
    assert invoke(["doctor", *flags, "--prompts", "1", "--json", str(path)]) == 0
    assert json.loads(path.read_text())["verdict"].startswith("sound")
    assert "verdict: sound" in capsys.readouterr().out


def test_a_base_model_is_shown_with_the_space_before_its_answers(
    server: FakeLlamaCpp, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    report, _ = examined(capsys, 0, "--model", "gemma-3-270m", *flags[2:], "--prompts", "1")
    (probe,) = report["probes"]
    assert probe["prompt_end"].endswith("\nAnswer:")
    assert [form["text"] for form in probe["forms"]] == [" yes", " no"]


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (["--model", "gpt2", "--model", "gemma-3-270m"], "examines one"),
        (["--prompts", "0"], "--prompts"),
        (["--json", "/nowhere/report.json"], "there is no folder /nowhere"),
        (["--study", "study9"], "there is no study 'study9'"),
        (["--endpoint", "localhost"], "expected a URL"),
        (["--limit", "0"], "--limit"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_flags_exit_with_2(
    more: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = [] if "--study" in more else write_study(tmp_path, ["yes", "no"])
    assert invoke(["doctor", *study, *more]) == 2
    assert problem in capsys.readouterr().err


def test_a_server_that_is_away_ends_in_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = write_study(tmp_path, ["yes", "no"])
    assert invoke(["doctor", *flags, *MODEL, "--endpoint", "http://127.0.0.1:9"]) == 1
    assert "nothing answers there" in capsys.readouterr().err


def test_it_can_be_called_from_python_and_with_the_toy(tmp_path: Path) -> None:
    flags = write_study(tmp_path, ["yes", "no"])
    key, path = flags[3].split("=")
    report = grace.doctor(study=flags[1], input={key: path}, dry_run=True, prompts=1)
    assert report.verdict == "sound"
    assert report.findings[0].severity == "note"
    assert report.probes[0].forms[0].text == "yes"


def test_numbers_on_the_screen_are_short_and_not_rounded_to_nothing() -> None:
    assert percent(0.0995) == "10%"
    assert percent(1.0) == "100%"
    assert percent(0.00006) == "0.006%"
    assert visible("\t a\n") == "⇥␣a⏎"
