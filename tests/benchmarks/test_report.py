import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import report as module
from benchmarks.material import Workload, fewest_tokens, plan_counts, write_sample
from benchmarks.report import Report, Target
from benchmarks.tasks import largest_difference


def test_blocks_are_computed_once_and_the_rest_of_a_prompt_each_time() -> None:
    prompt = tuple(range(70))
    nodes = [prompt, (*prompt, 1), (*prompt, 2), (*prompt, 1, 5)]
    # 70 once, then what lies behind two blocks of 32.
    assert fewest_tokens(nodes, 32) == 70 + 7 + 7 + 8
    # A prompt of whole blocks has its last one computed again: something must be computed.
    assert fewest_tokens([prompt[:64], prompt[:64]], 32) == 64 + 32


def test_a_target_that_was_not_measured_is_not_met() -> None:
    assert Target("x", None, 2).verdict == "not measured"
    assert Target("x", 2.0, 2).verdict == "met"
    assert Target("x", 1.9, 2).verdict == "missed"
    assert Target("x", 1.9, 2, at_least=False).verdict == "met"


def test_tools_that_scored_different_strings_are_not_compared() -> None:
    with pytest.raises(KeyError, match="no"):
        largest_difference({"a": {"yes": -1.0}}, {"a": {"no": -1.0}})
    with pytest.raises(KeyError, match="one tool only"):
        largest_difference({"a": {}}, {"b": {}})


def test_a_report_is_printed_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    report = Report("some")
    report.add("Costs", {"tool": "grace", "wall s": 1234.5})
    report.add("Costs", {"tool": "echo", "wall s": None, "requests": 7})
    report.targets.append(Target("times faster", 3.25, 5, note="why"))
    console = Console(width=100, record=True, file=(tmp_path / "screen").open("w"))
    report.show(console)
    console.file.close()
    shown = console.export_text()
    assert "1,23" in shown
    assert "missed" in shown
    written = json.loads(report.write().read_text("utf-8"))
    assert written["targets"][0]["verdict"] == "missed"
    assert str(tmp_path) not in json.dumps(written)


def test_a_sample_has_one_row_for_each_of_its_stimuli(
    tmp_path: Path, small_inputs: dict[str, Path]
) -> None:
    everything = Workload(title="", study="study2", input=small_inputs["study2"])
    counts = plan_counts(everything)
    assert (counts.distinct, counts.asked) == (3, 4)
    sample = write_sample(everything, 2, tmp_path / "sample.csv")
    assert plan_counts(sample).asked == 2
    assert plan_counts(write_sample(everything, 99, tmp_path / "all.csv")).asked == 3
