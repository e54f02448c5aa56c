"""Whole runs and plans on a vLLM server: what they cost, and that batches change nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from fake_server import FakeVllm, TinyModel, as_json

from fake_llamacpp import served
from grace.cli.main import invoke
from grace.engine.audit import read_audit
from grace.engine.journal import read_journal
from grace.runs.folder import RunFolder, find_runs
from grace.runs.manifest import StageCost, read_manifest
from inputs import input_flags

METRICS = """\
vllm:prompt_tokens_total{{engine="0"}} {prompt_tokens}
vllm:prefix_cache_hits_total{{engine="0"}} {cached}
vllm:cache_config_info{{block_size="32",engine="0"}} 1.0
"""


class QuickModel(TinyModel):
    """The tiny model, which remembers what it said."""

    def __init__(self) -> None:
        super().__init__(header="<|assistant|>")
        self._said: dict[tuple[int, ...], list[float]] = {}

    def logprobs(self, prefix: list[int] | tuple[int, ...]) -> list[float]:  # type: ignore[override]
        key = tuple(prefix[-6:])
        if key not in self._said:
            self._said[key] = super().logprobs(key)
        return self._said[key]


class MeteredVllm(FakeVllm):
    """A vLLM server that shows its metrics and finds half of each prompt in its cache."""

    def app(self) -> web.Application:
        app = super().app()
        app.router.add_get("/metrics", self._metrics)
        return app

    async def _metrics(self, _: web.Request) -> web.Response:
        sent = sum(
            len(prompt) for asked in self.asked("/v1/completions") for prompt in asked["prompt"]
        )
        return web.Response(text=METRICS.format(prompt_tokens=sent, cached=sent // 2))


@pytest.fixture
def server() -> Iterator[tuple[MeteredVllm, str]]:
    server = MeteredVllm(model=QuickModel())
    with served(server) as url:
        yield server, url


def run(url: str, out: Path, inputs: dict[str, Path], *more: str) -> RunFolder:
    flags = ["--model", "smollm2-135m", "--study", "study1", "--experiment", "exp2"]
    study1 = input_flags({"study1": inputs["study1"]})
    assert invoke(["run", *flags, *study1, "--endpoint", url, "--out", str(out), *more]) == 0
    (folder,) = find_runs(out)
    return folder


def tables(folder: RunFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.path.glob("*.csv")}


def test_tables_do_not_depend_on_what_travels_together(
    server: tuple[MeteredVllm, str], tmp_path: Path, small_inputs: dict[str, Path]
) -> None:
    fake, url = server
    together = run(url, tmp_path / "a", small_inputs)
    batches = [len(asked["prompt"]) for asked in fake.asked("/v1/completions")]
    fake.requests.clear()
    apart = run(url, tmp_path / "b", small_inputs, "--concurrency", "1")
    assert tables(together) == tables(apart)
    # Several queries travelled in one request.
    assert max(batches) > 40


def test_the_manifest_has_what_was_sent_beside_what_was_forecast(
    server: tuple[MeteredVllm, str],
    tmp_path: Path,
    small_inputs: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake, url = server
    folder = run(url, tmp_path, small_inputs)
    assert "forecast" in capsys.readouterr().out
    (cost,) = read_manifest(folder).costs.values()
    # The first ones were probes.
    scored = [
        asked
        for asked in fake.asked("/v1/completions")
        if "logprob_token_ids" in asked and len(asked["prompt"]) > 2
    ]
    prompts = [prompt for asked in scored for prompt in asked["prompt"]]
    assert cost.queries == 18
    assert cost.prompts == len(prompts)
    assert cost.prompt_tokens == sum(map(len, prompts))
    assert cost.generated_tokens == len(prompts)
    assert cost.computed_from == "server"
    assert cost.computed_tokens is not None
    assert abs(2 * cost.computed_tokens - cost.prompt_tokens) <= 2
    assert cost.requests is not None
    assert len(scored) + 18 <= cost.requests <= len(fake.requests) + 4
    assert cost.forecast is not None
    # Digits and words are tokens of their own here, as the estimate has it.
    assert cost.forecast.prompts == pytest.approx(cost.prompts, rel=0.25)
    assert (cost.retries, cost.requests_at_once >= 1) == (0, True)
    assert invoke(["status", str(folder.path)]) == 0
    assert f"{cost.prompts:,}" in capsys.readouterr().out


def test_costs_survive_the_round_trip() -> None:
    cost = StageCost(queries=1, retries=0, seconds=0.5, requests_at_once=4, queries_per_request=1)
    assert StageCost.model_validate_json(cost.model_dump_json()) == cost


def test_a_plan_can_be_counted_and_timed_on_the_server(
    server: tuple[MeteredVllm, str],
    small_inputs: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake, url = server
    flags = ["--model", "smollm2-135m", "--study", "study1", "--experiment", "exp2"]
    study1 = input_flags({"study1": small_inputs["study1"]})
    assert invoke(["plan", *flags, *study1, "--endpoint", url]) == 0
    shown = capsys.readouterr().out
    assert fake.requests == []
    assert "Nothing was sent." in shown
    assert "blocks of 16 tokens" in shown
    assert invoke(["plan", *flags, *study1, "--endpoint", url, "--measure"]) == 0
    shown = capsys.readouterr().out
    assert "counted by the vllm server" in shown
    assert "blocks of 32 tokens" in shown
    assert "tokens computed a second" in shown
    assert "Nothing was sent" not in shown


def test_a_speed_that_the_user_gives_makes_times(
    small_inputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    study1 = input_flags({"study1": small_inputs["study1"]})
    assert invoke(["plan", "--study", "study1", *study1, "--tokens-per-second", "100"]) == 0
    shown = capsys.readouterr().out
    assert "the 100 tokens a second that you gave" in shown
    assert " s " in shown


def test_a_request_that_is_refused_as_a_whole_is_asked_in_parts(
    tmp_path: Path, small_inputs: dict[str, Path]
) -> None:
    class Narrow(MeteredVllm):
        async def _completions(self, request: web.Request) -> web.Response:
            payload = await request.json()
            if len(payload["prompt"]) > 30 and not isinstance(payload["prompt"], str):
                return as_json({"error": {"message": "too large"}}, 413)
            return await super()._completions(request)

    fake = Narrow(model=QuickModel())
    with served(fake) as url:
        folder = run(url, tmp_path, small_inputs)
    (cost,) = read_manifest(folder).costs.values()
    assert read_manifest(folder).complete
    assert cost.queries_per_request <= 4


def test_an_audit_copy_has_the_tokens_that_were_sent_and_changes_no_number(
    server: tuple[MeteredVllm, str], tmp_path: Path, small_inputs: dict[str, Path]
) -> None:
    fake, url = server
    plain = run(url, tmp_path / "plain", small_inputs)
    fake.requests.clear()
    kept = run(url, tmp_path / "kept", small_inputs, "--audit", "--terminators", "--pmi")
    assert tables(plain).keys() == tables(kept).keys()
    sent = [tuple(one) for asked in fake.asked("/v1/completions") for one in asked["prompt"]]
    copies = list(read_audit(kept.audit))
    assert len(copies) == len({one.prompt_sha256 for one in copies}) > 0
    records = read_journal(kept.journal).records.values()
    assert {str(one.value["prompt_sha256"]) for one in records} == {
        one.prompt_sha256 for one in copies
    }
    for one in copies:
        ids = tuple(one.token_ids or ())
        assert any(prompt[: len(ids)] == ids for prompt in sent)
        assert one.rendered == fake.model.decode(ids)
    again = run(url, tmp_path / "again", small_inputs, "--audit")
    assert tables(again) == tables(plain)
