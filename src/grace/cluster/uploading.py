"""Inputs that are too large for ConfigMaps, from this machine to the claim that pods read."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from grace.catalogue.progress import ProgressHook, SilentProgress
from grace.cluster.collector import Cluster, collector, collector_job
from grace.cluster.request import INPUTS, ClusterRun, InputFile
from grace.cluster.transfer import Patience, PodExec, Transfer


async def upload_inputs(
    client: Cluster,
    run: ClusterRun,
    progress: ProgressHook | None = None,
    patience: Patience | None = None,
) -> int:
    """
    Bring a run's inputs to their claim, if they do not fit in ConfigMaps.

    Returns:
        How many files the claim has now that were not there before.

    Raises:
        ClusterError: The cluster refuses.

        ClusterUnavailable: It could not be reached, however often.
    """
    from grace.cluster.manifests import upload_folder

    folder = upload_folder(run)
    if folder is None:
        return 0
    hook, tries = progress or SilentProgress(), patience or Patience()
    async with collector(client, collector_job(run), hook, tries) as pod:
        return await upload(pod, run.files, INPUTS / folder, hook, tries)


async def upload(
    pod: PodExec,
    files: Sequence[InputFile],
    root: PurePosixPath,
    progress: ProgressHook | None = None,
    patience: Patience | None = None,
) -> int:
    """
    Bring files into a pod that may write to their volume; those that are there are not sent again.

    Args:
        pod: Where the volume is mounted.

        files: The files.

        root: The folder that they go to.

        progress: Hears of it.

        patience: How often what broke is tried again.

    Returns:
        How many were sent.

    Raises:
        ClusterError: The pod cannot write them.

        ClusterUnavailable: It could not be reached, however often.
    """
    hook = progress or SilentProgress()
    transfer = Transfer(pod, patience or Patience(), advanced=hook.advanced)
    there = {file.path: file.sha256 for file in await transfer.listing(root)}
    wanted = [file for file in files if there.get(file.name) != file.sha256]
    if wanted:
        hook.began("inputs", sum(len(file.content) for file in wanted))
    for file in wanted:
        await transfer.send(file.content, root / file.name)
    return len(wanted)
