"""Folders of the user, also where there is neither a home nor a user: in a container."""

import os
from collections.abc import Callable
from pathlib import Path


def user_folder(find: Callable[[str], Path]) -> Path:
    """
    Return a folder of the user.

    Args:
        find: Of `platformdirs`; it fails where the process has no home and its
            number no name.

    Returns:
        A folder that may not exist yet. Without a home, one that cannot exist: what
        is looked for there is not found, and what is written there fails by name.
    """
    try:
        return find("grace")
    except RuntimeError:
        return Path(os.devnull) / "grace"
