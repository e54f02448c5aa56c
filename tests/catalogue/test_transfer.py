import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from grace.catalogue.transfer import ATTEMPTS, TransferRefused, download
from grace.errors import WeightsError

CONTENT = os.urandom(300_000)
SHA = hashlib.sha256(CONTENT).hexdigest()


def fetch(url: str, target: Path, heard: Any, sha256: str | None = SHA) -> None:
    download(url, target, sha256=sha256, label="file.bin", progress=heard)


def part(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def test_a_file_arrives_whole_and_leaves_no_part(server: Any, tmp_path: Path, heard: Any) -> None:
    target = tmp_path / "file.bin"
    fetch(server.put("/f", CONTENT), target, heard)
    assert target.read_bytes() == CONTENT
    assert not part(target).exists()
    assert len(CONTENT) == heard.counted


def test_a_cut_transfer_goes_on_where_it_stopped(server: Any, tmp_path: Path, heard: Any) -> None:
    target = tmp_path / "file.bin"
    url = server.put("/f", CONTENT)
    server.cut["/f"] = 100_000
    fetch(url, target, heard)
    assert target.read_bytes() == CONTENT
    assert server.got("/f") == [None, "bytes=100000-"]


def test_what_an_earlier_call_left_is_used(server: Any, tmp_path: Path, heard: Any) -> None:
    target = tmp_path / "file.bin"
    part(target).write_bytes(CONTENT[:123])
    fetch(server.put("/f", CONTENT), target, heard)
    assert target.read_bytes() == CONTENT
    assert server.got("/f") == ["bytes=123-"]
    assert len(CONTENT) == heard.counted


def test_a_complete_part_needs_no_request(server: Any, tmp_path: Path, heard: Any) -> None:
    target = tmp_path / "file.bin"
    part(target).write_bytes(CONTENT)
    fetch(server.put("/f", CONTENT), target, heard)
    assert target.read_bytes() == CONTENT
    assert server.got("/f") == []


def test_a_server_without_ranges_sends_all_again(server: Any, tmp_path: Path, heard: Any) -> None:
    target = tmp_path / "file.bin"
    server.ranges = False
    url = server.put("/f", CONTENT)
    server.cut["/f"] = 100_000
    fetch(url, target, heard)
    assert target.read_bytes() == CONTENT


def test_a_part_of_another_file_is_given_up(server: Any, tmp_path: Path, heard: Any) -> None:
    target = tmp_path / "file.bin"
    part(target).write_bytes(b"something else")
    fetch(server.put("/f", CONTENT), target, heard)
    assert target.read_bytes() == CONTENT
    assert server.got("/f") == ["bytes=14-", None]
    assert "starting again" in heard.notes[0]


def test_a_part_that_is_too_long_is_given_up(server: Any, tmp_path: Path, heard: Any) -> None:
    target = tmp_path / "file.bin"
    part(target).write_bytes(CONTENT + b"more")
    fetch(server.put("/f", CONTENT), target, heard)
    assert target.read_bytes() == CONTENT


def test_a_wrong_hash_leaves_nothing(server: Any, tmp_path: Path, heard: Any) -> None:
    target = tmp_path / "file.bin"
    with pytest.raises(WeightsError, match="expected " + "0" * 64):
        fetch(server.put("/f", CONTENT), target, heard, "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_a_promised_hash_is_taken(server: Any, tmp_path: Path, heard: Any) -> None:
    target = tmp_path / "file.bin"
    fetch(server.put("/f", CONTENT), target, heard, None)
    assert target.read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(server: Any, tmp_path: Path, heard: Any) -> None:
    target = tmp_path / "file.bin"
    server.statuses["/f"] = [503, 429, 500]
    fetch(server.put("/f", CONTENT), target, heard)
    assert target.read_bytes() == CONTENT


def test_a_dead_server_ends_in_an_error_that_keeps_the_bytes(
    server: Any, tmp_path: Path, heard: Any
) -> None:
    target = tmp_path / "file.bin"
    part(target).write_bytes(CONTENT[:1000])
    server.statuses["/f"] = [503] * ATTEMPTS
    with pytest.raises(WeightsError, match=r"after 1,000 bytes \(HTTP 503\).*run the same command"):
        fetch(server.put("/f", CONTENT), target, heard)
    assert CONTENT[:1000] == part(target).read_bytes()


def test_an_unreachable_server_ends_in_an_error(tmp_path: Path, heard: Any) -> None:
    with pytest.raises(WeightsError, match="run the same command again"):
        fetch("http://127.0.0.1:9/f", tmp_path / "file.bin", heard)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_is_not_repeated(server: Any, tmp_path: Path, heard: Any, status: int) -> None:
    url = server.put("/f", CONTENT)
    server.statuses["/f"] = [status] * 2
    with pytest.raises(TransferRefused, match=f"HTTP {status}"):
        fetch(url, tmp_path / "file.bin", heard)
    assert server.got("/f") == [None]


def test_another_scheme_is_refused(tmp_path: Path, heard: Any) -> None:
    with pytest.raises(TransferRefused, match="not http"):
        fetch("ftp://127.0.0.1/f", tmp_path / "file.bin", heard)


def test_another_range_than_asked_for_is_not_appended(
    server: Any, tmp_path: Path, heard: Any
) -> None:
    target = tmp_path / "file.bin"
    part(target).write_bytes(CONTENT[:500])
    url = server.put("/f", CONTENT)
    server.headers["/f"] = {"Content-Range": f"bytes 7-{len(CONTENT) - 1}/{len(CONTENT)}"}
    fetch(url, target, heard)
    assert target.read_bytes() == CONTENT


def test_a_file_that_cannot_fit_is_not_begun(server: Any, tmp_path: Path, heard: Any) -> None:
    target = tmp_path / "file.bin"
    url = server.put("/f", CONTENT)
    server.headers["/f"] = {"Content-Length": str(10**18)}
    with pytest.raises(WeightsError, match=r"1,000,000,000\.0 GB are needed .*--store"):
        fetch(url, target, heard)
    assert not part(target).exists()


CHILD = """
import sys
from pathlib import Path
from grace.catalogue.progress import SilentProgress
from grace.catalogue.store import storage_errors
from grace.catalogue.transfer import download
from grace.errors import WeightsError
import resource
target = Path(sys.argv[2])
if len(sys.argv) > 4:
    limit = int(sys.argv[4])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    with storage_errors(target.parent):
        download(sys.argv[1], target, sha256=sys.argv[3], label="f", progress=SilentProgress())
except WeightsError as error:
    sys.exit(str(error))
"""


def test_a_full_disk_keeps_what_arrived_and_says_what_to_do(
    server: Any, tmp_path: Path, heard: Any
) -> None:
    # The kernel refuses to let any file grow beyond 100 kB: a write fails as on a full disk.
    target = tmp_path / "file.bin"
    url = server.put("/f", CONTENT)
    command = [sys.executable, "-c", CHILD, url, str(target), SHA, "100000"]
    result = subprocess.run(  # noqa: S603 (our own script)
        command, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1, result.stderr
    assert "the disk is full" in result.stderr
    assert "GRACE_CACHE" in result.stderr
    assert CONTENT[:100_000] == part(target).read_bytes()
    fetch(url, target, heard)
    assert target.read_bytes() == CONTENT


def test_a_killed_process_is_continued_from_its_last_byte(
    server: Any, tmp_path: Path, heard: Any
) -> None:
    target = tmp_path / "file.bin"
    url = server.put("/f", CONTENT)
    server.stall["/f"] = 200_000
    command = [sys.executable, "-c", CHILD, url, str(target), SHA]
    with subprocess.Popen(command) as child:  # noqa: S603 (our own script)
        wait_for_size(part(target), 200_000, child)
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert not target.exists()
    fetch(url, target, heard)
    assert target.read_bytes() == CONTENT
    assert server.got("/f") == [None, "bytes=200000-"]


def wait_for_size(path: Path, size: int, child: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 300
    while not path.exists() or path.stat().st_size < size:
        assert child.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
