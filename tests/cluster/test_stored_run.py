"""A run goes to the cluster and comes back the same, without secrets."""

import dataclasses
import json
from pathlib import Path

import pytest
from fake_api import FakeApi
from small_manifests import NAMESPACE, SmallManifests, small_profile, small_run

from grace.catalogue.spec import load_catalogue
from grace.cluster.client import ClusterClient
from grace.cluster.profile import load_profile
from grace.cluster.request import InputFile
from grace.cluster.stored_run import list_runs, load_run, store_run, stored_run
from grace.errors import ClusterError, IdentityMismatch, UsageError
from grace.settings import RunSettings


async def keep(client: ClusterClient, run: object) -> None:
    assert dataclasses.is_dataclass(run)
    setup = SmallManifests().setup_objects(run)  # type: ignore[arg-type]  # a ClusterRun it is
    for manifest in setup:
        await client.apply(manifest)
    await store_run(client, run, setup)  # type: ignore[arg-type]  # the same


async def test_a_run_comes_back_with_its_steps_settings_and_inputs(client: ClusterClient) -> None:
    run = small_run(models=("gemma-2-2b", "smollm2-135m"), extractor="gemma-2-9b")
    await keep(client, run)
    back = await load_run(client, NAMESPACE, run.timestamp)
    assert back.steps == run.steps
    assert back.settings == run.settings
    assert back.profile == run.profile
    assert back.files == run.files
    assert back.servers == run.servers
    assert back.models == run.models
    assert stored_run(back, SmallManifests().setup_objects(back)) == stored_run(
        run, SmallManifests().setup_objects(run)
    )


@pytest.mark.parametrize("profile", ["local", "nrp"])
async def test_every_model_of_the_catalogue_comes_back_the_same(
    client: ClusterClient, profile: str
) -> None:
    catalogue = load_catalogue(apply_lock=False)
    run = dataclasses.replace(
        small_run(models=catalogue.keys, profile=load_profile(profile)), spot=True
    )
    await keep(client, run)
    back = await load_run(client, NAMESPACE, run.run_id)
    assert [back.catalogue.get(key) for key in catalogue.keys] == list(catalogue.models)
    assert back.profile == run.profile
    assert back.spot


async def test_settings_of_every_kind_come_back_the_same(client: ClusterClient) -> None:
    settings = RunSettings(
        study=("study1", "/grace/inputs/own.yaml"),
        input={"study1": Path("/grace/inputs/study1.csv")},
        temperature=0.1,
        limit=7,
        audit=True,
        recheck=2.5,
        catalogue=Path("/grace/inputs/catalogue.yaml"),
    )
    run = dataclasses.replace(small_run(), settings=settings)
    await keep(client, run)
    assert (await load_run(client, NAMESPACE, run.run_id)).settings == settings


async def test_storing_twice_is_fine_and_another_run_is_refused(client: ClusterClient) -> None:
    run = small_run()
    await keep(client, run)
    await keep(client, run)
    with pytest.raises(IdentityMismatch, match=r"settings\.model: .* here, .* on the cluster"):
        await keep(client, small_run(models=("gemma-2-2b",)))


async def test_another_version_of_grace_may_go_on_with_a_run(
    api: FakeApi, client: ClusterClient
) -> None:
    run = small_run()
    await keep(client, run)
    stored = api.objects["configmaps", NAMESPACE, f"run-{run.run_id}"]
    document = json.loads(stored["data"]["run.json"])
    del document["settings"]["audit"]
    document["files"][0]["config_map"] = "elsewhere"
    stored["data"]["run.json"] = json.dumps({**document, "grace": "0.0.1"})
    await keep(client, run)
    document["files"][0]["sha256"] = "0" * 64
    stored["data"]["run.json"] = json.dumps(document)
    with pytest.raises(IdentityMismatch, match=r"files\.study1\.csv"):
        await keep(client, run)


async def test_a_run_may_go_on_with_another_profile(client: ClusterClient) -> None:
    run = small_run()
    await keep(client, run)
    other = small_profile(at_once=3)
    again = await load_run(client, NAMESPACE, run.run_id, profile=other)
    assert again.profile == other
    await keep(client, again)
    assert (await load_run(client, NAMESPACE, run.run_id)).profile == run.profile


async def test_runs_are_listed_and_one_that_is_not_there_is_named(client: ClusterClient) -> None:
    await keep(client, small_run())
    assert await list_runs(client, NAMESPACE) == ("20260131t235959z",)
    with pytest.raises(ClusterError, match="those that it has: 20260131t235959z"):
        await load_run(client, NAMESPACE, "20200101T000000Z")


async def test_an_input_that_changed_or_is_gone_is_not_taken_for_the_runs_own(
    api: FakeApi, client: ClusterClient
) -> None:
    run = small_run()
    await keep(client, run)
    api.objects["configmaps", NAMESPACE, "inputs-1234"]["data"]["study1.csv"] = "other"
    for _ in range(2):
        back = await load_run(client, NAMESPACE, run.run_id)
        assert back.files == run.files
        # Looking is fine; making its ConfigMap again is not.
        with pytest.raises(UsageError, match=r"input study1\.csv .* --input STUDY=CSV"):
            SmallManifests().setup_objects(back)
        await api.remove(("configmaps", NAMESPACE, "inputs-1234"))


async def test_an_input_too_large_for_the_cluster_comes_back_without_its_bytes(
    client: ClusterClient,
) -> None:
    large = InputFile("large.csv", b"x" * 2_000_000)
    run = dataclasses.replace(small_run(), files=(large,))
    await store_run(client, run, ())
    back = await load_run(client, NAMESPACE, run.run_id)
    assert (back.files, back.files[0].held) == ((large,), None)
    # Storing it again is storing the same run.
    assert stored_run(back) == stored_run(run)
    await store_run(client, back, ())
    with pytest.raises(ClusterError, match="give that file"):
        await load_run(client, NAMESPACE, run.run_id, {"large.csv": b"y"})
    given = await load_run(client, NAMESPACE, run.run_id, {"large.csv": large.content})
    assert given.files[0].held == large.content


async def test_a_form_of_another_version_is_not_guessed_at(
    api: FakeApi, client: ClusterClient
) -> None:
    run = small_run()
    await keep(client, run)
    stored = api.objects["configmaps", NAMESPACE, f"run-{run.run_id}"]
    document = json.loads(stored["data"]["run.json"])
    stored["data"]["run.json"] = json.dumps({**document, "format": 99})
    with pytest.raises(ClusterError, match="whose form this version does not know"):
        await load_run(client, NAMESPACE, run.run_id)
    del document["profile"]["jobs"]
    stored["data"]["run.json"] = json.dumps(document)
    with pytest.raises(ClusterError, match="cannot be read by this version"):
        await load_run(client, NAMESPACE, run.run_id)


def test_no_secret_and_no_content_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRACE_API_KEY", "hunter2-hunter2")
    written = json.dumps(stored_run(small_run()))
    assert "hunter2" not in written
    assert "participant_id" not in written


def test_a_stored_run_cannot_be_changed_and_fits() -> None:
    manifest = stored_run(small_run(models=load_catalogue(apply_lock=False).keys))
    assert manifest["immutable"] is True
    assert len(json.dumps(manifest)) < 900_000
