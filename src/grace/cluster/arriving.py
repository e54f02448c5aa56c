"""
One run folder's files, from a pod into place here.

They are fetched under drafts' names, some at a time, and take their own when
all of them are here. The list is looked at again if files change meanwhile.
"""

import asyncio
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from grace.catalogue.progress import ProgressHook
from grace.cluster.arrivals import (
    MANIFEST,
    Arrival,
    FolderPlan,
    draft_of,
    is_beginning,
    is_result,
    kept_name,
    plan_folder,
)
from grace.cluster.transfer import RemoteFile, Transfer
from grace.engine.disk import sync_folder
from grace.errors import ClusterError, ClusterUnavailable, GraceError, RunFolderError
from grace.runs.folder import RunFolder

AT_ONCE = 4
"""Files that are fetched at the same time: a command in a pod takes a second to start."""

ROUNDS = 3
"""How often a folder is listed again whose files change while they are fetched."""


@dataclass(frozen=True, slots=True)
class CollectedFolder:
    """
    What became of one run folder.

    Attributes:
        folder: Here.

        files: What the cluster has of it; empty if it was not begun there.

        arrived: How many files were new or had changed.

        kept: What was replaced here and is kept under another name.

        refusal: Why it was left alone; empty if it is here.

        faults: What its validation found.

        note: What the user should know.
    """

    folder: RunFolder
    files: tuple[RemoteFile, ...] = ()
    arrived: int = 0
    kept: tuple[Path, ...] = ()
    refusal: str = ""
    faults: tuple[str, ...] = ()
    note: str = ""

    @property
    def size(self) -> int:
        """The bytes of its files on the cluster."""
        return sum(file.size for file in self.files)

    @property
    def whole(self) -> bool:
        """Whether it is here, closed, and as it should be."""
        return bool(self.files) and not self.refusal and not self.faults and self.folder.closed


async def arrive(
    transfer: Transfer, root: PurePosixPath, folder: RunFolder, progress: ProgressHook
) -> CollectedFolder:
    """
    Bring one run folder here.

    Args:
        transfer: From the pod that has it.

        root: Where it is there.

        folder: Where it goes.

        progress: Hears of it.

    Returns:
        What became of it; not validated yet.

    Raises:
        ClusterError: The pod refuses, or its files do not hold still.

        RunFolderError: The disk here is full or cannot be written.

        RunLocked: A process here works on the folder.
    """
    changed: tuple[str, ...] = ()
    for _ in range(ROUNDS):
        files = await transfer.listing(root)
        if not files:
            return CollectedFolder(folder)
        folder.make()
        with folder.lock():
            plan = plan_folder(files, folder)
            if not plan.refusal:
                changed = await _fetch_all(transfer, root, plan, progress)
                if changed:
                    # Written meanwhile, as in a run that goes on: the list is looked at again.
                    continue
                plan = replace(plan, refusal=_not_a_beginning(plan))
            if plan.refusal:
                return CollectedFolder(folder, _results(files), refusal=plan.refusal)
            kept = _put_in_place(plan)
        return CollectedFolder(
            folder, _results(files), len(plan.wanted), tuple(kept), note=plan.note
        )
    raise ClusterError(
        f"{root}: did not arrive as the pod lists it, {ROUNDS} times ({'; '.join(changed)}); if the "
        "run is at work still, wait for its end, then collect again"
    )


async def _fetch_all(
    transfer: Transfer, root: PurePosixPath, plan: FolderPlan, progress: ProgressHook
) -> tuple[str, ...]:
    """Fetch what a plan wants into drafts; return what is not as it was listed."""
    wanted = plan.wanted
    if not wanted:
        return ()
    folder = plan.folder
    progress.began(f"{folder.experiment} {folder.model}", sum(file.size for file in wanted))
    pending = iter(wanted)
    changed: list[str] = []
    failures: list[GraceError] = []

    async def work() -> None:
        for file in pending:
            path = folder.path / file.path
            try:
                if fault := await _fetch(transfer, root, file, path, plan.files[file]):
                    changed.append(f"{file.path}: {fault}")
            except GraceError as error:
                failures.append(error)
            if failures:
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())
    if failures:
        raise failures[0]
    return tuple(changed)


async def _fetch(
    transfer: Transfer, root: PurePosixPath, file: RemoteFile, path: Path, arrival: Arrival
) -> str:
    """Fetch a file into its draft; return why it is not as it was listed, or nothing."""
    draft = draft_of(path)
    try:
        if arrival is Arrival.GROWN and not draft.exists():
            # What is here need not be sent again.
            shutil.copyfile(path, draft)
        arrived = await transfer.fetch(root, file, draft)
    except ClusterUnavailable:
        raise
    except ClusterError as error:
        # Gone, or shorter, since it was listed.
        return str(error)
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be written: {error.strerror}") from error
    return "" if arrived else "another SHA-256"


def _not_a_beginning(plan: FolderPlan) -> str:
    """Return why what arrived may not replace what is here; empty if it may."""
    for file, arrival in plan.files.items():
        path = plan.folder.path / file.path
        if arrival is Arrival.GROWN and not is_beginning(path, draft_of(path)):
            for fetched in plan.wanted:
                draft_of(plan.folder.path / fetched.path).unlink(missing_ok=True)
            return (
                f"{path}: is not the beginning of the one on the cluster; nothing is overwritten: "
                "collect into another folder: --out"
            )
    return ""


def _put_in_place(plan: FolderPlan) -> list[Path]:
    """Give everything that was fetched its name; return what is kept under another one."""
    folder = plan.folder
    kept = []
    try:
        if any(file.path == MANIFEST for file in plan.wanted):
            # Its presence means that everything else is there, which is not so for a moment.
            folder.manifest_path.unlink(missing_ok=True)
        for file in plan.wanted:
            path = folder.path / file.path
            if plan.files[file] is Arrival.KEPT:
                kept.append(kept_name(path))
                path.replace(kept[-1])
            draft_of(path).replace(path)
        for changed in dict.fromkeys((folder.path / file.path).parent for file in plan.wanted):
            sync_folder(changed)
    except OSError as error:
        raise RunFolderError(f"{folder.path}: cannot be written: {error.strerror}") from error
    return kept


def _results(files: Iterable[RemoteFile]) -> tuple[RemoteFile, ...]:
    return tuple(file for file in files if is_result(file.path))
