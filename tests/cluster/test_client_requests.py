"""What the client makes of an API's answers, good and bad."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fake_api import FakeApi

from grace.cluster.client import ClusterClient, Patience
from grace.cluster.client.api import Api
from grace.cluster.client.connection import Access
from grace.cluster.client.faults import shown
from grace.errors import (
    ClusterDenied,
    ClusterError,
    ClusterUnavailable,
    FieldConflict,
)

_PATIENT = Patience(attempts=4, seconds=5, first_wait_seconds=0, longest_wait_seconds=0)


def config_map(name: str = "a", **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "lab", "labels": {"of": "grace"}},
        "data": data,
    }


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    fake = FakeApi()
    async with fake.served():
        yield fake


@pytest.fixture
async def client(api: FakeApi) -> AsyncIterator[ClusterClient]:
    async with ClusterClient.at(api.url, patience=_PATIENT, seconds=2) as made:
        yield made


async def test_an_object_is_applied_read_listed_and_deleted(client: ClusterClient) -> None:
    made = await client.apply(config_map(x="1"))
    assert made["metadata"]["uid"]  # type: ignore[call-overload,index]  # it is an object
    assert (await client.get("ConfigMap", "a", "lab")) == made
    (listed,) = await client.list("ConfigMap", "lab", labels={"of": "grace"})
    assert listed == made
    assert await client.list("ConfigMap", "lab", labels={"of": "other"}) == ()
    assert await client.delete("ConfigMap", "a", "lab")
    assert not await client.delete("ConfigMap", "a", "lab")
    assert await client.get("ConfigMap", "a", "lab") is None


async def test_applying_twice_changes_nothing_and_leaving_out_removes(
    api: FakeApi, client: ClusterClient
) -> None:
    await client.apply(config_map(x="1", y="2"))
    version = api.version
    await client.apply(config_map(x="1", y="2"))
    assert api.version == version
    changed = await client.apply(config_map(x="1"))
    assert changed["data"] == {"x": "1"}


async def test_a_dry_run_keeps_nothing(api: FakeApi, client: ClusterClient) -> None:
    await client.apply(config_map(x="1"), dry_run=True)
    assert api.names("configmaps") == []


async def test_a_field_of_somebody_else_is_left_and_named(client: ClusterClient) -> None:
    await client.apply(config_map(x="1"), manager="kubectl-edit")
    with pytest.raises(FieldConflict) as raised:
        await client.apply(config_map(x="2"))
    message = str(raised.value)
    assert "ConfigMap a in lab" in message
    assert "'kubectl-edit'" in message
    assert ".data.x" in message
    assert "kubectl delete -n lab configmap a" in message
    found = await client.get("ConfigMap", "a", "lab")
    assert found is not None
    assert found["data"] == {"x": "1"}


async def test_a_field_of_ours_is_taken_over(client: ClusterClient) -> None:
    await client.apply(config_map(x="1"), manager="grace")
    changed = await client.apply(config_map(x="2"), manager="grace-run-1")
    assert changed["data"] == {"x": "2"}
    with pytest.raises(FieldConflict):
        await client.apply(config_map(x="3"), manager="grace-run-2")


async def test_what_cannot_be_changed_says_how_to_go_on(client: ClusterClient) -> None:
    await client.apply({**config_map(x="1"), "immutable": True})
    with pytest.raises(ClusterError, match="remove it with `kubectl delete -n lab configmap a`"):
        await client.apply({**config_map(x="2"), "immutable": True})


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("PersistentVolumeClaim", "set storage in the profile to what `kubectl get -n lab"),
        ("Namespace", "namespace: {create: false}"),
    ],
)
async def test_no_remedy_loses_data(
    api: FakeApi, client: ClusterClient, kind: str, remedy: str
) -> None:
    cause = {"reason": "FieldManagerConflict", "message": 'conflict with "admin"', "field": ".x"}
    conflict = {"message": "conflict", "details": {"causes": [cause]}}
    invalid = {"message": "spec is immutable after creation"}
    item = {**config_map(), "kind": kind}
    for status, body in ((409, conflict), (422, invalid)):
        api.fail("PATCH", "/a?", status=status, body=body)
        with pytest.raises(ClusterError) as raised:
            await client.apply(item)
        assert remedy in str(raised.value)
        assert "kubectl delete" not in str(raised.value)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_an_api_that_is_away_is_asked_again(
    api: FakeApi, client: ClusterClient, status: int
) -> None:
    api.fail("PATCH", "configmaps", status=status, body="<html>busy</html>", times=3)
    await client.apply(config_map(x="1"))
    assert len(api.requests) == 4


async def test_an_api_that_stays_away_is_given_up(api: FakeApi, client: ClusterClient) -> None:
    api.fail("GET", "configmaps", status=503, times=99)
    with pytest.raises(ClusterUnavailable, match="list configmaps in lab"):
        await client.list("ConfigMap", "lab")
    assert len(api.requests) == 4


async def test_the_wait_that_the_api_asks_for_is_kept(api: FakeApi) -> None:
    waits = Patience(attempts=2, seconds=5, first_wait_seconds=0, longest_wait_seconds=0)
    api.fail("GET", "configmaps", status=429, headers={"Retry-After": "0.2"})
    loop = asyncio.get_running_loop()
    async with ClusterClient.at(api.url, patience=waits) as client:
        began = loop.time()
        await client.list("ConfigMap", "lab")
    assert loop.time() - began >= 0.2


async def test_an_api_that_hangs_is_not_waited_for(api: FakeApi) -> None:
    api.fail("GET", "configmaps", hang=True, times=9)
    impatient = Patience(attempts=1)
    async with ClusterClient.at(api.url, patience=impatient, seconds=0.05) as client:
        with pytest.raises(ClusterUnavailable, match="is silent"):
            await client.get("ConfigMap", "a", "lab")


async def test_a_connection_that_breaks_is_made_again(api: FakeApi, client: ClusterClient) -> None:
    await client.apply(config_map(x="1"))
    api.fail("GET", "configmaps", cut=True, times=2)
    assert await client.get("ConfigMap", "a", "lab") is not None


async def test_an_answer_that_is_no_json_is_asked_for_again(
    api: FakeApi, client: ClusterClient
) -> None:
    api.fail("GET", "/version", status=200, body='{"gitVersion": "v1')
    assert await client.version() == "v1.36.2"


async def test_a_refusal_names_what_was_tried(api: FakeApi, client: ClusterClient) -> None:
    body = {"reason": "Forbidden", "message": 'secrets is forbidden: User "ann" cannot list'}
    api.fail("GET", "secrets", status=403, body=body, times=9)
    with pytest.raises(ClusterDenied, match=r'list secrets in lab.*User "ann"'):
        await client.list("Secret", "lab")
    assert await client.list_if_permitted("Secret", "lab") is None
    assert len(api.requests) == 2


async def test_a_used_up_quota_is_no_lack_of_permission(
    api: FakeApi, client: ClusterClient
) -> None:
    message = 'jobs.batch "x" is forbidden: exceeded quota: lab, requested: count/jobs.batch=1'
    api.fail("PATCH", "configmaps", status=403, body={"message": message})
    with pytest.raises(ClusterError, match="quota is used up") as raised:
        await client.apply(config_map())
    assert not isinstance(raised.value, ClusterDenied)


async def test_an_invalid_object_names_its_fields(api: FakeApi, client: ClusterClient) -> None:
    cause = {"field": "spec.replicas", "message": "must be positive"}
    body = {"message": "invalid", "details": {"causes": [cause]}}
    api.fail("PATCH", "configmaps", status=422, body=body)
    with pytest.raises(ClusterError, match=r"spec\.replicas: must be positive"):
        await client.apply(config_map())


async def test_no_message_shows_a_token_or_a_long_body(api: FakeApi) -> None:
    access = Access(api.url, {"Authorization": "Bearer s3cr3t-t0ken"})
    api.fail("GET", "configmaps", status=400, body="Bearer s3cr3t-t0ken " + "word " * 5000)
    client = ClusterClient(Api(access, patience=_PATIENT))
    async with client:
        with pytest.raises(ClusterError) as raised:
            await client.list("ConfigMap", "lab")
    assert "s3cr3t" not in str(raised.value)
    assert "s3cr3t" not in repr(access)
    assert len(str(raised.value)) < 600


def test_what_looks_like_a_secret_is_hidden() -> None:
    assert shown("Bearer abc") == "[hidden]"
    assert shown("x " + "QUJD" * 40) == "x [hidden]"


async def test_credentials_that_ran_out_are_renewed_once(api: FakeApi) -> None:
    api.token = "Bearer new"  # noqa: S105 -- nothing is behind it
    renewals = 0

    async def renew() -> Access:
        nonlocal renewals
        renewals += 1
        return Access(api.url, {"Authorization": "Bearer new"})

    old = Access(api.url, {"Authorization": "Bearer old"})
    async with ClusterClient(Api(old, renew=renew, patience=_PATIENT)) as client:
        versions = await asyncio.gather(*(client.version() for _ in range(5)))
    assert set(versions) == {"v1.36.2"}
    assert renewals == 1


async def test_credentials_that_are_refused_say_to_log_in(api: FakeApi) -> None:
    api.token = "Bearer new"  # noqa: S105 -- nothing is behind it

    async def renew() -> Access:
        return Access(api.url, {"Authorization": "Bearer old"})

    async with ClusterClient(Api(await renew(), renew=renew, patience=_PATIENT)) as client:
        with pytest.raises(ClusterDenied, match="log in again"):
            await client.version()


async def test_a_redirect_is_not_followed(api: FakeApi, client: ClusterClient) -> None:
    api.fail("GET", "/version", status=302, headers={"Location": "http://127.0.0.1:1/"})
    with pytest.raises(ClusterError, match="redirects"):
        await client.version()


async def test_long_lists_come_in_pages(api: FakeApi, client: ClusterClient) -> None:
    for number in range(1203):
        await api.put(("configmaps", "lab", f"c{number:04}"), {"metadata": {}})
    found = await client.list("ConfigMap", "lab")
    assert len(found) == 1203
    assert len(api.requests) == 3


async def test_a_list_whose_state_is_gone_begins_again(api: FakeApi, client: ClusterClient) -> None:
    for number in range(700):
        await api.put(("configmaps", "lab", f"c{number:04}"), {"metadata": {}})
    api.fail("GET", "continue", status=410, body={"reason": "Expired"})
    assert len(await client.list("ConfigMap", "lab")) == 700


async def test_another_object_of_the_same_name_is_not_deleted(client: ClusterClient) -> None:
    await client.apply(config_map())
    assert not await client.delete("ConfigMap", "a", "lab", uid="another")
    assert await client.get("ConfigMap", "a", "lab") is not None


async def test_permissions_kinds_and_versions_can_be_asked_for(
    api: FakeApi, client: ClusterClient
) -> None:
    api.allowed = lambda about: about["verb"] == "get"
    assert await client.may("get", "jobs", "lab", group="batch")
    assert not await client.may("delete", "jobs", "lab", group="batch")
    (rule,) = await client.rules("lab")
    assert rule.verbs == ("get",)
    assert "Job" in await client.kinds("batch/v1")
    assert await client.kinds("keda.sh/v1alpha1") == frozenset()


async def test_a_cluster_whose_clock_differs_is_read_by_its_own(api: FakeApi) -> None:
    async with ClusterClient.at(api.url, patience=_PATIENT) as client:
        date = {"Date": "Sat, 01 Jan 2050 00:00:00 GMT"}
        api.fail("GET", "/version", status=200, body={"gitVersion": "v1"}, headers=date)
        await client.version()
        assert client.now().year == 2050


def test_a_kind_that_is_not_known_is_a_mistake_of_ours() -> None:
    from grace.cluster.client import kind_of

    with pytest.raises(ValueError, match="'Cow' is not a kind"):
        kind_of("Cow")
