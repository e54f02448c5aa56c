"""The documentation against the code: generated pages, settings, commands, links, addresses."""

import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from grace.settings import RunSettings

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
HAND_WRITTEN = [page for page in PAGES if page.parent.name != "reference"]
GENERATED = ("commands.md", "settings.md", "tables.md", "models.md", "errors.md", "gateway.md")

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_SHELL = re.compile(r"^```(sh|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_REGISTRIES = re.compile(
    r"pypi\.org|pythonhosted|conda\.anaconda|anaconda\.org|crates\.io|npmjs|registry\."
    r"|docker\.io|ghcr\.io|quay\.io|nvcr\.io|index-url",
    re.IGNORECASE,
)
_MACHINE_PATH = re.compile(r"(?<![\w.}])/(?:work|home|root|tmp|Users|opt)/")


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """Return the script that writes the reference, as a module."""
    path = ROOT / "scripts" / "reference.py"
    spec = importlib.util.spec_from_file_location("reference_pages", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def written(reference: ModuleType) -> dict[str, str]:
    """Return what the script would write now."""
    made: dict[str, str] = reference.pages()
    return made


def named(path: Path) -> str:
    """Return a page's name for test reports."""
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("name", GENERATED)
def test_the_committed_page_is_what_the_script_writes(written: dict[str, str], name: str) -> None:
    actual = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")

    assert actual == written[name], "run `make docs` and commit docs/reference"


def test_every_generated_page_is_checked(written: dict[str, str]) -> None:
    assert set(written) == set(GENERATED)


@pytest.mark.parametrize("setting", RunSettings.model_fields)
def test_every_setting_is_documented(written: dict[str, str], setting: str) -> None:
    row = next(
        line for line in written["settings.md"].splitlines() if line.startswith(f"| `{setting}` |")
    )
    meaning = row.rstrip(" |").rsplit(" | ", 1)[-1]

    assert len(meaning) > 10


def test_every_command_and_option_is_documented(
    reference: ModuleType, written: dict[str, str]
) -> None:
    page = written["commands.md"]
    for name, command in reference.commands().items():
        if hasattr(command, "commands"):
            continue
        _, _, section = page.partition(f"\n## {name}\n")
        section = section.split("\n## ")[0]
        missing = [option for option in reference.option_names(command) if option not in section]
        assert section, f"{name} has no section"
        assert set(missing) <= {"--help"}, f"{name} lacks {missing}"
        for parameter in command.params:
            assert parameter.help, f"{name}: {parameter.name} has no help text"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_relative_link_resolves(page: Path) -> None:
    text = _CODE.sub("", page.read_text(encoding="utf-8"))
    broken = []
    for target in _LINK.findall(text):
        path, _, anchor = target.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        linked = (page.parent / path).resolve() if path else page
        if not linked.exists() or (anchor and anchor not in anchors(linked)):
            broken.append(target)

    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_page_names_a_registry_or_a_folder_of_some_machine(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    assert _REGISTRIES.findall(text) == []
    assert _MACHINE_PATH.findall(text) == []


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=named)
def test_every_command_in_a_page_exists_with_its_options(page: Path, reference: ModuleType) -> None:
    known = reference.commands()
    faults = []
    for words in shell_commands(page.read_text(encoding="utf-8")):
        depth = next(
            (n for n in (4, 3, 2, 1) if " ".join(words[:n]) in known and len(words) >= n), None
        )
        name = " ".join(words[:depth])
        options = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        unknown = options - reference.option_names(known[name])
        if unknown or (hasattr(known[name], "commands") and not options):
            faults.append((" ".join(words), sorted(unknown)))

    assert faults == []


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = _CODE.sub(lambda m: m.group().strip("`"), page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def shell_commands(text: str) -> Iterator[list[str]]:
    """Yield every call of `grace` in the shell and console blocks of a page, as words."""
    for kind, block in _SHELL.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            if kind == "console" and not line.startswith("$ "):
                continue
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words[:1] == ["grace"]:
                yield words
