import json
import os
import resource
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import grace.engine.journal
from grace.engine.journal import JournalReader, JournalWriter, Record, read_journal
from grace.engine.plan import QueryKey
from grace.errors import CorruptJournal, RunFolderError
from strategies import records

ANSWER = Record(
    key=QueryKey("k1"),
    stage="respond",
    probe="prior",
    status="answered",
    value={"text": "3"},
    error_type="",
    error="",
    attempts=1,
    seconds=0.25,
    finished="2026-01-31T23:59:59.000+00:00",
)
FAILURE = replace(ANSWER, status="failed", value={}, error_type="BadReply", error="nonsense")


def write(folder: Path, *written: Record, stage: str = "respond") -> Path:
    with JournalWriter(folder, stage) as writer:
        for record in written:
            writer.append(record)
    return max(folder.glob(f"{stage}-*.jsonl"))


@contextmanager
def files_no_larger_than(limit: int) -> Iterator[None]:
    """Let writes beyond *limit* bytes of a file fail, as they do on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@given(st.lists(records(), min_size=1, max_size=5), st.data())
def test_a_journal_cut_at_any_byte_keeps_every_line_before_the_cut(
    written: list[Record], data: st.DataObject
) -> None:
    with TemporaryDirectory() as name:
        path = write(Path(name), *written)
        content = path.read_bytes()
        cut = data.draw(st.integers(min_value=0, max_value=len(content)), "cut")
        path.write_bytes(content[:cut])
        state = read_journal(Path(name))
        whole = content[:cut].count(b"\n")
        assert state.lines == whole
        assert set(state.records) == {record.key for record in written[:whole]}


@given(records())
@example(replace(ANSWER, value={"text": "\ud83d"}))
@example(replace(ANSWER, value={"text": "a\r\n\0\u2028b"}))
@example(replace(FAILURE, error="the server said \udcff"))
def test_a_record_survives_the_round_trip_whatever_its_text(record: Record) -> None:
    with TemporaryDirectory() as name:
        write(Path(name), record)
        assert read_journal(Path(name)).records == {record.key: record}


@pytest.mark.parametrize(
    "garbage",
    [
        b"garbage\n",
        b"\n",
        b"{}\n",
        b"\xff\xfe\n",
        b"[1, 2]\n",
        b"\0\0\0\0\n",
        b'{"key": 3}\n',
        b"[" * 100_000 + b"\n",
    ],
    ids=["text", "blank", "no fields", "bytes", "list", "zeros", "types", "nested"],
)
def test_garbage_in_the_middle_is_corrupt_and_not_dropped(tmp_path: Path, garbage: bytes) -> None:
    path = write(tmp_path, ANSWER, replace(ANSWER, key=QueryKey("k2")))
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + garbage + second)
    with pytest.raises(CorruptJournal, match=r"respond-0001.jsonl, line 2: is not a journal line"):
        read_journal(tmp_path)


def test_a_number_that_is_not_json_is_corrupt(tmp_path: Path) -> None:
    path = write(tmp_path, replace(ANSWER, value={"logprob": -1.5}))
    path.write_bytes(path.read_bytes().replace(b"-1.5", b"NaN"))
    with pytest.raises(CorruptJournal):
        read_journal(tmp_path)


def test_a_number_that_is_not_finite_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write(tmp_path, replace(ANSWER, value={"logprob": float("nan")}))


@pytest.mark.parametrize("order", [(ANSWER, FAILURE), (FAILURE, ANSWER)], ids=["first", "last"])
@pytest.mark.parametrize("files", [1, 2])
def test_an_answer_outlives_a_failure_whatever_their_order(
    tmp_path: Path, order: tuple[Record, Record], files: int
) -> None:
    if files == 1:
        write(tmp_path, *order)
    else:
        write(tmp_path, order[0])
        write(tmp_path, order[1])
    assert read_journal(tmp_path).records == {ANSWER.key: ANSWER}


def test_the_last_of_two_failures_counts(tmp_path: Path) -> None:
    later = replace(FAILURE, error="later")
    write(tmp_path, FAILURE)
    write(tmp_path, later)
    assert read_journal(tmp_path).records == {ANSWER.key: later}


def test_two_writers_at_once_have_two_files(tmp_path: Path) -> None:
    with JournalWriter(tmp_path, "score") as one, JournalWriter(tmp_path, "score") as other:
        one.append(ANSWER)
        other.append(replace(ANSWER, key=QueryKey("k2")))
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "score-0001.jsonl",
        "score-0002.jsonl",
    ]
    assert set(read_journal(tmp_path).records) == {"k1", "k2"}


def test_many_writers_never_share_a_file(tmp_path: Path) -> None:
    def append(number: int) -> None:
        write(tmp_path, replace(ANSWER, key=QueryKey(f"k{number}")))

    threads = [threading.Thread(target=append, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(tmp_path.iterdir())) == 16
    assert len(read_journal(tmp_path).records) == 16


def test_a_torn_file_is_never_appended_to(tmp_path: Path) -> None:
    path = write(tmp_path, ANSWER)
    path.write_bytes(path.read_bytes()[:-5])
    write(tmp_path, replace(ANSWER, key=QueryKey("k2")))
    assert set(read_journal(tmp_path).records) == {"k2"}


def test_a_writer_that_wrote_nothing_leaves_no_file(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "journal", "respond"):
        pass
    assert list((tmp_path / "journal").iterdir()) == []


def test_a_folder_that_does_not_exist_yet_is_an_empty_journal(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "journal").records == {}


def test_a_line_is_on_the_file_as_soon_as_it_is_appended(tmp_path: Path) -> None:
    with JournalWriter(tmp_path, "respond") as writer:
        writer.append(ANSWER)
        (line,) = next(tmp_path.iterdir()).read_bytes().splitlines()
        assert json.loads(line)["value"] == {"text": "3"}


def test_a_full_disk_ends_in_a_message_and_what_was_finished_is_kept(tmp_path: Path) -> None:
    records = [replace(ANSWER, key=QueryKey(f"k{number}")) for number in range(100)]
    with (
        pytest.raises(RunFolderError, match=r"respond-0001.jsonl: cannot be written.*make room"),
        files_no_larger_than(1000),
    ):
        write(tmp_path, *records)
    kept = read_journal(tmp_path).records
    assert 3 <= len(kept) < 10
    write(tmp_path, *(record for record in records if record.key not in kept))
    assert len(read_journal(tmp_path).records) == 100


def test_a_really_full_disk_ends_the_same_way(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = os.geteuid() == 0 and not subprocess.call(  # noqa: S603
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", disk],  # noqa: S607
        stderr=subprocess.DEVNULL,
    )
    if not mounted:
        pytest.skip("mounting a small disk is not permitted here")
    try:
        long = {"text": "word " * 1000}
        with pytest.raises(RunFolderError, match="No space left on device"):
            write(disk, *(replace(ANSWER, key=QueryKey(f"k{n}"), value=long) for n in range(9)))
        assert 0 < len(read_journal(disk).records) < 9
    finally:
        subprocess.check_call(["umount", disk])  # noqa: S603, S607


@pytest.mark.parametrize("how", ["deleted", "replaced", "moved"])
@pytest.mark.parametrize("when", ["while writing", "at the end"])
def test_a_journal_that_is_no_longer_in_its_place_is_not_written_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, when: str
) -> None:
    # Else it is looked at once a second.
    monkeypatch.setattr(grace.engine.journal, "_SYNC_SECONDS", 0 if when == "while writing" else 60)
    path = tmp_path / "journal" / "respond-0001.jsonl"

    def lose() -> None:
        match how:
            case "deleted":
                path.unlink()
            case "replaced":
                shutil.copy(path, tmp_path / "copy")
                (tmp_path / "copy").replace(path)
            case _:
                shutil.move(path.parent, tmp_path / "elsewhere")

    def write_and_lose() -> None:
        with JournalWriter(path.parent, "respond") as writer:
            writer.append(ANSWER)
            lose()
            writer.append(replace(ANSWER, key=QueryKey("k2")))
            assert when == "at the end"

    with pytest.raises(RunFolderError, match=r"respond-0001\.jsonl: is gone: the run folder was"):
        write_and_lose()


def test_a_folder_that_cannot_be_made_ends_in_a_message(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file")
    with (
        pytest.raises(RunFolderError, match="journal: cannot be made"),
        JournalWriter(tmp_path / "journal", "respond"),
    ):
        pass


def test_a_file_that_cannot_be_read_ends_in_a_message(tmp_path: Path) -> None:
    (tmp_path / "respond-0001.jsonl").mkdir()
    with pytest.raises(RunFolderError, match="cannot be read: Is a directory"):
        read_journal(tmp_path)


def test_a_writer_that_is_not_open_refuses(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="not open"):
        JournalWriter(tmp_path, "respond").append(ANSWER)


def test_answers_are_the_records_without_failures(tmp_path: Path) -> None:
    other = QueryKey("k2")
    write(tmp_path, ANSWER, replace(FAILURE, key=other))
    records = read_journal(tmp_path).records
    assert (records.is_answered(ANSWER.key), records.is_answered(other)) == (True, False)
    assert records.answers() == {ANSWER.key: ANSWER}
    assert (len(records), len(records.answers())) == (2, 1)
    assert other in records
    assert other not in records.answers()
    assert records.answers().get(other) is None


def test_a_journal_that_changes_while_it_is_in_use_is_corrupt(tmp_path: Path) -> None:
    path = write(tmp_path, ANSWER)
    records = read_journal(tmp_path).records
    path.write_bytes(path.read_bytes().replace(b'"k1"', b'"k7"'))
    with pytest.raises(CorruptJournal, match=r"respond-0001\.jsonl: something else wrote"):
        records[ANSWER.key]
    path.unlink()
    with pytest.raises(RunFolderError, match="cannot be read"):
        # A view that has no file open yet.
        records.answers()[ANSWER.key]


def test_a_file_that_vanishes_before_it_is_read_held_nothing(tmp_path: Path) -> None:
    # As if a shard had left, and removed its empty file, right after the folder was listed.
    (tmp_path / "score-0of2-0001.jsonl").symlink_to(tmp_path / "gone")
    assert read_journal(tmp_path).lines == 0


def test_a_file_that_vanishes_after_it_was_read_is_missed(tmp_path: Path) -> None:
    path = tmp_path / "score-0001.jsonl"
    with JournalWriter(tmp_path, "score") as writer:
        writer.append(Record(QueryKey("a"), "score", "p", "answered", {}, "", "", 1, 0.0, ""))
    reader = JournalReader(tmp_path)
    assert reader.read().lines == 1
    path.unlink()
    path.symlink_to(tmp_path / "gone")
    with pytest.raises(RunFolderError, match="cannot be read"):
        reader.read()
