"""
`grace cluster drive`: what the Job in the cluster runs, so that a run needs no laptop.

It does what `run` and `resume` do, and neither sets anything up nor collects. Told
to end, it leaves everything as it is: another pod, or a person, goes on.
"""

import asyncio
import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from grace.cli.cluster_options import Context, Namespace, connected, place_of
from grace.cli.cluster_results import named_run
from grace.cli.exits import EXIT_USAGE
from grace.cli.screen import err
from grace.cli.until_interrupted import until_interrupted
from grace.errors import ClusterError, ClusterUnavailable, GraceError, RunInterrupted

if TYPE_CHECKING:
    from grace.cluster.client import ClusterClient


def drive(
    name: Annotated[str, typer.Argument(metavar="RUN", help="The run's timestamp.")],
    namespace: Namespace = None,
    cluster_context: Context = None,
    hours: Annotated[
        float, typer.Option(help="After this, its model servers are stopped, and it ends.")
    ] = 168.0,
) -> None:
    """Drive a run that is set up, from inside the cluster, until it is over."""
    place = place_of("local", namespace, cluster_context)

    async def work(client: "ClusterClient") -> int:
        from grace.cli.cluster_screen import ClusterScreen
        from grace.cluster.executor.desired import Desired, default_builders
        from grace.cluster.executor.execute import drive as drive_to_its_end
        from grace.cluster.executor.stopping import stop_servers

        desired = Desired(await named_run(client, place, name), default_builders())

        async def whole() -> None:
            with ClusterScreen() as screen:
                async with asyncio.timeout(hours * 3600):
                    await drive_to_its_end(client, desired, hook=screen)

        try:
            await until_interrupted(whole)
        except (ClusterUnavailable, RunInterrupted):
            # Somebody goes on: another pod of this Job, or a person.
            raise
        except (GraceError, TimeoutError) as error:
            # The same would stop the next one: nobody looks after the servers any more.
            said = str(error) or f"the run is not over after {hours:g} hours"
            err.print(f"stops the model servers and ends: {said}", markup=False)
            with contextlib.suppress(ClusterError):
                await stop_servers(client, desired, dismissed=True)
            return EXIT_USAGE
        return 0

    raise typer.Exit(connected(place.context, work))
