"""
Inputs that are too large for ConfigMaps, from this machine to the claim that pods read.

That they arrived is noted on the claim itself, so that the note goes when the
volume does. Whoever goes on with a run then needs neither the files nor a pod.
"""

from collections.abc import Sequence
from pathlib import PurePosixPath

from grace.catalogue.progress import ProgressHook, SilentProgress
from grace.cluster.client import annotations_of, digest_manager
from grace.cluster.collector import Cluster, collector, collector_job
from grace.cluster.request import INPUTS, ClusterRun, InputFile
from grace.cluster.transfer import Patience, PodExec, Transfer

_ARRIVED = "grace/arrived-"


async def upload_inputs(
    client: Cluster,
    run: ClusterRun,
    progress: ProgressHook | None = None,
    patience: Patience | None = None,
) -> int:
    """
    Bring a run's inputs to their claim, if they do not fit in ConfigMaps.

    Nothing is done if the claim says that they arrived at another time.

    Returns:
        How many files the claim has now that were not there before.

    Raises:
        UsageError: They have to be sent, and one of them is not here.

        ClusterError: The cluster refuses.

        ClusterUnavailable: It could not be reached, however often.
    """
    from grace.cluster.manifests import upload_folder
    from grace.cluster.manifests.storage import INPUTS_CLAIM

    folder = upload_folder(run)
    if folder is None:
        return 0
    note = f"{_ARRIVED}{folder}"
    claim = await client.get("PersistentVolumeClaim", INPUTS_CLAIM, run.namespace)
    if claim is not None and note in annotations_of(claim):
        return 0
    hook, tries = progress or SilentProgress(), patience or Patience()
    async with collector(client, collector_job(run), hook, tries) as pod:
        sent = await upload(pod, run.files, INPUTS / folder, hook, tries)
    await client.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {
                "name": INPUTS_CLAIM,
                "namespace": run.namespace,
                "annotations": {note: f"{len(run.files)} files"},
            },
        },
        manager=digest_manager(note),
    )
    return sent


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
        UsageError: One of them has to be sent, and its bytes are not here.

        ClusterError: The pod cannot write them.

        ClusterUnavailable: It could not be reached, however often.
    """
    hook = progress or SilentProgress()
    transfer = Transfer(pod, patience or Patience(), advanced=hook.advanced)
    there = {file.path: file.sha256 for file in await transfer.listing(root)}
    wanted = {file.name: file.content for file in files if there.get(file.name) != file.sha256}
    if wanted:
        hook.began("inputs", sum(map(len, wanted.values())))
    for name, content in wanted.items():
        await transfer.send(content, root / name)
    return len(wanted)
