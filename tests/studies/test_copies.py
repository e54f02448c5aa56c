import errno
import gc
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.errors import InputFaults, UsageError
from grace.studies.copies import IN_MEMORY_BYTES, InputCopy
from grace.studies.study import Column, Study
from grace.studies.trials import load_trials

PLAIN = Study(
    key="plain",
    title="Plain",
    description="Two columns.",
    columns=(Column("who", "A number."), Column("what", "A text.")),
    stimulus_columns=("what",),
    conditions=(),
)
LARGE = IN_MEMORY_BYTES + 1


def cut(content: bytes, size: int) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


def large_csv(word: str) -> bytes:
    lines = [f"{number},{word} {number % 7}" for number in range(LARGE // 8)]
    return "\n".join(["who,what", *lines, ""]).encode()


@given(st.text(), st.integers(min_value=1, max_value=9), st.sampled_from([b"", b"\xef\xbb\xbf"]))
def test_a_text_comes_back_whatever_its_portions(text: str, size: int, mark: bytes) -> None:
    text = text.replace("\0", "").removeprefix("\ufeff")
    content = mark + text.encode()
    assert InputCopy(cut(content, size), "t.csv").text().read() == text


@given(
    st.text(max_size=12).map(str.encode),
    st.sampled_from([b"\xff", b"\xc3(", b"\xe2\x82", b"\0"]),
    st.text(max_size=5).map(str.encode),
    st.integers(min_value=1, max_value=9),
)
def test_what_is_not_text_is_told_with_its_line_whatever_the_portions(
    before: bytes, bad: bytes, after: bytes, size: int
) -> None:
    before = before.replace(b"\0", b"").removeprefix(b"\xef\xbb\xbf")
    line = before.count(b"\n") + 1
    with pytest.raises(InputFaults, match=rf"t\.csv, line {line}: (byte 0x|holds a NUL)"):
        InputCopy(cut(before + bad + after, size), "t.csv")


def test_bytes_that_are_not_text_are_told_before_a_nul_character() -> None:
    with pytest.raises(InputFaults, match="line 2: byte 0xff is not UTF-8"):
        InputCopy([b"a\0\n", b"\xff"], "t.csv")


@pytest.mark.parametrize("size", [100, LARGE])
def test_several_may_read_a_copy_at_once(size: int) -> None:
    content = (b"0123456789" * size)[:size]
    copy = InputCopy(cut(content, 4096), "t.csv")
    one, other = copy.text(), copy.text()
    del copy
    gc.collect()
    assert [one.read(7), other.read(3), one.read(3), other.read(4)] == [
        "0123456",
        "012",
        "789",
        "3456",
    ]
    assert 10 + len(one.read()) == 7 + len(other.read()) == size


def test_a_run_reads_what_a_file_held_at_first(tmp_path: Path) -> None:
    path = tmp_path / "input.csv"
    path.write_bytes(large_csv("first"))
    trials = load_trials(PLAIN, path)
    path.write_bytes(large_csv("other"))
    assert {trial.cells[1].split()[0] for trial in trials.trials} == {"first"}
    path.unlink()
    assert len(list(trials.trials)) == len(trials.trials) == LARGE // 8
    assert trials.stimuli() == 7


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"who,what\n1,a\n2,b\n")
    os.close(writing)
    try:
        trials = load_trials(PLAIN, Path(f"/dev/fd/{reading}"))
    finally:
        os.close(reading)
    for _ in range(2):
        assert [trial.cells for trial in trials.trials] == [("1", "a"), ("2", "b")]


def test_no_room_for_a_copy_ends_in_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(**_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    # A full disk cannot be made without privileges.
    monkeypatch.setattr(tempfile, "TemporaryFile", no_room)
    with pytest.raises(UsageError, match=r"t\.csv: cannot be copied to .*No space.*TMPDIR"):
        InputCopy([b"x" * LARGE], "t.csv")
