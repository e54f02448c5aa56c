"""`grace cluster run` to `down`, as typed, against an API over real HTTP and its small controllers."""

import asyncio
import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

# These commands stand on all parts of the cluster half.
pytest.importorskip("grace.cluster.executor.execute")
pytest.importorskip("grace.cluster.manifests")
pytest.importorskip("grace.cluster.policies")

from fake_api import FakeApi
from fake_controllers import Controllers, JobScript, ServerScript

from files_in_pod import handed_over
from grace.cli import cluster_driving
from grace.cli.main import invoke
from grace.cluster.executor.pacing import Pacing
from grace.runs.folder import RunFolder
from inputs import input_flags

WHEN = "20260131T235959Z"
MODEL = "smollm2-135m"
RUN = ("--timestamp", WHEN)


class WithFiles(Controllers):
    """Controllers that know the pod which hands files over."""

    async def _make_pod(self, owner: dict[str, Any], name: str, labels: Mapping[str, str]) -> None:
        job = owner["metadata"]["name"]
        await super()._make_pod(owner, name, {**labels, "batch.kubernetes.io/job-name": job})

    async def _advance_server(self, key: tuple[str, str, str], item: dict[str, Any]) -> None:
        item["spec"]["template"]["metadata"]["labels"].setdefault("grace/model", "files")
        await super()._advance_server(key, item)


@contextmanager
def served(api: FakeApi) -> Iterator[FakeApi]:
    """Serve from a thread with a loop of its own."""
    started, over = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        async with api.served():
            started.set()
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    started.wait()
    try:
        yield api
    finally:
        loops[0].call_soon_threadsafe(over.set)
        thread.join()


@pytest.fixture
def disk(tmp_path: Path, small_inputs: dict[str, Path]) -> Path:
    """What the pods of a run leave on their volume."""
    disk = tmp_path / "disk"
    results = disk / "grace" / "results"
    flags = ["--dry-run", *RUN, "--extractor", "rules", *input_flags(small_inputs)]
    assert invoke(["run", "--out", str(results), *flags]) == 0
    for experiment in ("exp1", "exp2"):
        (results / experiment / "toy").rename(results / experiment / MODEL)
        renamed(results / experiment / MODEL / WHEN)
    return disk


def renamed(folder: Path) -> None:
    """Let a run of the toy model be one of another: its numbers are the same."""
    for path in [*folder.glob("toy_*"), folder / "run.json", folder / "manifest.json"]:
        content = path.read_bytes().replace(b"toy", MODEL.encode())
        path.unlink()
        path.with_name(path.name.replace("toy", MODEL)).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    from grace.runs.manifest import file_entry

    manifest["files"] = {name: file_entry(folder / name).model_dump() for name in manifest["files"]}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


@pytest.fixture
def api(tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster_driving, "PACING", Pacing(settle_seconds=0.02))
    api = FakeApi()
    api.controllers = WithFiles(api)
    api.commands = lambda command, stdin: handed_over(disk, command, stdin)
    for kind in ("smoke", "respond", "score", "extract", "finish"):
        for name in (f"{kind}.{MODEL}", f"{kind}.exp1.{MODEL}", f"{kind}.exp2.{MODEL}"):
            api.controllers.jobs[name] = JobScript(looks=0)
    for experiment in ("exp1", "exp2"):
        counts = {"planned": 4, "answered": 4, "failed": 0, "not_asked": 0}
        outcome = {"status": "complete", "cells": {f"{experiment}/{MODEL}": counts}}
        api.controllers.jobs[f"finish.{experiment}.{MODEL}"].outcome = outcome
    with served(api):
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": api.url}}],
            "users": [{"name": "me", "user": {}}],
            "contexts": [
                {"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "lab"}}
            ],
        }
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(config), encoding="utf-8")
        monkeypatch.setenv("KUBECONFIG", str(path))
        yield api


def flags(small_inputs: dict[str, Path]) -> list[str]:
    return [*RUN, "--namespace", "lab", *input_flags(small_inputs)]


def test_one_command_goes_from_nothing_to_verified_results(
    api: FakeApi, disk: Path, small_inputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code = invoke(["cluster", "run", "--yes", "--out", "here", *flags(small_inputs)])

    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert "phase 2 of 6: model servers" in captured.err
    assert f"{MODEL}: responses: done" in captured.err
    assert "everything is here, and compared with the cluster by SHA-256" in captured.out
    for experiment in ("exp1", "exp2"):
        there = disk / "grace" / "results" / experiment / MODEL / WHEN / "manifest.json"
        here = RunFolder(Path("here") / experiment / MODEL / WHEN)
        assert here.manifest_path.read_bytes() == there.read_bytes()
    # No server, no GPU, and nobody who hands files over is left.
    assert api.names("statefulsets") == []
    assert not [name for name in api.names("jobs") if name.startswith("files-")]

    capsys.readouterr()
    assert invoke(["cluster", "status", "--namespace", "lab"]) == 0
    text = capsys.readouterr().out
    assert f"run {WHEN} in lab  complete" in text
    assert text.count("✓") >= 6

    assert invoke(["cluster", "down", WHEN, "--namespace", "lab"]) == 0
    assert api.names("jobs") == []
    assert "grace-output" in " ".join(api.names("persistentvolumeclaims"))
    assert invoke(["cluster", "down", "--delete-results", "--yes", "--namespace", "lab"]) == 0
    assert api.names("persistentvolumeclaims") == []


def test_results_that_are_not_here_are_not_deleted(
    api: FakeApi, disk: Path, small_inputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(disk / "grace" / "results" / "exp2")
    run = ["cluster", "run", "--yes", "--out", "here", *flags(small_inputs)]

    assert invoke(run) == 3
    said = capsys.readouterr()
    assert "not begun on the cluster" in said.out
    assert f"next: grace cluster resume {WHEN} --namespace lab\n" in said.err

    assert invoke(["cluster", "down", "--delete-results", "--yes", "--namespace", "lab"]) == 2
    assert api.names("persistentvolumeclaims") != []


def test_a_step_that_fails_is_said_with_its_reason_and_tried_again_with_more_memory(
    api: FakeApi, small_inputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    api.controllers.jobs[f"respond.exp1.{MODEL}"] = JobScript(
        looks=0, fails=9, message=json.dumps({"status": "failed", "error": "the disk is full"})
    )
    run = ["cluster", "run", "--yes", "--no-collect", *flags(small_inputs)]

    assert invoke(run) == 1
    captured = capsys.readouterr()
    assert "finished, with failures" in captured.out
    assert "the disk is full" in captured.out
    assert f"next: grace cluster collect {WHEN} --namespace lab" in captured.err
    assert api.names("statefulsets") == []

    api.controllers.jobs[f"respond.exp1.{MODEL}"] = JobScript(looks=0)
    Path("more.yaml").write_text(
        "extends: local\njobs: {query: {cpu: 0.1, memory_gb: 0.75, ephemeral_gb: 0.25}}\n",
        encoding="utf-8",
    )
    again = ["cluster", "resume", "--namespace", "lab", "--no-collect", "--retry-failed"]
    assert invoke([*again, "--with-profile", "more.yaml"]) == 0
    jobs = [item for key, item in api.objects.items() if key[0] == "jobs"]
    asked = [
        job["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["memory"]
        for job in jobs
        if job["metadata"]["labels"].get("grace/step") == f"respond.exp1.{MODEL}"
    ]
    assert asked == ["750M"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_holds_no_server_and_goes_on_later(
    number: signal.Signals,
    api: FakeApi,
    small_inputs: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    api.controllers.servers[MODEL] = ServerScript(looks=10**9)

    def interrupt() -> None:
        while not api.names("statefulsets"):
            over.wait(0.01)
        os.kill(os.getpid(), number)

    over = threading.Event()
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        code = invoke(["cluster", "run", "--yes", *flags(small_inputs)])
    finally:
        thread.join()

    assert code == 3
    assert (
        f"interrupted; stopped the servers of {MODEL}; it goes on with:\n"
        f"  grace cluster resume {WHEN} --namespace lab\n"
    ) in capsys.readouterr().err
    api.controllers.servers[MODEL] = ServerScript()
    assert invoke(["cluster", "resume", WHEN, "--namespace", "lab", "--no-collect"]) == 0


def test_a_run_that_goes_on_by_itself_is_left_alone_by_another_of_its_name(
    api: FakeApi, small_inputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    api.controllers.servers[MODEL] = ServerScript(looks=10**9)
    begun = ["cluster", "run", "--yes", "--detach", *flags(small_inputs)]
    assert invoke(begun) == 0
    assert "goes on in lab by itself" in capsys.readouterr().out
    (driver,) = [name for name in api.names("jobs") if name.startswith("driver-")]

    assert invoke([*begun, "--seed", "7"]) != 0
    assert "holds another run" in capsys.readouterr().err
    assert driver in api.names("jobs")


def test_nothing_is_sent_without_a_yes(
    api: FakeApi, small_inputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["cluster", "run", *flags(small_inputs)]) == 2

    assert "There is nobody to ask; give --yes" in capsys.readouterr().err
    # To ask what one may do is a POST, and changes nothing.
    assert {method for method, path in api.requests if "authorization" not in path} <= {"GET"}


def test_a_run_is_set_up_and_goes_on_later(
    api: FakeApi, small_inputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["cluster", "apply", "--yes", *flags(small_inputs)]) == 0
    assert f"next: grace cluster resume {WHEN} --namespace lab" in capsys.readouterr().err
    assert api.names("jobs") == []

    # The namespace is the kubeconfig's, the run the latest, its options the cluster's.
    assert invoke(["cluster", "resume", "--profile", "nrp", "--out", "here"]) == 0
    assert "everything is here" in capsys.readouterr().out


def test_what_is_left_of_runs_that_nothing_is_known_of_can_be_deleted(
    api: FakeApi, small_inputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["cluster", "apply", "--yes", *flags(small_inputs)]) == 0
    for key in [key for key in api.objects if key[0] == "configmaps"]:
        del api.objects[key]
    capsys.readouterr()
    down = ["cluster", "down", "--namespace", "lab"]

    assert invoke(down) == 1
    assert "objects that runs left there (PersistentVolumeClaim grace-" in capsys.readouterr().err
    assert invoke([*down, "--delete-results", "--yes"]) == 2
    assert "(grace-logs, grace-output) were collected" in capsys.readouterr().err
    assert invoke([*down, "--delete-results", "--even-uncollected", "--yes"]) == 0
    assert {key[0] for key in api.objects} == {"namespaces"}
    # Now there is nothing of it: most likely that is another place than was meant.
    assert invoke([*down, "--delete-results", "--even-uncollected", "--yes"]) == 1
    assert "is that the right place?" in capsys.readouterr().err


def test_what_is_rendered_is_what_is_sent(
    api: FakeApi, small_inputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["cluster", "render", "--out", "there", *flags(small_inputs)]) == 0
    assert re.search(r"there: \d+ files of run", capsys.readouterr().out)
    assert (Path("there") / "README.md").is_file()
    assert invoke(["cluster", "lint", *flags(small_inputs)]) == 0
    assert "0 violations" in capsys.readouterr().out
    assert api.requests == []


def test_a_namespace_without_a_run_says_so(
    api: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["cluster", "status", "--namespace", "lab"]) == 1
    assert "has no run of Grace; is that the right place?" in capsys.readouterr().err


def test_a_profile_is_compared_with_the_cluster(
    api: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    code = invoke(["cluster", "profile", "check", "nrp", "--namespace", "lab"])

    text = capsys.readouterr().out
    assert code == 1
    assert "storage.weights.storage_class" in text
    assert re.search(r"nrp against http://127\.0\.0\.1:\d+, namespace lab: \d+ wrong", text)
    assert not [path for method, path in api.requests if method in {"PATCH", "DELETE", "PUT"}]


def test_status_of_a_run_that_is_not_over_exits_with_3(
    api: FakeApi, small_inputs: dict[str, Path]
) -> None:
    assert invoke(["cluster", "apply", "--yes", *flags(small_inputs)]) == 0
    assert invoke(["cluster", "status", WHEN, "--namespace", "lab"]) == 3


def test_logs_are_read_from_the_pods_of_a_step(
    api: FakeApi, small_inputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["cluster", "run", "--yes", "--no-collect", *flags(small_inputs)]
    assert invoke(run) == 0
    for pod in api.names("pods"):
        api.logs[pod] = ['{"time": "2026-01-31T10:20:30Z", "event": "progress", "done": 3}']
    capsys.readouterr()

    assert invoke(["cluster", "logs", WHEN, "respond", "--namespace", "lab"]) == 0

    assert capsys.readouterr().out == f"respond.exp1.{MODEL}: 10:20:30 3 of ? done\n"
    assert invoke(["cluster", "logs", WHEN, "nosuch", "--namespace", "lab"]) == 1
    assert f"smoke.{MODEL}" in capsys.readouterr().err


def test_logs_of_pods_that_are_gone_are_read_from_the_volume(
    api: FakeApi, disk: Path, small_inputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["cluster", "run", "--yes", "--no-collect", *flags(small_inputs)]) == 0
    for plural in ("pods", "jobs"):
        for name in api.names(plural):
            api.objects.pop((plural, "lab", name))
    folder = disk / "grace" / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    line = '{"time": "2026-01-31T10:20:30Z", "event": "message", "text": "hello"}\n'
    kept = f"{WHEN}_respond_exp1_{MODEL}_pod-0001.jsonl"
    (folder / kept).write_text(line, encoding="utf-8")
    (folder / "20200101T000000Z_respond_exp1_m_pod-0001.jsonl").write_text(line, encoding="utf-8")
    capsys.readouterr()

    assert invoke(["cluster", "logs", WHEN, "respond", "--namespace", "lab"]) == 0

    assert capsys.readouterr().out == f"{kept}: 10:20:30 hello\n"
    assert invoke(["cluster", "logs", WHEN, "score", "--namespace", "lab", "--json"]) == 1
    assert "no file there is of this run or step" in capsys.readouterr().err


def test_an_input_that_fits_in_no_config_map_is_uploaded_before_anything_reads_it(
    api: FakeApi, disk: Path, small_inputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    header, *rows = small_inputs["study2"].read_bytes().splitlines(keepends=True)
    large = Path("large.csv")
    large.write_bytes(header + b"".join(rows[:1]) * (1_100_000 // len(rows[0])))
    asked = [*RUN, "--namespace", "lab", "--study", "study2", "--input", f"study2={large}"]

    assert invoke(["cluster", "run", "--yes", "--no-collect", *asked]) == 0

    (uploaded,) = (disk / "grace" / "inputs").glob("*/trials-study2.csv")
    assert uploaded.read_bytes() == large.read_bytes()
    # On another machine, which has no copy, the bytes are not needed any more.
    shutil.rmtree("results")
    large.rename("gone.csv")
    sent = len(files_pods(api))
    assert invoke(["cluster", "status", "--namespace", "lab"]) == 0
    resume = ["cluster", "resume", "--namespace", "lab", "--yes", "--no-collect"]
    assert invoke(resume) == 0
    assert len(files_pods(api)) == sent
    # The volume was lost, and with it what was on it.
    api.objects["persistentvolumeclaims", "lab", "grace-inputs"]["metadata"]["annotations"] = {}
    shutil.rmtree(disk / "grace" / "inputs")
    capsys.readouterr()
    assert invoke(resume) == 2
    assert "input trials-study2.csv" in capsys.readouterr().err
    assert invoke([*resume, "--input", "study2=gone.csv"]) == 0
    assert uploaded.read_bytes() == Path("gone.csv").read_bytes()
    # Now a copy is here, and the file need not be given again.
    api.objects["persistentvolumeclaims", "lab", "grace-inputs"]["metadata"]["annotations"] = {}
    uploaded.unlink()
    Path("gone.csv").unlink()
    assert invoke(resume) == 0
    assert uploaded.exists()


def files_pods(api: FakeApi) -> list[str]:
    """Return the requests that made a pod which hands files over."""
    return [path for method, path in api.requests if method == "PATCH" and "/jobs/files-" in path]
