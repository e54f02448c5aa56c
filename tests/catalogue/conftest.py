"""Servers on the loopback interface: files with ranges, a package index, a hub."""

import base64
import hashlib
import io
import json
import os
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import stamina

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="session")
def pip_of_this_machine() -> dict[str, str]:
    """What pip is told by the environment, before a test takes it away."""
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_")}


@pytest.fixture(autouse=True)
def isolated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pip_of_this_machine: dict[str, str]
) -> Iterator[None]:
    """No test sees the user's caches, configuration, proxies or package index."""
    assert all(name in os.environ for name in pip_of_this_machine)
    for name in list(os.environ):
        if name.upper().startswith(("PIP_", "HF_", "UV_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("GRACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with stamina.set_testing(True, attempts=8, cap=True):
        yield


@dataclass
class FileServer:
    """
    Serves bytes, well or badly.

    Attributes:
        files: Contents by path.

        ranges: Whether Range requests are understood.

        cut: Paths whose next reply ends after so many bytes.

        stall: Paths whose next reply to a GET without a Range stops after so
            many bytes until the test ends.

        statuses: Paths with status codes to answer first.

        headers: Further headers by path.

        required_key: The password that a client must present, if any.

        asked: Path and Range header of every GET.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    cut: dict[str, int] = field(default_factory=dict)
    stall: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    required_key: str = ""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def put(self, path: str, content: bytes) -> str:
        """Serve *content* and return its address."""
        self.files[path] = content
        return self.url + path

    def put_wheel(self, distribution: str, members: dict[str, bytes], *, digest: str = "") -> None:
        """Offer a wheel of version 1.0, and list it as a package index does."""
        name = distribution.replace("-", "_")
        wheel = wheel_bytes(name, members)
        file = f"{name}-1.0-py3-none-any.whl"
        self.files[f"/files/{file}"] = wheel
        digest = digest or hashlib.sha256(wheel).hexdigest()
        link = f'<a href="/files/{file}#sha256={digest}">{file}</a>'
        page = f"<!DOCTYPE html><html><body>{link}</body></html>"
        self.files[f"/simple/{distribution}/"] = page.encode()
        self.headers[f"/simple/{distribution}/"] = {"Content-Type": "text/html"}

    def put_repository(self, repository: str, files: dict[str, bytes]) -> None:
        """Offer a repository as the hub does, at one commit."""
        siblings = []
        for path, content in files.items():
            blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()  # noqa: S324
            sibling: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": blob}
            etag = blob
            if path.endswith(".safetensors"):
                etag = hashlib.sha256(content).hexdigest()
                sibling["lfs"] = {"sha256": etag, "size": len(content), "pointerSize": 130}
            siblings.append(sibling)
            place = f"/{repository}/resolve/{COMMIT}/{path}"
            self.files[place] = content
            self.headers[place] = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
        info = json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode()
        for revision in ("", "/revision/main", f"/revision/{COMMIT}"):
            self.files[f"/api/models/{repository}{revision}"] = info

    def got(self, path: str) -> list[str | None]:
        """Return the Range headers of all GETs for a path."""
        return [span for asked, span in self.asked if asked == path]


def wheel_bytes(name: str, members: dict[str, bytes]) -> bytes:
    info = f"{name}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    wheel = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    contents = {
        **members,
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": wheel.encode(),
        f"{info}/RECORD": b"",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, content in contents.items():
            archive.writestr(zipfile.ZipInfo(path), content)
    return buffer.getvalue()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: FileServer

    def do_HEAD(self) -> None:
        self._reply(with_body=False)

    def do_GET(self) -> None:
        self._reply(with_body=True)

    def log_message(self, *_args: object) -> None:
        pass

    def _reply(self, *, with_body: bool) -> None:
        state = self.state
        path = unquote(urlsplit(self.path).path)
        span = self.headers.get("Range")
        if with_body:
            state.asked.append((path, span))
        expected = "Basic " + base64.b64encode(f"user:{state.required_key}".encode()).decode()
        if state.required_key and self.headers.get("Authorization") != expected:
            self._empty(401, {"WWW-Authenticate": 'Basic realm="test"'})
        elif state.statuses.get(path):
            self._empty(state.statuses[path].pop(0), state.headers.get(path, {}))
        elif path not in state.files:
            self._empty(404, {})
        else:
            self._file(path, span, with_body=with_body)

    def _file(self, path: str, span: str | None, *, with_body: bool) -> None:
        state = self.state
        content = state.files[path]
        first, last = 0, len(content) - 1
        status = 200
        headers = dict(state.headers.get(path, {}))
        if state.ranges:
            headers["Accept-Ranges"] = "bytes"
        if span and state.ranges:
            begin, _, end = span.removeprefix("bytes=").partition("-")
            if begin:
                first = int(begin)
                last = min(int(end), last) if end else last
            else:
                first = max(0, len(content) - int(end))
            if first >= len(content):
                self._empty(416, {"Content-Range": f"bytes */{len(content)}"})
                return
            status = 206
            headers.setdefault("Content-Range", f"bytes {first}-{last}/{len(content)}")
        body = content[first : last + 1]
        self.send_response(status)
        headers.setdefault("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if not with_body:
            return
        if path in state.cut:
            self.wfile.write(body[: state.cut.pop(path)])
            self.close_connection = True
        elif path in state.stall and span is None:
            self.wfile.write(body[: state.stall.pop(path)])
            self.wfile.flush()
            state.released.wait(300)
            self.close_connection = True
        else:
            self.wfile.write(body)

    def _empty(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def server() -> Iterator[FileServer]:
    state = FileServer()
    handler = type("Handler", (_Handler,), {"state": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        state.url = f"http://127.0.0.1:{listening.server_port}"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        state.released.set()
        listening.shutdown()
        thread.join()


@pytest.fixture
def index(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> FileServer:
    """The server as pip's only package index."""
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple")
    return server


@pytest.fixture
def hub(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> FileServer:
    """The server as the hub."""
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    return server


@dataclass
class Heard:
    """A progress hook that remembers."""

    steps: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    counted: int = 0

    def began(self, step: str, total_bytes: int | None) -> None:
        self.steps.append(step)
        self.counted = 0

    def advanced(self, count_bytes: int) -> None:
        self.counted += count_bytes

    def noted(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture
def heard() -> Heard:
    return Heard()


class Entries:
    """Writes catalogue files."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "mine.yaml"

    def write(self, **entries: dict[str, Any]) -> Path:
        """Write entries, each a minimal valid one with the given fields changed."""
        models = {key: minimal_entry() | fields for key, fields in entries.items()}
        kept = {
            key: {name: value for name, value in entry.items() if value is not ...}
            for key, entry in models.items()
        }
        # JSON is YAML 1.2.
        self.path.write_text(json.dumps({"models": kept}), "utf-8")
        return self.path


def minimal_entry() -> dict[str, Any]:
    return {
        "title": "A model",
        "repository": "someone/model",
        "licence": {
            "id": "mit",
            "name": "MIT",
            "url": "https://example.org/mit",
            "commercial_use": "yes",
        },
        "server": "llamacpp",
        "context_length": 2048,
        "cpu": 1,
        "memory_gb": 1,
        "disk_gb": 1,
        "prompt_mode": "completion",
    }


@pytest.fixture
def entries(tmp_path: Path) -> Entries:
    return Entries(tmp_path)
