"""
The folder where weights are kept, and the rules for putting a file there.

Each model has a folder for each identity of its source, so that a changed entry
never meets files of the old one:

    {store}/{key}/{identity}/{file}         the weights
    {store}/{key}/{identity}/receipt.json   what was verified; written last
    {store}/{key}/{identity}.lock           held by the process that fetches

A receipt names every file with its size, time of change and SHA-256. Weights
are present if and only if their receipt is, and its sizes and times still hold;
so 140 GB are not hashed again at each start.
"""

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

import platformdirs
from pydantic import BaseModel, ConfigDict, ValidationError

from grace.catalogue.home import user_folder
from grace.catalogue.progress import ProgressHook
from grace.errors import WeightsError

CHUNK_BYTES = 1 << 20
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_RECEIPT = "receipt.json"


class VerifiedFile(BaseModel):
    """One file as it was when its hash was computed."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    path: str
    """Relative to the weights, or empty for the weights themselves."""
    size_bytes: int
    modified_ns: int
    sha256: str


class Receipt(BaseModel):
    """What was verified about weights."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    version: int = 1
    weights: str
    """Where they are: relative to the receipt's folder, or absolute."""
    source: str
    sha256: str
    files: tuple[VerifiedFile, ...]

    def sizes_hold(self, weights: Path) -> bool:
        """Whether all files are there and as long as they were."""
        try:
            return all(
                (weights / file.path if file.path else weights).stat().st_size == file.size_bytes
                for file in self.files
            )
        except OSError:
            return False


@dataclass(frozen=True, slots=True)
class Checked:
    """
    Weights with the hashes that were computed of them.

    Attributes:
        weights: A file or folder.

        files: Its files.
    """

    weights: Path
    files: tuple[VerifiedFile, ...]

    @property
    def sha256(self) -> str:
        """A file's own hash; for a folder, that of its sorted list in `sha256sum`'s form."""
        if len(self.files) == 1 and not self.files[0].path:
            return self.files[0].sha256
        # By bytes, so that the list does not depend on the system's notion of order.
        ordered = sorted(self.files, key=lambda file: file.path.encode())
        listing = "".join(f"{file.sha256}  {file.path}\n" for file in ordered)
        return hashlib.sha256(listing.encode()).hexdigest()


def folder_of(store: PurePath, key: str, source: str) -> PurePath:
    """Return the folder of a model whose weights come from *source*, in a store anywhere."""
    return store / key / hashlib.sha256(source.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Place:
    """
    Where one model's weights are kept.

    Attributes:
        folder: The folder for this identity of the source.
    """

    folder: Path

    @classmethod
    def of(cls, store: Path, key: str, source: str) -> "Place":
        """Return the place of a model whose weights come from *source*."""
        return cls(Path(folder_of(store, key, source)))

    def written_receipt(self) -> Receipt | None:
        """Return the receipt, whether or not the files are still as it says."""
        try:
            return Receipt.model_validate_json((self.folder / _RECEIPT).read_bytes())
        except (OSError, ValidationError):
            # Missing or unreadable: the weights are simply not there yet.
            return None

    def receipt(self) -> Receipt | None:
        """Return the receipt if the files are still as it says."""
        receipt = self.written_receipt()
        if receipt is None:
            return None
        root = self.folder / receipt.weights
        for file in receipt.files:
            try:
                status = (root / file.path if file.path else root).stat()
            except OSError:
                return None
            if (status.st_size, status.st_mtime_ns) != (file.size_bytes, file.modified_ns):
                return None
        return receipt

    def write_receipt(self, checked: "Checked", source: str) -> Receipt:
        """
        Record weights as verified; from now on they count as present.

        Args:
            checked: The weights and their hashes.

            source: Where they came from.
        """
        weights = checked.weights
        inside = weights.is_relative_to(self.folder)
        receipt = Receipt(
            weights=str(weights.relative_to(self.folder) if inside else weights.absolute()),
            source=source,
            sha256=checked.sha256,
            files=checked.files,
        )
        draft = self.folder / f".{_RECEIPT}.{os.getpid()}"
        draft.write_text(receipt.model_dump_json(indent=1), "utf-8")
        draft.replace(self.folder / _RECEIPT)
        return receipt

    def discard_receipt(self) -> None:
        """Let the weights count as absent."""
        (self.folder / _RECEIPT).unlink(missing_ok=True)

    @contextmanager
    def locked(self, progress: ProgressHook) -> Iterator[None]:
        """
        Make the folder and hold its lock, waiting for another process if need be.

        The lock belongs to the process: a killed one leaves none behind.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.folder.with_name(self.folder.name + ".lock").open("ab") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress.noted("another process fetches the same weights; waiting for it")
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def default_store() -> Path:
    """Return where weights are kept: under GRACE_CACHE, or in the user's cache folder."""
    chosen = os.environ.get("GRACE_CACHE")
    return (Path(chosen) if chosen else user_folder(platformdirs.user_cache_path)) / "weights"


def sha256_of(path: Path, progress: ProgressHook | None = None) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            if progress is not None:
                progress.advanced(len(chunk))
    return digest.hexdigest()


def require_room(folder: Path, needed_bytes: int) -> None:
    """
    Check that a file system has room before anything is fetched.

    Raises:
        WeightsError: It has not.
    """
    free = shutil.disk_usage(folder).free
    if needed_bytes > free:
        raise WeightsError(
            f"{folder}: {size_text(needed_bytes)} are needed and {size_text(free)} are free; make "
            "room, or keep weights elsewhere with --store or GRACE_CACHE"
        )


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """
    Turn what the file system says into one clear error.

    Raises:
        WeightsError: The disk is full, or the folder cannot be used.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise WeightsError(
                f"{folder}: the disk is full ({error.strerror}); what has arrived is kept and is "
                "continued from; make room, or keep weights elsewhere with --store or GRACE_CACHE"
            ) from error
        reason = error.strerror or str(error)
        raise WeightsError(
            f"{error.filename or folder}: {reason}; check the folder, or keep weights elsewhere "
            "with --store or GRACE_CACHE"
        ) from error


def size_text(count_bytes: int) -> str:
    """
    Return a size for people.

    >>> size_text(98_362_432), size_text(3_180), size_text(12)
    ('98.4 MB', '3.2 kB', '12 bytes')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count_bytes >= unit:
            return f"{count_bytes / unit:,.1f} {name}"
    return f"{count_bytes} byte{'' if count_bytes == 1 else 's'}"


def check(weights: Path, progress: ProgressHook) -> Checked:
    """
    Compute the hashes of weights.

    Args:
        weights: A file, or a folder, of which hidden files and folders are
            left out: they hold what a downloader remembers.

        progress: Hears of the hashing.

    Raises:
        WeightsError: The folder holds no files.
    """
    paths = [weights]
    if weights.is_dir():
        paths = [
            path
            for path in weights.rglob("*")
            if path.is_file()
            and not any(part.startswith(".") for part in path.relative_to(weights).parts)
        ]
    if not paths:
        raise WeightsError(f"{weights}: the folder holds no files; point to the weights")
    progress.began(f"checking {weights.name}", sum(path.stat().st_size for path in paths))
    return Checked(weights, tuple(check_file(path, weights, progress) for path in paths))


def check_file(path: Path, weights: Path, progress: ProgressHook) -> VerifiedFile:
    """
    Compute the hash of one file of *weights*, which may be that file.

    Size and time are taken before: a file that changes meanwhile will not fit them.
    """
    before = path.stat()
    return VerifiedFile(
        path="" if path == weights else path.relative_to(weights).as_posix(),
        size_bytes=before.st_size,
        modified_ns=before.st_mtime_ns,
        sha256=sha256_of(path, progress),
    )
