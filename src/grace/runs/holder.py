"""
Who works on a run: the holder of its lock, asked without touching it.

The lock itself says whether somebody does; what the locked file holds, if it
holds anything, says who. Nothing here locks.
"""

import fcntl
import json
import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

_MOST_BYTES = 4096
_FLOCK = "hhqqi4x" if sys.platform == "linux" else "qqihh"
_LOCKS = Path("/proc/locks")


@dataclass(frozen=True, slots=True)
class Holder:
    """
    A process that works on a run.

    Attributes:
        pid: Its number, or None if the system does not tell.

        host: Its machine, or "" if it is not known.

        since: When it began, ISO 8601, or "".

        others: How many more processes share the work.
    """

    pid: int | None
    host: str = ""
    since: str = ""
    others: int = 0

    def __str__(self) -> str:
        """Say who it is."""
        if self.others:
            return f"a group of {self.others + 1} processes"
        who = "a process" if self.pid is None else f"process {self.pid}"
        where = f" on {self.host}" if self.host else ""
        return f"{who}{where}{f', since {self.since}' if self.since else ''}"


def lock_holder(path: Path) -> Holder | None:
    """
    Return who holds a lock, or None if nobody does.

    Args:
        path: The locked file; it may not exist.
    """
    try:
        if _is_held_here(path):
            return Holder(os.getpid())
        with path.open("rb") as file:
            pids = list(_asked(file.fileno()))
            said = file.read(_MOST_BYTES) if pids else b""
    except OSError:
        return None
    if not pids:
        return None
    return replace(_named(pids[0], said), others=len(pids) - 1)


def _is_held_here(path: Path) -> bool:
    """Tell whether this process holds the lock: opening and closing its file would free it."""
    try:
        lines = _LOCKS.read_text().splitlines()
    except OSError:
        return False
    inode = f":{path.stat().st_ino}"
    return any(
        fields[1] == "POSIX" and fields[4] == str(os.getpid()) and fields[5].endswith(inode)
        for fields in map(str.split, lines)
        if len(fields) > 5 and fields[1] != "->"
    )


def _asked(descriptor: int) -> Iterator[int]:
    """Yield the process of each lock that stands in the way, 0 if it is on another machine."""
    # The system tells of one, whichever it likes; others may lie on both sides of it.
    unknown: list[tuple[int, int]] = [(0, 0)]
    while unknown:
        begin, length = unknown.pop()
        found = _first(descriptor, begin, length)
        if found is None:
            continue
        start, long, pid = found
        yield max(0, pid)
        if start > begin:
            unknown.append((begin, start - begin))
        behind = start + long
        if long and (not length or behind < begin + length):
            unknown.append((behind, begin + length - behind if length else 0))


def _first(descriptor: int, begin: int, length: int) -> tuple[int, int, int] | None:
    """Return a lock in a part of the file: where it begins, how long it is (0: to the end), whose."""
    if sys.platform == "linux":
        wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, begin, length, 0)
        found = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, wanted))
        kind, _, start, long, pid = found
    else:
        wanted = struct.pack(_FLOCK, begin, length, 0, fcntl.F_WRLCK, os.SEEK_SET)
        found = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, wanted))
        start, long, pid, kind, _ = found
    return None if kind == fcntl.F_UNLCK else (start, long, pid)


def _named(pid: int, said: bytes) -> Holder:
    try:
        told = json.loads(said)
        return Holder(int(told["pid"]), str(told["host"]), str(told["since"]))
    except (ValueError, KeyError, TypeError):
        # It was just being written, or by an earlier version of Grace.
        return Holder(pid or None)
