"""Files between pods and this machine, with real processes for the pod's side."""

import json
from pathlib import Path, PurePosixPath

import pytest

from files_in_pod import (
    Fault,
    LocalPod,
    Running,
    cut_after,
    ends_early,
    killed_after,
    sha256,
    spoilt,
    unchanged,
)
from grace.cluster.transfer import PART_BYTES, Patience, RemoteFile, Transfer
from grace.errors import ClusterError, ClusterUnavailable

ROOT = PurePosixPath("/grace/results")
CONTENT = b"".join(f"line {number}\n".encode() for number in range(2_000))


class Waits:
    """Counts waits instead of spending them."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
def pod(tmp_path: Path) -> LocalPod:
    folder = tmp_path / "pod" / "grace" / "results"
    (folder / "journal").mkdir(parents=True)
    (folder / "table.csv").write_bytes(CONTENT)
    (folder / "journal" / "respond-0001.jsonl").write_bytes(b"{}\n")
    (folder / "empty.csv").write_bytes(b"")
    return LocalPod(tmp_path / "pod", processes=True)


def transfer(pod: LocalPod, waits: Waits | None = None, part_bytes: int = PART_BYTES) -> Transfer:
    return Transfer(pod, Patience(attempts=4, wait=waits or Waits()), part_bytes=part_bytes)


TABLE = RemoteFile(path="table.csv", size=len(CONTENT), sha256=sha256(CONTENT))


async def test_a_list_has_every_file_with_its_hash(pod: LocalPod) -> None:
    files = {file.path: file for file in await transfer(pod).listing(ROOT)}

    assert set(files) == {"table.csv", "journal/respond-0001.jsonl", "empty.csv"}
    assert files["table.csv"] == TABLE
    assert files["empty.csv"].size == 0


async def test_a_file_arrives_whole_in_parts_of_bounded_size(pod: LocalPod, tmp_path: Path) -> None:
    draft = tmp_path / "here" / "draft"

    assert await transfer(pod, part_bytes=5_000).fetch(ROOT, TABLE, draft)

    assert draft.read_bytes() == CONTENT
    lengths = [int(asked[5]) for asked in pod.asked]
    assert sum(lengths) == len(CONTENT)
    assert max(lengths) == 5_000


async def test_an_empty_file_arrives_without_a_command(pod: LocalPod, tmp_path: Path) -> None:
    empty = RemoteFile(path="empty.csv", size=0, sha256=sha256(b""))

    assert await transfer(pod).fetch(ROOT, empty, tmp_path / "draft")

    assert (tmp_path / "draft").read_bytes() == b""
    assert pod.asked == []


@pytest.mark.parametrize(
    "fault", [cut_after(3_333), killed_after(3_333)], ids=["connection", "process"]
)
async def test_what_broke_goes_on_at_the_byte_where_it_broke(
    fault: Fault, pod: LocalPod, tmp_path: Path
) -> None:
    pod.faults = [fault]

    assert await transfer(pod).fetch(ROOT, TABLE, tmp_path / "draft")

    assert (tmp_path / "draft").read_bytes() == CONTENT
    assert [int(asked[3]) for asked in pod.asked] == [0, 3_333]


async def test_a_draft_of_an_earlier_attempt_is_not_fetched_again(
    pod: LocalPod, tmp_path: Path
) -> None:
    draft = tmp_path / "draft"
    draft.write_bytes(CONTENT[:7_000])

    assert await transfer(pod).fetch(ROOT, TABLE, draft)

    assert draft.read_bytes() == CONTENT
    assert [int(asked[3]) for asked in pod.asked] == [7_000]


@pytest.mark.parametrize(
    "wrong", [b"something else", CONTENT + b"and more"], ids=["other", "longer"]
)
async def test_a_draft_of_something_else_is_given_up(
    wrong: bytes, pod: LocalPod, tmp_path: Path
) -> None:
    draft = tmp_path / "draft"
    draft.write_bytes(wrong)

    assert await transfer(pod).fetch(ROOT, TABLE, draft)

    assert draft.read_bytes() == CONTENT


async def test_a_byte_that_was_spoilt_on_the_way_is_noticed_and_mended(
    pod: LocalPod, tmp_path: Path
) -> None:
    # As a pod of an older image, which tells no hash of a part.
    pod.processes = False
    pod.faults = [spoilt]

    assert await transfer(pod).fetch(ROOT, TABLE, tmp_path / "draft")

    assert (tmp_path / "draft").read_bytes() == CONTENT
    assert len(pod.asked) == 2


async def test_a_part_whose_hash_the_pod_tells_is_compared_and_fetched_again_alone(
    pod: LocalPod, tmp_path: Path
) -> None:
    pod.faults = [unchanged, spoilt]

    assert await transfer(pod, part_bytes=10_000).fetch(ROOT, TABLE, tmp_path / "draft")

    assert (tmp_path / "draft").read_bytes() == CONTENT
    assert [int(asked[3]) for asked in pod.asked] == [0, 10_000, 10_000]


async def test_a_file_that_is_not_as_listed_leaves_no_draft(pod: LocalPod, tmp_path: Path) -> None:
    listed = TABLE.model_copy(update={"sha256": sha256(b"as it was")})

    assert not await transfer(pod).fetch(ROOT, listed, tmp_path / "draft")

    assert not (tmp_path / "draft").exists()


async def test_a_command_that_ends_well_too_early_is_no_end_of_the_file(
    pod: LocalPod, tmp_path: Path
) -> None:
    pod.faults = [ends_early, ends_early]

    assert await transfer(pod).fetch(ROOT, TABLE, tmp_path / "draft")

    assert (tmp_path / "draft").read_bytes() == CONTENT


async def test_a_command_that_ends_well_and_gives_nothing_is_not_asked_for_ever(
    pod: LocalPod, tmp_path: Path
) -> None:
    pod.processes, pod.faults = False, [lambda _running, _block: b""] * 20

    with pytest.raises(ClusterUnavailable, match="only a part"):
        await transfer(pod).fetch(ROOT, TABLE, tmp_path / "draft")

    assert len(pod.asked) == 4


async def test_attempts_without_progress_are_bounded(pod: LocalPod, tmp_path: Path) -> None:
    pod.faults = [cut_after(0)] * 20
    waits = Waits()

    with pytest.raises(ClusterUnavailable, match="broke off"):
        await transfer(pod, waits).fetch(ROOT, TABLE, tmp_path / "draft")

    assert len(pod.asked) == 4
    assert waits.seconds == [0.5, 1, 2]


async def test_attempts_with_progress_are_not_counted(pod: LocalPod, tmp_path: Path) -> None:
    pod.faults = [cut_after(2_000)] * 20

    assert await transfer(pod).fetch(ROOT, TABLE, tmp_path / "draft")

    assert (tmp_path / "draft").read_bytes() == CONTENT


async def test_a_file_that_is_gone_is_an_error_with_the_pods_own_words(
    pod: LocalPod, tmp_path: Path
) -> None:
    gone = TABLE.model_copy(update={"path": "gone.csv"})

    with pytest.raises(ClusterError, match=r"files send .*gone.csv: exit code 1 .*No such file"):
        await transfer(pod).fetch(ROOT, gone, tmp_path / "draft")

    assert len(pod.asked) == 1


async def test_a_list_that_is_cut_off_is_asked_for_again(pod: LocalPod) -> None:
    pod.faults = [cut_after(50), ends_early]

    assert len(await transfer(pod).listing(ROOT)) == 3
    assert len(pod.asked) == 3


@pytest.mark.parametrize("path", ["/etc/passwd", "../up", "a/../../up", ""])
async def test_a_list_cannot_lead_out_of_its_folder(path: str, pod: LocalPod) -> None:
    line = json.dumps({"path": path, "size": 1, "sha256": "0" * 64}).encode()

    def fault(running: Running, _block: bytes) -> bytes:
        return b"" if running.given else line + b"\n"

    pod.faults = [fault]
    with pytest.raises(ClusterError, match="the list of /grace/results"):
        await transfer(pod).listing(ROOT)


async def test_progress_counts_every_byte_of_the_file_once(pod: LocalPod, tmp_path: Path) -> None:
    pod.faults = [spoilt, cut_after(3_000)]
    counted: list[int] = []
    moving = Transfer(pod, Patience(wait=Waits()), advanced=counted.append)

    assert await moving.fetch(ROOT, TABLE, tmp_path / "draft")

    assert sum(counted) == len(CONTENT)


async def test_a_file_is_sent_with_its_hash(pod: LocalPod) -> None:
    await transfer(pod).send(CONTENT, PurePosixPath("/grace/inputs/trials-study1.csv"))

    assert (pod.root / "grace/inputs/trials-study1.csv").read_bytes() == CONTENT
    assert pod.asked[0][2:] == ("--sha256", sha256(CONTENT))
