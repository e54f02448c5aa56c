"""
Driving a run: look, decide, act, wait, until nothing is left to do.

It keeps no state of its own: killed at any moment and started again, here or
on another laptop, it goes on from what the cluster has. Two that drive the same
run at once do no harm, since everything they do can be done twice.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from grace.cluster.client import ClusterClient, Manifest, id_of, labels_of, text
from grace.cluster.executor.decide import JobStanding, ServerStanding
from grace.cluster.executor.desired import OURS, RUN_LABEL, Desired
from grace.cluster.executor.driver_job import clear_driver, dismiss, employ
from grace.cluster.executor.judging import has_ended, is_leaving, uid_of
from grace.cluster.executor.observing import (
    Standing,
    look_at,
    progress_of,
    stand,
    status_of,
    unrecorded_ends,
)
from grace.cluster.executor.outcome import outcome_of_pod
from grace.cluster.executor.pacing import Pacing
from grace.cluster.executor.progress import last_words
from grace.cluster.executor.records import (
    StepEnd,
    forget_failures,
    make_record,
    write_server,
    write_step,
)
from grace.cluster.executor.setting_up import set_up
from grace.cluster.executor.status import ClusterHook, Progress, QuietHook, RunStatus, tell
from grace.cluster.executor.stopping import start_server, stop_server
from grace.cluster.steps import StepName
from grace.errors import ClusterError, ClusterUnavailable, FieldConflict

_WATCHED = ("Job", "Pod", "StatefulSet")


async def execute(
    client: ClusterClient,
    desired: Desired,
    *,
    hook: ClusterHook | None = None,
    pacing: Pacing | None = None,
    retry_failed: bool = False,
    before_steps: Callable[[], Awaitable[None]] | None = None,
) -> RunStatus:
    """
    Set a run up, have the cluster drive it, and drive it from here as well, to its end.

    Cancelled, it leaves everything on the cluster as it is: `stop_servers` frees
    the GPUs, and another call goes on.

    Args:
        client: The cluster.

        desired: The run, with what makes its objects.

        hook: Receives what happens.

        pacing: How often the cluster is looked at.

        retry_failed: Whether what failed before is tried again.

        before_steps: Called when all is set up, before the first step: sends
            inputs that are too large for ConfigMaps.

    Returns:
        How the run stands at its end; its `exit_code` says how it went.

    Raises:
        IdentityMismatch: The namespace holds another run of the same timestamp.

        ClusterError: The cluster refuses, or is not available for too long.
    """
    await begin(
        client,
        desired,
        hook=hook,
        pacing=pacing,
        retry_failed=retry_failed,
        before_steps=before_steps,
    )
    return await drive(client, desired, hook=hook, pacing=pacing)


async def begin(
    client: ClusterClient,
    desired: Desired,
    *,
    hook: ClusterHook | None = None,
    pacing: Pacing | None = None,
    retry_failed: bool = False,
    before_steps: Callable[[], Awaitable[None]] | None = None,
) -> bool:
    """
    Set a run up, and have the cluster drive it, if it can; see `execute`.

    Returns:
        Whether the cluster drives it from now on, whoever else does.

    Raises:
        IdentityMismatch: The namespace holds another run of the same timestamp.

        ClusterError: The cluster refuses.
    """
    run = desired.run
    told, paced = hook or QuietHook(), pacing or Pacing()
    await set_up(client, desired, told, paced)
    await make_record(client, run.namespace, run.run_id)
    if before_steps is not None:
        await before_steps()
    if retry_failed:
        # What drives it now has seen failures that are about to be forgotten.
        await dismiss(client, desired, paced)
        await _forget(client, desired)
    return await employ(client, desired, told, paced)


async def drive(
    client: ClusterClient,
    desired: Desired,
    *,
    hook: ClusterHook | None = None,
    pacing: Pacing | None = None,
) -> RunStatus:
    """
    Drive a run that is set up to its end, whoever else does; see `execute`.

    Raises:
        ClusterError: The cluster refuses, or is not available for too long.
    """
    status = await _Driver(client, desired, hook or QuietHook(), pacing or Pacing()).drive()
    await clear_driver(client, desired)
    return status


async def _forget(client: ClusterClient, desired: Desired) -> None:
    run = desired.run
    standing = stand(desired, await look_at(client, desired))
    for name, seen in standing.steps.items():
        job = standing.look.jobs.get(name)
        if seen.standing is JobStanding.FAILED and job is not None:
            await client.delete(
                "Job", id_of(job).name, run.namespace, propagation="Foreground", uid=uid_of(job)
            )
    await forget_failures(client, run.namespace, run.run_id)


class _Driver:
    def __init__(
        self, client: ClusterClient, desired: Desired, hook: ClusterHook, pacing: Pacing
    ) -> None:
        self._client = client
        self._desired = desired
        self._hook = hook
        self._pacing = pacing
        self._changed = asyncio.Event()
        self._gone: dict[str, Manifest] = {}
        self._completed: set[str] = set()
        self._progress: Mapping[StepName, Progress] = {}
        self._asked_at = float("-inf")

    async def drive(self) -> RunStatus:
        tasks = [asyncio.create_task(self._watch(kind)) for kind in _WATCHED]
        try:
            return await self._until_finished()
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task

    async def _until_finished(self) -> RunStatus:
        before: RunStatus | None = None
        last_answer = asyncio.get_running_loop().time()
        while True:
            self._changed.clear()
            try:
                standing, acted = await self._once()
                status = status_of(self._desired, standing, self._progress)
            except ClusterUnavailable as error:
                silent = timedelta(seconds=asyncio.get_running_loop().time() - last_answer)
                if silent.total_seconds() > self._pacing.patience_seconds:
                    raise
                self._hook.message(f"{error}; the run goes on there, and is looked at again")
                await asyncio.sleep(self._pacing.settle_seconds)
                continue
            last_answer = asyncio.get_running_loop().time()
            tell(self._hook, before, status)
            before = status
            if status.finished:
                return status
            await self._wait(self._pacing.look_seconds if not acted else 0)

    async def _once(self) -> tuple[Standing, bool]:
        """Look and act once; tell whether anything was done that the next look must see."""
        client, desired = self._client, self._desired
        standing = stand(desired, await look_at(client, desired, tuple(self._gone.values())))
        ends = unrecorded_ends(desired, standing)
        for name, end in ends.items():
            await self._record(name, await self._explained(standing, name, end))
        given_up = await self._give_up(standing)
        if ends or given_up:
            # What was found is kept before anything follows from it.
            standing = stand(desired, await look_at(client, desired))
        await self._ask_progress(standing)
        return standing, await self._act(standing)

    async def _explained(self, standing: Standing, name: StepName, end: StepEnd) -> StepEnd:
        """Add what its log says to a failure of which its pods say no more than a number."""
        pods = standing.look.pods_of(standing.look.jobs.get(name))
        failed = [pod for pod in pods if text(pod, "status", "phase") == "Failed"]
        if not end.failure or not failed or any(map(outcome_of_pod, failed)):
            return end
        said = await last_words(self._client, failed[-1])
        return replace(end, failure=f"{end.failure}; its log ends: {said}") if said else end

    async def _record(self, name: StepName, end: StepEnd) -> None:
        if not end.at:
            at = self._client.now().isoformat(timespec="seconds")
            end = replace(end, at=at)
        run = self._desired.run
        await write_step(self._client, run.namespace, run.run_id, name, end)

    async def _give_up(self, standing: Standing) -> bool:
        run = self._desired.run
        new = {
            key: seen.failure
            for key, seen in standing.servers.items()
            # One that nobody needs any more has done its work.
            if seen.failure
            and key not in standing.look.record.servers
            and self._still_needed(standing, key)
        }
        for key, failure in new.items():
            await write_server(self._client, run.namespace, run.run_id, key, failure)
        return bool(new)

    def _still_needed(self, standing: Standing, key: str) -> bool:
        ended = {JobStanding.DONE, JobStanding.FAILED}
        return any(
            wanted.step.server == key and standing.steps[name].standing not in ended
            for name, wanted in self._desired.steps.items()
        )

    async def _act(self, standing: Standing) -> bool:
        decision, look = standing.decision, standing.look
        namespace = self._desired.run.namespace
        for name in decision.cancel:
            job = look.jobs[name]
            await self._client.delete(
                "Job", id_of(job).name, namespace, propagation="Foreground", uid=uid_of(job)
            )
        for key in decision.stop:
            await stop_server(self._client, self._desired.servers[key], look.controllers[key])
        for key, seen in standing.servers.items():
            up = seen.standing in {ServerStanding.STARTING, ServerStanding.READY}
            if up and key not in decision.stop and key not in self._completed:
                # Whoever began it may have been killed before it was whole.
                await self._try_server(key, whole=False)
        for key in decision.start:
            await self._try_server(key, whole=True)
        for name in decision.begin:
            await self._begin(name)
        return bool(decision.cancel or decision.stop or decision.start or decision.begin)

    async def _try_server(self, key: str, *, whole: bool) -> None:
        run = self._desired.run
        try:
            await start_server(self._client, self._desired.servers[key], run.run_id, whole=whole)
            self._completed.add(key)
        except ClusterUnavailable:
            raise
        except ClusterError as error:
            if isinstance(error, FieldConflict) and await self._is_elsewhere(key):
                # Another run was faster: the next look shows which.
                return
            await write_server(self._client, run.namespace, run.run_id, key, str(error))

    async def _is_elsewhere(self, key: str) -> bool:
        target = self._desired.servers[key].controller
        found = await self._client.get(target.kind, target.name, target.namespace)
        ours = self._desired.run.run_id
        return found is not None and labels_of(found).get(RUN_LABEL) != ours

    async def _begin(self, name: StepName) -> None:
        run = self._desired.run
        try:
            for manifest in self._desired.steps[name].objects:
                await self._client.apply(manifest)
        except ClusterUnavailable:
            raise
        except ClusterError as error:
            end = StepEnd(str(error), None, self._client.now().isoformat(timespec="seconds"))
            await write_step(self._client, run.namespace, run.run_id, name, end)

    async def _ask_progress(self, standing: Standing) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._asked_at >= self._pacing.progress_seconds:
            self._asked_at = now
            self._progress = await progress_of(self._client, self._desired, standing)

    async def _wait(self, seconds: float) -> None:
        """Wait for a change, at most so long, and gather those that come with it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        await asyncio.sleep(self._pacing.settle_seconds)

    async def _watch(self, kind: str) -> None:
        """Wake the driver at every change; without a watch it looks now and then."""
        run = self._desired.run
        while True:
            with suppress(ClusterError):
                async for change in self._client.watch(kind, run.namespace, labels=OURS):
                    self._keep_finished(change.manifest)
                    self._changed.set()
            await asyncio.sleep(self._pacing.look_seconds)

    def _keep_finished(self, manifest: Manifest) -> None:
        # A finished Job may remove itself before the next look.
        uid = uid_of(manifest)
        ours = labels_of(manifest).get(RUN_LABEL) == self._desired.run.run_id
        if text(manifest, "kind") != "Job" or not ours or uid in self._gone:
            return
        others = {key: kept for key, kept in self._gone.items() if id_of(kept) != id_of(manifest)}
        # One that is deleted when it is first seen is so that it can be made again.
        self._gone = others | (
            {uid: manifest} if has_ended(manifest) and not is_leaving(manifest) else {}
        )
