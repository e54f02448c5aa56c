"""`grace doctor` on servers of other dialects than llama.cpp's."""

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from fake_server import FakeTgi, FakeVllm, TinyModel

from fake_llamacpp import FakeLlamaCpp, Served, refuse, served
from grace.cli.main import invoke
from own_study import write_study

BASE = ("--model", "gpt2", "--prompts", "1")


def examined(
    server: Served, folder: Path, capsys: pytest.CaptureFixture[str], *more: str
) -> tuple[int, dict[str, Any]]:
    flags = write_study(folder, ["yes", "no"], ["cat", "dog"])
    with served(server) as url:
        code = invoke(["doctor", *flags, *(more or BASE), "--endpoint", url, "--json", "-"])
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, report


def unsound(report: dict[str, Any]) -> list[str]:
    return [one["text"] for one in report["findings"] if one["severity"] == "unsound"]


def test_vllm_is_examined_by_both_methods(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = examined(FakeVllm(), tmp_path, capsys)
    assert (code, unsound(report)) == (0, [])
    assert report["server"]["details"]["logprobs_mode"] == "raw"
    assert report["server"]["context_length"] == 512
    by_ways = {one["ways"]: one["largest_nats"] for one in report["repeats"]}
    assert by_ways["trie and sequence"] == pytest.approx(0, abs=1e-9)
    (probe,) = report["probes"]
    assert [token["text"] for token in probe["forms"][0]["tokens"]] == [" ", "yes"]


def test_vllm_that_masks_is_scored_by_whole_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, report = examined(FakeVllm(mode="processed"), tmp_path, capsys)
    assert report["server"]["details"]["logprobs_mode"] == "processed"
    assert report["server"]["scoring"] == "sequence"
    assert [one["ways"] for one in report["repeats"]] == ["asked again", "side by side"]


def test_an_answer_that_merges_with_a_chat_templates_end_is_unsound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = FakeVllm(model=TinyModel(header="<|assistant|>:"))
    code, report = examined(server, tmp_path, capsys, "--model", "llama-3-8b", "--prompts", "1")
    assert code == 1
    (text,) = unsound(report)
    assert "the answer 'no' merges with the prompt's end" in text
    assert "the token ':n' (" in text


def test_tgi_tells_no_texts_and_lists_nothing_and_is_examined_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = examined(FakeTgi(), tmp_path, capsys)
    assert (code, unsound(report)) == (0, [])
    assert report["server"]["scoring"] == "sequence"
    assert report["server"]["forced"] is None
    (probe,) = report["probes"]
    assert all(token["text"] is None for token in probe["forms"][0]["tokens"])
    assert probe["next_tokens"] == []
    assert probe["coverage"] is not None
    assert probe["variants"]


def test_a_server_that_neither_decodes_nor_lists_is_examined_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = FakeLlamaCpp(decodes=False)
    # The list is asked for once on connecting, and then refused.
    server.trouble = lambda number, payload: (
        refuse(400) if number > 2 and not {"grammar", "logit_bias"} & set(payload) else None
    )
    code, report = examined(server, tmp_path, capsys, "--model", "smollm2-135m", "--prompts", "1")
    assert (code, unsound(report)) == (0, [])
    (probe,) = report["probes"]
    assert [token["text"] for token in probe["forms"][0]["tokens"]] == [None, None, None]
    assert (probe["next_tokens"], probe["measured"]) == ([], 1)
    assert report["server"]["forced"] is None


class TextOnly:
    """An OpenAI-style server."""

    def app(self) -> web.Application:
        async def models(_: web.Request) -> web.Response:
            return web.json_response({"data": [{"id": "tiny"}]})

        app = web.Application()
        app.router.add_get("/v1/models", models)
        return app


def test_a_server_of_texts_is_unsound_for_probabilities(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = examined(TextOnly(), tmp_path, capsys)
    assert code == 1
    assert "gives no exact log-probabilities" in unsound(report)[0]
    assert (report["probes"], report["repeats"]) == ([], [])
