"""
The lock that keeps two processes from working on one run folder.

It is a POSIX record lock (`fcntl`): the only kind that NFS and CephFS hold
between machines. The operating system frees it when its holder dies, however
that happens; a file whose presence means "locked" would stay. The locked file
names its holder, for the message only: what it says locks nothing.

Processes that share a run's work each lock a span of bytes of the same file, and
whoever needs the run for itself locks all of it. So two processes get along if and
only if their spans do not meet.
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from grace.errors import RunFolderError, RunLocked

_MOST_BYTES = 4096
_HELD_BY_ANOTHER = frozenset({errno.EAGAIN, errno.EACCES})

# Record locks do not bind the process that holds them, and closing any descriptor of the file
# frees them: what this process holds must be known before the file is opened again.
_held: dict[tuple[int, int, int], bytes] = {}
_changing = threading.Lock()


@contextmanager
def locked(path: Path, span: tuple[int, int] | None = None) -> Iterator[None]:
    """
    Hold the lock for the length of a `with` block.

    Args:
        path: The file to be locked; made if missing.

        span: Which part of it: where it begins and how long it is; None is all.

    Raises:
        RunLocked: Another process, or another part of this one, holds it.

        RunFolderError: The file cannot be made, or its file system has no locks.
    """
    with _changing:
        descriptor, key = _acquire(path, span)
    try:
        yield
    finally:
        with _changing:
            del _held[key]
            # A closed run that is passed on need not name a machine.
            if span is None:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, 0)
            os.close(descriptor)


def _acquire(path: Path, span: tuple[int, int] | None) -> tuple[int, tuple[int, int, int]]:
    with contextlib.suppress(OSError):
        if (holder := _held.get(_key(path.stat()))) is not None:
            raise RunLocked(_refusal(path, holder))
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be locked: {error.strerror}") from error
    try:
        _lock(descriptor, path, span)
        holder = _holder()
        # The name is a courtesy: a full disk is met, and told, when something matters. Where
        # several hold the file, it names nobody, also none who was killed before.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            if span is None:
                os.pwrite(descriptor, holder, 0)
        key = _key(os.fstat(descriptor))
        _held[key] = holder
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, key


def _lock(descriptor: int, path: Path, span: tuple[int, int] | None) -> None:
    try:
        if span is None:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            begin, length = span
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, length, begin)
    except OSError as error:
        if error.errno not in _HELD_BY_ANOTHER:
            raise RunFolderError(
                f"{path}: cannot be locked: {error.strerror}; two processes could work on this "
                "run without knowing. Choose another --out, on a file system with POSIX locks "
                "(NFS with its lock service, CephFS, Lustre mounted with flock)"
            ) from error
        raise RunLocked(_refusal(path, os.pread(descriptor, _MOST_BYTES, 0))) from error


def _key(status: os.stat_result) -> tuple[int, int, int]:
    # A forked child has this table, but not the locks.
    return status.st_dev, status.st_ino, os.getpid()


def _holder() -> bytes:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    said = {"host": socket.gethostname(), "pid": os.getpid(), "since": since}
    return json.dumps(said).encode() + b"\n"


def _refusal(path: Path, holder: bytes) -> str:
    try:
        said = json.loads(holder)
        by = f" (process {said['pid']} on {said['host']}, since {said['since']})"
    except (ValueError, KeyError, TypeError):
        # It was just being written, or an earlier version of Grace holds the lock.
        by = ""
    return (
        f"{path.parent}: another process is working on this run{by}; wait for it, or give "
        "another --out"
    )
