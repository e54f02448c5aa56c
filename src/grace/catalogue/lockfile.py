"""
The lock file: which commit of each hub repository is meant.

A repository on the hub changes; a result is repeatable only if the commit is
known. `grace models lock` writes this file, the catalogue applies it, and it
can be kept beside a study. It holds no secret and no address.
"""

import io
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML

from grace.catalogue.faults import as_json, entry_faults, shown
from grace.catalogue.home import user_folder
from grace.errors import CatalogueError
from grace.plain_yaml import read_plain_yaml

_VERSION = 1
_HEADER = "# Written by `grace models lock`. Which commit of each hub repository is meant.\n"


class LockedRevision(BaseModel):
    """
    What one model is locked to.

    Attributes:
        repository: `owner/name`.

        requested: The branch or tag that was looked up; None for the newest state.

        revision: The commit that it pointed to.

        locked_at: When, in UTC.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    repository: str
    requested: str | None = None
    revision: str = Field(pattern=r"^[0-9a-f]{40}$")
    locked_at: str


def default_lock_path() -> Path:
    """Return where the lock file is unless `--lock` says otherwise."""
    return user_folder(platformdirs.user_config_path) / "models.lock.yaml"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # In a container, the home may be that of another user.
        return False


def read_lock(path: Path, *, must_exist: bool) -> dict[str, LockedRevision]:
    """
    Read a lock file.

    Args:
        path: The file.

        must_exist: Whether a missing file is an error, or means that nothing
            is locked.

    Raises:
        CatalogueError: The file cannot be read or is not a lock file.
    """
    if not must_exist and not _exists(path):
        return {}
    document = read_plain_yaml(path, CatalogueError)
    remedy = "run `grace models lock` to write it again"
    if not isinstance(document, dict) or document.get("version") != _VERSION:
        raise CatalogueError(f"{path}: is no lock file of version {_VERSION}; {remedy}")
    revisions = document.get("revisions")
    if not isinstance(revisions, dict):
        raise CatalogueError(f"{path}: revisions is {shown(revisions)}; {remedy}")
    locked: dict[str, LockedRevision] = {}
    for key, data in revisions.items():
        try:
            locked[str(key)] = LockedRevision.model_validate_json(as_json(data))
        except ValidationError as error:
            faults = entry_faults(error, f"{path}: {key}", tuple(LockedRevision.model_fields))
            raise CatalogueError("\n".join([*faults, remedy])) from error
    return locked


def write_lock(path: Path, locked: Mapping[str, LockedRevision]) -> None:
    """
    Write a lock file in one step: a reader sees the old one or the new one.

    Raises:
        CatalogueError: It cannot be written there.
    """
    revisions = {key: entry.model_dump() for key, entry in sorted(locked.items())}
    text = io.StringIO()
    text.write(_HEADER)
    yaml = YAML(typ="rt", pure=True)
    yaml.dump({"version": _VERSION, "revisions": revisions}, text)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as draft:
            draft.write(text.getvalue())
        Path(draft.name).chmod(0o644)
        os.replace(draft.name, path)  # noqa: PTH105 (a rename that replaces, on every system)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CatalogueError(
            f"{path}: cannot be written: {reason}; name another place with --lock"
        ) from error
