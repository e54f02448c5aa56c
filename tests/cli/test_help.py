import re

import pytest
from syrupy.assertion import SnapshotAssertion

from grace.cli.main import invoke

COMMANDS = (
    "",
    "run",
    "plan",
    "doctor",
    "resume",
    "status",
    "validate",
    "summarise",
    "stage",
    "serve",
    "gateway",
    "models",
    "models list",
    "models show",
    "models pull",
    "models lock",
    "studies",
    "studies list",
    "studies show",
    "studies check",
    "studies make",
)
# For containers.
HIDDEN = ("files", "files list", "files send", "files receive", "files keep")


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert invoke(list(arguments)) == 0
    return re.sub(r"\x1b\[[0-9;]*m| +$", "", capsys.readouterr().out, flags=re.MULTILINE)


@pytest.fixture(autouse=True)
def _fixed_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "dumb")


@pytest.mark.parametrize("command", [*COMMANDS, *HIDDEN])
def test_the_help_of_every_command(
    command: str, capsys: pytest.CaptureFixture[str], snapshot: SnapshotAssertion
) -> None:
    assert shown(capsys, *command.split(), "--help") == snapshot


def listed(text: str) -> list[str]:
    return re.findall(r"^│ (\w+) {2,}\w", text.partition("Commands")[2], flags=re.MULTILINE)


def test_no_command_is_left_out_here(capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for name in listed(shown(capsys, "--help")):
        inner = listed(shown(capsys, name, "--help"))
        found += [name, *(f"{name} {one}" for one in inner)]
    assert sorted(found) == sorted(COMMANDS[1:])


def test_every_command_and_option_says_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (*COMMANDS, *HIDDEN):
        text = shown(capsys, *command.split(), "--help")
        for line in text.splitlines():
            option = re.match(r"│ \*? *(--[\w-]+) +(<\S+>|\S+=\S+|[A-Z]+)? *│$", line)
            assert option is None, f"grace {command}: {line}"
