"""What can go wrong before a model answers; the real server is tested in tests/system."""

import errno
import gc
import os
import socket
import tempfile
import warnings
from pathlib import Path
from typing import NoReturn

import pytest

from grace.errors import ServingError
from grace.serving.embedded import EmbeddedSettings, embedded_server, idle_threads, start_server


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    return path


async def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match=r"nowhere\.gguf: no such GGUF file"):
        async with embedded_server(tmp_path / "nowhere.gguf", "m"):
            pass


async def test_a_server_that_did_not_start_leaves_no_file_open(model: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = EmbeddedSettings(port=taken.getsockname()[1])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            problem = ""
            try:
                await start_server(model, "m", settings)
            except ServingError as error:
                problem = str(error)
            gc.collect()
    assert "is in use; choose another with --port" in problem
    assert [str(one.message) for one in caught] == []


def test_idle_threads_are_at_least_one_and_at_most_the_cores() -> None:
    assert 1 <= idle_threads() <= (os.cpu_count() or 1)


async def test_an_address_of_another_machine_is_refused_with_a_remedy(model: Path) -> None:
    # Of a block that is for documentation only.
    settings = EmbeddedSettings(host="203.0.113.7")
    with pytest.raises(ServingError, match=r"203\.0\.113\.7: cannot be listened on: .*0\.0\.0\.0"):
        await start_server(model, "m", settings)


async def test_no_writable_folder_is_needed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> NoReturn:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    # It gets as far as the weights, and its last words are kept.
    with pytest.raises(ServingError, match=r"did not start with model\.gguf: .*its last words"):
        await start_server(model, "m", EmbeddedSettings(threads=1))
