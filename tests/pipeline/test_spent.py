"""What stages cost in other processes: added up, and never guessed."""

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fake_llamacpp import FakeLlamaCpp, served
from grace.cli.main import invoke
from grace.pipeline.spent import together
from grace.runs.folder import find_runs
from grace.runs.manifest import StageCost, StageForecast, read_manifest
from inputs import input_flags

STAMP = "20260131T235959Z"
known = st.none() | st.integers(0, 10**6)
costs = st.builds(
    StageCost,
    queries=st.integers(0, 10**6),
    retries=st.integers(0, 100),
    seconds=st.floats(0, 1e6).map(lambda value: round(value, 3)),
    requests=known,
    prompts=known,
    prompt_tokens=known,
    computed_tokens=known,
    computed_from=st.sampled_from(["replies", "server"]),
    generated_tokens=known,
    requests_at_once=st.integers(1, 64),
    queries_per_request=st.integers(1, 64),
    forecast=st.none()
    | st.builds(
        StageForecast,
        prompts=st.integers(0, 99),
        prompt_tokens=st.integers(0, 99),
        computed_tokens=st.integers(0, 99),
        generated_tokens=st.integers(0, 99),
        requests=known,
    ),
)


@given(costs, costs)
def test_the_order_does_not_matter_and_what_one_does_not_know_is_not_known(
    one: StageCost, other: StageCost
) -> None:
    both = together(one, other)
    assert both == together(other, one)
    assert both.queries == one.queries + other.queries
    for name in ("requests", "prompts", "prompt_tokens", "generated_tokens"):
        parts = getattr(one, name), getattr(other, name)
        assert getattr(both, name) == (None if None in parts else sum(parts))
    assert (both.forecast is None) == (one.forecast is None or other.forecast is None)
    if one.computed_from != other.computed_from:
        assert both.computed_tokens is None


def test_a_run_that_many_processes_asked_says_what_all_of_them_spent(
    tmp_path: Path, small_inputs: dict[str, Path]
) -> None:
    flags = ["--model", "smollm2-135m", "--extractor", "rules", *input_flags(small_inputs)]

    def counted(out: Path) -> dict[str, Any]:
        (folder,) = find_runs(out)
        manifest = read_manifest(folder)
        return {
            name: (cost.queries, cost.prompts, cost.prompt_tokens, cost.generated_tokens)
            for name, cost in manifest.costs.items()
        }

    with served(FakeLlamaCpp()) as url:
        stage = ["--experiment", "exp1", "--timestamp", STAMP, "--endpoint", url, *flags]
        shared = [*stage, "--out", str(tmp_path / "shared")]
        for index in range(3):
            assert invoke(["stage", "respond", "--shard", f"{index}/3", *shared]) == 0
        assert invoke(["stage", "extract", "tabulate", "summarise", "validate", *shared]) == 0
        alone = ["--experiment", "exp1", "--endpoint", url, *flags, "--out", str(tmp_path / "one")]
        assert invoke(["run", *alone]) == 0
    assert counted(tmp_path / "shared") == counted(tmp_path / "one")
    (folder,) = find_runs(tmp_path / "shared")
    manifest = read_manifest(folder)
    forecast = manifest.costs["study1 responses"].forecast
    assert forecast is not None
    assert forecast.prompts == 12
    assert manifest.seconds["respond"] > 0


def test_a_note_that_cannot_be_read_is_left_out(
    tmp_path: Path, small_inputs: dict[str, Path]
) -> None:
    flags = ["--dry-run", "--experiment", "exp1", "--timestamp", STAMP, "--model", "toy"]
    flags += ["--out", str(tmp_path / "out"), *input_flags(small_inputs)]
    assert invoke(["stage", "respond", "--shard", "0/1", *flags]) == 0
    (folder,) = find_runs(tmp_path / "out")
    (note,) = (folder.path / "costs").iterdir()
    assert note.name == "respond-0of1-0001.json"
    note.write_text('{"seconds": {"respo')
    assert invoke(["stage", "extract", "tabulate", "summarise", "validate", *flags]) == 0
    assert read_manifest(folder).costs == {}
