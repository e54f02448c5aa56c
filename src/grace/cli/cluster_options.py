"""
What commands of `grace cluster` have in common: their options, and how a run is asked for.

The options that say what is asked are those of `grace run`. They are written once,
in `_asked`; `asks_for_a_run` gives them to a command, in front of its own.
"""

import asyncio
import importlib.util
import inspect
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import stamina.instrumentation
import typer

from grace.cli import options
from grace.cluster.preparing import adjusted, prepare_run
from grace.cluster.profile import Profile, load_profile
from grace.cluster.request import ClusterRun
from grace.errors import UsageError
from grace.settings import RunSettings

if TYPE_CHECKING:
    from grace.cluster.client import ClusterClient

_T = TypeVar("_T")

ProfileOption = Annotated[
    str,
    typer.Option(
        "--profile",
        envvar="GRACE_CLUSTER_PROFILE",
        help="Which cluster: local (kind, k3s, minikube), nrp, or a YAML file of your own.",
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        envvar="GRACE_CLUSTER_NAMESPACE",
        help="Your part of the cluster. Default: the profile's, else the one that kubectl uses.",
    ),
]
Context = Annotated[
    str | None,
    typer.Option(
        "--context", help="Which cluster of your kubeconfig; default: the one that kubectl uses."
    ),
]
Spot = Annotated[
    bool,
    typer.Option(
        "--spot",
        help="Take nodes that may be taken away at any moment and cost less; what was in flight "
        "then is asked again.",
    ),
]
Shards = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Pods that share one experiment on one model. Default: the profile's."
    ),
]
ModelsAtOnce = Annotated[
    int | None,
    typer.Option(
        "--models-at-once",
        metavar="N",
        help="How many models hold their GPUs at the same time. Default: the profile's.",
    ),
]
DeadlineHours = Annotated[
    float | None,
    typer.Option(
        metavar="HOURS",
        help="After this, a model server or job is stopped, whatever waits for it. Default: the "
        "profile's.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")]
RunName = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN", help="The run's timestamp, 20260131T235959Z. Default: the latest one."
    ),
]


@dataclass(frozen=True, slots=True)
class Place:
    """
    Which part of which cluster.

    Attributes:
        profile: The cluster.

        namespace: As it was given.

        context: Of the kubeconfig.
    """

    profile: Profile
    namespace: str | None
    context: str | None

    def named(self, client: "ClusterClient | None" = None) -> str:
        """
        Return the namespace: what was given, the profile's, or the kubeconfig's.

        Raises:
            UsageError: Nobody names one.
        """
        found = self.namespace or self.profile.namespace.name
        if found is None and client is not None:
            found = client.namespace
        if found is None:
            raise UsageError(
                f"the profile {self.profile.name} names no namespace; give yours: --namespace NAME"
            )
        return found


@dataclass(frozen=True, slots=True)
class Asked:
    """
    A run as it was asked for on the command line.

    Attributes:
        settings: What is asked.

        place: Where.

        spot: Whether pods may run on nodes that can be taken away.
    """

    settings: RunSettings
    place: Place
    spot: bool

    def prepared(self, namespace: str | None = None) -> ClusterRun:
        """
        Return it checked and complete.

        Args:
            namespace: Where; None takes what was given, or the profile's.

        Raises:
            UsageError: Whatever is wrong with it.
        """
        return prepare_run(
            self.settings,
            self.place.profile,
            namespace=namespace or self.place.namespace,
            spot=self.spot,
        )


def place_of(profile: str, namespace: str | None, context: str | None) -> Place:
    """
    Return where a command is to work.

    Raises:
        UsageError: There is no such profile, or its file is wrong.
    """
    return Place(load_profile(profile), namespace, context)


def need_kubernetes() -> None:
    """
    Check that the optional packages are there.

    Raises:
        UsageError: They are not; the message says how to get them.
    """
    if importlib.util.find_spec("kubernetes") is None:
        raise UsageError(
            "grace cluster needs packages that are not installed; install them with: "
            "pip install 'grace[cluster]'"
        )


def connected(
    context: str | None, work: "Callable[[ClusterClient], Coroutine[Any, Any, _T]]"
) -> _T:
    """
    Run work with a client of the cluster, and return what it returns.

    Raises:
        GraceError: The cluster cannot be reached, or whatever the work raises.
    """
    need_kubernetes()
    return asyncio.run(with_client(context, work))


def confirm(question: str, otherwise: str) -> None:
    """
    Ask, and go on only after a yes.

    Args:
        question: What is asked.

        otherwise: What is so after a no.

    Raises:
        UsageError: The answer is no, or there is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise UsageError(f"{question} There is nobody to ask; give --yes to say so beforehand")
    if not typer.confirm(question):
        raise UsageError(otherwise)


async def with_client(
    context: str | None, work: "Callable[[ClusterClient], Coroutine[Any, Any, _T]]"
) -> _T:
    """Do work with a client of the cluster; see `connected`."""
    from grace.cluster.client import ClusterClient

    # What is tried again is told when it is given up.
    stamina.instrumentation.set_on_retry_hooks([])
    async with await ClusterClient.connect(context) as client:
        return await work(client)


def asks_for_a_run(command: Callable[..., None]) -> Callable[..., None]:
    """
    Give a command the options that say what is asked and where.

    Args:
        command: Takes an `Asked`, and its own options by name.
    """
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    common = list(inspect.signature(_asked, eval_str=True).parameters.values())

    @wraps(command)
    def with_options(context: typer.Context, **given: Any) -> None:  # noqa: ANN401 -- typer's
        mine = {one.name: given[one.name] for one in own}
        place = place_of(given["profile"], given["namespace"], given["cluster_context"])
        profile = adjusted(
            place.profile,
            shards=given["shards"],
            models_at_once=given["models_at_once"],
            deadline_hours=given["deadline_hours"],
        )
        asked = Asked(
            options.settings_of(context),
            Place(profile, place.namespace, place.context),
            given["spot"],
        )
        command(asked, **mine)

    parameters = [*common, *(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own)]
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
    with_options.__annotations__ = {one.name: one.annotation for one in parameters}
    return with_options


def _asked(
    context: typer.Context,
    *,
    profile: ProfileOption = "local",
    namespace: Namespace = None,
    cluster_context: Context = None,
    study: options.Study = None,
    input_: options.Input = None,
    experiment: options.ExperimentOption = None,
    model: options.Model = None,
    limit: options.Limit = None,
    seed: options.Seed = None,
    replicates: options.Replicates = None,
    temperature: options.Temperature = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            help="Most requests at a time from each pod, 10 to 50 for a large server; fewer are "
            "sent while that is faster. Default: the profile's, else 16."
        ),
    ] = None,
    extractor: Annotated[
        str | None,
        typer.Option(
            help="Who turns responses into fields: rules, deepseek, a model's key, or rules+KEY "
            "(the model reads what the rules leave open). auto: rules+deepseek if the profile "
            "names a Secret with DeepSeek's key, else rules. Default: auto."
        ),
    ] = None,
    scoring: options.Scoring = None,
    recheck: options.Recheck = None,
    pmi: options.Pmi = False,
    terminators: options.Terminators = False,
    endpoint: Annotated[
        str | None, typer.Option(help="Address of a hosted model, if not as catalogued.")
    ] = None,
    catalogue: options.CatalogueFile = None,
    timestamp: Annotated[
        str | None,
        typer.Option(help="The run's name, as 20260131T235959Z; default: now, in UTC."),
    ] = None,
    config: options.Config = None,
    spot: Spot = False,
    shards: Shards = None,
    models_at_once: ModelsAtOnce = None,
    deadline_hours: DeadlineHours = None,
) -> None:
    """Hold the options of every command that asks for a run."""
