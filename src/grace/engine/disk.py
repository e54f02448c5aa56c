"""What makes a file survive a power cut: its folder's entry must reach the disk as well."""

import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

# Some file systems of networks and of users' programs do this by themselves, and refuse.
_NOT_NEEDED = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES})


def sync_folder(folder: Path) -> None:
    """
    Force a folder's entries to the disk: files made, renamed or removed in it.

    Raises:
        OSError: The disk fails.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_NEEDED:
            raise
    finally:
        os.close(descriptor)


def numbered(folder: Path, name: str, ending: str = "jsonl") -> Iterator[Path]:
    """
    Yield paths for a file of one process; it makes the first that is not taken, and shares it not.

    >>> str(next(numbered(Path("journal"), "respond")))
    'journal/respond-0001.jsonl'
    """
    for number in itertools.count(1):
        yield folder / f"{name}-{number:04d}.{ending}"


def make_folder(folder: Path) -> None:
    """
    Make a folder and all above it that are missing, and force their entries to the disk.

    Raises:
        OSError: It cannot be made.
    """
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in reversed(made):
        sync_folder(one.parent)
