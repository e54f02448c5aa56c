"""The first phase: what all steps share is made, and the run is stored before all else."""

import asyncio
import math
from collections.abc import Iterator, Sequence

from grace.cluster.client import ClusterClient, Manifest, ObjectId, id_of, parts, text
from grace.cluster.executor.desired import Desired
from grace.cluster.executor.judging import is_leaving
from grace.cluster.executor.pacing import Pacing
from grace.cluster.executor.status import PHASE_TITLES, ClusterHook
from grace.cluster.stored_run import store_run
from grace.errors import ClusterDenied, ClusterError

_LEFT_OUT = frozenset({"Role", "RoleBinding"})
_CLAIM = "PersistentVolumeClaim"


async def set_up(
    client: ClusterClient, desired: Desired, hook: ClusterHook, pacing: Pacing
) -> None:
    """
    Make what all steps share, store the run, and wait for volume claims.

    Args:
        client: The cluster.

        desired: The run, with what makes its objects.

        hook: Receives what happens.

        pacing: How long claims are waited for.

    Raises:
        IdentityMismatch: The namespace holds another run of the same timestamp.

        ClusterError: The cluster refuses, a claim of earlier runs that is being
            deleted is not gone in time, or one is not bound in time.
    """
    hook.phase_began(1, PHASE_TITLES[1])
    run = desired.run
    namespaces = [item for item in desired.setup if text(item, "kind") == "Namespace"]
    for manifest in namespaces:
        made = await client.apply(manifest)
        if text(made, "status", "phase") == "Terminating":
            raise ClusterError(
                f"namespace {id_of(manifest).name} is being deleted; wait until it is gone, then "
                "start again"
            )
    # Before anything else, so that whatever is made can be found and taken down again.
    await store_run(client, run, desired.setup)
    # What is being deleted takes no change, and is gone a moment later.
    await _wait_for_leaving(client, desired, hook, pacing)
    rest = [item for item in desired.setup if text(item, "kind") != "Namespace"]
    for manifest in rest:
        try:
            await client.apply(manifest)
        except ClusterDenied as error:
            if text(manifest, "kind") not in _LEFT_OUT:
                raise
            hook.message(f"{error}\nit is left out: only who drives runs from a pod needs it")
    claims = [item for item in rest if text(item, "kind") == _CLAIM]
    for manifest in claims:
        await _wait_for_claim(client, manifest, hook, pacing)


def _claims(desired: Desired) -> Iterator[ObjectId]:
    """Yield the claims that a run makes, now or with its steps."""
    of_steps = (item for step in desired.steps.values() for item in step.objects)
    for item in (*desired.setup, *of_steps):
        if text(item, "kind") == _CLAIM:
            yield id_of(item)


async def _wait_for_leaving(
    client: ClusterClient, desired: Desired, hook: ClusterHook, pacing: Pacing
) -> None:
    wanted, place = set(_claims(desired)), desired.run.namespace
    told: set[str] = set()
    holders: list[Manifest] = []
    leaving: list[ObjectId] = []
    for _ in range(_looks(pacing)):
        claims = await client.list_if_permitted(_CLAIM, place) or ()
        leaving = [id_of(item) for item in claims if is_leaving(item) and id_of(item) in wanted]
        if not leaving:
            return
        holders = await _pods_with(client, leaving)
        why = f"{'; '.join(map(str, leaving))}: being deleted"
        if holders:
            why += f", and held by {', '.join(id_of(pod).name for pod in holders)}"
        if why not in told:
            told.add(why)
            hook.message(f"waits for {why}")
        await asyncio.sleep(pacing.settle_seconds)
    names = ", ".join(target.name for target in leaving)
    remedy = (
        f"it goes when no pod has it mounted, so end pod {', '.join(map(_named, holders))}"
        if holders
        else f"see `kubectl -n {place} describe pvc {leaving[0].name}`"
    )
    raise ClusterError(
        f"PersistentVolumeClaim {names} in {place} is still being deleted after "
        f"{pacing.claim_seconds:g} s: {remedy}; then start again"
    )


async def _pods_with(client: ClusterClient, claims: Sequence[ObjectId]) -> list[Manifest]:
    """Return the pods that have one of these claims mounted, also those that ended."""
    names = {target.name for target in claims}
    pods = await client.list_if_permitted("Pod", claims[0].namespace) or ()
    return [
        pod
        for pod in pods
        if any(
            text(volume, "persistentVolumeClaim", "claimName") in names
            for volume in parts(pod, "spec", "volumes")
        )
    ]


def _named(pod: Manifest) -> str:
    """Return a pod's name, with what made it, which would make it again."""
    for owner in parts(pod, "metadata", "ownerReferences"):
        return f"{id_of(pod).name} (of {text(owner, 'kind')} {text(owner, 'name')})"
    return id_of(pod).name


def _looks(pacing: Pacing) -> int:
    return math.ceil(pacing.claim_seconds / max(pacing.settle_seconds, 0.01))


async def _wait_for_claim(
    client: ClusterClient, manifest: Manifest, hook: ClusterHook, pacing: Pacing
) -> None:
    target = id_of(manifest)
    told = False

    async def bound() -> bool:
        nonlocal told
        found = await client.get(target.kind, target.name, target.namespace)
        phase = "" if found is None else text(found, "status", "phase")
        if phase == "Lost":
            raise ClusterError(
                f"{target} lost its volume; what was on it is gone: delete the claim, start again"
            )
        if phase == "Bound" or (found is not None and await _binds_later(client, found)):
            return True
        if not told:
            told = True
            hook.message(f"waits for {target}: {phase or 'not bound yet'}")
        return False

    for _ in range(_looks(pacing)):
        if await bound():
            return
        await asyncio.sleep(pacing.settle_seconds)
    raise ClusterError(
        f"{target} is not bound after {pacing.claim_seconds:g} s: see `kubectl describe pvc "
        f"{target.name} -n {target.namespace}`, and compare its storage class, access mode and "
        "size in the profile with what the cluster offers"
    )


async def _binds_later(client: ClusterClient, claim: Manifest) -> bool:
    """Tell whether a claim is bound only when a pod uses it; so too if that is not known."""
    name = text(claim, "spec", "storageClassName")
    if not name:
        return True
    classes = await client.list_if_permitted("StorageClass")
    modes = {id_of(item).name: text(item, "volumeBindingMode") for item in classes or ()}
    return modes.get(name, "WaitForFirstConsumer") == "WaitForFirstConsumer"
