"""What tests that drive whole runs share."""

from fake_api import FakeApi
from fake_controllers import JobScript
from small_manifests import SmallManifests

from grace.cluster.client import ClusterClient, Patience
from grace.cluster.executor.decide import StepState
from grace.cluster.executor.desired import Desired
from grace.cluster.executor.execute import execute
from grace.cluster.executor.pacing import Pacing
from grace.cluster.executor.status import QuietHook, RunStatus, ServerStatus, StepStatus
from grace.cluster.request import ClusterRun

QUICK = Pacing(look_seconds=0.01, settle_seconds=0, progress_seconds=0, patience_seconds=5)
_PATIENT = Patience(attempts=3, seconds=5, first_wait_seconds=0, longest_wait_seconds=0)
_COMPLETE = {
    "status": "complete",
    "cells": {"exp1/m": {"planned": 4, "answered": 4, "failed": 0, "not_asked": 0}},
}


class Notes(QuietHook):
    """Keeps what an executor tells."""

    def __init__(self) -> None:
        self.phases: list[int] = []
        self.reasons: list[str] = []
        self.statuses: list[RunStatus] = []

    def phase_began(self, number: int, title: str) -> None:
        self.phases.append(number)

    def step_changed(self, step: StepStatus) -> None:
        self.reasons.append(step.reason)

    def server_changed(self, server: ServerStatus) -> None:
        self.reasons.append(server.reason)

    def looked(self, status: RunStatus) -> None:
        self.statuses.append(status)


def client_of(api: FakeApi) -> ClusterClient:
    return ClusterClient.at(api.url, patience=_PATIENT, seconds=2)


def desired_of(run: ClusterRun) -> Desired:
    return Desired(run, SmallManifests())


def finish_well(api: FakeApi, run: ClusterRun, outcome: dict[str, object] | None = None) -> None:
    for step in run.steps:
        if step.kind == "finish":
            api.controllers.jobs[step.name] = JobScript(outcome=outcome or _COMPLETE)


async def drive(
    api: FakeApi, run: ClusterRun, hook: Notes | None = None, *, retry_failed: bool = False
) -> RunStatus:
    async with client_of(api) as client:
        return await execute(
            client, desired_of(run), hook=hook, pacing=QUICK, retry_failed=retry_failed
        )


def states(status: RunStatus) -> dict[str, StepState]:
    return {found.step.name: found.state for found in status.steps}
