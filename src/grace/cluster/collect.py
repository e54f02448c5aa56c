"""
Results from a cluster to this machine, verified on both sides before anything may be removed.

A pod that only reads hands over the run folders of a run. They arrive under
drafts' names, and take their own when all of a folder's files are here. That
everything was collected, and how, is noted on the cluster, where `down` sees it.
"""

import hashlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from grace.catalogue.progress import ProgressHook, SilentProgress
from grace.cluster.arrivals import draft_of
from grace.cluster.arriving import CollectedFolder, arrive
from grace.cluster.collector import Cluster, Manifest, collector, collector_job
from grace.cluster.request import INPUTS, RESULTS, ClusterRun, InputFile
from grace.cluster.transfer import Patience, PodExec, RemoteFile, Transfer, file_sha256
from grace.engine.disk import make_folder
from grace.errors import ClusterError, ClusterUnavailable, RunFolderError, UsageError
from grace.pipeline.origin import Origin, write_origin
from grace.pipeline.reopen import input_copies, reopen
from grace.runs.csvfile import write_bytes
from grace.runs.folder import RunFolder
from grace.runs.validate import validate_manifest, validate_tables

Note = Callable[[int, str], Awaitable[None]]


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
    note: Note,
    job: Manifest | None = None,
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
            and the hash of their list.

        job: Makes the pod that hands files over; None takes that of
            `grace.cluster.manifests`.

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
    async with collector(client, job or collector_job(run), hook, tries) as pod:
        await _fetch_inputs(Transfer(pod, tries, advanced=hook.advanced), run, out, hook)
        folders = await collect_folders(pod, run, out, hook, tries)
    found = Collection(tuple(map(_validated, folders)))
    if not found.whole:
        return found
    listed = [
        (f"{one.folder.experiment}/{one.folder.model}/{file.path}", file)
        for one in found.folders
        for file in one.files
    ]
    await note(len(listed), listing_sha256(listed))
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
            found.append(await arrive(transfer, root, folder, progress))
    return found


def listing_sha256(files: Iterable[tuple[str, RemoteFile]]) -> str:
    """Return the hash over paths, sizes and hashes of files, whatever their order."""
    lines = sorted(f"{path}\t{file.size}\t{file.sha256}\n" for path, file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def keep_inputs(run: ClusterRun, out: Path) -> None:
    """
    Keep what pods read beside their results, where `grace validate` finds it.

    Files whose bytes are kept elsewhere are left out. The namespace is noted as well:
    what is collected before its end goes on there.

    Raises:
        RunFolderError: It cannot be written.
    """
    here = input_copies(out, run.timestamp)
    try:
        make_folder(here)
    except OSError as error:
        raise RunFolderError(f"{here}: cannot be made: {error.strerror}") from error
    write_origin(out, run.timestamp, Origin(namespace=run.namespace))
    for file in run.files:
        if file.held is not None and not _is_there(here / file.name, file):
            write_bytes(here / file.name, file.held)


async def _fetch_inputs(
    transfer: Transfer, run: ClusterRun, out: Path, progress: ProgressHook
) -> None:
    """Bring what pods read here from their volume, where it is kept neither here nor in the run."""
    from grace.cluster.manifests import upload_folder

    folder = upload_folder(run)
    here = input_copies(out, run.timestamp)
    missing = [one for one in run.files if one.held is None and not _is_there(here / one.name, one)]
    if folder is None or not missing:
        return
    progress.began("inputs", sum(file.size for file in missing))
    for file in missing:
        path = here / file.name
        draft = draft_of(path)
        wanted = RemoteFile(path=file.name, size=file.size, sha256=file.sha256)
        try:
            if await transfer.fetch(INPUTS / folder, wanted, draft):
                draft.replace(path)
            else:
                progress.noted(f"input {file.name} is another one on the cluster; it is left there")
        except ClusterUnavailable:
            raise
        except ClusterError as error:
            # Results matter more: they are checked without it as far as they can be.
            progress.noted(f"input {file.name} could not be brought here: {error}")
        except OSError as error:
            raise RunFolderError(f"{path}: cannot be written: {error.strerror}") from error


def _is_there(path: Path, file: InputFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size and file_sha256(path) == file.sha256


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
