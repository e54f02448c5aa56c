"""The gateway's own process: token, address, signals."""

import asyncio
import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway import CHAT, PATH, HeldToy, toy_app
from grace.cli.main import invoke
from grace.errors import RunInterrupted, ServingError, UsageError
from grace.serving.gateway.guard import is_loopback
from grace.serving.gateway.server import bind, make_server, read_token, serve, url_of
from processes import Command, Forker

TOKEN = "a-token-of-some-length"  # noqa: S105


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104
        ("::", False),
        ("192.168.1.4", False),
        ("gateway.example", False),
        ("", False),
    ],
)
def test_only_loopback_addresses_are_local(host: str, local: bool) -> None:  # noqa: FBT001
    assert is_loopback(host) is local


def test_the_token_comes_from_a_variable_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATE", TOKEN)
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    assert read_token("GATE", None) == read_token(None, path) == TOKEN
    assert read_token(None, None) is None
    monkeypatch.delenv("GATE")
    monkeypatch.setenv("GATE_FILE", str(path))
    assert read_token("GATE", None) == TOKEN


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("", "GATE holds no token; set GATE"),
        ("   ", "GATE holds no token"),
        ("short", "5 characters; expected at least 16"),
        ("with a space in it somewhere", "visible ASCII"),
        ("tökentökentökentöken", "visible ASCII"),
    ],
)
def test_an_unfit_token_is_refused_and_not_shown(
    value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATE", value)
    with pytest.raises(UsageError, match=says) as caught:
        read_token("GATE", None)
    assert not value.strip() or value not in str(caught.value)


def test_a_token_file_must_be_readable(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_token(None, tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff" * 20)
    with pytest.raises(UsageError, match="cannot be read: it is not text"):
        read_token(None, tmp_path / "binary")
    with pytest.raises(UsageError, match="keep one of them"):
        read_token("GATE", tmp_path / "none")


def test_a_port_in_use_is_named() -> None:
    first = bind("127.0.0.1", 0)
    first.listen()
    port = first.getsockname()[1]
    assert url_of(first) == f"http://127.0.0.1:{port}"
    with pytest.raises(ServingError, match=f"127.0.0.1:{port} cannot be listened on"):
        bind("127.0.0.1", port)
    first.close()


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (["--host", "0.0.0.0"], 2, "there is no token"),  # noqa: S104
        (["--token-env", "NO_SUCH_VARIABLE"], 2, "NO_SUCH_VARIABLE holds no token"),
        (["--model", "nothing"], 2, "nothing"),
        (["--server", "apache", "--endpoint", "http://127.0.0.1:9"], 2, "--server is 'apache'"),
        (["--host", "host.invalid", "--token-env", "GATE", "--dry-run"], 1, "cannot be listened"),
    ],
)
def test_what_cannot_be_served_ends_in_a_message(
    flags: list[str],
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GATE", TOKEN)
    assert invoke(["gateway", *flags]) == code
    shown = capsys.readouterr().err
    assert says in " ".join(shown.split())
    assert TOKEN not in shown


def test_without_the_extra_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("grace.cli.gateway._EXTRA", ("uvicorn", "no_such_package"))
    assert invoke(["gateway"]) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert "needs no_such_package" in shown
    assert "install 'grace[gateway]'" in shown


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what no event tells."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def post(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a request over a real socket, and do not wait for its reply."""
    body = json.dumps(CHAT).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()
    return reader, writer


async def test_a_second_signal_ends_it_at_once_and_a_client_that_left_costs_nothing() -> None:
    client, messages = HeldToy(), list[str]()
    server, listener = make_server(toy_app(client, concurrency=1), 60), bind("127.0.0.1", 0)
    serving = asyncio.create_task(serve(server, listener, messages.append))
    await until(lambda: server.started)
    port = listener.getsockname()[1]
    _, writer = await post(port)
    await client.begun.wait()
    writer.close()
    await until(lambda: client.given_up > 0)
    client.begun.clear()
    reader, writer = await post(port)
    await client.begun.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await until(lambda: len(messages) > 0)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(RunInterrupted, match="cut off"):
        await serving
    assert "finished first" in messages[0]
    client.release.set()
    await reader.read()
    writer.close()
    listener.close()


def started(forker: Forker, log: Path, *flags: str) -> tuple[Command, str]:
    """Start a gateway and wait for its address."""
    command = forker.start(["gateway", "--port", "0", *flags], log)
    deadline = time.monotonic() + 300
    while not (found := re.search(r"^http://\S+$", command.output, re.MULTILINE)):
        assert time.monotonic() < deadline, command.output
        time.sleep(0.02)
    return command, found.group()


def test_a_signal_ends_the_process_in_order(tmp_path: Path, forker: Forker) -> None:
    command, url = started(forker, tmp_path / "log", "--dry-run")
    with urllib.request.urlopen(f"{url}/health", timeout=60) as reply:  # noqa: S310
        assert json.loads(reply.read()) == {"status": "alive"}
    command.kill(signal.SIGTERM)
    assert command.wait() == 0
    assert "what is being answered is finished first" in " ".join(command.output.split())
    assert "Traceback" not in command.output


@pytest.mark.slow
def test_a_real_model_behind_the_gateway(tmp_path: Path, forker: Forker) -> None:
    """curl asks a model, and its numbers are those of a run on the same prompt."""
    command, url = started(forker, tmp_path / "log", "--threads", "1")
    body = {
        "messages": [{"role": "user", "content": "Is the sky blue? Answer with yes or no."}],
        "candidates": [
            {"label": "yes", "forms": ["yes", "Yes"]},
            {"label": "no", "forms": ["no", "No"]},
        ],
    }

    def ask(**options: str) -> dict[str, object]:
        sent = json.dumps({**body, "options": options})
        done = subprocess.run(  # noqa: S603
            ["curl", "-sS", "--max-time", "600", "--json", sent, f"{url}/v1/distributions"],  # noqa: S607
            capture_output=True,
            check=True,
        )
        reply: dict[str, object] = json.loads(done.stdout)
        return reply

    trie, sequence = ask(method="trie"), ask(method="sequence")
    assert trie["candidates"] == sequence["candidates"]
    assert 0.01 < float(str(trie["coverage"])) <= 1
    command.kill(signal.SIGINT)
    assert command.wait() == 0
    assert "Traceback" not in command.output
