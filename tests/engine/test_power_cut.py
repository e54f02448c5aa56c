"""
What a power cut leaves of a journal: cut anywhere, or with a tail of zeros.

The last pages of a file may come back as zeros, if its new length reached the
disk and its content did not.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from grace.engine.journal import JournalReader, JournalWriter, Record, read_journal
from grace.engine.plan import QueryKey
from grace.errors import CorruptJournal

RECORD = Record(
    key=QueryKey("k0"),
    stage="respond",
    probe="prior",
    status="answered",
    value={"text": 'Zwölf "Boxkämpfer"\n\0\\', "logprob": -1.5},
    error_type="",
    error="",
    attempts=1,
    seconds=0.25,
    finished="2026-01-31T23:59:59.000+00:00",
)
RECORDS = [replace(RECORD, key=QueryKey(f"k{number}")) for number in range(3)]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    with JournalWriter(tmp_path, "respond") as writer:
        for record in RECORDS:
            writer.append(record)
    (path,) = tmp_path.iterdir()
    return path


def cuts(content: bytes) -> Iterator[tuple[bytes, int]]:
    """Every beginning of a file, and how many of its lines are whole."""
    for end in range(len(content) + 1):
        yield content[:end], content[:end].count(b"\n")


@pytest.mark.parametrize("zeros", [0, 1, 511, 4096, 3 * 4096 + 7])
def test_cut_at_any_byte_and_filled_with_zeros_every_whole_line_is_kept(
    written: Path, zeros: int
) -> None:
    content = written.read_bytes()
    for beginning, whole in cuts(content):
        written.write_bytes(beginning + bytes(zeros))
        state = read_journal(written.parent)
        assert state.lines == whole
        assert dict(state.records) == {one.key: one for one in RECORDS[:whole]}


def test_a_page_of_zeros_up_to_the_old_length_is_a_torn_end(written: Path) -> None:
    content = written.read_bytes()
    for beginning, whole in cuts(content):
        written.write_bytes(beginning + bytes(len(content) - len(beginning)))
        assert read_journal(written.parent).lines == whole


def test_a_file_of_zeros_is_an_empty_journal(written: Path) -> None:
    written.write_bytes(bytes(8192))
    assert read_journal(written.parent).lines == 0


@pytest.mark.parametrize("zeros", [1, 4096])
@pytest.mark.parametrize("place", [0, 1])
def test_zeros_before_other_lines_are_corrupt(written: Path, zeros: int, place: int) -> None:
    lines = written.read_bytes().splitlines(keepends=True)
    lines.insert(place, bytes(zeros))
    written.write_bytes(b"".join(lines))
    with pytest.raises(CorruptJournal, match=f"line {place + 1}: is not a journal line"):
        read_journal(written.parent)


def test_a_line_with_zeros_inside_is_corrupt(written: Path) -> None:
    content = bytearray(written.read_bytes())
    content[20:40] = bytes(20)
    written.write_bytes(content)
    with pytest.raises(CorruptJournal, match="line 1"):
        read_journal(written.parent)


def test_what_follows_a_torn_end_is_in_another_file(written: Path) -> None:
    content = written.read_bytes()
    written.write_bytes(content[:-10] + bytes(4096))
    reader = JournalReader(written.parent)
    assert set(reader.read().records) == {"k0", "k1"}
    with JournalWriter(written.parent, "respond") as writer:
        writer.append(RECORDS[2])
    assert set(reader.read().records) == {"k0", "k1", "k2"}
    assert set(read_journal(written.parent).records) == {"k0", "k1", "k2"}
    assert written.read_bytes() == content[:-10] + bytes(4096)


def test_a_journal_is_on_the_disk_with_its_folders_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No test can cut the power: what is forced to the disk is noted instead.
    synced: list[Path] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").resolve())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    with JournalWriter(tmp_path / "journal", "respond") as writer:
        assert synced == [tmp_path, tmp_path / "journal"]
        writer.append(RECORD)
    assert synced[2:] == [tmp_path / "journal" / "respond-0001.jsonl"]
