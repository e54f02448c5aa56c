"""
Deleting what runs leave in a namespace: volumes with results, records, accounts, policies.

It is found by its labels, so that it is found even when no run is recorded any
more. Records go last: who is interrupted can give the same command again.
"""

from grace.cluster.client import ClusterClient, Manifest, ObjectId, id_of, labels_of
from grace.cluster.executor.desired import OURS, RUN_LABEL, STEP_LABEL
from grace.cluster.executor.judging import has_ended
from grace.cluster.executor.records import collection_of
from grace.cluster.stored_run import list_runs, stored_run_name
from grace.errors import UsageError

_CLAIM = "PersistentVolumeClaim"
_KEPT = (
    _CLAIM,
    "NetworkPolicy",
    "RoleBinding",
    "Role",
    "ServiceAccount",
    "LimitRange",
    "ResourceQuota",
    "ConfigMap",
)


async def kept_objects(client: ClusterClient, namespace: str) -> tuple[ObjectId, ...]:
    """
    Return what stays in a namespace when its runs are down, in the order in which it is deleted.

    The namespace itself is not in it: it may hold what is not ours.

    Raises:
        ClusterError: It cannot be read.
    """
    found: list[Manifest] = []
    for kind in _KEPT:
        found += await client.list_if_permitted(kind, namespace, labels=OURS) or ()
    return tuple(map(id_of, found))


async def delete_kept(client: ClusterClient, namespace: str) -> tuple[ObjectId, ...]:
    """
    Delete all of it, and return what was there.

    Raises:
        ClusterError: The cluster refuses.
    """
    return tuple(
        [
            target
            for target in await kept_objects(client, namespace)
            if await client.delete(target.kind, target.name, target.namespace)
        ]
    )


async def check_collected(client: ClusterClient, namespace: str) -> None:
    """
    Refuse to go on while the cluster has results that nobody is known to have.

    Raises:
        UsageError: Runs were not collected; or there are volumes, and no record of
            a run that could say so.
    """
    runs = await list_runs(client, namespace)
    uncollected: list[str] = []
    for run_id in runs:
        stored = await client.get("ConfigMap", stored_run_name(run_id), namespace)
        if stored is not None and collection_of(stored) is None:
            uncollected.append(run_id)
    if uncollected:
        raise UsageError(
            f"results in {namespace} were not collected: runs {', '.join(uncollected)}; run "
            "`grace cluster collect` for each, or say --even-uncollected to lose them"
        )
    claims = [] if runs else await client.list(_CLAIM, namespace, labels=OURS)
    if claims:
        names = ", ".join(id_of(item).name for item in claims)
        raise UsageError(
            f"{namespace} has no record of a run, so nothing says whether results on its volumes "
            f"({names}) were collected; say --even-uncollected as well to delete them all the same"
        )


async def check_idle(client: ClusterClient, namespace: str, but: str) -> None:
    """
    Refuse to go on while a run is at work.

    Args:
        client: The cluster.

        namespace: Where.

        but: The run that may be.

    Raises:
        UsageError: Another one is.
    """
    jobs = await client.list("Job", namespace, labels={**OURS, STEP_LABEL: None})
    for job in jobs:
        other = labels_of(job).get(RUN_LABEL, "")
        if other != but and not has_ended(job):
            raise UsageError(
                f"run {other} is at work in {namespace}, on the same volumes; wait for it, or "
                "take it down first"
            )
