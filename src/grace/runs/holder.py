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
from dataclasses import dataclass
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
    """

    pid: int | None
    host: str = ""
    since: str = ""

    def __str__(self) -> str:
        """Say who it is."""
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
            pid = _asked(file.fileno())
            said = file.read(_MOST_BYTES) if pid is not None else b""
    except OSError:
        return None
    return _named(pid, said) if pid is not None else None


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


def _asked(descriptor: int) -> int | None:
    """Return the process whose lock stands in the way, 0 if it is on another machine, or None."""
    if sys.platform == "linux":
        wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, wanted))
    else:
        wanted = struct.pack(_FLOCK, 0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET)
        _, _, pid, kind, _ = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, wanted))
    return None if kind == fcntl.F_UNLCK else max(0, pid)


def _named(pid: int, said: bytes) -> Holder:
    try:
        told = json.loads(said)
        return Holder(int(told["pid"]), str(told["host"]), str(told["since"]))
    except (ValueError, KeyError, TypeError):
        # It was just being written, or by an earlier version of Grace.
        return Holder(pid or None)
