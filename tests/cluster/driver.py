"""A process that drives one small run on the API whose address it is given."""

import asyncio
import sys

from small_manifests import SmallManifests, small_run

from grace.cluster.client import ClusterClient, Patience
from grace.cluster.executor.desired import Desired
from grace.cluster.executor.execute import execute
from grace.cluster.executor.pacing import Pacing

RUN = small_run(models=("gemma-2-2b", "smollm2-135m"))


async def main(url: str) -> int:
    """Drive the run, and return its exit code."""
    pacing = Pacing(look_seconds=0.02, settle_seconds=0.01)
    async with ClusterClient.at(url, patience=Patience(first_wait_seconds=0.01)) as client:
        status = await execute(client, Desired(RUN, SmallManifests()), pacing=pacing)
    return 99 if status.exit_code is None else status.exit_code


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1])))
