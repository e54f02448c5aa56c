"""
The Job that drives a run inside the cluster, so that it goes on when no laptop does.

It does what `execute` does anywhere else, and keeps as little. Whoever changes a
run otherwise than by driving it (stops it, takes it down, has failed steps tried
again) sends it away first, and waits until its pod is gone: what it saw before
the change it would otherwise still act on.
"""

import asyncio
import math

from grace.cluster.client import ClusterClient, Manifest
from grace.cluster.executor.decide import SeenStep
from grace.cluster.executor.desired import Desired
from grace.cluster.executor.judging import judge_job, uid_of
from grace.cluster.executor.pacing import Pacing
from grace.cluster.executor.status import ClusterHook
from grace.cluster.names import driver_job_name
from grace.errors import ClusterDenied, ClusterError

_PODS = {"app.kubernetes.io/component": "driver"}
_NEEDED = (("ServiceAccount", "grace-driver"), ("RoleBinding", "grace-driver"))
_GONE_SECONDS = 120
_WITHOUT = "the run goes on only while a command drives it, here or elsewhere"


async def employ(
    client: ClusterClient, desired: Desired, hook: ClusterHook, pacing: Pacing
) -> bool:
    """
    Have the cluster drive a run, unless its profile says otherwise or it may not.

    Args:
        client: The cluster.

        desired: The run, with what makes its objects.

        hook: Hears why not.

        pacing: How often it is looked whether an earlier one is gone.

    Returns:
        Whether it does.

    Raises:
        ClusterError: The cluster refuses for another reason than rights.
    """
    if not desired.run.profile.driver.in_cluster:
        return False
    await dismiss(client, desired, pacing)
    try:
        for kind, name in _NEEDED:
            if await client.get(kind, name, desired.run.namespace) is None:
                hook.message(
                    f"{kind} {name} is not in {desired.run.namespace}: {_WITHOUT}; ask an "
                    "administrator of the namespace to make it"
                )
                return False
        for manifest in desired.builders.driver_objects(desired.run):
            await client.apply(manifest)
    except ClusterDenied as error:
        hook.message(f"{error}\n{_WITHOUT}")
        return False
    return True


async def dismiss(client: ClusterClient, desired: Desired, pacing: Pacing) -> bool:
    """
    Take the Job away that drives a run, and wait until its pod is gone.

    Returns:
        Whether there was one.

    Raises:
        ClusterError: The cluster refuses, or the pod does not end.
    """
    run = desired.run
    name = driver_job_name(run.run_id)
    found = await client.get("Job", name, run.namespace)
    if found is None:
        return False
    await client.delete("Job", name, run.namespace, propagation="Foreground", uid=uid_of(found))
    for _ in range(math.ceil(_GONE_SECONDS / max(pacing.settle_seconds, 0.01))):
        pods = await _pods(client, desired)
        still = await client.get("Job", name, run.namespace)
        if not pods and (still is None or uid_of(still) != uid_of(found)):
            return True
        await asyncio.sleep(pacing.settle_seconds)
    raise ClusterError(
        f"the pod of Job {name} in {run.namespace} does not end within {_GONE_SECONDS} s; see "
        f"`kubectl describe job {name} -n {run.namespace}`, and start again"
    )


async def clear_driver(client: ClusterClient, desired: Desired) -> None:
    """
    Take the Job away that drove a run which is over; nobody waits for it.

    Raises:
        ClusterError: The cluster refuses.
    """
    run = desired.run
    await client.delete("Job", driver_job_name(run.run_id), run.namespace)


async def driver_of(client: ClusterClient, desired: Desired) -> SeenStep:
    """
    Return how the Job stands that drives a run, as that of a step would.

    Raises:
        ClusterError: It cannot be read.
    """
    run = desired.run
    job = await client.get("Job", driver_job_name(run.run_id), run.namespace)
    return judge_job(job, await _pods(client, desired), run.profile.gpus.resources)


async def _pods(client: ClusterClient, desired: Desired) -> list[Manifest]:
    labels = {**desired.labels, **_PODS}
    return list(await client.list("Pod", desired.run.namespace, labels=labels))
