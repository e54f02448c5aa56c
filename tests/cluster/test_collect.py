"""Results from a cluster to this machine: nothing is lost here, and nothing wrong is believed."""

import json
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from files_in_pod import LocalPod, Running, cut_after, killed_after, sha256, spoilt, unchanged
from grace.catalogue.progress import SilentProgress
from grace.cli.main import invoke
from grace.cluster.arrivals import plan_folder
from grace.cluster.collect import Collection, collect, keep_inputs, listing_sha256
from grace.cluster.manifests import upload_folder
from grace.cluster.preparing import prepare_run
from grace.cluster.profile import load_profile
from grace.cluster.request import ClusterRun, InputFile
from grace.cluster.transfer import Patience, RemoteFile
from grace.cluster.uploading import upload
from grace.errors import ClusterError, ClusterUnavailable, ObjectMissing, RunLocked, UsageError
from grace.runs.folder import RunFolder
from grace.settings import RunSettings
from inputs import input_flags

WHEN = "20260131T235959Z"
JOB: dict[str, Any] = {
    "kind": "Job",
    "metadata": {"name": "files-20260131t235959z", "namespace": "lab"},
}


@dataclass
class FakeCluster:
    """Has the Job of the collecting pod, whose disk is a folder here."""

    disk: LocalPod
    jobs: dict[str, Any] = field(default_factory=dict)
    pods: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    waits: int = 0
    gone: int = 0

    async def apply(
        self, manifest: Mapping[str, Any], /, *, manager: str = "grace"
    ) -> Mapping[str, Any]:
        self.jobs[manifest["metadata"]["name"]] = dict(manifest)
        return manifest

    async def get(self, kind: str, name: str, namespace: str | None, /) -> Mapping[str, Any] | None:
        assert (kind, namespace) == ("Job", "lab")
        return self.jobs.get(name)

    async def list(
        self, kind: str, namespace: str | None, /, *, labels: Mapping[str, str | None]
    ) -> tuple[Mapping[str, Any], ...]:
        assert (kind, namespace) == ("Pod", "lab")
        (job,) = labels.values()
        if self.pods:
            return (self.pods.pop(0),)
        found = self.jobs.get(str(job))
        return (pod_of(str(job)),) if found is not None and "status" not in found else ()

    async def delete(self, kind: str, name: str, namespace: str | None, /) -> bool:
        assert (kind, namespace) == ("Job", "lab")
        self.deleted.append(name)
        return self.jobs.pop(name, None) is not None

    def running(
        self,
        pod: str,
        namespace: str,
        command: Sequence[str],
        *,
        stdin: AsyncIterator[bytes] | None = None,
    ) -> AbstractAsyncContextManager[Running]:
        assert namespace == "lab"
        if self.gone:
            self.gone -= 1
            raise ObjectMissing(f"Pod {pod} in lab is gone")
        return self.disk.running(command, stdin)


def pod_of(job: str, **status: Any) -> dict[str, Any]:
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    return {"metadata": {"name": f"{job}-x7k2p"}, "status": status or ready}


@dataclass
class Heard(SilentProgress):
    """Keeps what was said."""

    said: list[str]

    def noted(self, message: str) -> None:
        self.said.append(message)


@dataclass
class World:
    """A run whose results are on a cluster, and a folder here."""

    run: ClusterRun
    cluster: FakeCluster
    out: Path
    notes: list[tuple[int, str]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def there(self) -> Path:
        return self.cluster.disk.root / "grace" / "results"

    async def collect(self) -> Collection:
        async def note(files: int, digest: str) -> None:
            self.notes.append((files, digest))

        async def wait(_seconds: float) -> None:
            self.cluster.waits += 1

        return await collect(
            self.cluster,
            self.run,
            self.out,
            Heard(self.said),
            Patience(attempts=3, wait=wait),
            note=note,
            job=JOB,
        )

    def folder(self, experiment: str = "exp1") -> RunFolder:
        return RunFolder(self.out / experiment / "toy" / WHEN)

    def remote(self, experiment: str = "exp1") -> Path:
        return self.there / experiment / "toy" / WHEN


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, small_inputs: dict[str, Path]
) -> tuple[Path, ClusterRun]:
    """A run as pods leave it on their volume, and its request."""
    root = tmp_path_factory.mktemp("cluster")
    asked = RunSettings(input=small_inputs)
    run = prepare_run(asked, load_profile("nrp"), namespace="lab", timestamp=WHEN)
    results = root / "grace" / "results"
    flags = ["--dry-run", "--timestamp", WHEN, *input_flags(small_inputs)]
    assert invoke(["run", "--out", str(results), *flags]) == 0
    # The toy model is not in the catalogue: only its name matters here.
    settings = run.settings.model_copy(update={"model": ("toy",)})
    object.__setattr__(run, "settings", settings)
    for record in results.glob("*/*/*/run.json"):
        text = json.loads(record.read_text())
        # As pods record it: a path that is not here.
        text["request"]["input"] = {
            key: f"/grace/inputs/trials-{key}.csv" for key in text["request"]["input"]
        }
        record.write_text(json.dumps(text, indent=2))
    return root, run


@pytest.fixture
def world(finished: tuple[Path, ClusterRun], tmp_path: Path) -> World:
    source, run = finished
    shutil.copytree(source, tmp_path / "cluster")
    return World(run, FakeCluster(LocalPod(tmp_path / "cluster")), tmp_path / "here")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.lock"
    }


async def test_everything_arrives_valid_and_is_noted_on_the_cluster(world: World) -> None:
    collected = await world.collect()

    assert collected.whole
    assert collected.noted
    for experiment in ("exp1", "exp2"):
        assert contents(world.folder(experiment).path) == contents(world.remote(experiment))
    ((files, digest),) = world.notes
    assert files == sum(len(one.files) for one in collected.folders)
    assert len(digest) == 64
    assert invoke(["validate", str(world.out)]) == 0


async def test_the_pod_that_hands_over_is_taken_away_again(world: World) -> None:
    await world.collect()

    assert world.cluster.jobs == {}
    assert world.cluster.deleted == [JOB["metadata"]["name"]]


async def test_what_is_here_is_not_sent_again(world: World) -> None:
    await world.collect()
    world.cluster.disk.asked.clear()

    again = await world.collect()

    assert again.whole
    assert [one.arrived for one in again.folders] == [0, 0]
    assert {asked[0] for asked in world.cluster.disk.asked} == {"list"}


@pytest.mark.parametrize("fault", [cut_after(100), killed_after(100), spoilt], ids="abc")
async def test_faults_on_the_way_change_nothing_of_what_arrives(world: World, fault: Any) -> None:
    world.cluster.disk.faults = [unchanged, *[fault] * 4]

    collected = await world.collect()

    assert collected.whole
    assert contents(world.folder().path) == contents(world.remote())


async def test_a_collection_that_was_given_up_goes_on(world: World) -> None:
    world.cluster.disk.faults = [
        *[lambda _running, block: block] * 4,
        *[cut_after(0)] * 40,
    ]
    with pytest.raises(ClusterUnavailable):
        await world.collect()
    assert not world.folder().closed
    assert world.cluster.jobs == {}
    world.cluster.disk.faults.clear()

    assert (await world.collect()).whole
    assert contents(world.folder().path) == contents(world.remote())


async def test_an_evicted_pod_is_waited_for(world: World) -> None:
    world.cluster.gone = 2

    assert (await world.collect()).whole


async def test_a_pod_that_waits_says_why(world: World) -> None:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "message": "0/1 nodes are available: 1 Insufficient cpu.",
    }
    world.cluster.pods = [pod_of("files", conditions=[condition])] * 6

    assert (await world.collect()).whole
    assert world.said == [
        "the pod that hands files over waits: 0/1 nodes are available: 1 Insufficient cpu."
    ]


async def test_a_pod_that_never_starts_is_given_up(world: World) -> None:
    state = {"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}
    world.cluster.pods = [pod_of("files", containerStatuses=[state])] * 1000

    with pytest.raises(ClusterError, match="ErrImagePull: no such image; look at `kubectl -n lab"):
        await world.collect()

    assert world.cluster.waits == 300


async def test_a_job_of_an_earlier_collection_is_made_anew(world: World) -> None:
    over = {"conditions": [{"type": "Complete", "status": "True"}]}
    world.cluster.jobs[JOB["metadata"]["name"]] = {"metadata": {}, "status": over}

    assert (await world.collect()).whole


async def test_a_run_that_goes_on_is_collected_as_far_as_it_is(world: World) -> None:
    for name in ("manifest.json", "toy_study1_raw_responses.csv"):
        (world.remote() / name).unlink()

    collected = await world.collect()

    assert not collected.whole
    assert not collected.noted
    assert world.notes == []
    assert (world.folder().path / "journal").is_dir()
    assert any("no manifest.json" in fault for fault in collected.folders[0].faults)


async def test_what_went_on_there_replaces_what_is_made_of_the_journal(world: World) -> None:
    whole = contents(world.remote())
    table = world.remote() / "toy_study1_summary.csv"
    (journal,) = (path for path in (world.remote() / "journal").iterdir() if "0001" in path.name)
    # An earlier moment: a shorter journal, another table, no manifest.
    journal.write_bytes(whole[f"journal/{journal.name}"][:2_000])
    table.write_bytes(b"earlier\n")
    (world.remote() / "manifest.json").unlink()
    await world.collect()
    world.cluster.disk.asked.clear()
    for name, content in whole.items():
        (world.remote() / name).write_bytes(content)

    collected = await world.collect()

    assert collected.whole
    here = contents(world.folder().path)
    assert {name: here[name] for name in whole} == whole
    # No manifest vouched for the earlier table.
    kept = world.folder().path / f"{table.name}.before-{sha256(b'earlier' + bytes([10]))[:8]}"
    assert collected.folders[0].kept == (kept,)
    assert kept.read_bytes() == b"earlier\n"
    # Only the end of the journal was sent.
    starts = [
        int(asked[3]) for asked in world.cluster.disk.asked if asked[1].endswith(journal.name)
    ]
    assert starts == [2_000]


def summarised_anew(world: World) -> None:
    """Let the cluster's folder be of a journal that has grown, closed and in order."""
    folder = RunFolder(world.remote())
    (journal,) = (path for path in folder.journal.iterdir() if "0001" in path.name)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines, lines[-1]]))


async def test_what_was_edited_here_is_kept_when_the_run_goes_on(world: World) -> None:
    await world.collect()
    table = world.folder().path / "toy_study1_structured.csv"
    table.write_bytes(b"mine\n")
    summarised_anew(world)

    collected = await world.collect()

    (kept,) = collected.folders[0].kept
    assert kept.read_bytes() == b"mine\n"
    assert table.read_bytes() == (world.remote() / table.name).read_bytes()


async def test_what_was_edited_here_is_not_overwritten(world: World) -> None:
    await world.collect()
    table = world.folder().path / "toy_study1_structured.csv"
    table.write_bytes(b"mine\n")

    collected = await world.collect()

    assert collected.folders[0].refusal == (
        f"{world.folder().path}: {table.name} was changed here; nothing is overwritten: rename it, "
        "then collect again"
    )
    assert table.read_bytes() == b"mine\n"
    # The other experiment is here all the same, but not everything is.
    assert collected.folders[1].whole
    assert len(world.notes) == 1


async def test_what_was_summarised_again_here_stays(world: World) -> None:
    await world.collect()
    assert invoke(["summarise", str(world.out)]) == 0
    manifest = world.folder().manifest_path
    text = json.loads(manifest.read_text())
    summary = world.folder().path / "toy_study1_summary.csv"
    summary.write_bytes(summary.read_bytes() + b"")
    manifest.write_text(json.dumps(text))

    collected = await world.collect()

    assert collected.whole
    assert "summarised again here" in collected.folders[0].note
    assert json.loads(manifest.read_text()) == text


async def test_a_run_that_went_on_here_is_not_overwritten(world: World) -> None:
    await world.collect()
    more = world.folder().journal / "respond-0009.jsonl"
    more.write_bytes(b"{}\n")
    before = contents(world.folder().path)
    summarised_anew(world)

    collected = await world.collect()

    assert "went on here (journal/respond-0009.jsonl is not on the cluster)" in (
        collected.folders[0].refusal
    )
    assert contents(world.folder().path) == before


async def test_a_journal_that_is_not_the_beginning_is_not_overwritten(world: World) -> None:
    await world.collect()
    (journal,) = (path for path in world.folder().journal.iterdir() if "0001" in path.name)
    other = b"x" + journal.read_bytes()[1:]
    journal.write_bytes(other)
    summarised_anew(world)

    collected = await world.collect()

    assert "is not the beginning of the one on the cluster" in collected.folders[0].refusal
    assert journal.read_bytes() == other
    assert not list(world.folder().path.rglob("*.part"))


async def test_another_run_of_the_same_name_is_not_overwritten(world: World) -> None:
    world.folder().path.mkdir(parents=True)
    world.folder().record_path.write_bytes(b"{}")

    collected = await world.collect()

    assert "is another run (its run.json is not that of the cluster)" in (
        collected.folders[0].refusal
    )
    assert contents(world.folder().path) == {"run.json": b"{}"}


async def test_a_run_that_somebody_works_on_here_is_left_alone(world: World) -> None:
    await world.collect()

    with world.folder().lock(), pytest.raises(RunLocked):
        await world.collect()


async def test_files_that_do_not_hold_still_are_said(world: World) -> None:
    table = world.remote() / "toy_study1_raw_responses.csv"

    def changing(running: Running, block: bytes) -> bytes:
        if running.arguments[0] == "send" and running.arguments[1].endswith(table.name):
            table.write_bytes(table.read_bytes() + b"more\n")
            return b"?" + block[1:]
        return block

    world.cluster.disk.faults = [changing] * 400

    with pytest.raises(
        ClusterError, match=r"did not arrive as the pod lists it, 3 times .*csv: another SHA"
    ):
        await world.collect()

    assert not (world.folder().path / table.name).exists()


async def test_a_cell_that_was_not_begun_is_missing(world: World) -> None:
    shutil.rmtree(world.there / "exp2")

    collected = await world.collect()

    assert [bool(one.files) for one in collected.folders] == [True, False]
    assert not collected.whole
    assert world.notes == []


async def test_locks_and_drafts_are_no_results(world: World) -> None:
    for name in ("run.lock", ".toy_study1_summary.csv.part", "shard.lock"):
        (world.remote() / name).write_bytes(b"?")

    collected = await world.collect()

    assert collected.whole
    assert not (world.folder().path / "shard.lock").exists()


async def test_inputs_are_kept_beside_the_results(world: World) -> None:
    await world.collect()

    for file in world.run.files:
        assert (world.out / "inputs" / WHEN / file.name).read_bytes() == file.content
    assert {file.name for file in world.run.files} == {"trials-study1.csv", "trials-study2.csv"}


def test_a_manifest_takes_its_name_last_and_journals_first(world: World) -> None:
    there = world.remote()
    files = [
        RemoteFile(path=name, size=len(content), sha256=sha256(content))
        for name, content in contents(there).items()
    ]

    order = [file.path for file in plan_folder(files, world.folder()).wanted]

    assert order[-1] == "manifest.json"
    journals = [name for name in order if name.startswith("journal/")]
    assert order[: len(journals)] == journals != []


def test_inputs_that_are_kept_already_are_not_written_again(world: World) -> None:
    keep_inputs(world.run, world.out)
    (first, *_) = (world.out / "inputs" / WHEN).iterdir()
    before = first.stat()

    keep_inputs(world.run, world.out)

    assert first.stat().st_mtime_ns == before.st_mtime_ns
    assert first.stat().st_ino == before.st_ino


def test_the_hash_of_a_list_does_not_depend_on_its_order() -> None:
    files = [
        (name, RemoteFile(path=name, size=number, sha256=sha256(name.encode())))
        for number, name in enumerate("abc")
    ]

    assert listing_sha256(files) == listing_sha256(files[::-1])
    assert listing_sha256(files) != listing_sha256(files[:2])


def elsewhere(file: InputFile) -> InputFile:
    return InputFile.elsewhere(file.name, file.sha256, file.size)


async def test_inputs_whose_bytes_are_not_here_come_from_the_volume_that_pods_read(
    world: World,
) -> None:
    large = InputFile("trials-large.csv", b"1,2,3\n" * 200_000)
    run = replace(world.run, files=(*world.run.files, large))
    folder = world.cluster.disk.root / "grace" / "inputs" / str(upload_folder(run))
    folder.mkdir(parents=True)
    for file in run.files:
        (folder / file.name).write_bytes(file.content)
    world.run = replace(run, files=tuple(map(elsewhere, run.files)))

    assert (await world.collect()).whole

    kept = contents(world.out / "inputs" / WHEN)
    assert json.loads(kept.pop("cluster.json")) == {"namespace": "lab"}
    assert kept == {file.name: file.content for file in run.files}
    asked = len(world.cluster.disk.asked)
    assert (await world.collect()).whole
    assert all("inputs" not in place for _, place, *_ in world.cluster.disk.asked[asked:])


async def test_an_input_that_is_nowhere_keeps_nothing_else_from_arriving(world: World) -> None:
    large = InputFile.elsewhere("trials-large.csv", "0" * 64, 2_000_000)
    world.run = replace(world.run, files=(*world.run.files, large))

    assert (await world.collect()).whole

    (said,) = [said for said in world.said if "input" in said]
    assert said.startswith("input trials-large.csv could not be brought here: ")
    assert not (world.out / "inputs" / WHEN / "trials-large.csv").exists()


async def test_an_input_that_is_not_the_runs_own_stays_on_the_cluster(world: World) -> None:
    large = InputFile("trials-large.csv", b"1,2,3\n" * 200_000)
    world.run = replace(world.run, files=(*world.run.files, elsewhere(large)))
    folder = world.cluster.disk.root / "grace" / "inputs" / str(upload_folder(world.run))
    folder.mkdir(parents=True)
    (folder / large.name).write_bytes(b"?" * large.size)

    assert (await world.collect()).whole

    assert "input trials-large.csv is another one on the cluster; it is left there" in world.said
    kept = world.out / "inputs" / WHEN
    assert not [path for path in kept.iterdir() if large.name in path.name]


async def test_inputs_that_arrived_are_not_needed_here_again(tmp_path: Path) -> None:
    pod = LocalPod(tmp_path)
    files = (InputFile("trials-study1.csv", b"a,b\n"), InputFile("catalogue.yaml", b"{}"))
    root = PurePosixPath("/grace/inputs/1234")
    first, second = map(elsewhere, files)
    with pytest.raises(UsageError, match=r"trials-study1\.csv .* give the file with --input"):
        await upload(pod, (first, second), root)
    assert await upload(pod, files, root) == 2
    assert await upload(pod, (first, second), root) == 0


async def test_inputs_are_uploaded_once(tmp_path: Path) -> None:
    pod = LocalPod(tmp_path)
    files = (InputFile("trials-study1.csv", b"a,b\n1,2\n"), InputFile("catalogue.yaml", b"{}"))
    (tmp_path / "grace" / "inputs").mkdir(parents=True)
    (tmp_path / "grace" / "inputs" / "catalogue.yaml").write_bytes(b"old")

    root = PurePosixPath("/grace/inputs")
    assert await upload(pod, files, root) == 2
    assert await upload(pod, files, root) == 0

    assert contents(tmp_path / "grace" / "inputs") == {file.name: file.content for file in files}
    assert [asked[0] for asked in pod.asked] == ["list", "receive", "receive", "list"]
