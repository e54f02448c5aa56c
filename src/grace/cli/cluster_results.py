"""`grace cluster status`, `collect` and `down`: what becomes of a run that the cluster has."""

import asyncio
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grace.cli.cluster_options import (
    Context,
    Namespace,
    Place,
    ProfileOption,
    RunName,
    Yes,
    confirm,
    connected,
    place_of,
)
from grace.cli.cluster_tables import print_collection
from grace.cli.exits import EXIT_FAILED, EXIT_INCOMPLETE
from grace.cli.models import shown_progress
from grace.cli.options import parse_inputs
from grace.cli.screen import err, out
from grace.cluster.collect import Collection, collect
from grace.cluster.pod_files import trials_file
from grace.cluster.request import ClusterRun
from grace.errors import ClusterError, UsageError
from grace.pipeline.reopen import input_copies

if TYPE_CHECKING:
    from grace.cluster.client import ClusterClient
    from grace.cluster.executor.desired import Desired

Watch = Annotated[bool, typer.Option("--watch", help="Look again and again, until it is over.")]

RunInput = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="STUDY=CSV",
        help="Where an input of more than 1 MB is on this machine. It is needed only if the run was "
        "begun on another one, and stopped before that was sent. Repeatable.",
    ),
]

RESULTS = Path("results")
"""Where results go unless another folder is given."""

_WATCH_SECONDS = 10.0
_NAMED = 3


def status(
    name: RunName = None,
    profile: ProfileOption = "local",
    namespace: Namespace = None,
    cluster_context: Context = None,
    *,
    watch: Watch = False,
) -> None:
    """
    Show how a run on the cluster stands: what is done and failed, what waits and why.

    Exit code: 0 it is complete, 1 something failed, 3 it is not over, or answers
    are missing.
    """
    place = place_of(profile, namespace, cluster_context)

    async def work(client: "ClusterClient") -> int:
        from grace.cli.cluster_screen import ClusterScreen
        from grace.cli.cluster_view import run_view
        from grace.cluster.executor.desired import Desired, default_builders
        from grace.cluster.executor.observing import run_status

        desired = Desired(await named_run(client, place, name), default_builders())
        found = await run_status(client, desired)
        if watch:
            with ClusterScreen() as screen:
                while not found.finished:
                    screen.looked(found)
                    await asyncio.sleep(_WATCH_SECONDS)
                    found = await run_status(client, desired)
        out.print(run_view(found, datetime.now(UTC)))
        if found.finished and found.collection is None:
            say_next(command_for("collect", desired.run, place))
        elif not found.finished:
            await _say_who_drives(client, desired, place)
        return EXIT_INCOMPLETE if found.exit_code is None else found.exit_code

    raise typer.Exit(connected(place.context, work))


async def _say_who_drives(client: "ClusterClient", desired: "Desired", place: Place) -> None:
    from grace.cluster.executor.decide import JobStanding
    from grace.cluster.executor.driver_job import driver_of

    seen = await driver_of(client, desired)
    match seen.standing:
        case JobStanding.ACTIVE:
            waits = f"; its driver has not started: {seen.reason}" if seen.reason else ""
            out.print(f"the cluster drives it: nobody has to wait for it{waits}", markup=False)
            if not waits:
                return
        case JobStanding.FAILED:
            out.print(f"what drove it in the cluster ended: {seen.reason}", markup=False)
        case _:
            out.print("it goes on while a command drives it, here or elsewhere", markup=False)
    say_next(command_for("resume", desired.run, place))


def collect_command(
    name: RunName = None,
    profile: ProfileOption = "local",
    namespace: Namespace = None,
    cluster_context: Context = None,
    out: Annotated[
        Path | None, typer.Option(help="Where run folders go. Default: results.")
    ] = None,
) -> None:
    """
    Bring a run's results here, verified by SHA-256 on both sides.

    What is here already is not sent again, and nothing that is here is lost. It may
    be given at any time, also while the run goes on.
    """
    place = place_of(profile, namespace, cluster_context)

    async def work(client: "ClusterClient") -> int:
        request = await named_run(client, place, name, out=out)
        return exit_of(await collect_here(client, request, place, out))

    raise typer.Exit(connected(place.context, work))


def down(
    name: RunName = None,
    profile: ProfileOption = "local",
    namespace: Namespace = None,
    cluster_context: Context = None,
    *,
    delete_results: Annotated[
        bool,
        typer.Option(
            "--delete-results",
            help="Delete the volumes as well: results, logs, weights, of every run of the namespace.",
        ),
    ] = False,
    even_uncollected: Annotated[
        bool,
        typer.Option(
            "--even-uncollected", help="Do so although results were not collected: they are lost."
        ),
    ] = False,
    yes: Yes = False,
) -> None:
    """Take a run off the cluster: servers, jobs, services. Results stay, unless you say otherwise."""
    if even_uncollected and not delete_results:
        raise UsageError("--even-uncollected is only for --delete-results")
    place = place_of(profile, namespace, cluster_context)

    async def work(client: "ClusterClient") -> None:
        from grace.cluster.executor.deleting import kept_objects
        from grace.cluster.executor.desired import Desired, default_builders
        from grace.cluster.executor.stopping import delete_remains
        from grace.cluster.executor.stopping import down as take_down
        from grace.cluster.stored_run import list_runs

        where = place.named(client)
        recorded = await list_runs(client, where)
        left = () if recorded else await kept_objects(client, where)
        if left and not delete_results:
            named = ", ".join(f"{one.kind} {one.name}" for one in left[:_NAMED])
            raise ClusterError(
                f"{where} on {client.server} has no run of Grace, only {len(left)} objects that "
                f"runs left there ({named}, …); to delete them: grace cluster down --delete-results"
            )
        request = None if left else await named_run(client, place, name)
        if delete_results and not yes:
            lost = ", collected or not" if even_uncollected else ""
            confirm(
                f"Delete everything of Grace in {where} on {client.server}, the volumes with all "
                f"results as well{lost}?",
                "nothing was deleted",
            )
        if request is None:
            deleted = await delete_remains(client, where, even_uncollected=even_uncollected)
        else:
            desired = Desired(request, default_builders())
            deleted = await take_down(
                client, desired, delete_results=delete_results, even_uncollected=even_uncollected
            )
        for target in deleted:
            out.print(f"deleted {target}", markup=False)
        if not deleted:
            out.print("nothing of it was there")

    connected(place.context, work)


async def named_run(
    client: "ClusterClient",
    place: Place,
    name: str | None,
    inputs: list[str] | None = None,
    out: Path | None = None,
) -> ClusterRun:
    """
    Return a run that the cluster has.

    Large inputs are not kept with it, and only sending them needs their bytes. These
    are found where `grace cluster run` left copies, or may be given.

    Args:
        client: The cluster.

        place: Where to look.

        name: Its timestamp; None takes the latest one.

        inputs: STUDY=CSV, as they were given.

        out: Where its results go on this machine.

    Raises:
        ClusterError: There is no such run, or a file that was given is not its own.

        UsageError: A file cannot be read.
    """
    from grace.cluster.stored_run import list_runs, load_run

    namespace = place.named(client)
    given = {
        trials_file(study): _content(Path(path))
        for study, path in (parse_inputs(inputs or None) or {}).items()
    }
    if name is None:
        found = await list_runs(client, namespace)
        if not found:
            raise ClusterError(
                f"{namespace} on {client.server} has no run of Grace; is that the right place? "
                "--profile, --namespace and --context say where; grace cluster run begins one"
            )
        name = found[-1]
    run = await load_run(client, namespace, name, given)
    kept = input_copies(out or RESULTS, run.timestamp)
    lacking = [kept / file.name for file in run.files if file.held is None]
    return run.filled({path.name: _content(path) for path in lacking if path.is_file()})


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; check the path") from error


async def collect_here(
    client: "ClusterClient", request: ClusterRun, place: Place, to: Path | None
) -> Collection:
    """Collect a run's results, show how it goes, and print what was found."""
    from grace.cluster.executor.records import mark_collected

    async def note(files: int, sha256: str) -> None:
        now = datetime.now(UTC)
        await mark_collected(client, request.namespace, request.run_id, files, sha256, now)

    with shown_progress() as progress:
        found = await collect(client, request, to or RESULTS, progress, note=note)
    print_collection(found, command_for("status", request, place))
    if exit_of(found) == EXIT_INCOMPLETE:
        say_next(command_for("resume", request, place))
    return found


def exit_of(found: Collection) -> int:
    """Return 0 if all is here, 1 if something is refused or wrong, 3 if the run is not over."""
    if found.whole:
        return 0
    wrong = any(one.refusal or (one.faults and one.folder.closed) for one in found.folders)
    return EXIT_FAILED if wrong else EXIT_INCOMPLETE


def command_for(command: str, request: ClusterRun, place: Place) -> str:
    """Return what to type for a run: it works as it is, from any folder."""
    words = ["grace", "cluster", command, request.timestamp, "--namespace", request.namespace]
    if place.context is not None:
        words += ["--context", place.context]
    return shlex.join(words)


def say_next(command: str) -> None:
    """Print what to type next, apart from what goes on to other programs."""
    err.print("next:", style="bold", end=" ")
    err.print(command, markup=False)
