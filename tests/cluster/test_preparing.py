"""From what a user asks to a run on a cluster: what is refused, and what pods come to see."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.catalogue.lockfile import LockedRevision, default_lock_path, write_lock
from grace.catalogue.model import ModelSpec
from grace.catalogue.spec import Catalogue, load_catalogue
from grace.cluster.pod_files import CATALOGUE_FILE, catalogue_file, study_file, trials_file
from grace.cluster.preparing import adjusted, prepare_run
from grace.cluster.profile import Profile, load_profile
from grace.cluster.servable import cautions
from grace.errors import CatalogueError, InputFaults, UsageError
from grace.settings import RunSettings, make_settings

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
OWN_STUDY = EXAMPLES / "scalar_adjectives.yaml"
OWN_TRIALS = EXAMPLES / "scalar_adjectives.csv"
WHEN = "20260131T235959Z"

ENTRY = """
models:
  mine:
    title: Mine
    repository: lab/mine
    licence: {id: mit, name: MIT License, url: https://example.org, commercial_use: "yes"}
    server: llamacpp
    context_length: 2048
    cpu: 1
    memory_gb: 1
    disk_gb: 1
    prompt_mode: completion
"""


@pytest.fixture(scope="module")
def local() -> Profile:
    return load_profile("local")


@pytest.fixture(scope="module")
def nrp() -> Profile:
    return load_profile("nrp")


def with_secrets(profile: Profile, **secrets: object) -> Profile:
    return Profile.model_validate_json(
        json.dumps({**profile.model_dump(mode="json"), "secrets": secrets})
    )


def own_catalogue(folder: Path, text: str = ENTRY) -> Path:
    path = folder / "my models.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_run_without_any_choice_is_complete(local: Profile) -> None:
    run = prepare_run(RunSettings(), local, timestamp=WHEN)

    assert run.namespace == "grace-experiments"
    assert run.timestamp == run.settings.timestamp == WHEN
    assert run.settings.out == Path("/grace/results")
    assert run.settings.extractor == "rules"
    assert run.extractor is None
    assert run.files == ()
    assert [server.base.key for server in run.servers] == ["smollm2-135m"]


def test_a_timestamp_is_now_unless_given(local: Profile) -> None:
    assert prepare_run(RunSettings(), local).timestamp.startswith("20")
    assert prepare_run(RunSettings(timestamp=WHEN), local).timestamp == WHEN
    with pytest.raises(UsageError, match="expected UTC as"):
        prepare_run(RunSettings(), local, timestamp="yesterday")


def test_pods_read_the_settings_back_as_they_were_made(local: Profile, tmp_path: Path) -> None:
    asked = RunSettings(
        study=("study2", str(OWN_STUDY)),
        input={"scalar_adjectives": OWN_TRIALS},
        model=("mine",),
        catalogue=own_catalogue(tmp_path),
        limit=3,
        temperature=0.0,
        pmi=True,
        recheck=10.0,
    )
    run = prepare_run(asked, local)

    assert make_settings(run.config, "run.yaml") == run.settings
    assert json.loads(json.dumps(run.config)) == run.config


def test_a_users_files_are_where_pods_read_them(
    local: Profile, tmp_path: Path, small_inputs: Mapping[str, Path]
) -> None:
    asked = RunSettings(
        study=("study1", str(OWN_STUDY)),
        input={"study1": small_inputs["study1"], "scalar_adjectives": OWN_TRIALS},
        model=("mine",),
        catalogue=own_catalogue(tmp_path),
    )
    run = prepare_run(asked, local)

    files = {file.name: file for file in run.files}
    assert files["trials-study1.csv"].content == small_inputs["study1"].read_bytes()
    assert files["study-scalar_adjectives.yaml"].content == OWN_STUDY.read_bytes()
    assert files["trials-scalar_adjectives.csv"].content == OWN_TRIALS.read_bytes()
    assert run.settings.study == ("study1", "/grace/inputs/study-scalar_adjectives.yaml")
    assert run.settings.input == {
        "study1": Path("/grace/inputs/trials-study1.csv"),
        "scalar_adjectives": Path("/grace/inputs/trials-scalar_adjectives.csv"),
    }
    assert run.settings.catalogue == Path("/grace/inputs/catalogue.yaml")
    assert str(tmp_path) not in json.dumps(run.config)
    assert all(str(tmp_path).encode() not in file.content for file in run.files)


@given(
    st.lists(
        st.from_regex(r"[a-z][a-z0-9_-]{0,40}", fullmatch=True), unique=True, min_size=1, max_size=8
    )
)
def test_names_of_files_are_safe_and_unique_for_any_studies(keys: list[str]) -> None:
    names = [name for key in keys for name in (trials_file(key), study_file(key))]
    names.append(CATALOGUE_FILE)

    assert len(set(names)) == len(names)
    for name in names:
        # What a ConfigMap's key may be.
        assert len(name) <= 253
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.")
        assert not name.startswith(".")


@given(
    title=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40),
    prefix=st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters=[chr(n) for n in range(160)])
        | st.sampled_from("\n\t \"'\\#:"),
        max_size=20,
    ),
    fields=st.dictionaries(
        st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=8),
        st.integers(-(2**53), 2**53) | st.booleans() | st.sampled_from(["no", "1e3", "~", ""]),
        max_size=3,
    ),
)
def test_a_catalogue_says_the_same_to_pods(
    title: str, prefix: str, fields: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = load_catalogue().get("smollm2-135m")
    spec = ModelSpec.model_validate(
        {**base.model_dump(), "title": title, "answer_prefix": prefix, "request_fields": fields}
    )
    file = catalogue_file(Catalogue(models=(spec,)), [spec.key])

    if spec == base:
        assert file is None
        return
    assert file is not None
    path = tmp_path_factory.mktemp("pod") / file.name
    path.write_bytes(file.content)
    assert load_catalogue(path, apply_lock=False).get(spec.key) == spec


@pytest.mark.parametrize("key", load_catalogue().keys)
def test_every_entry_of_the_catalogue_can_be_given_to_pods(key: str, tmp_path: Path) -> None:
    spec = load_catalogue().get(key).model_copy(update={"title": "changed"})
    file = catalogue_file(Catalogue(models=(spec,)), [key])

    assert file is not None
    (tmp_path / file.name).write_bytes(file.content)
    assert load_catalogue(tmp_path / file.name, apply_lock=False).get(key) == spec


def test_pods_are_given_only_what_they_would_not_find(local: Profile, tmp_path: Path) -> None:
    path = own_catalogue(tmp_path)

    assert prepare_run(RunSettings(catalogue=path), local).files == ()
    (file,) = prepare_run(RunSettings(catalogue=path, model=("mine",)), local).files
    assert list(json.loads(file.content)["models"]) == ["mine"]


def test_a_revision_that_was_locked_here_is_the_one_that_pods_take(
    nrp: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    commit = "0123456789abcdef" * 2 + "01234567"
    locked = LockedRevision(
        repository="openai-community/gpt2", revision=commit, locked_at="2026-01-31T00:00:00Z"
    )
    write_lock(default_lock_path(), {"gpt2": locked})

    run = prepare_run(RunSettings(model=("gpt2",)), nrp, namespace="lab")

    (file,) = run.files
    (tmp_path / "pods.yaml").write_bytes(file.content)
    assert load_catalogue(tmp_path / "pods.yaml", apply_lock=False).get("gpt2").revision == commit
    assert run.settings.catalogue == Path("/grace/inputs/catalogue.yaml")


def test_the_base_of_an_adapter_comes_with_it(nrp: Profile, tmp_path: Path) -> None:
    text = ENTRY.replace("    server: llamacpp", "    server: vllm\n    lora_base: base") + (
        ENTRY.partition("models:\n")[2].replace("mine:", "base:").replace("llamacpp", "vllm")
    )
    asked = RunSettings(model=("mine",), catalogue=own_catalogue(tmp_path, text))

    run = prepare_run(asked, nrp, namespace="lab")

    assert sorted(json.loads(run.files[0].content)["models"]) == ["base", "mine"]
    (server,) = run.servers
    assert server.base.key == "base"


def test_the_extractor_is_the_same_for_all_pods(
    local: Profile, nrp: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A key on the user's machine says nothing about pods.
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-0123456789abcdef")

    here = prepare_run(RunSettings(), local)
    there = prepare_run(RunSettings(), nrp, namespace="lab")

    assert (here.settings.extractor, here.extractor) == ("rules", None)
    assert (there.settings.extractor, there.extractor) == ("rules+deepseek", "deepseek")
    assert all("sk-0123" not in json.dumps(run.config) for run in (here, there))


def test_without_responses_nobody_extracts(nrp: Profile) -> None:
    run = prepare_run(RunSettings(experiment=("exp2",)), nrp, namespace="lab")

    assert (run.settings.extractor, run.extractor) == ("rules", None)


def test_a_model_that_extracts_is_served_on_the_cluster(nrp: Profile) -> None:
    asked = RunSettings(model=("gpt2",), extractor="rules+llama-3-8b")

    run = prepare_run(asked, nrp, namespace="lab")

    assert run.extractor == "llama-3-8b"
    assert [server.base.key for server in run.servers] == ["gpt2", "llama-3-8b"]
    # Its address is told to the steps that ask it.
    assert run.settings.extractor_endpoint is None


def test_how_pods_work_is_the_profiles_choice(local: Profile, tmp_path: Path) -> None:
    profile = Profile.model_validate_json(
        json.dumps(
            {
                **local.model_dump(mode="json"),
                "jobs": {
                    **local.jobs.model_dump(mode="json"),
                    "concurrency": 50,
                    "drain_seconds": 7,
                },
            }
        )
    )
    asked = RunSettings(threads=64, drain_seconds=3600, server="vllm", api_key_env="MY_KEY")

    settings = prepare_run(asked, profile).settings

    assert (settings.concurrency, settings.drain_seconds) == (50, 7)
    assert (settings.threads, settings.server, settings.api_key_env) == (0, "auto", "GRACE_API_KEY")
    assert prepare_run(RunSettings(concurrency=10), profile).settings.concurrency == 10


def test_a_namespace_is_the_users_or_the_profiles(local: Profile, nrp: Profile) -> None:
    assert prepare_run(RunSettings(), local, namespace="mine").namespace == "mine"
    with pytest.raises(UsageError, match="nrp names no namespace; give yours: --namespace"):
        prepare_run(RunSettings(), nrp)


@pytest.mark.parametrize("name", ["", "UPPER", "a_b", "-a", "a" * 64, "a\n"])
def test_a_namespace_must_be_a_name(name: str, local: Profile) -> None:
    with pytest.raises(UsageError, match="--namespace is "):
        prepare_run(RunSettings(), local, namespace=name)


def test_spot_nodes_must_be_known(local: Profile) -> None:
    with pytest.raises(UsageError, match="does not say which nodes can be taken away"):
        prepare_run(RunSettings(), local, spot=True)
    profile = Profile.model_validate_json(
        json.dumps({**local.model_dump(mode="json"), "spot": {"node_labels": {"spot": "true"}}})
    )
    assert prepare_run(RunSettings(), profile, spot=True).spot


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"dry_run": True}, "grace run --dry-run"),
        ({"new": True}, "new is not for a cluster"),
        ({"retry_failed": True}, "grace resume FOLDER --retry-failed"),
        ({"model": ()}, "at least one"),
        ({"study": ()}, "at least one"),
        ({"experiment": ()}, "at least one"),
        ({"model": ("smollm2-135m", "smollm2-135m")}, "--model: one is given twice"),
        ({"experiment": ("exp1", "exp1")}, "--experiment: one is given twice"),
        ({"endpoint": "http://10.0.0.1"}, "Grace serves smollm2-135m itself"),
        ({"extractor_endpoint": "http://10.0.0.1"}, "unless it is hosted; leave it out"),
        (
            {"extractor": "smollm2-135m", "extractor_endpoint": "http://10.0.0.1"},
            "unless it is hosted; leave it out",
        ),
    ],
    ids=str,
)
def test_what_makes_no_sense_on_a_cluster_is_refused(
    asked: dict[str, Any], message: str, local: Profile
) -> None:
    with pytest.raises(UsageError, match=message):
        prepare_run(RunSettings(**asked), local)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "127.8.8.8", "a.localhost", "host.docker.internal"]
)
def test_an_address_of_this_machine_is_refused(host: str, nrp: Profile) -> None:
    asked = RunSettings(
        model=("deepseek",), experiment=("exp1",), endpoint=f"http://{host}:8000", extractor="rules"
    )

    with pytest.raises(UsageError, match="is this machine; pods cannot reach it"):
        prepare_run(asked, nrp, namespace="lab")


def test_a_hosted_model_may_be_elsewhere(local: Profile) -> None:
    asked = RunSettings(
        model=("deepseek",),
        experiment=("exp1",),
        endpoint="https://gateway.example.org",
        server="openai",
        extractor="rules",
    )

    run = prepare_run(asked, local)

    assert run.settings.endpoint == "https://gateway.example.org"
    assert run.settings.server == "openai"
    assert run.servers == ()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"model": ("nosuch",)}, "there is no model 'nosuch'"),
        ({"extractor": "nosuch"}, "there is no model 'nosuch'"),
    ],
    ids=["model", "extractor"],
)
def test_models_must_exist(asked: dict[str, Any], message: str, local: Profile) -> None:
    with pytest.raises(CatalogueError, match=message):
        prepare_run(RunSettings(**asked), local)


def test_models_that_pods_could_never_ask_are_named_together(
    local: Profile, tmp_path: Path
) -> None:
    text = ENTRY + (
        ENTRY.partition("models:\n")[2]
        .replace("mine:", "here:")
        .replace("    repository: lab/mine\n", "    weights: file:///data/weights.gguf\n")
    )
    asked = RunSettings(
        model=("here", "gemma-2-2b", "deepseek"), catalogue=own_catalogue(tmp_path, text)
    )

    with pytest.raises(UsageError) as raised:
        prepare_run(asked, local)

    lines = str(raised.value).splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("here: its weights are on this machine")
    assert lines[1].startswith("gemma-2-2b: needs 1 ")
    assert lines[1].count("24 GB, and the profile local has no GPUs") == 1
    assert lines[2].startswith("gemma-2-2b: is gated, and the profile local names no Secret")
    assert lines[3].startswith("deepseek: is hosted, and hosted models give no exact prob")
    assert lines[4].startswith("deepseek: needs the key DEEPSEEK_API_KEY, and the profile local")


def test_weights_that_are_in_the_image_need_no_hub(local: Profile, tmp_path: Path) -> None:
    text = ENTRY.replace("    repository: lab/mine\n", "    weights: file:///models/mine.gguf\n")
    profile = Profile.model_validate_json(
        json.dumps(
            {
                **local.model_dump(mode="json"),
                "images": {**local.images.model_dump(mode="json"), "baked_weights": ["mine"]},
            }
        )
    )
    asked = RunSettings(model=("mine",), catalogue=own_catalogue(tmp_path, text))

    run = prepare_run(asked, profile)

    assert not run.fetches(run.catalogue.get("mine"))


def test_a_key_that_pods_cannot_have_is_named(nrp: Profile, tmp_path: Path) -> None:
    text = """
models:
  paid:
    title: Paid
    licence: {id: x, name: X, url: https://example.org, commercial_use: "yes"}
    server: openai
    endpoint: https://api.example.org
    api_key_env: PAID_KEY
    context_length: 2048
    prompt_mode: chat
"""
    asked = RunSettings(
        model=("paid",), experiment=("exp1",), catalogue=own_catalogue(tmp_path, text)
    )

    with pytest.raises(UsageError, match="paid: needs the key PAID_KEY; pods can be given"):
        prepare_run(asked, nrp, namespace="lab")


def test_the_extractor_is_held_to_the_same(local: Profile) -> None:
    with pytest.raises(UsageError, match="deepseek: needs the key DEEPSEEK_API_KEY"):
        prepare_run(RunSettings(extractor="deepseek"), local)
    profile = with_secrets(local, deepseek={"name": "my-key", "key": "k"})
    assert prepare_run(RunSettings(), profile).extractor == "deepseek"


def test_a_server_that_is_nobodys_is_refused(local: Profile, tmp_path: Path) -> None:
    path = own_catalogue(tmp_path, ENTRY.replace("llamacpp", "openai"))

    with pytest.raises(UsageError, match="mine: is catalogued with the server 'openai'"):
        prepare_run(RunSettings(model=("mine",), catalogue=path), local)


def test_inputs_are_checked_before_anything_is_sent(local: Profile, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("participant_id\n1\n", encoding="utf-8")

    with pytest.raises(InputFaults):
        prepare_run(RunSettings(study=("study1",), input={"study1": wrong}), local)
    gone = tmp_path / "gone.csv"
    with pytest.raises(UsageError, match="no such file"):
        prepare_run(RunSettings(study=("study1",), input={"study1": gone}), local)


def test_a_profile_is_changed_by_a_commands_figures(nrp: Profile) -> None:
    changed = adjusted(nrp, shards=5, models_at_once=2, deadline_hours=3.5)

    assert changed.jobs.shards == 5
    assert changed.model_servers.at_once == 2
    assert changed.jobs.deadline_hours == changed.model_servers.deadline_hours == 3.5
    assert adjusted(nrp) == nrp


@pytest.mark.parametrize("figures", [{"shards": 0}, {"models_at_once": 0}, {"deadline_hours": 0}])
def test_figures_out_of_range_are_named(figures: dict[str, Any], nrp: Profile) -> None:
    with pytest.raises(UsageError, match="profile nrp: "):
        adjusted(nrp, **figures)


def test_models_whose_weights_may_change_are_named() -> None:
    catalogue = load_catalogue()
    keys = ("gemma-2-2b", "smollm2-135m", "deepseek")

    (said,) = cautions([catalogue.get(key) for key in keys])

    assert said.startswith("gemma-2-2b: no commit is locked")
    assert "grace models lock gemma-2-2b" in said
