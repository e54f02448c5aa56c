"""`grace cluster profile`: which clusters are known, and whether a profile fits a live one."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from grace.cli.cluster_options import Context, Namespace, connected, place_of
from grace.cli.exits import EXIT_FAILED
from grace.cli.screen import out
from grace.cluster.profile import BUILT_IN, Profile, load_profile
from grace.cluster.site_rules import SiteRule
from grace.cluster.yaml_text import yaml_text

if TYPE_CHECKING:
    from grace.cluster.client import ClusterClient
    from grace.cluster.profile_finding import ProfileFinding

app = typer.Typer(
    help="What is special about a cluster: storage, GPUs, images, and the rules of its site.",
    no_args_is_help=True,
)

_COLOURS = {"wrong": "red", "doubtful": "yellow", "unknown": "dim"}

ProfileName = Annotated[
    str,
    typer.Argument(metavar="PROFILE", help="local, nrp, or the path of a YAML file of your own."),
]


@app.command("list")
def list_profiles() -> None:
    """Show the profiles that come with Grace, and how to make your own."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("profile", "cluster", "GPUs", "rules"):
        table.add_column(name)
    for name in BUILT_IN:
        profile = load_profile(name)
        gpus = len(profile.gpus.products)
        table.add_row(
            Text(name, "bold cyan"),
            profile.title,
            f"{gpus} kinds" if gpus else "-",
            str(len(_rules(profile))) if _rules(profile) else "-",
        )
    out.print(table)
    out.print(
        "your own is a YAML file, such as one with `extends: nrp` and what is different",
        markup=False,
    )


@app.command("show")
def show_profile(name: ProfileName) -> None:
    """
    Print everything that a profile says, as YAML: a file of it is the same profile.

    Fields that are left open are left out; each rule names the page that says so.
    """
    sys.stdout.write(profile_text(load_profile(name)))


def profile_text(profile: Profile) -> str:
    """Return a profile as YAML, which reads as the same profile."""
    return yaml_text(profile.model_dump(mode="json", exclude_none=True))


@app.command("check")
def check(
    name: ProfileName,
    namespace: Namespace = None,
    cluster_context: Context = None,
) -> None:
    """
    Compare a profile with the cluster: storage, GPUs, quota, permissions, Secrets.

    Nothing on the cluster is changed, and no Secret's value is read out. Exit 1 if
    a run would fail.
    """
    place = place_of(name, namespace, cluster_context)

    async def work(client: "ClusterClient") -> int:
        where = place.named(client)
        findings = await compared(client, place.profile, where)
        _print_findings(findings)
        wrong = sum(one.standing.value == "wrong" for one in findings)
        out.print(
            f"{place.profile.name} against {client.server}, namespace {where}: "
            + (f"{wrong} wrong" if wrong else "nothing is wrong"),
            style="red" if wrong else "green",
            markup=False,
        )
        return EXIT_FAILED if wrong else 0

    raise typer.Exit(connected(place.context, work))


async def compared(
    client: "ClusterClient", profile: Profile, namespace: str
) -> "tuple[ProfileFinding, ...]":
    """
    Return what a profile has wrong about a cluster, or may have; wrong things first.

    Raises:
        ClusterError: The cluster cannot be looked at.
    """
    from grace.cluster.profile_check import check_profile
    from grace.cluster.read_facts import permissions_of, read_facts

    facts = await read_facts(client, profile, namespace, permissions_of(profile))
    return check_profile(profile, facts)


def print_doubts(findings: "Sequence[ProfileFinding]") -> None:
    """Print what may keep a run from working, for people who are about to send it."""
    for one in findings:
        if one.standing.value != "unknown":
            colour = _COLOURS[one.standing.value]
            out.print(f"{one.standing.value}: {one}", style=colour, markup=False)


def _print_findings(findings: "Sequence[ProfileFinding]") -> None:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 1, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in findings:
        word = one.standing.value
        field = ((one.field, "cyan"), "\n") if one.field else ()
        table.add_row(
            Text(word, _COLOURS[word]),
            Text.assemble(*field, one.words, "\n", ("do  ", "dim"), (one.remedy, "green")),
        )
    if findings:
        out.print(table)


def _rules(profile: Profile) -> dict[str, SiteRule]:
    found = ((name, getattr(profile.rules, name)) for name in type(profile.rules).model_fields)
    return {name: rule for name, rule in found if rule is not None}
