"""`grace cluster plan`, `lint` and `render`: a run looked at from all sides, and nothing sent."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grace.catalogue.spec import load_catalogue
from grace.cli import options
from grace.cli.cluster_options import Asked, asks_for_a_run, need_kubernetes
from grace.cli.cluster_tables import print_capacity, print_findings
from grace.cli.exits import EXIT_FAILED
from grace.cli.outcome import print_plan
from grace.cli.screen import out
from grace.cluster.request import ClusterRun
from grace.cluster.servable import cautions
from grace.cluster.steps import StepKind
from grace.errors import ClusterError
from grace.pipeline import forecast
from grace.pipeline.extras import describe_extras
from grace.pipeline.inputs import describe_inputs, load_inputs
from grace.pipeline.overview import overview_of

if TYPE_CHECKING:
    from grace.cluster.executor.desired import Desired
    from grace.cluster.manifests import Manifest
    from grace.cluster.policies import Finding


@asks_for_a_run
def plan(asked: Asked, *, tokens_per_second: options.TokensPerSecond = None) -> None:
    """
    Show what a run would take of a cluster: GPUs, memory, storage, hours, licences.

    Nothing is sent, and the cluster is not looked at.
    """
    need_kubernetes()
    request = asked.prepared()
    obstacles = print_request(asked, request, tokens_per_second)
    raise typer.Exit(EXIT_FAILED if obstacles else 0)


@asks_for_a_run
def lint(asked: Asked) -> None:
    """
    Hold every rule of the site against everything that a run would send; exit 1 if one is broken.

    What is "not ready" breaks no rule, and nothing is sent before it is done: images
    to be named, or GPUs to be asked for.
    """
    need_kubernetes()
    request = asked.prepared()
    findings = _findings(request)
    print_findings(findings, len(_objects(request)))
    raise typer.Exit(EXIT_FAILED if _violations(findings) else 0)


@asks_for_a_run
def render(
    asked: Asked,
    *,
    to: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Where the files go; what was rendered there is replaced. Default: a folder here, "
            "named after the run: rendered-20260131T235959Z.",
        ),
    ] = None,
) -> None:
    """
    Write everything that a run would send as YAML, to read, or to send with kubectl.

    A README in the folder says every command.
    """
    need_kubernetes()
    request = asked.prepared()

    from grace.cluster.render import render_folder

    to = Path(f"rendered-{request.timestamp}") if to is None else to
    written = render_folder(request, to)
    out.print(
        f"{to}: {len(written)} files of run {request.timestamp}; begin with README.md", markup=False
    )
    findings = _findings(request)
    print_findings(findings, len(_objects(request)))
    raise typer.Exit(EXIT_FAILED if _violations(findings) else 0)


def print_request(asked: Asked, request: ClusterRun, tokens_per_second: float | None = None) -> int:
    """
    Print what a run asks, what it takes of the cluster, and which of the site's rules it breaks.

    Returns:
        How much of what was printed keeps it from being done there.
    """
    from grace.cluster.capacity import plan_capacity

    settings = asked.settings
    inputs = load_inputs(settings)
    print_plan(
        describe_inputs(inputs),
        overview_of(inputs, settings),
        describe_extras(inputs, settings),
        settings,
    )
    out.print(
        f"run {request.timestamp} in {request.namespace}, {request.profile.title}",
        style="bold",
        markup=False,
    )
    if "exp1" in settings.experiment:
        out.print(extraction_words(request), style="bold", markup=False)
    forecasts = forecast.estimate(settings, load_catalogue(settings.catalogue), inputs)
    capacity = plan_capacity(request, forecasts, tokens_per_second=tokens_per_second)
    print_capacity(capacity, list(cautions(request.models)))
    findings = _findings(request)
    print_findings(findings, len(_objects(request)))
    return len(capacity.problems) + _refusals(findings)


def extraction_words(request: ClusterRun) -> str:
    """
    Return who turns responses into fields and where, and how to choose another.

    Args:
        request: A run with Experiment 1.
    """
    key = request.extractor
    if key is None:
        return (
            "extraction: by Grace's rules, on the cluster; no other model reads the responses "
            "(choose one with --extractor)"
        )
    spec = request.catalogue.get(key)
    first = "rules first, then " if request.settings.extractor.startswith("rules") else ""
    other = "to leave it out: --extractor rules"
    if spec.hosted:
        where = request.settings.extractor_endpoint or spec.endpoint
        address = f" ({where})" if where else ""
        return (
            f"extraction: {first}{spec.title}, a hosted service{address}: RESPONSES OF THE MODELS "
            f"LEAVE THE CLUSTER, and its use is billed to your key; {other}"
        )
    return (
        f"extraction: {first}{spec.title}, on a server of its own on the cluster (its GPUs are in "
        f"the table below); {other}"
    )


def check_objects(request: ClusterRun) -> "Desired":
    """
    Hold the site's rules against everything that a run will send.

    Raises:
        ClusterError: One is broken, or something is not ready; the findings have been printed.
    """
    from grace.cluster.executor.desired import Desired, default_builders

    findings = _findings(request)
    if stops := _refusals(findings):
        print_findings(findings, len(_objects(request)))
        raise ClusterError(
            f"{stops} {'finding keeps' if stops == 1 else 'findings keep'} this run from being sent "
            "(see above); nothing was sent: change the run or the profile, and look with: "
            "grace cluster lint"
        )
    return Desired(request, default_builders())


def _objects(request: ClusterRun) -> "tuple[Manifest, ...]":
    """Return everything that a run sends, in an order that works."""
    from grace.cluster.manifests import (
        driver_objects,
        files_objects,
        server_objects,
        setup_objects,
        step_objects,
        weights_objects,
    )

    def each() -> "Iterator[Manifest]":
        yield from setup_objects(request)
        yield from files_objects(request)
        if request.profile.driver.in_cluster:
            yield from driver_objects(request)
        for server in request.servers:
            yield from server_objects(request, server)
        for step in request.steps:
            if step.kind is StepKind.WEIGHTS:
                yield from weights_objects(request, step.model)
            yield from step_objects(request, step)

    return tuple(each())


def _findings(request: ClusterRun) -> "tuple[Finding, ...]":
    from grace.cluster.policies import lint as hold

    return hold(_objects(request), request.profile, request)


def _violations(findings: "tuple[Finding, ...]") -> int:
    from grace.cluster.policies import violations

    return len(violations(findings))


def _refusals(findings: "tuple[Finding, ...]") -> int:
    from grace.cluster.policies import refusals

    return len(refusals(findings))
