"""
`grace cluster run`, `resume` and `apply`: from a request to collected results.

A run is driven from here and, where it may, by a Job in the cluster, so that it goes
on when this machine sleeps. Ctrl-C asks whether it is to stop there as well; if so,
it goes on with `resume`, from here or from another machine.
"""

import contextlib
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grace.cli.cluster_checks import check_objects, print_request
from grace.cli.cluster_options import (
    Asked,
    Context,
    Namespace,
    Place,
    ProfileOption,
    RunName,
    Yes,
    asks_for_a_run,
    confirm,
    connected,
    place_of,
)
from grace.cli.cluster_profile import compared, print_doubts
from grace.cli.cluster_results import (
    RESULTS,
    RunInput,
    collect_here,
    command_for,
    exit_of,
    named_run,
    say_next,
)
from grace.cli.exits import EXIT_FAILED
from grace.cli.screen import err
from grace.cli.screen import out as screen_out
from grace.cli.until_interrupted import until_interrupted
from grace.cluster.collect import keep_inputs
from grace.cluster.preparing import adjusted
from grace.cluster.profile import load_profile
from grace.cluster.request import ClusterRun
from grace.errors import (
    ClusterError,
    ClusterUnavailable,
    GraceError,
    IdentityMismatch,
    RunInterrupted,
)

if TYPE_CHECKING:
    from grace.cluster.client import ClusterClient
    from grace.cluster.executor.desired import Desired
    from grace.cluster.executor.pacing import Pacing
    from grace.cluster.executor.status import RunStatus

NoCollect = Annotated[
    bool, typer.Option("--no-collect", help="Leave the results on the cluster for now.")
]
Detach = Annotated[
    bool,
    typer.Option(
        "--detach",
        help="Come back as soon as the cluster drives the run by itself; collect its results later.",
    ),
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Try again what failed or was given up before.")
]
WithProfile = Annotated[
    str | None,
    typer.Option(
        "--with-profile",
        metavar="PROFILE",
        help="Go on under this profile, not under the one with which the run began: with more "
        "memory for what ran out of it, or on other GPUs.",
    ),
]
ResultsOut = Annotated[
    Path | None, typer.Option(help="Where results are collected to. Default: results.")
]

PACING: "Pacing | None" = None
"""How often the cluster is looked at; None is the executor's own choice."""


@asks_for_a_run
def run(
    asked: Asked,
    *,
    out: ResultsOut = None,
    yes: Yes = False,
    no_collect: NoCollect = False,
    detach: Detach = False,
) -> None:
    """
    Run experiments on a cluster: from an empty namespace to verified results here.

    Everything is checked, what it takes is shown, and you are asked, before
    anything is sent. Model servers come up one after the other, and are stopped as
    soon as no query needs them. The run goes on in the cluster when this machine
    sleeps or is gone: `grace cluster status` shows it, `grace cluster collect` fetches
    results. What was stopped goes on with `grace cluster resume`.
    """

    async def work(client: "ClusterClient") -> int:
        request = asked.prepared(asked.place.named(client))
        check_objects(request)
        if print_request(asked, request):
            raise ClusterError(
                "the cluster cannot do this run (see the problems above); nothing was sent"
            )
        print_doubts(await compared(client, request.profile, request.namespace))
        _confirm(f"Send this to {request.namespace} on {client.server}?", yes=yes)
        return await _drive(
            client,
            request,
            asked.place,
            out=out,
            collect=not no_collect,
            ask=not yes,
            detach=detach,
        )

    raise typer.Exit(connected(asked.place.context, work))


def resume(
    name: RunName = None,
    profile: ProfileOption = "local",
    namespace: Namespace = None,
    cluster_context: Context = None,
    input_: RunInput = None,
    out: ResultsOut = None,
    *,
    with_profile: WithProfile = None,
    retry_failed: RetryFailed = False,
    yes: Yes = False,
    no_collect: NoCollect = False,
    detach: Detach = False,
) -> None:
    """
    Go on with a run that the cluster has, from this machine or another one.

    What the run needs is read from the cluster.
    """
    place = place_of(profile, namespace, cluster_context)
    other = None if with_profile is None else load_profile(with_profile)

    async def work(client: "ClusterClient") -> int:
        request = await named_run(client, place, name, input_, out)
        if other is not None:
            # Another number of shards would share the queries otherwise than they were begun.
            changed = adjusted(other, shards=request.profile.jobs.shards)
            request = replace(request, profile=changed)
            check_objects(request)
        return await _drive(
            client,
            request,
            place,
            out=out,
            collect=not no_collect,
            ask=not yes,
            retry_failed=retry_failed,
            detach=detach,
        )

    raise typer.Exit(connected(place.context, work))


@asks_for_a_run
def apply(asked: Asked, *, yes: Yes = False) -> None:
    """
    Set a run up and do no more: namespace, volumes, inputs, accounts, network rules.

    `grace cluster resume` goes on from there.
    """

    async def work(client: "ClusterClient") -> None:
        from grace.cli.cluster_screen import ClusterScreen

        request = asked.prepared(asked.place.named(client))
        desired = check_objects(request)
        _confirm(f"Set up {request.namespace} on {client.server}?", yes=yes)
        with ClusterScreen() as screen:
            await _set_up(client, desired, screen)
        screen_out.print(f"run {request.timestamp} is set up in {request.namespace}", markup=False)
        say_next(command_for("resume", request, asked.place))

    connected(asked.place.context, work)


async def _drive(
    client: "ClusterClient",
    request: ClusterRun,
    place: Place,
    *,
    out: Path | None,
    collect: bool,
    ask: bool,
    retry_failed: bool = False,
    detach: bool = False,
) -> int:
    from grace.cli.cluster_screen import ClusterScreen
    from grace.cli.cluster_view import run_view
    from grace.cluster.executor.desired import Desired, default_builders
    from grace.cluster.executor.execute import begin
    from grace.cluster.executor.execute import drive as drive_to_its_end

    desired = Desired(request, default_builders())
    resuming = command_for("resume", request, place)
    # Whoever goes on from here later need not say where they are.
    keep_inputs(request, out or RESULTS)

    inside = False

    async def whole() -> "RunStatus | None":
        nonlocal inside
        with ClusterScreen() as screen:
            pacing = _pacing()
            inside = await begin(
                client,
                desired,
                hook=screen,
                pacing=pacing,
                retry_failed=retry_failed,
                before_steps=lambda: _upload(client, request),
            )
            if detach and inside:
                return None
            return await drive_to_its_end(client, desired, hook=screen, pacing=pacing)

    try:
        status = await until_interrupted(whole)
    except RunInterrupted as error:
        kept = await _leave(client, desired, inside=inside, ask=ask)
        raise RunInterrupted(f"interrupted; {kept}; it goes on with:\n  {resuming}") from error
    except GraceError as error:
        # Out of reach from here, the cluster goes on with it by itself, where it drives it; and
        # another run of the same name is none of ours.
        away = inside and isinstance(error, ClusterUnavailable)
        if not (away or isinstance(error, IdentityMismatch)):
            # Nobody looks after its servers any more.
            with contextlib.suppress(ClusterError):
                await _leave(client, desired, inside=False, ask=False)
        say_next(resuming)
        raise
    if status is None:
        screen_out.print(
            f"run {request.timestamp} goes on in {request.namespace} by itself", markup=False
        )
        say_next(command_for("status", request, place))
        return 0
    if not err.is_terminal:
        # On a terminal it stands there already.
        screen_out.print(run_view(status, datetime.now(UTC)))
    code = EXIT_FAILED if status.exit_code is None else status.exit_code
    if not collect:
        say_next(command_for("collect", request, place))
        return code
    found = await collect_here(client, request, place, out)
    return code or exit_of(found)


def _pacing() -> "Pacing":
    from grace.cluster.executor.pacing import Pacing

    return PACING or Pacing()


async def _set_up(client: "ClusterClient", desired: "Desired", screen: Any) -> None:  # noqa: ANN401 -- a ClusterHook, which needs the extra
    from grace.cluster.executor.setting_up import set_up

    await set_up(client, desired, screen, _pacing())
    await _upload(client, desired.run)


async def _upload(client: "ClusterClient", request: ClusterRun) -> None:
    """Send inputs that are too large for ConfigMaps: steps read them."""
    from grace.cli.models import shown_progress
    from grace.cluster.uploading import upload_inputs

    with shown_progress() as progress:
        await upload_inputs(client, request, progress)


async def _leave(client: "ClusterClient", desired: "Desired", *, inside: bool, ask: bool) -> str:
    """
    Stop the run and its model servers, unless the user wants it to go on; say what was done.

    Args:
        client: The cluster.

        desired: The run.

        inside: Whether the cluster drives it, too.

        ask: Whether the user is there to be asked.
    """
    from grace.cluster.executor.stopping import stop_servers

    question = (
        "Stop it in the cluster as well? It goes on there by itself otherwise"
        if inside
        else "Stop its model servers as well, so that they hold nothing while nobody looks?"
    )
    try:
        stay = (
            ask and sys.stdin.isatty() and not typer.confirm(question, default=not inside, err=True)
        )
    except typer.Abort:
        # Ctrl-C once more: away at once.
        stay = True
    if stay and inside:
        return "the cluster goes on with it by itself, and you can join in again"
    if stay:
        hours = desired.run.profile.model_servers.deadline_hours
        return f"its model servers stay up, for {hours:g} hours at most"
    stopped = await stop_servers(client, desired)
    names = ", ".join(stopped)
    return f"stopped the servers of {names}" if stopped else "no model server was up"


def _confirm(question: str, *, yes: bool) -> None:
    if not yes:
        confirm(question, "nothing was sent")
