"""Watches, logs and commands, over connections that break."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest
from fake_api import FakeApi

from grace.cluster.client import Change, ChangeKind, ClusterClient, Patience, text
from grace.errors import ClusterDenied, ClusterError, ClusterUnavailable, ObjectMissing

_PATIENT = Patience(attempts=4, seconds=5, first_wait_seconds=0, longest_wait_seconds=0)


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    fake = FakeApi()
    async with fake.served():
        yield fake


@pytest.fixture
async def client(api: FakeApi) -> AsyncIterator[ClusterClient]:
    async with ClusterClient.at(api.url, patience=_PATIENT, seconds=2) as made:
        yield made


async def put(api: FakeApi, name: str, value: str = "") -> None:
    item = dict(api.objects.get(("configmaps", "lab", name), {"metadata": {}}))
    item["metadata"] = dict(item["metadata"])
    await api.put(("configmaps", "lab", name), {**item, "data": {"value": value}})


def told(change: Change) -> tuple[str, str, str]:
    manifest = change.manifest
    return change.kind.value, text(manifest, "metadata", "name"), text(manifest, "data", "value")


def watches(api: FakeApi) -> int:
    return sum("watch=true" in path for _, path in api.requests)


async def next_of(watch: AsyncIterator[Change]) -> tuple[str, str, str]:
    async with asyncio.timeout(5):
        return told(await anext(watch))


async def test_a_watch_gives_what_there_is_then_what_changes(
    api: FakeApi, client: ClusterClient
) -> None:
    await put(api, "a", "1")
    watch = client.watch("ConfigMap", "lab")
    assert await next_of(watch) == ("ADDED", "a", "1")
    await put(api, "a", "2")
    assert await next_of(watch) == ("MODIFIED", "a", "2")
    await put(api, "b", "1")
    assert await next_of(watch) == ("ADDED", "b", "1")
    await api.remove(("configmaps", "lab", "a"))
    assert await next_of(watch) == ("DELETED", "a", "2")


async def test_a_watch_goes_on_after_its_connection_broke(
    api: FakeApi, client: ClusterClient
) -> None:
    await put(api, "a", "1")
    watch = client.watch("ConfigMap", "lab")
    assert await next_of(watch) == ("ADDED", "a", "1")
    for value in ("2", "3", "4"):
        await api.drop_watches()
        await put(api, "a", value)
        assert await next_of(watch) == ("MODIFIED", "a", value)
    lists = [path for _, path in api.requests if "watch=true" not in path]
    assert len(lists) == 1


async def test_a_watch_from_a_version_that_is_gone_tells_the_differences(
    api: FakeApi, client: ClusterClient
) -> None:
    for name in ("kept", "changed", "gone"):
        await put(api, name, "1")
    watch = client.watch("ConfigMap", "lab")
    assert {await next_of(watch) for _ in range(3)} == {
        ("ADDED", name, "1") for name in ("kept", "changed", "gone")
    }
    waiting = asyncio.create_task(next_of(watch))
    await api.until(lambda: watches(api) == 1)
    api.fail("GET", "watch=true", status=503, times=2)
    await api.drop_watches()
    await put(api, "changed", "2")
    await api.remove(("configmaps", "lab", "gone"))
    await put(api, "new", "1")
    api.forget_history()
    found = {await waiting, await next_of(watch), await next_of(watch)}
    # The first may have come before the history was forgotten: as a change of its own.
    assert found == {("DELETED", "gone", "1"), ("MODIFIED", "changed", "2"), ("ADDED", "new", "1")}


async def test_a_watch_that_is_answered_with_410_lists_again(
    api: FakeApi, client: ClusterClient
) -> None:
    await put(api, "a", "1")
    gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    api.fail("GET", "watch=true", status=200, body={"type": "ERROR", "object": gone}, times=2)
    watch = client.watch("ConfigMap", "lab")
    assert await next_of(watch) == ("ADDED", "a", "1")
    waiting = asyncio.create_task(next_of(watch))
    await api.until(lambda: watches(api) == 3)
    await put(api, "a", "2")
    assert await waiting == ("MODIFIED", "a", "2")


async def test_a_watch_that_is_not_permitted_is_refused_at_once(
    api: FakeApi, client: ClusterClient
) -> None:
    api.fail("GET", "watch=true", status=403, body={"message": "no"}, times=9)
    with pytest.raises(ClusterDenied, match="watch configmaps in lab"):
        await next_of(client.watch("ConfigMap", "lab"))


async def test_a_watch_gives_up_when_the_api_stays_away(
    api: FakeApi, client: ClusterClient
) -> None:
    api.fail("GET", "watch=true", status=503, times=99)
    with pytest.raises(ClusterUnavailable):
        await next_of(client.watch("ConfigMap", "lab"))
    assert watches(api) == 4


async def test_an_event_that_is_cut_off_is_no_event(api: FakeApi, client: ClusterClient) -> None:
    await put(api, "a", "1")
    api.fail("GET", "watch=true", status=200, body='{"type": "MODIFIED", "obj', times=1)
    watch = client.watch("ConfigMap", "lab")
    assert await next_of(watch) == ("ADDED", "a", "1")
    await put(api, "a", "2")
    assert await next_of(watch) == ("MODIFIED", "a", "2")


def test_changes_have_the_names_of_the_api() -> None:
    assert [kind.value for kind in ChangeKind] == ["ADDED", "MODIFIED", "DELETED"]


async def test_the_end_of_a_log_is_read(api: FakeApi, client: ClusterClient) -> None:
    api.logs["p"] = [f"line {number}" for number in range(50)]
    assert await client.log_tail("p", "lab", lines=2) == ("line 48", "line 49")
    with pytest.raises(ObjectMissing):
        await client.log_tail("q", "lab")


async def test_a_log_is_followed_over_a_broken_connection_without_gap_or_repeat(
    api: FakeApi, client: ClusterClient
) -> None:
    api.logs["p"] = [f"line {number}" for number in range(40)]
    api.fault_in_log = True
    await api.put(("pods", "lab", "p"), {"metadata": {}, "status": {"phase": "Succeeded"}})
    found = [line async for line in client.log_lines("p", "lab")]
    assert found == api.logs["p"]


async def test_a_command_gets_bytes_and_gives_bytes(api: FakeApi, client: ClusterClient) -> None:
    api.commands = lambda command, given: (given[::-1], " ".join(command), 0)
    given = bytes(range(256)) * 1000
    output = await client.run("p", "lab", ["rev", "-x"], stdin=given)
    assert output.stdout == given[::-1]
    assert output.ended.exit_code == 0
    assert output.ended.stderr == "rev -x"


async def test_input_may_come_piece_by_piece(api: FakeApi, client: ClusterClient) -> None:
    api.commands = lambda _, given: (hashlib.sha256(given).hexdigest().encode(), "", 0)

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(100):
            yield bytes([number]) * 1000

    expected = hashlib.sha256(b"".join([bytes([n]) * 1000 for n in range(100)])).hexdigest()
    output = await client.run("p", "lab", ["sha256sum"], stdin=pieces())
    assert output.stdout.decode() == expected


async def test_empty_input_is_closed(client: ClusterClient) -> None:
    assert (await client.run("p", "lab", ["cat"], stdin=b"")).stdout == b""


async def test_a_command_that_fails_gives_its_code(api: FakeApi, client: ClusterClient) -> None:
    api.commands = lambda *_: (b"half", "no such file", 3)
    output = await client.run("p", "lab", ["cat", "x"])
    assert (output.stdout, output.ended.exit_code) == (b"half", 3)
    assert output.ended.stderr == "no such file"


async def test_a_connection_that_ends_without_a_status_is_no_end_of_the_command(
    api: FakeApi, client: ClusterClient
) -> None:
    api.commands = lambda *_: (b"half", "", -1)
    with pytest.raises(ClusterUnavailable, match="broke off"):
        await client.run("p", "lab", ["cat"])


async def test_input_needs_an_api_that_can_close_it(api: FakeApi, client: ClusterClient) -> None:
    api.protocols = api.protocols[1:]
    with pytest.raises(ClusterError, match=r"Kubernetes 1\.30"):
        await client.run("p", "lab", ["cat"], stdin=b"x")
    assert (await client.run("p", "lab", ["true"])).ended.exit_code == 0


async def test_a_command_that_is_refused_is_an_error(api: FakeApi, client: ClusterClient) -> None:
    api.fail("GET", "exec", status=403, body={"message": "no"})
    with pytest.raises(ClusterDenied, match="run cat in pod p in lab"):
        await client.run("p", "lab", ["cat"])
