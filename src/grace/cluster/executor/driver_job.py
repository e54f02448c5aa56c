"""
The Job that drives a run inside the cluster, so that it goes on when no laptop does.

It does what `execute` does anywhere else, and keeps as little. Whoever changes a
run otherwise than by driving it (stops it, takes it down, has failed steps tried
again) sends it away first, and waits until its pod is gone: what it saw before
the change it would otherwise still act on.
"""

import asyncio
import math
from dataclasses import dataclass
from enum import StrEnum

from grace.cluster.client import ClusterClient, at, id_of, labels_of, number, text
from grace.cluster.executor.desired import OURS, RUN_LABEL, Desired
from grace.cluster.executor.judging import has_ended, uid_of
from grace.cluster.executor.pacing import Pacing
from grace.cluster.executor.status import ClusterHook
from grace.cluster.names import driver_job_name
from grace.errors import ClusterDenied, ClusterError

COMPONENT = "app.kubernetes.io/component"
DRIVER = "driver"
_NEEDED = (("RoleBinding", "grace-driver"), ("ServiceAccount", "grace-driver"))
_GONE_SECONDS = 120


class DriverStanding(StrEnum):
    """What the cluster has of the Job that drives a run."""

    ABSENT = "absent"
    STARTING = "starting"
    AT_WORK = "at work"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class DriverSeen:
    """
    The Job that drives a run, as the cluster shows it.

    Attributes:
        standing: What there is of it.

        reason: Why it has not started or why it ended, in words.
    """

    standing: DriverStanding = DriverStanding.ABSENT
    reason: str = ""


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
                    f"{kind} {name} is not in {desired.run.namespace}: the run goes on only while a "
                    "command here drives it; ask an administrator of the namespace to make it"
                )
                return False
        for manifest in desired.builders.driver_objects(desired.run):
            await client.apply(manifest)
    except ClusterDenied as error:
        hook.message(f"{error}\nthe run goes on only while a command here drives it")
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
        still = await client.get("Job", name, run.namespace)
        if still is None or uid_of(still) != uid_of(found):
            return not has_ended(found)
        await asyncio.sleep(pacing.settle_seconds)
    raise ClusterError(
        f"the pod of Job {name} in {run.namespace} does not end within {_GONE_SECONDS} s; see "
        f"`kubectl describe job {name} -n {run.namespace}`, and start again"
    )


async def leave_driver(client: ClusterClient, desired: Desired) -> None:
    """
    Take the Job away that drives a run that is over; nobody waits for it.

    Raises:
        ClusterError: The cluster refuses.
    """
    run = desired.run
    await client.delete("Job", driver_job_name(run.run_id), run.namespace)


async def driver_of(client: ClusterClient, desired: Desired) -> DriverSeen:
    """
    Return how the Job stands that drives a run.

    Raises:
        ClusterError: It cannot be read.
    """
    run = desired.run
    job = await client.get("Job", driver_job_name(run.run_id), run.namespace)
    if job is None:
        return DriverSeen()
    if has_ended(job):
        return DriverSeen(DriverStanding.ENDED, await _last_word(client, desired))
    if number(job, "status", "ready"):
        return DriverSeen(DriverStanding.AT_WORK)
    return DriverSeen(DriverStanding.STARTING, await _waits_for(client, desired))


async def _pods(client: ClusterClient, desired: Desired) -> list[dict[str, object]]:
    labels = {**OURS, RUN_LABEL: desired.run.run_id, COMPONENT: DRIVER}
    return list(await client.list("Pod", desired.run.namespace, labels=labels))
