"""The first phase: what all steps share is made, and the run is stored before all else."""

import asyncio
from collections.abc import Awaitable, Callable

from grace.cluster.client import ClusterClient, Manifest, id_of, text
from grace.cluster.executor.desired import Desired
from grace.cluster.executor.status import PHASE_TITLES, ClusterHook
from grace.cluster.stored_run import store_run
from grace.errors import ClusterDenied, ClusterError

_NAMESPACE_SECONDS = 60
_CLAIM_SECONDS = 300
_LOOK_SECONDS = 1.0
_LEFT_OUT = frozenset({"Role", "RoleBinding"})


async def set_up(client: ClusterClient, desired: Desired, hook: ClusterHook) -> None:
    """
    Make what all steps share, store the run, and wait for namespace and claims.

    Raises:
        IdentityMismatch: The namespace holds another run of the same timestamp.

        ClusterError: The cluster refuses, or a claim is not bound in time.
    """
    hook.phase_began(1, PHASE_TITLES[1])
    run = desired.run
    namespaces = [item for item in desired.setup if text(item, "kind") == "Namespace"]
    for manifest in namespaces:
        await client.apply(manifest)
        await _wait_for_namespace(client, id_of(manifest).name)
    # Before anything else, so that whatever is made can be found and taken down again.
    await store_run(client, run, desired.setup)
    rest = [item for item in desired.setup if text(item, "kind") != "Namespace"]
    for manifest in rest:
        try:
            await client.apply(manifest)
        except ClusterDenied as error:
            if text(manifest, "kind") not in _LEFT_OUT:
                raise
            hook.message(f"{error}\nit is left out: only who drives runs from a pod needs it")
    claims = [item for item in rest if text(item, "kind") == "PersistentVolumeClaim"]
    for manifest in claims:
        await _wait_for_claim(client, manifest, hook)


async def _wait_for_namespace(client: ClusterClient, name: str) -> None:
    async def active() -> bool:
        found = await client.get("Namespace", name)
        if found is not None and text(found, "status", "phase") == "Terminating":
            raise ClusterError(
                f"namespace {name} is being deleted; wait until it is gone, then start again"
            )
        return found is not None

    if not await _within(_NAMESPACE_SECONDS, active):
        raise ClusterError(f"namespace {name} did not come to be within {_NAMESPACE_SECONDS} s")


async def _wait_for_claim(client: ClusterClient, manifest: Manifest, hook: ClusterHook) -> None:
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
            hook.message(f"waits for {target}: {phase or 'not there yet'}")
        return False

    if not await _within(_CLAIM_SECONDS, bound):
        raise ClusterError(
            f"{target} is not bound after {_CLAIM_SECONDS} s: see `kubectl describe pvc "
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


async def _within(seconds: float, done: Callable[[], Awaitable[bool]]) -> bool:
    for _ in range(round(seconds / _LOOK_SECONDS)):
        if await done():
            return True
        await asyncio.sleep(_LOOK_SECONDS)
    return await done()
