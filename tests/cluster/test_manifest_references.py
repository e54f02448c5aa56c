"""What objects say of each other: every name exists, and every selector matches what it is meant for."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from cluster_runs import Variant, a_run, at, catalogue, everything, kind_and_name, pods_of, variants
from hypothesis import given
from hypothesis import strategies as st

from grace.catalogue.spec import Catalogue
from grace.cluster.manifests import Manifest
from grace.cluster.profile import load_profile
from grace.cluster.request import ClusterRun

each_variant = pytest.mark.parametrize("variant", variants(), ids=lambda variant: variant.name)

NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")


def references(template: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield kind and name of all that a pod needs."""
    spec = template["spec"]
    yield "ServiceAccount", spec["serviceAccountName"]
    for secret in spec.get("imagePullSecrets", []):
        yield "Secret", secret["name"]
    for volume in spec["volumes"]:
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
        for source in volume.get("projected", {}).get("sources", []):
            yield "ConfigMap", source["configMap"]["name"]
    for variable in spec["containers"][0].get("env", []):
        if "valueFrom" in variable:
            yield "Secret", variable["valueFrom"]["secretKeyRef"]["name"]


def declared_secrets(run: ClusterRun) -> set[str]:
    """Return the Secrets that the profile says the user makes."""
    secrets = run.profile.secrets
    named = [each.name for each in (secrets.hub_token, secrets.deepseek) if each is not None]
    return {*named, run.profile.images.pull_secret or ""}


@each_variant
def test_everything_that_a_pod_needs_is_made_or_declared(variant: Variant) -> None:
    objects = everything(variant.run)
    made = {kind_and_name(each) for each in objects}
    made |= {("Secret", name) for name in declared_secrets(variant.run)}
    for owner, template in pods_of(objects):
        assert set(references(template)) <= made, owner


@each_variant
def test_what_is_projected_is_in_the_config_map(variant: Variant) -> None:
    objects = everything(variant.run)
    keys = {kind_and_name(each)[1]: _keys(each) for each in objects if each["kind"] == "ConfigMap"}
    for owner, template in pods_of(objects):
        for volume in template["spec"]["volumes"]:
            for source in volume.get("projected", {}).get("sources", []):
                found = source["configMap"]
                assert {item["key"] for item in found["items"]} == keys[found["name"]], owner


def _keys(config_map: Mapping[str, Any]) -> set[str]:
    return {*config_map.get("data", {}), *config_map.get("binaryData", {})}


@each_variant
def test_every_mount_has_its_volume_and_every_volume_its_mount(variant: Variant) -> None:
    for owner, template in pods_of(everything(variant.run)):
        volumes = [volume["name"] for volume in template["spec"]["volumes"]]
        mounts = template["spec"]["containers"][0]["volumeMounts"]
        assert sorted(volumes) == sorted(each["name"] for each in mounts), owner
        assert len({each["mountPath"] for each in mounts}) == len(mounts), owner


@each_variant
def test_names_and_labels_are_valid_and_names_unique(variant: Variant) -> None:
    objects = everything(variant.run)
    names = [kind_and_name(each) for each in objects]
    assert len(set(names)) == len(names)
    for manifest in objects:
        kind, name = kind_and_name(manifest)
        assert NAME.fullmatch(name), name
        assert len(name) <= (52 if kind in {"Job", "StatefulSet"} else 63), name
        for value in at(manifest, "metadata", "labels").values():
            assert LABEL.fullmatch(value), value
            assert len(value) <= 63
        if kind != "Namespace":
            assert at(manifest, "metadata", "namespace") == variant.run.namespace


@each_variant
def test_labels_say_what_an_object_is(variant: Variant) -> None:
    for manifest in everything(variant.run):
        labels = at(manifest, "metadata", "labels")
        assert labels["app.kubernetes.io/name"] == "grace"
        assert labels["app.kubernetes.io/managed-by"] == "grace"
        assert labels["app.kubernetes.io/component"]
        assert labels.get("grace/run") in {None, variant.run.run_id}
        if manifest["kind"] in {"Job", "StatefulSet"}:
            assert labels["grace/run"] == variant.run.run_id


@each_variant
def test_selectors_match_the_pods_of_their_model_and_no_others(variant: Variant) -> None:
    objects = everything(variant.run)
    templates = [template["metadata"]["labels"] for _, template in pods_of(objects)]
    checked = 0
    for manifest in objects:
        selector = _selector(manifest)
        if selector is None:
            continue
        found = [labels for labels in templates if selector.items() <= labels.items()]
        assert len(found) == 1, kind_and_name(manifest)
        assert found[0]["grace/model"] == at(manifest, "metadata", "labels", "grace/model")
        checked += 1
    assert checked >= len(variant.run.servers)


def _selector(manifest: Manifest) -> Mapping[str, str] | None:
    if manifest["kind"] == "Service":
        return dict(at(manifest, "spec", "selector"))
    if manifest["kind"] in {"StatefulSet", "PodDisruptionBudget"}:
        return dict(at(manifest, "spec", "selector", "matchLabels"))
    return None


@each_variant
def test_autoscalers_and_headless_services_belong_to_a_stateful_set(variant: Variant) -> None:
    objects = everything(variant.run)
    made = {kind_and_name(each) for each in objects}
    for manifest in objects:
        if manifest["kind"] in {"HorizontalPodAutoscaler", "ScaledObject"}:
            assert ("StatefulSet", at(manifest, "spec", "scaleTargetRef", "name")) in made
        if manifest["kind"] == "StatefulSet":
            assert ("Service", at(manifest, "spec", "serviceName")) in made
            scaled = {"HorizontalPodAutoscaler", "ScaledObject"} & {kind for kind, _ in made}
            has_scaler = any((kind, kind_and_name(manifest)[1]) in made for kind in scaled)
            # Who sets the number of pods: exactly one of the two.
            assert ("replicas" in at(manifest, "spec")) != has_scaler


@each_variant
def test_commands_name_services_that_exist(variant: Variant) -> None:
    objects = everything(variant.run)
    services = {name for kind, name in map(kind_and_name, objects) if kind == "Service"}
    for owner, template in pods_of(objects):
        command = template["spec"]["containers"][0]["command"]
        for flag in {"--endpoint", "--extractor-endpoint"} & set(command):
            address = command[command.index(flag) + 1]
            assert address.removeprefix("http://").removesuffix(":8000") in services, owner


parts = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?", fullmatch=True)
keys = st.lists(parts, min_size=1, max_size=2).map(".".join)


@given(st.lists(keys, min_size=1, max_size=4, unique=True))
def test_any_keys_make_valid_and_different_objects(found: list[str]) -> None:
    base = catalogue().get("gpt2")
    models = tuple(base.model_copy(update={"key": key}) for key in found)
    run = a_run(load_profile("nrp"))
    run = replace(
        run,
        settings=run.settings.model_copy(update={"model": tuple(found)}),
        catalogue=Catalogue(models=models),
    )
    variant = Variant("any", run)
    test_names_and_labels_are_valid_and_names_unique(variant)
    test_selectors_match_the_pods_of_their_model_and_no_others(variant)
    assert everything(run) == everything(run)
