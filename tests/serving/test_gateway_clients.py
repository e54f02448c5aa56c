"""The gateway on a real socket, asked by programs that know nothing of Python: curl and R."""

import asyncio
import http.client
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import CHAT, PATH, HeldToy, Running, serving_gateway, toy_app

TOKEN = "the-token-of-real-clients"  # noqa: S105
CURL = shutil.which("curl")
RSCRIPT = shutil.which("Rscript")
# What httr2 1.2 sends for req_body_json(): jsonlite's numbers, curl's headers.
R_HEADERS = {
    "User-Agent": "httr2/1.2.1 r-curl/6.4.0 libcurl/8.14.1",
    "Accept": "*/*",
    "Accept-Encoding": "deflate, gzip",
    "Content-Type": "application/json",
    "Authorization": f"Bearer {TOKEN}",
}
R_BODY = (
    '{"messages":[{"role":"user","content":"Öffnet das Café früh?"}],'
    '"candidates":[{"label":"früh","forms":["fr\\u00fch.","Fr\\u00fch."],"value":0},'
    '{"label":"late","forms":["late."],"value":1}],"options":{"token_detail":true}}'
)
R_SCRIPT = """
arguments <- commandArgs(TRUE)
body <- readBin(arguments[3], "raw", file.size(arguments[3]))
connection <- socketConnection("127.0.0.1", as.integer(arguments[1]), blocking = TRUE,
                               open = "r+b", timeout = 30)
head <- paste0("POST /v1/distributions HTTP/1.1\\r\\nHost: 127.0.0.1:", arguments[1],
               "\\r\\nContent-Type: application/json\\r\\nContent-Length: ", length(body),
               "\\r\\nAuthorization: Bearer ", arguments[2], "\\r\\nConnection: close\\r\\n\\r\\n")
writeBin(c(charToRaw(head), body), connection)
writeLines(readLines(connection, warn = FALSE))
"""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with serving_gateway(toy_app(token=TOKEN, max_body_bytes=4096)) as running:
        yield running


def curl(gateway: Running, *arguments: str, body: str | None = None) -> tuple[int, Any]:
    """Call curl as a user would, and return status and document."""
    assert CURL is not None
    command = [CURL, "--silent", "--show-error", "--max-time", "30"]
    command += ["--write-out", "\n%{http_code}", *arguments]
    sent = ["--json", "@-"] if body is not None else []
    result = subprocess.run(  # noqa: S603
        [*command, *sent], input=(body or "").encode(), capture_output=True, check=True
    )
    text, _, status = result.stdout.decode().rpartition("\n")
    return int(status), json.loads(text) if text.startswith("{") else text


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
def test_curl_gets_a_distribution(gateway: Running) -> None:
    header = f"Authorization: Bearer {TOKEN}"
    status, reply = curl(gateway, "-H", header, gateway.url + PATH, body=json.dumps(CHAT))
    assert status == 200
    assert sum(one["probability"] for one in reply["candidates"]) == pytest.approx(1)


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
def test_curl_is_told_what_is_wrong(gateway: Running) -> None:
    header = f"Authorization: Bearer {TOKEN}"
    assert curl(gateway, gateway.url + PATH, body=json.dumps(CHAT))[0] == 401
    big = json.dumps({**CHAT, "options": {"answer_prefix": "x" * 5000}})
    assert curl(gateway, "-H", header, gateway.url + PATH, body=big)[0] == 413
    status, problem = curl(gateway, "-H", header, gateway.url + PATH, body='{"prompt": "a"}')
    assert status == 422
    assert problem["faults"][0]["pointer"] == "/candidates"


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
def test_curl_sends_a_body_in_chunks(gateway: Running) -> None:
    headers = ("-H", f"Authorization: Bearer {TOKEN}", "-H", "Transfer-Encoding: chunked")
    assert curl(gateway, *headers, gateway.url + PATH, body=json.dumps(CHAT))[0] == 200
    assert curl(gateway, *headers, gateway.url + PATH, body="[" * 5000)[0] == 413


def plain_post(gateway: Running, body: bytes) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    try:
        connection.request("POST", PATH, body, R_HEADERS)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def check_r_reply(reply: Any) -> None:
    assert [one["label"] for one in reply["candidates"]] == ["früh", "late"]
    assert 0 < reply["mean"] < 1
    assert reply["candidates"][0]["forms"][0]["tokens"][0]["text"] == "f"


def test_a_request_as_httr2_sends_it_is_answered(gateway: Running) -> None:
    status, reply = plain_post(gateway, R_BODY.encode())
    assert status == 200
    check_r_reply(reply)


def test_a_single_answer_that_jsonlite_unboxed_is_explained(gateway: Running) -> None:
    # toJSON(list(prompt = "a", candidates = "b"), auto_unbox = TRUE)
    status, problem = plain_post(gateway, b'{"prompt":"a","candidates":"b"}')
    assert status == 422
    assert problem["faults"][0]["pointer"] == "/candidates"
    assert "list" in problem["faults"][0]["message"]


@pytest.mark.skipif(RSCRIPT is None, reason="R is not installed")
def test_r_without_any_package_gets_the_same(gateway: Running, tmp_path: Path) -> None:
    assert RSCRIPT is not None
    script, body = tmp_path / "ask.R", tmp_path / "body.json"
    script.write_text(R_SCRIPT, encoding="utf-8")
    body.write_text(R_BODY, encoding="utf-8")
    arguments = [str(gateway.port), TOKEN, str(body)]
    result = subprocess.run(  # noqa: S603
        [RSCRIPT, "--vanilla", str(script), *arguments],
        capture_output=True,
        check=True,
        timeout=60,
    )
    head, _, text = result.stdout.decode().partition("\n\n")
    assert head.startswith("HTTP/1.1 200")
    check_r_reply(json.loads(text))
    assert json.loads(text) == plain_post(gateway, R_BODY.encode())[1]


def test_what_is_being_answered_is_finished_before_the_door_closes() -> None:
    client = HeldToy()
    replies: list[tuple[int, Any]] = []
    with serving_gateway(toy_app(client, token=TOKEN)) as gateway:
        asked = threading.Thread(
            target=lambda: replies.append(plain_post(gateway, json.dumps(CHAT).encode()))
        )
        asked.start()
        asyncio.run_coroutine_threadsafe(client.begun.wait(), gateway.loop).result(30)
        gateway.server.should_exit = True
        while gateway.server.servers[0].is_serving():
            asked.join(0.01)
        with pytest.raises(ConnectionRefusedError):
            plain_post(gateway, b"{}")
        assert not replies
        gateway.loop.call_soon_threadsafe(client.release.set)
        asked.join(30)
        gateway.thread.join(30)
    ((status, reply),) = replies
    assert status == 200
    assert len(reply["candidates"]) == 2
