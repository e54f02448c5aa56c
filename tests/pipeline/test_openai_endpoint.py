"""Endpoints that give text only: Experiment 1 and extraction run there, Experiment 2 does not."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from fake_llamacpp import served
from grace.catalogue.spec import load_catalogue
from grace.cli.main import invoke
from grace.runs.csvfile import read_table
from grace.runs.folder import find_runs
from grace.runs.manifest import read_manifest
from inputs import input_flags

MODEL = ("--model", "smollm2-135m", "--extractor", "rules", "--limit", "2")


@dataclass
class TextServer:
    """An OpenAI-style server that wants a key."""

    key: str = ""
    model: str = "tiny"
    asked: list[Any] = field(default_factory=list)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        return app

    def _refusal(self, request: web.Request) -> web.Response | None:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": {"message": "no such key"}}, status=401)
        return None

    async def _models(self, request: web.Request) -> web.Response:
        return self._refusal(request) or web.json_response({"data": [{"id": self.model}]})

    async def _chat(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request):
            return refusal
        self.asked.append(await request.json())
        message = {"role": "assistant", "content": "It was good."}
        return web.json_response({"choices": [{"message": message, "finish_reason": "stop"}]})


@pytest.fixture
def server() -> TextServer:
    return TextServer()


@pytest.fixture
def flags(server: TextServer, tmp_path: Path, small_inputs: dict[str, Path]) -> Iterator[list[str]]:
    with served(server) as url:
        yield [*MODEL, *input_flags(small_inputs), "--endpoint", url, "--out", str(tmp_path)]


def test_experiment_1_runs(server: TextServer, flags: list[str], tmp_path: Path) -> None:
    assert invoke(["run", "--experiment", "exp1", *flags]) == 0
    (folder,) = find_runs(tmp_path)
    table = read_table(folder.table("study2", "structured"))
    assert table.column("Assessment") == ("good", "good")
    assert folder.read_record().identity.server["dialect"] == "openai"
    assert all(payload["temperature"] == 0.7 for payload in server.asked)
    turns = [message["role"] for message in server.asked[-1]["messages"]]
    assert turns[0] == turns[-1] == "user"


def test_experiment_2_is_refused_with_what_it_needs_and_experiment_1_is_kept(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["run", *flags]) == 1
    err = capsys.readouterr().err
    assert "gives no exact log-probabilities" in err
    assert "--experiment exp1" in err
    (folder,) = find_runs(tmp_path)
    assert (folder.experiment, folder.closed) == ("exp1", True)


def test_a_date_that_such_a_server_writes_itself_is_warned_of(
    server: TextServer, tmp_path: Path, small_inputs: dict[str, Path]
) -> None:
    model = ["--model", "gpt-oss-20b", "--extractor", "rules", "--limit", "1"]
    with served(server) as url:
        flags = [*model, *input_flags(small_inputs), "--endpoint", url, "--out", str(tmp_path)]
        assert invoke(["run", "--experiment", "exp1", *flags]) == 0
    (folder,) = find_runs(tmp_path)
    assert folder.read_record().identity.server["template_date"] == "not pinned"
    assert any("writes the current date" in one for one in read_manifest(folder).warnings)
    assert {payload["max_tokens"] for payload in server.asked} >= {4096 + 48}


@pytest.mark.parametrize("held", [None, "wrong"])
def test_a_missing_or_wrong_key_names_the_variable_and_never_the_key(
    server: TextServer,
    flags: list[str],
    held: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.key = "right"
    if held is not None:
        monkeypatch.setenv("MY_KEY", held)
    assert invoke(["run", "--experiment", "exp1", "--api-key-env", "MY_KEY", *flags]) in {1, 2}
    err = capsys.readouterr().err
    assert "MY_KEY" in err
    assert "Bearer" not in err
    assert "wrong" not in err


def test_a_key_is_sent_and_never_written_down(
    server: TextServer, flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = "s3cret-key"
    monkeypatch.setenv("MY_KEY", server.key)
    assert invoke(["run", "--experiment", "exp1", "--api-key-env", "MY_KEY", *flags]) == 0
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or server.key.encode() not in path.read_bytes()


def test_a_hosted_extractor_reads_responses_in_its_own_json_mode(
    server: TextServer, flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPSEEK_API_KEY", "s3cret-key")
    extractor = TextServer(model=load_catalogue().get("deepseek").name_on_server)
    with served(extractor) as url:
        more = ["--extractor", "deepseek", "--extractor-endpoint", url]
        assert invoke(["run", "--experiment", "exp1", *flags, *more]) == 0
    (folder,) = find_runs(tmp_path)
    table = read_table(folder.table("study2", "structured"))
    # It answered with a sentence instead of JSON, twice.
    assert {text.partition(":")[0] for text in table.column("extraction_status")} == {"failed"}
    assert all("gave no valid JSON" in text for text in table.column("extraction_error"))
    assert table.column("response") == ("It was good.",) * 2
    # Two rows of study 1 with three turns each, and two of study 2.
    assert len(server.asked) == 8
    assert all(payload["response_format"]["type"] == "json_object" for payload in extractor.asked)
