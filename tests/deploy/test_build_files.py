"""The files that images are built from, checked without building anything."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from grace.catalogue.spec import load_catalogue
from grace.cluster.profile import load_profile

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
BUILD_FILES = sorted(DEPLOY.glob("*.Containerfile"))
IMAGES = [path for path in BUILD_FILES if path.stem != "sbom"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
_HASH = re.compile(r"--hash=(\S+)")


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return a build file's instructions: their names, and the rest on one line."""
    lines = [
        line for line in path.read_text("utf-8").splitlines() if not line.lstrip().startswith("#")
    ]
    whole = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    pairs = (line.partition(" ") for line in whole.splitlines() if line.strip())
    return [(name.upper(), rest.strip()) for name, _, rest in pairs]


def last_stage(path: Path) -> list[tuple[str, str]]:
    """Return the instructions that make the image itself, its first line included."""
    found = instructions(path)
    start = max(number for number, (name, _) in enumerate(found) if name == "FROM")
    return found[start:]


def locked(name: str) -> Mapping[str, Sequence[str]]:
    """Return a requirement file: `name==version` to hashes; markers differ between files."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")
    blocks = re.split(r"(?m)^(?=\S)", text)
    return {block.split()[0]: sorted(_HASH.findall(block)) for block in blocks if block.strip()}


def names(requirements: Mapping[str, Sequence[str]]) -> set[str]:
    return {requirement.partition("==")[0] for requirement in requirements}


@pytest.mark.parametrize("path", BUILD_FILES, ids=lambda path: path.stem)
def test_the_linter_of_build_files_finds_nothing(path: Path) -> None:
    # Its wheel puts it beside Python, which need not be on the path.
    program = shutil.which("hadolint", path=f"{Path(sys.executable).parent}") or shutil.which(
        "hadolint"
    )
    if program is None:
        pytest.skip("hadolint has no wheel for this system")

    result = subprocess.run(  # noqa: S603  hadolint, on our own files
        [program, str(path)], capture_output=True, text=True, check=False
    )

    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize("path", [*DEPLOY.glob("*.sh"), *(ROOT / "scripts").glob("*.sh")], ids=str)
def test_scripts_are_sound_shell(path: Path) -> None:
    shell = path.read_text("utf-8").splitlines()[0].removeprefix("#!").split()[-1].split("/")[-1]
    result = subprocess.run([shell, "-n", str(path)], capture_output=True, text=True, check=False)  # noqa: S603  sh or bash
    assert result.stderr == ""


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_an_image_is_built_from_the_base_that_is_given_and_never_from_latest(path: Path) -> None:
    found = instructions(path)
    stages = [rest.split() for name, rest in found if name == "FROM"]
    made = {words[2] for words in stages if len(words) == 3}
    bases = {words[0] for words in stages} - made
    defaults = [rest for name, rest in found if name == "ARG" and rest.startswith("BASE=")]

    assert bases == {"${BASE}"}
    assert len(defaults) == 1
    assert re.fullmatch(r"BASE=\S+:(?!latest)[\w.-]+", defaults[0])


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_an_image_runs_as_a_user_with_a_number_and_starts_grace_itself(path: Path) -> None:
    found = last_stage(path)
    values = dict(found)

    assert values["USER"] == "10001:10001"
    # As a list: a shell between would keep SIGTERM to itself.
    assert values["ENTRYPOINT"] == '["/opt/grace/bin/grace"]'
    assert values["CMD"].startswith("[")
    # What runs in the last stage could leave times and caches in the image.
    assert "RUN" not in values


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_only_what_was_built_gets_into_an_image(path: Path) -> None:
    copied = [rest for name, rest in last_stage(path) if name in {"COPY", "ADD"}]
    assert copied
    assert all(rest.startswith("--from=build /out/") for rest in copied)


@pytest.mark.parametrize("path", BUILD_FILES, ids=lambda path: path.stem)
def test_all_that_a_build_file_copies_is_in_the_context(path: Path) -> None:
    patterns = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    kept = {line.removeprefix("!") for line in patterns if line.startswith("!")}
    rest = [words for name, words in instructions(path) if name == "COPY" and "--from" not in words]
    sources = {word.rstrip("/") for words in rest for word in words.split()[:-1]}

    outside = {
        source
        for source in sources
        if source not in kept and source.partition("/")[0] not in kept - {"requirements"}
    }

    assert sources
    assert outside == set()


def test_the_context_is_what_is_named_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    kept = [pattern.removeprefix("!") for pattern in patterns if pattern.startswith("!")]

    assert patterns[0] == "*"
    assert [name for name in kept if not (ROOT / name).exists()] == []
    assert [pattern for pattern in patterns[1:] if not pattern.startswith("!")] == [
        "**/__pycache__"
    ]


@pytest.mark.parametrize("name", ["build", "runner", "cpu-server"])
def test_the_packages_of_an_image_are_those_that_were_tested(name: str) -> None:
    tested = locked("runtime")

    strangers = {
        requirement: hashes
        for requirement, hashes in locked(name).items()
        if tested.get(requirement) != hashes
    }

    assert strangers == {}


@pytest.mark.parametrize("name", ["build", "runner", "cpu-server", "sbom"])
def test_every_package_of_an_image_has_hashes_and_no_address(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")

    assert [requirement for requirement, hashes in locked(name).items() if not hashes] == []
    assert "://" not in text
    assert not re.search(r"(?m)^-", text)


@pytest.mark.parametrize(
    ("name", "own", "others"),
    [
        ("runner", ["hub", "cluster"], ["embedded"]),
        ("cpu-server", ["embedded"], ["cluster", "hub"]),
    ],
)
def test_an_image_holds_what_it_needs_and_no_other_extra(
    name: str, own: Sequence[str], others: Sequence[str]
) -> None:
    def asked(requirements: Sequence[str]) -> set[str]:
        return {re.split(r"[<>=~]", each)[0].replace(".", "-") for each in requirements}

    extras = PROJECT["project"]["optional-dependencies"]
    found = names(locked(name))

    needed = [each for extra in own for each in extras[extra]]
    assert asked([*PROJECT["project"]["dependencies"], *needed]) - found == set()
    assert {each for other in others for each in asked(extras[other])} & found == set()


def test_the_local_profile_names_the_images_that_are_built_here() -> None:
    images = load_profile("local").images
    version = PROJECT["project"]["version"]

    assert images.runner == f"localhost/grace-runner:{version}"
    assert images.llamacpp == f"localhost/grace-cpu-server:{version}"
    assert images.pull_policy != "Always"


def test_the_weights_in_the_image_are_those_that_the_local_profile_expects() -> None:
    found = instructions(DEPLOY / "cpu-server.Containerfile")
    models = {rest for name, rest in found if name == "ARG" and rest.startswith("MODEL=")}
    baked = load_profile("local").images.baked_weights

    assert models == {f"MODEL={key}" for key in baked}
    assert dict(found)["CMD"].split('"')[3] in baked
    assert [key for key in baked if load_catalogue(None).get(key).server != "llamacpp"] == []
