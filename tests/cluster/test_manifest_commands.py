"""The command lines in manifests are those that `grace` takes."""

import pytest
import typer
from cluster_runs import Variant, everything, pods_of, variants
from typer.core import TyperGroup
from typer.exceptions import TyperException

from grace.cli.main import app


@pytest.mark.parametrize("variant", variants(), ids=lambda variant: variant.name)
def test_every_command_of_grace_is_understood(variant: Variant) -> None:
    understood = 0
    for owner, template in pods_of(everything(variant.run)):
        program, *words = template["spec"]["containers"][0]["command"]
        if program == "grace":
            # Kubernetes puts the pod's index in before the program sees it.
            given = [word.replace("$(JOB_COMPLETION_INDEX)", "0") for word in words]
            assert parse(given), owner
            understood += 1
    assert understood


def test_a_command_that_grace_has_not_would_be_found() -> None:
    with pytest.raises(TyperException, match="--wait-hours"):
        parse(["stage", "respond", "--experiment", "exp1", "--model", "x", "--wait-hours", "3"])


def parse(words: list[str]) -> str:
    """Return the name of the command that words call; run nothing."""
    command = typer.main.get_command(app)
    while isinstance(command, TyperGroup):
        name, *words = words
        command = command.commands[name]
    command.make_context(command.name, words)
    return str(command.name)
