"""
Results from a cluster to this machine, verified on both sides before anything may be removed.

A pod that only reads hands over the run folders of a run. They arrive under
drafts' names, and take their own when all of a folder's files are here. That
everything was collected, and how, is noted on the cluster, where `down` sees it.
"""

import asyncio
import hashlib
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from grace.catalogue.progress import ProgressHook, SilentProgress
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
from grace.cluster.collector import Cluster, Note, collector, noting
from grace.cluster.request import INPUTS, RESULTS, ClusterRun, InputFile
from grace.cluster.transfer import Patience, PodExec, RemoteFile, Transfer
from grace.engine.disk import make_folder, sync_folder
from grace.errors import ClusterError, GraceError, RunFolderError, UsageError
from grace.pipeline.reopen import input_copies, reopen
from grace.runs.csvfile import write_bytes
from grace.runs.folder import RunFolder
from grace.runs.validate import validate_manifest, validate_tables

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


@dataclass(frozen=True, slots=True)
class Collection:
    """
    What was collected.

    Attributes:
        folders: Each run folder of the run.

        noted: Whether the cluster was told that nothing is missing here.
    """

    folders: tuple[CollectedFolder, ...]
    noted: bool = False

    @property
    def whole(self) -> bool:
        """Whether everything is here, closed, and as it should be."""
        return bool(self.folders) and all(one.whole for one in self.folders)


async def collect(
    client: Cluster,
    run: ClusterRun,
    out: Path,
    progress: ProgressHook | None = None,
    patience: Patience | None = None,
    *,
    note: Note | None = None,
) -> Collection:
    """
    Bring a run's results here and verify them; what is here already is not sent again.

    Args:
        client: The cluster.

        run: The run.

        out: The folder that run folders go to, as `--out` of `grace run`.

        progress: Hears of it.

        patience: How often what broke is tried again.

        note: Notes on the cluster that all is here, given the number of files
            and the hash of their list; None takes the executor's own record.

    Returns:
        What was collected; folders that were left alone are in it.

    Raises:
        ClusterError: The cluster refuses, or its files do not hold still.

        ClusterUnavailable: It could not be reached, however often.

        RunFolderError: The disk here is full or cannot be written.

        RunLocked: A process here works on one of the run's folders.
    """
    hook = progress or SilentProgress()
    tries = patience or Patience()
    keep_inputs(run, out)
    async with collector(client, run, hook, tries) as pod:
        folders = await collect_folders(pod, run, out, hook, tries)
    found = Collection(tuple(map(_validated, folders)))
    if not found.whole:
        return found
    listed = [
        (f"{one.folder.experiment}/{one.folder.model}/{file.path}", file)
        for one in found.folders
        for file in one.files
    ]
    await (note or noting(client, run))(len(listed), listing_sha256(listed))
    return replace(found, noted=True)


async def collect_folders(
    pod: PodExec, run: ClusterRun, out: Path, progress: ProgressHook, patience: Patience
) -> list[CollectedFolder]:
    """Bring a run's folders here from a pod that has them; see `collect`."""
    transfer = Transfer(pod, patience, advanced=progress.advanced)
    found = []
    for experiment in run.settings.experiment:
        for model in run.settings.model:
            folder = RunFolder(out / experiment / model / run.timestamp)
            root = RESULTS / experiment / model / run.timestamp
            found.append(await _folder(transfer, root, folder, progress))
    return found


def listing_sha256(files: Iterable[tuple[str, RemoteFile]]) -> str:
    """Return the hash over paths, sizes and hashes of files, whatever their order."""
    lines = sorted(f"{path}\t{file.size}\t{file.sha256}\n" for path, file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def keep_inputs(run: ClusterRun, out: Path) -> None:
    """
    Keep what pods read beside their results, where `grace validate` finds it.

    Raises:
        RunFolderError: It cannot be written.
    """
    for file in run.files:
        path = input_copies(out, run.timestamp) / file.name
        if path.is_file() and path.read_bytes() == file.content:
            continue
        try:
            make_folder(path.parent)
        except OSError as error:
            raise RunFolderError(f"{path.parent}: cannot be made: {error.strerror}") from error
        write_bytes(path, file.content)


async def upload(
    pod: PodExec, files: Sequence[InputFile], patience: Patience | None = None
) -> None:
    """
    Bring inputs into a pod that may write to their claim; those that are there are not sent again.

    Args:
        pod: Where the claim of inputs is mounted.

        files: The files.

        patience: How often what broke is tried again.

    Raises:
        ClusterError: The pod cannot write them.

        ClusterUnavailable: It could not be reached, however often.
    """
    transfer = Transfer(pod, patience or Patience())
    there = {file.path: file.sha256 for file in await transfer.listing(INPUTS)}
    for file in files:
        if there.get(file.name) != file.sha256:
            await transfer.send(file.content, INPUTS / file.name)


async def _folder(
    transfer: Transfer, root: PurePosixPath, folder: RunFolder, progress: ProgressHook
) -> CollectedFolder:
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
        f"{root}: {', '.join(changed)} did not arrive as the pod lists them, {ROUNDS} times; if "
        "the run is at work still, wait for its end, then collect again"
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
                if not await _fetch(transfer, root, file, path, plan.files[file]):
                    changed.append(file.path)
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
) -> bool:
    draft = draft_of(path)
    try:
        if arrival is Arrival.GROWN and not draft.exists():
            # What is here need not be sent again.
            shutil.copyfile(path, draft)
        return await transfer.fetch(root, file, draft)
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be written: {error.strerror}") from error


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


def _validated(one: CollectedFolder) -> CollectedFolder:
    if one.refusal or not one.folder.begun:
        return one
    try:
        record = one.folder.read_record()
        faults = [
            *validate_tables(
                one.folder, reopen(one.folder, record).inputs, record.request.replicates
            ),
            *validate_manifest(one.folder),
        ]
    except (RunFolderError, UsageError) as error:
        faults = str(error).splitlines()
    return replace(one, faults=tuple(faults))


def _results(files: Iterable[RemoteFile]) -> tuple[RemoteFile, ...]:
    return tuple(file for file in files if is_result(file.path))
