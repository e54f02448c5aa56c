"""
Starting and stopping model servers, and taking a run down.

A server's controller is applied under a name of its run's own: the cluster then
lets no other run have it. It is made first and removed last, so that whoever
sees none finds no rest of it either.
"""

import asyncio
import math
from collections.abc import Collection, Mapping

from grace.cluster.client import (
    ClusterClient,
    Manifest,
    ObjectId,
    Propagation,
    id_of,
    labels_of,
)
from grace.cluster.executor.deleting import check_collected, check_idle, delete_kept
from grace.cluster.executor.desired import OURS, RUN_LABEL, STEP_LABEL, Desired, WantedServer
from grace.cluster.executor.driver_job import dismiss
from grace.cluster.executor.judging import has_ended, uid_of
from grace.cluster.executor.pacing import Pacing

_RUN_BOUND = (
    "HorizontalPodAutoscaler",
    "ScaledObject",
    "PodDisruptionBudget",
    "Service",
    "StatefulSet",
    "Job",
)


_BEYOND_DRAIN_SECONDS = 60


def run_manager(run_id: str) -> str:
    """
    Return the field manager of a run's servers.

    >>> run_manager("20260131t235959z")
    'grace-20260131t235959z'
    """
    return f"grace-{run_id}"


async def start_server(
    client: ClusterClient, server: WantedServer, run_id: str, *, whole: bool = True
) -> None:
    """
    Make a server.

    Args:
        client: The cluster.

        server: Which.

        run_id: The run that has it from now on.

        whole: False leaves its controller as it is.

    Raises:
        FieldConflict: Another run has it.

        ClusterError: The cluster refuses it.
    """
    manager = run_manager(run_id)
    if whole:
        for manifest in server.objects:
            if id_of(manifest) == server.controller:
                await client.apply(manifest, manager=manager)
    for manifest in server.others:
        await client.apply(manifest, manager=manager)


async def stop_server(client: ClusterClient, server: WantedServer, controller: Manifest) -> None:
    """
    Stop a server; its pods are gone when its controller is.

    Args:
        client: The cluster.

        server: Which.

        controller: As it was seen: another one of the same name is left alone.

    Raises:
        ClusterError: The cluster refuses.
    """
    # What scales it goes first, or it would be scaled while it goes.
    for manifest in reversed(server.others):
        await _delete(client, id_of(manifest), uid=None)
    await _delete(client, server.controller, uid_of(controller))


async def _delete(client: ClusterClient, target: ObjectId, uid: str | None) -> None:
    propagation: Propagation = "Background" if uid is None else "Foreground"
    await client.delete(
        target.kind, target.name, target.namespace, propagation=propagation, uid=uid
    )


async def stop_servers(
    client: ClusterClient,
    desired: Desired,
    pacing: Pacing | None = None,
    *,
    dismissed: bool = False,
) -> tuple[str, ...]:
    """
    Stop all servers of a run, and of no other; return the keys of those that were up.

    What drives the run inside the cluster goes first, or it would start them again.
    Jobs that ask them are deleted before, and given time to drain: without their
    server, they would count queries as failed that only have to wait. What they
    have is in their journals, and their steps go on when the run does.

    Args:
        client: The cluster.

        desired: The run, with what makes its objects.

        pacing: How often it is looked whether Jobs are gone.

        dismissed: Whether nothing drives the run any more, so that nothing is sent away.

    Raises:
        ClusterError: The cluster refuses.
    """
    paced = pacing or Pacing()
    if not dismissed:
        await dismiss(client, desired, paced)
    up: dict[str, Manifest] = {}
    for key, server in desired.servers.items():
        target = server.controller
        controller = await client.get(target.kind, target.name, target.namespace)
        if controller is not None and labels_of(controller).get(RUN_LABEL) == desired.run.run_id:
            up[key] = controller
    await _stop_jobs(client, desired, up.keys(), paced)
    for key, controller in up.items():
        await stop_server(client, desired.servers[key], controller)
    return tuple(up)


async def _stop_jobs(
    client: ClusterClient, desired: Desired, servers: Collection[str], pacing: Pacing
) -> None:
    namespace = desired.run.namespace
    asking = {step.label for step in desired.steps.values() if step.step.server in servers}

    async def left() -> list[Manifest]:
        found = await client.list("Job", namespace, labels=desired.labels)
        return [
            item
            for item in found
            if labels_of(item).get(STEP_LABEL) in asking and not has_ended(item)
        ]

    for job in await left():
        await _delete(client, id_of(job), uid_of(job))
    longest_seconds = desired.run.profile.jobs.drain_seconds + _BEYOND_DRAIN_SECONDS
    for _ in range(math.ceil(longest_seconds / max(pacing.settle_seconds, 0.01))):
        if not await left():
            return
        await asyncio.sleep(pacing.settle_seconds)


async def down(
    client: ClusterClient,
    desired: Desired,
    *,
    delete_results: bool = False,
    even_uncollected: bool = False,
) -> tuple[ObjectId, ...]:
    """
    Take a run off the cluster: its servers and Jobs, and results only when told so twice.

    Args:
        client: The cluster.

        desired: The run, with what makes its objects.

        delete_results: Delete all that Grace keeps in the namespace as well: the
            volume claims with results, logs and weights, and the stored runs. Other
            runs have theirs there, too.

        even_uncollected: Do so although results were not collected.

    Returns:
        What was deleted.

    Raises:
        UsageError: Results were not collected, or another run is at work.

        ClusterError: The cluster refuses.
    """
    run = desired.run
    if delete_results:
        if not even_uncollected:
            await check_collected(client, run.namespace)
        await check_idle(client, run.namespace, but=run.run_id)
    stopped = await stop_servers(client, desired)
    deleted = [desired.servers[key].controller for key in stopped]
    # A claim goes when no pod has it mounted, and pods that ended count until their Job is gone.
    labels = OURS if delete_results else desired.labels
    deleted += await _delete_run_bound(client, run.namespace, labels, but=deleted)
    if delete_results:
        deleted += await delete_kept(client, run.namespace)
    return tuple(deleted)


async def delete_remains(
    client: ClusterClient, namespace: str, *, even_uncollected: bool = False
) -> tuple[ObjectId, ...]:
    """
    Delete everything of Grace in a namespace that has no record of a run any more.

    Args:
        client: The cluster.

        namespace: Where.

        even_uncollected: Delete volumes although nothing says that what is on them
            was collected.

    Returns:
        What was deleted.

    Raises:
        UsageError: There are volumes, or runs that were not collected.

        ClusterError: The cluster refuses.
    """
    if not even_uncollected:
        await check_collected(client, namespace)
    deleted = await _delete_run_bound(client, namespace, OURS)
    return (*deleted, *await delete_kept(client, namespace))


async def _delete_run_bound(
    client: ClusterClient,
    namespace: str,
    labels: Mapping[str, str],
    but: Collection[ObjectId] = (),
) -> list[ObjectId]:
    deleted: list[ObjectId] = []
    for kind in _RUN_BOUND:
        for item in await client.list_if_permitted(kind, namespace, labels=labels) or ():
            target = id_of(item)
            if target not in but:
                await client.delete(kind, target.name, namespace)
                deleted.append(target)
    return deleted
