"""An executor's process, killed without warning in the middle of a run."""

import asyncio
import os
import sys
from pathlib import Path

from driver import RUN
from fake_api import FakeApi
from fake_controllers import JobScript

_DRIVER = Path(__file__).with_name("driver.py")
_DONE = {"status": "complete", "cells": {"m": {"planned": 4, "answered": 4}}}


async def start(api: FakeApi) -> asyncio.subprocess.Process:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return await asyncio.create_subprocess_exec(
        sys.executable, str(_DRIVER), api.url, env=environment
    )


async def test_a_killed_executor_is_followed_by_another_that_ends_the_run_the_same() -> None:
    api = FakeApi()
    for step in RUN.steps:
        api.controllers.jobs[step.name] = JobScript(outcome=_DONE)
    async with api.served():
        for begun in (1, 4):
            process = await start(api)
            await api.until(lambda begun=begun: len(api.controllers.ran) >= begun)  # type: ignore[misc]  # bound now
            process.kill()
            assert await process.wait() < 0
        process = await start(api)
        assert await process.wait() == 0
    assert sorted(api.controllers.ran) == sorted(step.name for step in RUN.steps)
    assert api.names("statefulsets") == []
    assert api.controllers.server_peak == 1
