"""
A private copy of an input file, read as often as a run needs its rows.

A run reads its input several times, and may take days. Meanwhile the user's
file may be edited, moved or deleted, or it was a pipe that can be read only
once. So its bytes are copied at first sight: a small file to memory, a large
one to a temporary file without a name, which vanishes with the process.
"""

import codecs
import hashlib
import io
import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from typing import IO, TextIO

from grace.errors import InputFaults, UsageError

IN_MEMORY_BYTES = 1 << 20
"""A file of at most this size is kept in memory."""

_BLOCK = 1 << 16


class InputCopy:
    """
    The bytes of an input file, checked to be text.

    Args:
        blocks: The bytes, in any portions.

        source: The file's name, for messages.

    Raises:
        InputFaults: They are not UTF-8, or hold a NUL character.

        UsageError: There is no room for the copy.
    """

    def __init__(self, blocks: Iterable[bytes], source: str) -> None:
        self._source = source
        self._small = bytearray()
        self._file: IO[bytes] | None = None
        digest = hashlib.sha256()
        text = _TextCheck(source)
        for block in blocks:
            digest.update(block)
            text.look_at(block)
            self._keep(block)
        text.end()
        self.sha256 = digest.hexdigest()

    def text(self) -> TextIO:
        """Open the text from its beginning; several may be read at once."""
        raw = io.BytesIO(self._small) if self._file is None else self._buffered(self._file)
        # The csv module wants line ends as they are.
        return io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")

    def _keep(self, block: bytes) -> None:
        try:
            if self._file is not None:
                self._file.write(block)
            elif len(self._small) + len(block) <= IN_MEMORY_BYTES:
                self._small += block
            else:
                # Unbuffered: what is written can be read at once.
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
                weakref.finalize(self, self._file.close)
                self._file.write(self._small)
                self._file.write(block)
                self._small.clear()
        except OSError as error:
            raise UsageError(
                f"{self._source}: cannot be copied to the folder of temporary files: "
                f"{error.strerror}; make room there, or let TMPDIR name another folder"
            ) from error

    def _buffered(self, file: IO[bytes]) -> io.BufferedReader:
        return io.BufferedReader(_Pass(self, file, self._source), _BLOCK)


class _Pass(io.RawIOBase):
    """One pass through a copy, with a position of its own; keeps the copy alive."""

    def __init__(self, copy: InputCopy, file: IO[bytes], source: str) -> None:
        self._copy = copy
        self._descriptor = file.fileno()
        self._position = 0
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        try:
            found = os.pread(self._descriptor, len(buffer), self._position)
        except OSError as error:
            raise UsageError(
                f"{self._source}: its copy among the temporary files cannot be read: "
                f"{error.strerror}"
            ) from error
        self._position += len(found)
        buffer[: len(found)] = found
        return len(found)


class _TextCheck:
    """Finds bytes that are not text, block by block."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._lines = 0
        self._nul_line: int | None = None

    def look_at(self, block: bytes, *, last: bool = False) -> None:
        try:
            self._decoder.decode(block, last)
        except UnicodeDecodeError as error:
            line = self._lines + error.object.count(b"\n", 0, error.start) + 1
            raise InputFaults(
                self._source,
                [
                    f"{self._source}, line {line}: byte {error.object[error.start]:#04x} is not "
                    "UTF-8; save the file as 'CSV UTF-8'"
                ],
            ) from error
        if self._nul_line is None and (place := block.find(b"\0")) >= 0:
            self._nul_line = self._lines + block.count(b"\n", 0, place) + 1
        self._lines += block.count(b"\n")

    def end(self) -> None:
        self.look_at(b"", last=True)
        if self._nul_line is not None:
            raise InputFaults(
                self._source,
                [
                    f"{self._source}, line {self._nul_line}: holds a NUL character; expected text "
                    "(is it UTF-16?)"
                ],
            )


def blocks_of(content: bytes) -> Iterator[bytes]:
    """Cut bytes into blocks."""
    return (content[start : start + _BLOCK] for start in range(0, len(content), _BLOCK))


def blocks_from(stream: IO[bytes]) -> Iterator[bytes]:
    """Read a stream block by block."""
    return iter(lambda: stream.read(_BLOCK), b"")
