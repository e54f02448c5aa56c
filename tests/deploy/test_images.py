"""The images, built and run as a cluster runs them: no root, no capability, nothing writable."""

import json
import os
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.images

ROOT = Path(__file__).resolve().parents[2]
PODMAN = ROOT / "scripts" / "podman.sh"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
TAG = "test"
LOCAL_BASE = "localhost/grace-base:bookworm"
NAMES = ["runner", "cpu-server"]
CONFINED = [
    *("--rm", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"),
    *("--user", "10001:10001"),
]
# Of what Grace adds to its base; they hold 419 and 474 MB.
MOST_MEGABYTES = {"runner": 460, "cpu-server": 525}


def call(
    *command: str | Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  podman and our own scripts
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
    )


def podman(*arguments: str) -> str:
    result = call(PODMAN, *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def image(name: str, tag: str = TAG) -> str:
    return f"localhost/grace-{name}:{tag}"


def build(name: str, *flags: str, tag: str = TAG, base: str) -> None:
    result = call(
        ROOT / "scripts" / "image-build.sh",
        *(name, "--quiet", *flags),
        environment={"TAG": image(name, tag), "BASE": base},
    )
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"


def run(name: str, *arguments: str, flags: tuple[str, ...] = ("--network=none",)) -> str:
    return podman("run", *CONFINED, *flags, image(name), *arguments)


def inside(name: str, program: str) -> str:
    """Run a Python program in an image."""
    flags = ("--network=none", "--entrypoint=/opt/grace/bin/python")
    return podman("run", *CONFINED, *flags, image(name), "-c", program)


@pytest.fixture(scope="session")
def base() -> str:
    """Return the base image: BASE, or one made here of Debian's packages."""
    given = os.environ.get("BASE")
    needed = ["podman"] if given else ["podman", "mmdebstrap"]
    missing = [program for program in needed if shutil.which(program) is None]
    if not given and os.geteuid() != 0:
        missing.append("root, to make a base image (or name one: BASE=...)")
    if missing:
        pytest.skip(f"images cannot be built here; missing: {', '.join(missing)}")
    if given:
        return given
    if call(PODMAN, "image", "exists", LOCAL_BASE).returncode:
        made = call(ROOT / "scripts" / "image-base.sh", LOCAL_BASE)
        assert made.returncode == 0, made.stderr
    return LOCAL_BASE


@pytest.fixture(scope="session", autouse=True)
def _built(base: str) -> None:
    for name in NAMES:
        build(name, base=base)


@contextmanager
def serving() -> Iterator[str]:
    """Run the model server, confined and without a network; yield its container."""
    arguments = ["serve", "smollm2-135m", "--port", "8000", "--threads", "1"]
    flags = [flag for flag in CONFINED if flag != "--rm"]
    container = podman(
        "run", "--detach", *flags, "--network=none", image("cpu-server"), *arguments
    ).strip()
    try:
        # Its address is its first line, written when it is ready.
        with subprocess.Popen(  # noqa: S603  podman
            [PODMAN, "logs", "--follow", container], stdout=subprocess.PIPE, text=True
        ) as log:
            assert log.stdout is not None
            assert log.stdout.readline() == "http://127.0.0.1:8000\n"
            log.terminate()
        yield container
    finally:
        podman("rm", "--force", "--time", "0", container)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("user", ["10001:10001", "4242:0"])
def test_any_user_can_run_an_image_whose_root_cannot_be_written(name: str, user: str) -> None:
    assert (
        run(name, "--version", flags=("--network=none", f"--user={user}")) == f"grace {VERSION}\n"
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_image_says_what_it_is_and_runs_as_nobody_of_importance(name: str) -> None:
    (config,) = json.loads(podman("image", "inspect", image(name)))
    head = call("git", "rev-parse", "HEAD").stdout.strip()

    assert config["Config"]["User"] == "10001:10001"
    assert config["Config"]["Entrypoint"] == ["/opt/grace/bin/grace"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.version"] == VERSION
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.revision"].removesuffix("-changed") == head


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_small_and_has_no_compiler(name: str) -> None:
    program = """
import json, pathlib, shutil
files = [path for path in pathlib.Path("/opt").rglob("*") if path.is_file() and not path.is_symlink()]
print(json.dumps({
    "megabytes": sum(path.stat().st_size for path in files) / 1e6,
    "programs": [name for name in ("gcc", "cc", "c++", "clang", "make", "ld", "git") if shutil.which(name)],
    "writable": [str(path) for path in files if path.stat().st_mode & 0o022],
    "ours": [str(path) for path in files if path.stat().st_uid],
    "setuid": [str(path) for path in files if path.stat().st_mode & 0o6000],
    "times": sorted({int(path.stat().st_mtime) for path in files}),
    "dated": [str(path) for path in files if path.suffix == ".pyc" and path.read_bytes()[4] != 1],
}))
"""
    found = json.loads(inside(name, program))

    assert found.pop("megabytes") < MOST_MEGABYTES[name]
    # Bytecode says by a 1 that it needs no source to be looked at, and so holds no time.
    nothing: dict[str, list[str]] = {
        "programs": [],
        "writable": [],
        "ours": [],
        "setuid": [],
        "dated": [],
    }
    assert found == {**nothing, "times": [1767225600]}


def test_a_query_is_scored_by_one_image_for_the_other_and_sigterm_ends_the_server(
    tmp_path: Path,
) -> None:
    tmp_path.chmod(0o777)
    with serving() as server:
        shared = (f"--network=container:{server}", f"--volume={tmp_path}:/grace/results")
        run(
            *("runner", "stage", "score", "--experiment", "exp2", "--model", "smollm2-135m"),
            *("--endpoint", "http://127.0.0.1:8000", "--timestamp", "20260101T000000Z"),
            *("--study", "study2", "--limit", "1"),
            flags=shared,
        )
        podman("stop", "--time", "15", server)
        (state,) = json.loads(podman("inspect", server))

    folder = tmp_path / "exp2" / "smollm2-135m" / "20260101T000000Z"
    (scores,) = folder.glob("*_study2_scores.csv")
    table = pd.read_csv(scores)
    sums = table.groupby("probe")["probability"].sum()
    assert set(table["status"]) == {"answered"}
    assert sums.to_list() == [pytest.approx(1)] * len(sums)
    # 137 would mean that it had to be killed.
    assert state["State"]["ExitCode"] == 0


def test_the_weights_in_the_image_are_those_of_the_catalogue() -> None:
    program = """
from pathlib import Path
from grace.catalogue.spec import load_catalogue
from grace.catalogue.store import sha256_of
from grace.catalogue.weights import find_weights
spec = load_catalogue(None).get("smollm2-135m")
found = find_weights(spec)
print(sha256_of(found.path) == found.sha256 == spec.source.sha256)
"""
    assert inside("cpu-server", program) == "True\n"


def test_the_library_of_the_hub_keeps_to_buffers_that_fit_in_a_pod() -> None:
    program = """
import hf_xet, json
print(json.dumps({key: value for key, value in hf_xet.XetConfig().items() if "buffer" in key or "cache.size" in key}))
"""
    found = json.loads(inside("runner", program))

    buffers = {key: value for key, value in found.items() if "download_buffer" in key}
    assert len(buffers) == 3
    assert max(buffers.values()) <= 256_000_000
    assert found["chunk_cache.size_bytes"] == 0


def test_an_image_that_is_built_again_has_the_same_layers(base: str) -> None:
    build("runner", "--no-cache", tag="again", base=base)
    try:
        layers = [
            json.loads(podman("image", "inspect", image("runner", tag)))[0]["RootFS"]["Layers"]
            for tag in (TAG, "again")
        ]
    finally:
        podman("rmi", image("runner", "again"))
    assert layers[0] == layers[1]


@pytest.mark.parametrize("name", NAMES)
def test_the_list_of_an_image_names_all_that_is_in_it(name: str, tmp_path: Path) -> None:
    made = call(
        ROOT / "scripts" / "image-build.sh",
        *("sbom", name, "--quiet"),
        environment={"TAG": image(name), "FOLDER": str(tmp_path)},
    )
    assert made.returncode == 0, made.stderr
    (path,) = tmp_path.iterdir()
    listed = json.loads(path.read_text("utf-8"))
    found = {(each["type"], each["name"], each["version"]) for each in listed["components"]}
    models = {each for kind, each, _ in found if kind == "machine-learning-model"}
    installed = json.loads(
        inside(
            name,
            "import importlib.metadata as m, json;"
            "print(json.dumps([[d.name, d.version] for d in m.distributions()]))",
        )
    )

    assert {("library", package, version) for package, version in installed} <= found
    assert models == ({"smollm2-135m"} if name == "cpu-server" else set())
    assert any(
        each.get("purl", "").startswith("pkg:deb/debian/libc6@") for each in listed["components"]
    )
