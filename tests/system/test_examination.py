"""`grace doctor` on the embedded server and the default model."""

import json
from pathlib import Path

import pytest

from grace.catalogue.progress import SilentProgress
from grace.catalogue.spec import load_catalogue
from grace.catalogue.store import default_store
from grace.catalogue.weights import ensure_weights
from own_study import write_study
from processes import Forker

pytestmark = pytest.mark.slow

MODEL = "smollm2-135m"


PATIENCE_SECONDS = 1800.0


@pytest.fixture(scope="module", autouse=True)
def _weights() -> None:
    ensure_weights(load_catalogue().get(MODEL), default_store(), SilentProgress())


def grace(forker: Forker, folder: Path, *arguments: str) -> tuple[int, str]:
    command = forker.start([*arguments, "--threads", "1"], folder / "log")
    return command.wait(PATIENCE_SECONDS), command.output


def test_the_embedded_model_is_sound_and_repeats_to_the_last_bit(
    tmp_path: Path, forker: Forker
) -> None:
    report = tmp_path / "report.json"
    flags = [*write_study(tmp_path, ["yes", "no"]), "--prompts", "2", "--json", str(report)]
    code, shown = grace(forker, tmp_path, "doctor", *flags)
    assert code == 0, shown
    found = json.loads(report.read_text())
    assert [one["largest_nats"] for one in found["repeats"]] == [0, 0, 0]
    assert found["server"]["details"]["logprobs"] == "raw"
    assert found["server"]["context_length"] == 2048
    assert found["server"]["forced"]["scored"] == pytest.approx(
        found["server"]["forced"]["listed"], abs=1e-3
    )
    (probe,) = found["probes"]
    assert probe["prompt_end"].endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert [[token["text"] for token in form["tokens"]] for form in probe["forms"]] == [
        ["yes"],
        ["no"],
    ]
    # An instruct model begins with a capital.
    capital = [one for one in probe["variants"] if one["kind"] == "capital"]
    assert {one["text"] for one in capital} == {"Yes", "No"}


def test_answers_that_overlap_end_with_1_and_the_run_is_refused(
    tmp_path: Path, forker: Forker
) -> None:
    flags = write_study(tmp_path, ["1", "10"])
    code, shown = grace(forker, tmp_path, "doctor", *flags)
    assert code == 1
    assert "the tokens of '1' (33) begin those of '10' (33, 32)" in shown
    assert "verdict: unsound" in shown
    run = ["run", "--experiment", "exp2", "--out", str(tmp_path / "out")]
    code, shown = grace(forker, tmp_path, *run, *flags)
    assert code == 1
    assert "no probability was asked for" in shown
