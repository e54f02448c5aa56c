"""Files handed over: whole or not at all, and nothing outside the folder that is named."""

import hashlib
import io
import os
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.errors import RunFolderError, UsageError
from grace.runs.handover import HeldFile, keep, list_files, receive_file, send_file, touch

CONTENT = bytes(range(256)) * 5000


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "exp1" / "toy").mkdir(parents=True)
    (root / "exp1" / "toy" / "a.csv").write_bytes(CONTENT)
    (root / "b.json").write_bytes(b"")
    return root


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def listed(root: Path) -> tuple[list[HeldFile], list[str]]:
    odd: list[str] = []
    return list(list_files(root, odd.append)), odd


def test_files_are_listed_with_size_and_hash(root: Path) -> None:
    assert listed(root) == (
        [
            HeldFile("b.json", 0, sha256(b"")),
            HeldFile("exp1/toy/a.csv", len(CONTENT), sha256(CONTENT)),
        ],
        [],
    )


def test_temporary_files_are_left_out(root: Path) -> None:
    (root / ".b.json.part").write_bytes(b"torn")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "file").write_bytes(b"")
    assert [one.path for one in listed(root)[0]] == ["b.json", "exp1/toy/a.csv"]


def test_what_cannot_be_handed_over_is_told(root: Path, tmp_path: Path) -> None:
    (root / "line\nbreak").write_bytes(b"")
    (root / "link").symlink_to(root / "b.json")
    (root / "folder").symlink_to(tmp_path)
    os.mkfifo(root / "pipe")
    files, odd = listed(root)
    assert [one.path for one in files] == ["b.json", "exp1/toy/a.csv"]
    assert sorted(odd) == ["folder", "line\nbreak", "link", "pipe"]


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="nowhere: cannot be read: No such file"):
        listed(tmp_path / "nowhere")


@given(st.integers(0, 300), st.integers(0, 300))
def test_any_part_is_sent_and_nothing_beyond_the_end(offset: int, length: int) -> None:
    path = Path(__file__)
    content = path.read_bytes()[:300]
    stream = io.BytesIO()
    send_file(path, stream, offset=offset, length=min(length, 300 - offset))
    assert stream.getvalue() == content[offset : offset + length]


def test_a_file_is_sent_to_its_end(root: Path) -> None:
    stream = io.BytesIO()
    send_file(Path("exp1/toy/a.csv"), stream, offset=1000, root=root)
    assert stream.getvalue() == CONTENT[1000:]
    with pytest.raises(UsageError, match="has 0 bytes"):
        send_file(root / "b.json", stream, offset=1)
    with pytest.raises(RunFolderError, match="cannot be read: No such file"):
        send_file(root / "c.json", stream)


def test_a_file_is_received_into_folders_that_are_made(root: Path) -> None:
    held = receive_file(Path("new/folder/x.csv"), io.BytesIO(CONTENT), sha256(CONTENT), root)
    assert held == HeldFile("new/folder/x.csv", len(CONTENT), sha256(CONTENT))
    assert (root / "new" / "folder" / "x.csv").read_bytes() == CONTENT
    # Again, over what is there.
    receive_file(root / "new/folder/x.csv", io.BytesIO(b"other"), sha256(b"other"))
    assert (root / "new" / "folder" / "x.csv").read_bytes() == b"other"
    assert names(root / "new" / "folder") == ["x.csv"]


@pytest.mark.parametrize("came", [CONTENT[:-1], CONTENT + b"x", b"", CONTENT[:700] + CONTENT[701:]])
def test_what_was_damaged_on_its_way_never_appears(root: Path, came: bytes) -> None:
    with pytest.raises(RunFolderError, match="send it again"):
        receive_file(root / "x.csv", io.BytesIO(came), sha256(CONTENT))
    with pytest.raises(RunFolderError):
        receive_file(root / "b.json", io.BytesIO(came), sha256(CONTENT))
    assert names(root) == ["b.json", "exp1"]
    assert (root / "b.json").read_bytes() == b""


def test_a_transfer_that_breaks_leaves_nothing(root: Path) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 0:
                raise OSError(5, "Input/output error")
            return super().read(size)

    with pytest.raises(RunFolderError, match="Input/output error"):
        receive_file(root / "x.csv", Broken(CONTENT), sha256(CONTENT))
    assert names(root) == ["b.json", "exp1"]


@pytest.mark.parametrize(
    "path",
    ["../x", "exp1/../../x", "/etc/x", "a/.hidden/x", ".x", "a\nb", "-rf", "a b", "ä", "", "."],
)
def test_a_path_outside_or_an_odd_name_is_refused(root: Path, path: str) -> None:
    for act in (
        lambda: receive_file(Path(path), io.BytesIO(), sha256(b""), root),
        lambda: send_file(Path(path), io.BytesIO(), root=root),
    ):
        with pytest.raises(UsageError):
            act()
    assert names(root) == ["b.json", "exp1"]


def test_no_link_is_followed(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    stream = io.BytesIO()
    for path in ("folder/secret", "file"):
        with pytest.raises(RunFolderError):
            send_file(Path(path), stream, root=root)
        with pytest.raises((RunFolderError, UsageError)):
            receive_file(Path(path), io.BytesIO(b"new"), sha256(b"new"), root)
    assert stream.getvalue() == b""
    assert names(outside) == ["secret"]
    assert (outside / "secret").read_bytes() == b"secret"


@pytest.mark.parametrize("wrong", ["", "x" * 64, "A" * 64, "0" * 63])
def test_a_hash_that_is_none_is_refused(root: Path, wrong: str) -> None:
    with pytest.raises(UsageError, match="64 hexadecimal digits"):
        receive_file(root / "x", io.BytesIO(), wrong)


def test_what_killed_transfers_left_is_removed_in_time(root: Path) -> None:
    old, new = root / ".x.csv.0a.part", root / ".x.csv.0b.part"
    for path in (old, new):
        path.touch()
    os.utime(old, (1, 1))
    receive_file(root / "x.csv", io.BytesIO(b""), sha256(b""))
    assert not old.exists()
    assert new.exists()


class Hours:
    """A stop that is never asked for; each wait takes no time, and the clock moves."""

    def __init__(self, used: int) -> None:
        self.seconds = 0.0
        self.waits = 0
        self.used = used

    def wait(self, seconds: float) -> bool:
        self.seconds += seconds
        self.waits += 1
        if self.waits <= self.used:
            touch()
            # Two touches may fall into one tick of the file system's clock.
            moment = int(self.seconds * 1e9)
            os.utime(Path(tempfile.gettempdir()) / "grace-files.touched", ns=(moment, moment))
        return False


@pytest.mark.parametrize("used", [0, 1, 20])
def test_a_pod_is_kept_while_it_is_used_and_no_longer(used: int) -> None:
    hours = Hours(used)
    keep(600, hours, clock=lambda: hours.seconds, looked_every_seconds=5)  # type: ignore[arg-type]
    assert hours.seconds == 5 * used + 600


def test_keeping_ends_at_once_when_stopped() -> None:
    stop = threading.Event()
    stop.set()
    keep(3600, stop)
