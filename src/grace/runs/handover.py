"""
Handing files over: what runs in a pod beside a volume, so that files can be fetched and brought.

A file is told with its size and hash, sent in any part, and taken only whole: it
gets its name when its hash is right. Nothing outside the folder that is named is
read or written, not by `..` and not through a link. Only the standard library is
used: this runs once for each file, and must start at once.
"""

import contextlib
import hashlib
import os
import re
import secrets
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from grace.errors import RunFolderError, UsageError

BLOCK_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@,-]{0,254}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ABANDONED_SECONDS = 3600.0
_TOUCHED_EVERY_SECONDS = 10.0
_LOOKED_EVERY_SECONDS = 5.0
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class HeldFile:
    """
    A file that can be handed over.

    Attributes:
        path: Relative to the folder that was listed.

        size: In bytes.

        sha256: Of so many bytes, hexadecimal.
    """

    path: str
    size: int
    sha256: str


def list_files(root: Path, odd: Callable[[str], None]) -> Iterator[HeldFile]:
    """
    Yield the files below a folder, in order; hidden ones are somebody's temporary files.

    Args:
        root: The folder.

        odd: Hears of each file that cannot be handed over: its name has odd
            characters, or it is no plain file.

    Raises:
        RunFolderError: A file or folder cannot be read.
    """
    for folder, folders, names in os.walk(root, onerror=_raise):
        place = Path(folder)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in [*folders, *sorted(names)]:
            path = place / name
            shown = path.relative_to(root).as_posix()
            if name.startswith(".") or (name in folders and not path.is_symlink()):
                if name in folders and _NAME.fullmatch(name) is None:
                    odd(shown)
                continue
            if _NAME.fullmatch(name) is None or path.is_symlink() or not path.is_file():
                odd(shown)
                continue
            touch()
            try:
                size, sha256 = _hashed(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise RunFolderError(f"{path}: cannot be read: {error.strerror}") from error
            yield HeldFile(shown, size, sha256)


def send_file(
    path: Path,
    stream: IO[bytes],
    *,
    offset: int = 0,
    length: int | None = None,
    root: Path | None = None,
) -> str:
    """
    Write a part of a file to a stream.

    Args:
        path: The file.

        stream: Where its bytes go.

        offset: Where the part begins.

        length: How long it is; None is up to the file's present end.

        root: The folder that it must lie in; None is any.

    Returns:
        The hash of the bytes that were written, hexadecimal.

    Raises:
        UsageError: The path is not allowed, or the part is not within the file.

        RunFolderError: The file cannot be read.
    """
    with _folder_of(path, root, make=False) as (folder, name):
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        except OSError as error:
            raise RunFolderError(f"{path}: cannot be read: {error.strerror}") from error
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123  a descriptor has no path
        held = os.fstat(descriptor)
        if not stat.S_ISREG(held.st_mode):
            raise UsageError(f"{path}: is no plain file")
        end = held.st_size if length is None else offset + length
        if not 0 <= offset <= end <= held.st_size:
            raise UsageError(
                f"{path}: has {held.st_size} bytes; --offset {offset} and --length {length} go "
                "beyond it"
            )
        digest, touching = hashlib.sha256(), _Touching()
        while offset < end:
            block = os.pread(file.fileno(), min(BLOCK_BYTES, end - offset), offset)
            if not block:
                raise RunFolderError(f"{path}: became shorter while it was sent")
            stream.write(block)
            digest.update(block)
            offset += len(block)
            touching.now()
        stream.flush()
    return digest.hexdigest()


def receive_file(
    path: Path,
    stream: IO[bytes],
    sha256: str,
    root: Path | None = None,
    *,
    size: int | None = None,
) -> HeldFile:
    """
    Take a file from a stream; it appears under its name when it is whole and on the disk.

    Args:
        path: The file; folders are made.

        stream: Its bytes.

        sha256: Their hash.

        root: The folder that it must lie in; None is any.

        size: How many there are; None is up to the stream's end. Some connections
            have no way to say that it ends.

    Raises:
        UsageError: The path or the hash is not allowed.

        RunFolderError: What came is not what was promised, or cannot be written.
    """
    if _SHA256.fullmatch(sha256) is None:
        raise UsageError(f"--sha256 is {sha256[:80]!r}; expected 64 hexadecimal digits")
    with _folder_of(path, root, make=True) as (folder, name):
        _check_target(path, folder, name)
        temporary = f".{name}.{secrets.token_hex(4)}.part"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(temporary, flags, 0o644, dir_fd=folder)
            # The file system's own clock: that of this machine may be another one.
            _remove_abandoned(folder, name, os.fstat(descriptor).st_mtime)
            try:
                taken = _taken(stream, descriptor, path, sha256, size)
                os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
                with contextlib.suppress(OSError):
                    # Some file systems do this by themselves, and refuse.
                    os.fsync(folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise
        except OSError as error:
            raise RunFolderError(f"{path}: cannot be written: {error.strerror}") from error
    return HeldFile(path.as_posix(), taken, sha256)


def _taken(stream: IO[bytes], descriptor: int, path: Path, sha256: str, size: int | None) -> int:
    """Write all that comes to a new file, and return how much it was."""
    digest, taken, touching = hashlib.sha256(), 0, _Touching()
    with open(descriptor, "wb", buffering=0) as file:
        while taken != size:
            left = BLOCK_BYTES if size is None else min(BLOCK_BYTES, size - taken)
            block = stream.read(left)
            if not block:
                break
            view = memoryview(block)
            while view:
                view = view[file.write(view) :]
            digest.update(block)
            taken += len(block)
            touching.now()
        os.fsync(file.fileno())
    if digest.hexdigest() != sha256:
        raise RunFolderError(
            f"{path}: {taken} bytes came with SHA-256 {digest.hexdigest()}; expected {sha256}: "
            "send it again"
        )
    return taken


@contextmanager
def _folder_of(path: Path, root: Path | None, *, make: bool) -> Iterator[tuple[int, str]]:
    """Open the folder of a file, one step after the other, none of them through a link."""
    top = root if root is not None else Path(path.anchor or ".")
    inside = path
    if path.is_absolute():
        if not path.is_relative_to(top):
            raise UsageError(f"{path}: lies outside {top}")
        inside = path.relative_to(top)
    if not inside.parts:
        raise UsageError(f"{path}: is no file's name")
    for part in inside.parts:
        if _NAME.fullmatch(part) is None:
            raise UsageError(
                f"{path}: {part!r} is not allowed in a path; expected letters, digits and "
                "_.+=@,- and nothing hidden"
            )
    descriptor = -1
    try:
        try:
            descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            for part in inside.parts[:-1]:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, dir_fd=descriptor)
                above, descriptor = descriptor, os.open(part, _FOLDER, dir_fd=descriptor)
                os.close(above)
        except OSError as error:
            raise RunFolderError(f"{path}: cannot be reached: {error.strerror}") from error
        yield descriptor, inside.name
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _check_target(path: Path, folder: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise UsageError(f"{path}: is there already, and is no plain file")


def _remove_abandoned(folder: int, name: str, now: float) -> None:
    """Remove what killed processes left of the same file long ago."""
    for found in os.listdir(folder):
        if found.startswith(f".{name}.") and found.endswith(".part"):
            with contextlib.suppress(OSError):
                changed = os.stat(found, dir_fd=folder, follow_symlinks=False).st_mtime
                if now - changed > _ABANDONED_SECONDS:
                    os.unlink(found, dir_fd=folder)


def _hashed(path: Path) -> tuple[int, str]:
    """Return size and hash of a file as it is now, also while it grows."""
    digest, size, touching = hashlib.sha256(), 0, _Touching()
    with path.open("rb", buffering=0) as file:
        left = os.fstat(file.fileno()).st_size
        while left and (block := file.read(min(BLOCK_BYTES, left))):
            digest.update(block)
            size += len(block)
            left -= len(block)
            touching.now()
    return size, digest.hexdigest()


def _raise(error: OSError) -> None:
    raise RunFolderError(f"{error.filename}: cannot be read: {error.strerror}") from error


def touch() -> None:
    """Note that somebody uses this pod; see `keep`."""
    # Where there is no folder for temporary files, a pod is kept for its idle time only.
    with contextlib.suppress(OSError):
        path = _touched()
        path.touch()
        os.utime(path)


def _touched() -> Path:
    return Path(tempfile.gettempdir()) / "grace-files.touched"


class _Touching:
    """Touches now and then while a long transfer goes on."""

    def __init__(self) -> None:
        touch()
        self._last = time.monotonic()

    def now(self) -> None:
        if time.monotonic() - self._last >= _TOUCHED_EVERY_SECONDS:
            touch()
            self._last = time.monotonic()


def keep(
    idle_seconds: float,
    stop: threading.Event,
    clock: Callable[[], float] = time.monotonic,
    looked_every_seconds: float = _LOOKED_EVERY_SECONDS,
) -> None:
    """
    Return once nobody has used this pod for some time, or when stopped.

    Args:
        idle_seconds: How long nobody may use it.

        stop: Ends it at once.

        clock: Seconds, from any fixed moment.

        looked_every_seconds: How often to look.
    """
    seen = _last_touched()
    since = clock()
    while (left := idle_seconds - (clock() - since)) > 0:
        if stop.wait(min(left, looked_every_seconds)):
            return
        # Only that it changed counts: the clock of a file system may be another one.
        if (now := _last_touched()) != seen:
            seen, since = now, clock()


def _last_touched() -> int:
    try:
        return _touched().stat().st_mtime_ns
    except OSError:
        return 0
