import base64
from typing import Any

import pytest
import yaml
from cluster_runs import LARGE, SMALL, a_run, at, changed, everything, kind_and_name, pods_of
from hypothesis import example, given
from hypothesis import strategies as st

from grace.cluster.manifests import files_objects, setup_objects, upload_folder, weights_objects
from grace.cluster.request import CONFIG_MAP_BYTES, ClusterRun, InputFile
from grace.cluster.yaml_text import yaml_text


def maps(run: ClusterRun) -> dict[str, Any]:
    return {
        kind_and_name(each)[1]: each for each in setup_objects(run) if each["kind"] == "ConfigMap"
    }


def held(manifest: Any) -> bytes:
    """Return the bytes of the one file in a ConfigMap."""
    found = [text.encode() for text in manifest.get("data", {}).values()]
    found += [base64.b64decode(text) for text in manifest.get("binaryData", {}).values()]
    content: bytes
    (content,) = found
    return content


@given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
@example(b"\xef\xbb\xbfbom\r\n")
@example(b"a\x85b\xe2\x80\xa8c\n")
@example(b"")
def test_a_file_keeps_its_bytes_through_yaml(content: bytes) -> None:
    run = a_run(files=(InputFile("trials.csv", content),))
    written = [yaml.safe_load(yaml_text(each)) for each in maps(run).values()]
    assert [held(each) for each in written if "run.yaml" not in each.get("data", {})] == [content]


def test_ordinary_files_can_be_read_in_the_manifest() -> None:
    (found,) = [each for name, each in maps(a_run()).items() if name.startswith("input-")]
    assert at(found, "data") == {"trials-study1.csv": SMALL.content.decode()}
    assert at(found, "immutable") is True


def test_inputs_are_named_by_content_and_belong_to_no_run() -> None:
    first = [name for name in maps(a_run()) if name.startswith("input-")]
    other = a_run(files=(InputFile(SMALL.name, SMALL.content + b"2,n\r\n"),))
    second = [name for name in maps(other) if name.startswith("input-")]
    assert first != second
    assert first == [name for name in maps(a_run(seed=2)) if name.startswith("input-")]
    assert "grace/run" not in at(maps(a_run())[first[0]], "metadata", "labels")


def test_the_config_is_yaml_and_named_by_content() -> None:
    run = a_run(seed=7)
    (name,) = [name for name in maps(run) if name.startswith("config-")]
    config = maps(run)[name]
    assert yaml.safe_load(at(config, "data", "run.yaml")) == run.config
    assert at(config, "immutable") is True
    assert at(config, "metadata", "labels", "grace/run") == run.run_id
    assert name not in maps(a_run(seed=8))


@pytest.mark.parametrize("name", ["données.csv", "..secret", "."])
def test_a_name_that_no_config_map_takes_is_given_to_the_file_only(name: str) -> None:
    run = a_run(files=(InputFile(name, b"x"),))
    (found,) = [each for key, each in maps(run).items() if key.startswith("input-")]
    assert list(at(found, "data")) == ["content"]
    (_, template), *_ = [each for each in pods_of(everything(run)) if each[0].startswith("respond")]
    (volume,) = [each for each in template["spec"]["volumes"] if each["name"] == "inputs"]
    (source,) = volume["projected"]["sources"]
    assert source["configMap"]["items"] == [{"key": "content", "path": name}]


def test_what_fits_exactly_needs_no_claim() -> None:
    fitting = InputFile("a.csv", b"x" * CONFIG_MAP_BYTES)
    assert upload_folder(a_run(files=(fitting,))) is None
    larger = InputFile("a.csv", b"x" * (CONFIG_MAP_BYTES + 1))
    assert upload_folder(a_run(files=(larger,))) is not None


def test_large_inputs_go_into_the_claim_all_together() -> None:
    run = a_run(files=(SMALL, LARGE))
    folder = upload_folder(run)
    assert not [name for name in maps(run) if name.startswith("input-")]
    for owner, template in pods_of(everything(run)):
        mounts = {each["name"]: each for each in template["spec"]["containers"][0]["volumeMounts"]}
        if owner.startswith("files-"):
            # Whoever sends them sees the whole claim, and may write.
            assert mounts["inputs"] == {"mountPath": "/grace/inputs", "name": "inputs"}
        elif owner.split("-")[0] in {"smoke", "respond", "score", "extract", "finish"}:
            assert mounts["inputs"]["subPath"] == str(folder)
            assert mounts["inputs"]["readOnly"] is True


def test_the_folder_of_large_inputs_is_that_of_their_content() -> None:
    run = a_run(files=(SMALL, LARGE))
    assert upload_folder(run) == upload_folder(a_run("nrp", "gpt2", files=(LARGE, SMALL)))
    other = InputFile(LARGE.name, LARGE.content + b"\n")
    renamed = InputFile("other.csv", LARGE.content)
    assert upload_folder(run) != upload_folder(a_run(files=(SMALL, other)))
    assert upload_folder(run) != upload_folder(a_run(files=(SMALL, renamed)))


def test_small_inputs_are_not_handed_over_by_a_pod() -> None:
    (job,) = files_objects(a_run())
    volumes = at(job, "spec", "template", "spec", "volumes")
    assert [each["name"] for each in volumes] == ["tmp", "results", "logs"]


def test_claims_are_the_profiles() -> None:
    run = a_run("nrp", "gpt2", files=(LARGE,))
    claims = {
        kind_and_name(each)[1]: at(each, "spec")
        for each in everything(run)
        if each["kind"] == "PersistentVolumeClaim"
    }
    assert {name: spec["resources"]["requests"]["storage"] for name, spec in claims.items()} == {
        "grace-inputs": "5G",
        "grace-output": "50G",
        "grace-logs": "10G",
        "weights-gpt2": "10G",
    }
    assert claims["weights-gpt2"]["accessModes"] == ["ReadWriteOnce"]
    assert claims["weights-gpt2"]["storageClassName"] == "rook-ceph-block"
    assert claims["grace-output"]["accessModes"] == ["ReadWriteMany"]


def test_the_clusters_default_class_is_not_named() -> None:
    for manifest in everything(a_run("local", "gemma-3-270m")):
        if manifest["kind"] == "PersistentVolumeClaim":
            assert "storageClassName" not in at(manifest, "spec")


def test_a_claim_for_weights_holds_the_model() -> None:
    (claim,) = weights_objects(a_run("nrp", "gemma-2-27b"), "gemma-2-27b")
    assert at(claim, "spec", "resources", "requests", "storage") == "60G"
    assert "grace/run" not in at(claim, "metadata", "labels")


def test_weights_that_are_in_the_image_need_no_claim() -> None:
    assert weights_objects(a_run(), "smollm2-135m") == ()
    unbaked = changed("local", images={"baked_weights": []})
    assert len(weights_objects(a_run(unbaked), "smollm2-135m")) == 1
