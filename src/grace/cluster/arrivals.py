"""
What may become of a run folder here when another state of it comes from a cluster.

The journal is the state of a run, and grows only; everything else is made of
it. So what a cluster has may replace what is here exactly if every journal file
here is the beginning of the one there. Nothing else is overwritten, and what
Grace did not write itself is kept under another name even then.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from grace.cluster.transfer import RemoteFile, file_sha256
from grace.errors import RunFolderError
from grace.runs.folder import RunFolder
from grace.runs.manifest import file_fault, read_manifest

MANIFEST = "manifest.json"

_GROWING = ("journal/", "audit/")
_IDENTITY = ("run.json", "extractor.json")
_PASSING = ("stopped.json", MANIFEST)


class Arrival(StrEnum):
    """What happens to a file."""

    NEW = "new"
    SAME = "same"
    GROWN = "grown"
    """The file here is the beginning of the one there, as far as sizes tell."""
    REPLACED = "replaced"
    """Made again from a journal that has grown."""
    KEPT = "kept"
    """Replaced, and the one here is kept under another name."""


@dataclass(frozen=True, slots=True)
class FolderPlan:
    """
    What happens to a run folder.

    Attributes:
        folder: Here.

        files: What happens to each file, in the order in which they take their names.

        refusal: Why nothing happens at all; empty if something does.

        note: What the user should know.
    """

    folder: RunFolder
    files: Mapping[RemoteFile, Arrival]
    refusal: str = ""
    note: str = ""

    @property
    def wanted(self) -> tuple[RemoteFile, ...]:
        """The files that have to be fetched."""
        return tuple(file for file, arrival in self.files.items() if arrival is not Arrival.SAME)


def plan_folder(files: Sequence[RemoteFile], folder: RunFolder) -> FolderPlan:
    """
    Say what happens to a run folder; nothing is changed.

    Args:
        files: What the cluster has of it.

        folder: The folder here, which may not exist.

    Raises:
        RunFolderError: The folder here cannot be read.
    """
    kept = sorted((file for file in files if is_result(file.path)), key=_order)
    try:
        changed = [file for file in kept if _differs(folder.path / file.path, file)]
        present = {file.path for file in kept if (folder.path / file.path).exists()}
        if not changed:
            arrivals = {
                file: Arrival.SAME if file.path in present else Arrival.NEW for file in kept
            }
            return FolderPlan(folder, arrivals)
        if reason := next(_differences(folder, kept, changed), None):
            return FolderPlan(folder, {}, refusal=reason)
        if not any(_grows(file.path) and file.path not in present for file in kept) and not any(
            _grows(file.path) for file in changed
        ):
            return _of_same_journal(folder, kept, changed, present)
        own = _own_names(folder)
    except OSError as error:
        raise RunFolderError(f"{folder.path}: cannot be read: {error.strerror}") from error
    planned: dict[RemoteFile, Arrival] = {}
    for file in kept:
        if file not in changed:
            planned[file] = Arrival.SAME if file.path in present else Arrival.NEW
        elif _grows(file.path):
            planned[file] = Arrival.GROWN
        else:
            planned[file] = Arrival.REPLACED if file.path in own else Arrival.KEPT
    return FolderPlan(folder, planned)


def is_result(path: str) -> bool:
    """Whether a file of a run folder is a result: no lock, no draft."""
    name = PurePosixPath(path).name
    return not name.startswith(".") and not name.endswith((".lock", ".part"))


def draft_of(path: Path) -> Path:
    """Return where the bytes of a file are while they arrive."""
    return path.with_name(f".{path.name}.part")


def kept_name(path: Path) -> Path:
    """Return under which name a file stays that another one replaces."""
    return path.with_name(f"{path.name}.before-{file_sha256(path)[:8]}")


def is_beginning(short: Path, long: Path) -> bool:
    """Whether a file's bytes are the beginning of another's."""
    with short.open("rb") as first, long.open("rb") as second:
        while block := first.read(1024 * 1024):
            if second.read(len(block)) != block:
                return False
    return True


def _order(file: RemoteFile) -> tuple[int, str]:
    """Journals first, the manifest last: its presence means that all else is there."""
    rank = 0 if _grows(file.path) else 2 if file.path == MANIFEST else 1
    return rank, file.path


def _grows(path: str) -> bool:
    return path.startswith(_GROWING)


def _differs(path: Path, file: RemoteFile) -> bool:
    if not path.exists():
        return False
    return path.stat().st_size != file.size or file_sha256(path) != file.sha256


def _differences(
    folder: RunFolder, files: Sequence[RemoteFile], changed: Sequence[RemoteFile]
) -> Iterator[str]:
    """Yield why what is here is not an earlier state of what is there."""
    for file in changed:
        if file.path in _IDENTITY:
            yield (
                f"{folder.path}: is another run (its {file.path} is not that of the cluster); "
                "collect into another folder: --out"
            )
    there = {file.path for file in files}
    for inner in (folder.journal, folder.audit):
        for path in sorted(inner.glob("*.jsonl")):
            name = f"{inner.name}/{path.name}"
            if name not in there:
                yield (
                    f"{folder.path}: went on here ({name} is not on the cluster); nothing of it is "
                    "overwritten: collect into another folder: --out"
                )
    for file in changed:
        if _grows(file.path) and (folder.path / file.path).stat().st_size >= file.size:
            yield (
                f"{folder.path / file.path}: is not the beginning of the one on the cluster; "
                "nothing is overwritten: collect into another folder: --out"
            )


def _of_same_journal(
    folder: RunFolder,
    files: Sequence[RemoteFile],
    changed: Sequence[RemoteFile],
    present: set[str],
) -> FolderPlan:
    """Leave what was made again here alone, if it is in order; refuse what was edited."""
    own = _own_names(folder)
    edited = [file.path for file in changed if file.path not in own]
    if edited or not folder.closed:
        names = ", ".join(edited or [file.path for file in changed])
        return FolderPlan(
            folder,
            {},
            refusal=f"{folder.path}: {names} was changed here; nothing is overwritten: rename it, "
            "then collect again",
        )
    # Summaries may be written again, with the manifest; that is no reason to lose them.
    arrivals = {
        file: Arrival.SAME if file.path in present else Arrival.NEW
        for file in files
        if file not in changed
    }
    note = f"{folder.path}: summarised again here; it is left as it is"
    return FolderPlan(folder, arrivals, note=note)


def _own_names(folder: RunFolder) -> set[str]:
    """Return the names of files that Grace wrote, as the manifest here vouches for them."""
    own = {name for name in _PASSING if (folder.path / name).exists()}
    if folder.closed:
        entries = read_manifest(folder).files
        own |= {
            name for name, entry in entries.items() if not file_fault(folder.path / name, entry)
        }
    return own
