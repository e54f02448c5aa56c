"""
Looking up which commit of each hub repository is meant, and recording it.

Everything is looked up before anything is written: a lock file is never half of
one moment and half of another.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from grace.catalogue.hub import resolve_revision
from grace.catalogue.lockfile import LockedRevision, default_lock_path, read_lock, write_lock
from grace.catalogue.progress import ProgressHook, SilentProgress
from grace.catalogue.sources import HubSource, is_commit
from grace.catalogue.spec import Catalogue, ModelSpec
from grace.errors import CatalogueError


def lock_models(
    catalogue: Catalogue,
    keys: Sequence[str] = (),
    *,
    path: Path | None = None,
    now: datetime | None = None,
    progress: ProgressHook | None = None,
) -> dict[str, LockedRevision]:
    """
    Resolve hub revisions and record them in the lock file.

    Args:
        catalogue: The catalogue without locked revisions (`apply_lock=False`),
            so that what is locked already is looked up again.

        keys: The models to lock; none means all that need it.

        path: The lock file; by default the one in the user's configuration
            folder. What it says of other models is kept.

        now: The moment to record; by default the current one.

        progress: Hears of each model.

    Returns:
        What was recorded now.

    Raises:
        WeightsError: The hub cannot be asked; nothing was written.

        CatalogueError: A key does not exist or needs no lock, or the file
            cannot be written.
    """
    lock_path = path or default_lock_path()
    known = read_lock(lock_path, must_exist=False)
    moment = (now or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    hook = progress or SilentProgress()
    found: dict[str, LockedRevision] = {}
    for spec, source in _to_lock(catalogue, keys):
        hook.began(f"looking up {source}", None)
        commit = resolve_revision(source)
        found[spec.key] = LockedRevision(
            repository=source.repository,
            requested=source.revision,
            revision=commit,
            locked_at=moment,
        )
    write_lock(lock_path, known | found)
    return found


def _to_lock(catalogue: Catalogue, keys: Sequence[str]) -> list[tuple[ModelSpec, HubSource]]:
    chosen: list[tuple[ModelSpec, HubSource]] = []
    for key in keys or catalogue.keys:
        spec = catalogue.get(key)
        source = spec.source
        if isinstance(source, HubSource) and not is_commit(source.revision):
            chosen.append((spec, source))
        elif keys:
            state = "is hosted" if source is None else f"is pinned already ({source})"
            raise CatalogueError(f"{key}: {state}; there is nothing to lock: leave it out")
    return chosen
