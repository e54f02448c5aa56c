"""
A key and a participant's words, looked for wherever a run leaves something.

The servers here repeat everything they are sent, in several encodings, in
errors and in answers. What the user asked for (input cells and responses, in
the tables) may hold a participant's words; nothing may hold the key.
"""

import base64
import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web

from fake_llamacpp import FakeLlamaCpp, Served, served
from grace.cli.main import invoke
from grace.hiding import letters
from grace.runs.csvfile import csv_bytes, read_table
from grace.runs.folder import RunFolder, find_runs
from grace.studies.make import make_rows
from inputs import input_flags

KEY = "sk-canary/4f+7Q2=zz0192837465"
CANARY = "Quillfeather Zanzibar Ünbekannt"
WORDS = ("quillfeather", "zanzibar", "nbekannt")
_HELD = {"story_setup", "Precontext", "Scenario", "priorQ", "knowledgeQ", "speechQ"}
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "json": json.dumps,
    "percent": lambda text: quote(text, safe=""),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
}


@dataclass
class Parrot:
    """
    A server that repeats requests instead of answering some of them.

    Attributes:
        server: Answers the others.

        status: Of what it repeats.

        every: Which of the requests for text or scores are repeated.

        encoded: How.
    """

    server: Served
    status: int
    every: int = 5
    encoded: Callable[[str], str] = str
    repeated: int = 0
    heard: list[str] = field(default_factory=list)
    seen: int = 0

    def app(self) -> web.Application:
        app = self.server.app()

        @web.middleware
        async def repeat(request: web.Request, handler: _Handler) -> web.StreamResponse:
            body = await request.text()
            if body:
                self.heard.append(" ".join(_texts(json.loads(body))))
            if request.path in {"/completion", "/v1/chat/completions"}:
                self.seen += 1
                # What `connect` asks must be answered, and the sign of life at a stage's end.
                if self.seen > 4 and _number(body) % self.every == 0:
                    self.repeated += 1
                    return self._repeat(request, body)
            return await handler(request)

        app.middlewares.append(repeat)
        return app

    def _repeat(self, request: web.Request, body: str) -> web.Response:
        texts = [*self.heard[-40:]][::-1]
        said = max(texts[:6], key=len)
        header = f"Authorization: {request.headers.get('Authorization')}"
        message = f"cannot serve {self.encoded(header)} with {self.encoded(said)} and {body[:200]}"
        return web.json_response(
            {"error": {"message": message, "code": self.status}},
            status=self.status,
            headers={"Retry-After": "0"},
        )


def _number(body: str) -> int:
    payload = json.loads(body)
    if payload.get("n_predict") == 1 and "n_probs" not in payload:
        return 1
    if "json_schema" in payload:
        # No extraction succeeds.
        return 0
    prompt = payload.get("prompt") or [len(json.dumps(payload["messages"]))]
    return int(sum(prompt)) + int(payload.get("seed", 0))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


@pytest.fixture
def canaries(tmp_path: Path) -> dict[str, Path]:
    """Inputs whose prompts hold a participant's words."""
    paths = {}
    for study in ("study1", "study2"):
        rows = make_rows(study, 4, 1)
        for number, row in enumerate(rows):
            name = "story_setup" if study == "study1" else "Precontext"
            row[name] = f"{CANARY} number {number} wrote this. {row[name]}"
        paths[study] = tmp_path / f"{study}.csv"
        paths[study].write_bytes(csv_bytes(list(rows[0]), [list(row.values()) for row in rows]))
    return paths


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is in the environment, as a user sets it."""
    monkeypatch.setenv("GRACE_API_KEY", KEY)


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what the screen has had since the last look."""
    captured = capsys.readouterr()
    return captured.out + captured.err


def assert_not_in(text: str, where: object, *, words: bool = True) -> None:
    """Check that a text has neither the key nor, if asked, the participant's words."""
    assert KEY not in text, where
    for coded in (quote(KEY, safe=""), json.dumps(KEY)[1:-1], KEY.replace("/", "\\/")):
        assert coded not in text, where
    assert KEY.encode().hex() not in text, where
    for offset in range(3):
        core = base64.b64encode(bytes(offset) + KEY.encode()).decode()[4:-4]
        assert core not in text, where
    assert letters(KEY)[4:16] not in letters(text), where
    if words:
        found = [word for word in WORDS if word in letters(text)]
        assert not found, (where, found)
        # In base64, or as token ids.
        assert not re.search(r"(?:\d+, ?){9}", text.replace('"token_ids":', "")), where


def look_everywhere(out: Path, shown: str) -> int:
    """Look for key and words in what was shown and in all files; return how many there were."""
    assert_not_in(shown, "screen")
    files = [path for path in out.rglob("*") if path.is_file()]
    for path in files:
        content = path.read_bytes().decode()
        # Tables hold the user's own cells; journals hold what the model said, not what was asked.
        assert_not_in(content, path, words=False)
        if path.suffix != ".csv":
            found = [word for word in WORDS if word in letters(content)]
            assert not found, (path, found)
            continue
        table = read_table(path)
        for name in table.header:
            if name not in _HELD:
                for cell in table.column(name):
                    assert_not_in(cell, (path, name))
    return len(files)


def errors_of(folder: RunFolder) -> list[str]:
    lines = [
        json.loads(line)
        for path in folder.journal.iterdir()
        for line in path.read_text().splitlines()
    ]
    return [line["error"] for line in lines if line["status"] == "failed"]


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize(
    ("status", "encoding"), [(400, "plain"), (401, "json"), (500, "percent"), (400, "base64")]
)
def test_a_server_that_repeats_everything_puts_nothing_into_what_a_run_leaves(
    status: int,
    encoding: str,
    tmp_path: Path,
    canaries: Mapping[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    parrot = Parrot(FakeLlamaCpp(), status, encoded=ENCODINGS[encoding])
    out = tmp_path / "out"
    flags = ["--extractor", "rules+smollm2-135m", *input_flags(canaries), "--concurrency", "3"]
    with served(parrot) as url:
        code = invoke(["run", "--endpoint", url, "--out", str(out), *flags])
    said = shown(capsys)
    assert code == 3, said
    assert parrot.repeated
    assert any(WORDS[0] in letters(text) for text in parrot.heard)
    assert look_everywhere(out, said) > 10
    for folder in find_runs(out):
        failures = errors_of(folder)
        assert failures
        for error in failures:
            # What is left says what happened.
            assert f"/completion: HTTP {status}: " in error
            assert "cannot serve" in error
            assert "[key]" in error
    structured = read_table(find_runs(out)[0].table("study1", "structured"))
    assert any(f"HTTP {status}" in error for error in structured.column("extraction_error"))
    assert any("[prompt]" in error for folder in find_runs(out) for error in errors_of(folder))
    assert invoke(["status", str(out)]) == 3
    assert_not_in(shown(capsys), "status")


@dataclass
class Talker:
    """An OpenAI-style server whose answers hold what it was sent in the header."""

    says: Callable[[str], str]
    status: int = 200
    keys: list[str | None] = field(default_factory=list)
    model: str = "tiny"

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        return app

    async def _models(self, request: web.Request) -> web.Response:
        self.keys.append(request.headers.get("Authorization"))
        return web.json_response({"data": [{"id": self.model}]})

    async def _chat(self, request: web.Request) -> web.Response:
        header = request.headers.get("Authorization")
        self.keys.append(header)
        message = {"role": "assistant", "content": self.says(header or "")}
        return web.json_response(
            {"choices": [{"message": message, "finish_reason": "stop"}]}, status=self.status
        )


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize("encoding", ["plain", "base64"])
def test_an_answer_that_holds_the_key_fails_and_is_not_kept(
    encoding: str,
    tmp_path: Path,
    canaries: Mapping[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    coded = ENCODINGS[encoding]
    out = tmp_path / "out"
    flags = ["--experiment", "exp1", "--limit", "1", "--out", str(out), *input_flags(canaries)]
    with served(Talker(lambda header: f"3, says {coded(header)}")) as url:
        assert invoke(["run", "--extractor", "rules", "--endpoint", url, *flags]) == 3
    look_everywhere(out, shown(capsys))
    (folder,) = find_runs(out)
    assert {error.partition(": ")[2] for error in errors_of(folder)} == {
        "the reply repeats the key; nothing of it is kept"
    }
    table = read_table(folder.table("study2", "raw_responses"))
    assert table.column("response") == ("",)


@pytest.mark.usefixtures("key")
def test_the_key_of_one_server_is_not_sent_to_another(
    tmp_path: Path, canaries: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--experiment", "exp1", "--limit", "1", *input_flags(canaries)]
    model, extractor = Talker(lambda _: "Hm."), Talker(lambda _: "{}")
    with served(model) as url, served(extractor) as other:
        more = ["--extractor", "gemma-2-2b", "--extractor-endpoint", other]
        command = ["run", "--endpoint", url, *flags, *more]
        assert invoke([*command, "--out", str(tmp_path / "one")]) == 0
        assert set(model.keys) == {f"Bearer {KEY}"}
        assert set(extractor.keys) == {None}
        extractor.keys.clear()
        monkeypatch.setenv("GRACE_EXTRACTOR_API_KEY", "another-key-0123456")
        assert invoke([*command, "--out", str(tmp_path / "two")]) == 0
    assert set(model.keys) == {f"Bearer {KEY}"}
    assert set(extractor.keys) == {"Bearer another-key-0123456"}


def test_a_key_from_a_file_is_sent_and_shown_nowhere(
    tmp_path: Path,
    canaries: Mapping[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "secret").write_text(f"{KEY}\n")
    monkeypatch.setenv("GRACE_API_KEY_FILE", str(tmp_path / "secret"))
    out = tmp_path / "out"
    server = Talker(lambda _: "It was good.")
    flags = ["--experiment", "exp1", "--limit", "1", "--out", str(out), *input_flags(canaries)]
    with served(server) as url:
        assert invoke(["run", "--extractor", "rules", "--endpoint", url, *flags]) == 0
    assert set(server.keys) == {f"Bearer {KEY}"}
    look_everywhere(out, shown(capsys))


def test_a_key_given_as_the_name_of_its_variable_is_refused_and_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out")]
    assert invoke(["run", "--dry-run", "--api-key-env", KEY, *out]) == 2
    (tmp_path / "run.yaml").write_text(f"api_key_env: {KEY}\n")
    assert invoke(["run", "--dry-run", "--config", str(tmp_path / "run.yaml"), *out]) == 2
    assert invoke(["run", "--endpoint", f"http://localhost/?key={KEY}", *out]) == 2
    assert invoke(["gateway", "--dry-run", "--token-env", KEY]) == 2
    said = shown(capsys)
    assert "name of an environment variable" in said
    assert_not_in(said, "screen")


@pytest.mark.usefixtures("key")
def test_a_server_of_text_that_repeats_messages_leaves_no_trace_of_them(
    tmp_path: Path,
    canaries: Mapping[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    parrot = Parrot(Talker(lambda _: "It was good."), 422, every=2, encoded=repr)
    out = tmp_path / "out"
    flags = ["--experiment", "exp1", "--extractor", "rules", *input_flags(canaries)]
    with served(parrot) as url:
        assert invoke(["run", "--endpoint", url, "--out", str(out), *flags]) == 3
    assert parrot.repeated
    look_everywhere(out, shown(capsys))
    (folder,) = find_runs(out)
    assert all("[prompt]" in error and "[key]" in error for error in errors_of(folder))


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize(("status", "encoding"), [(400, "json"), (500, "base64")])
def test_what_containers_tell_others_holds_nothing_private(
    status: int,
    encoding: str,
    tmp_path: Path,
    canaries: Mapping[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    parrot = Parrot(FakeLlamaCpp(), status, encoded=ENCODINGS[encoding])
    ended, logs = tmp_path / "termination", tmp_path / "logs"
    (tmp_path / "run.yaml").write_text("attempts: 2\nretry_wait_seconds: 0.01\n")
    flags = ["--experiment", "exp1", "--experiment", "exp2", "--model", "smollm2-135m"]
    flags += ["--timestamp", "20260131T235959Z", "--extractor", "rules", *input_flags(canaries)]
    flags += ["--config", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "out")]
    told = ["--log", "json", "--log-folder", str(logs), "--outcome", str(ended)]
    told_to_others, endings = "", []
    with served(parrot) as url:
        for shard in ("0/2", "1/2"):
            stage = ["stage", "respond", "score", "--shard", shard, "--endpoint", url]
            endings.append(invoke([*stage, *flags, *told]))
            told_to_others += ended.read_text()
    assert parrot.repeated
    told_to_others += shown(capsys)
    kept = "".join(path.read_text() for path in logs.iterdir())
    assert kept.count("\n") > 6
    assert '"event": "stage_started"' in kept
    assert_not_in(told_to_others + kept, endings)
