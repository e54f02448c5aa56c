"""Every object in every form, against the schemas of the last four versions of Kubernetes."""

import gzip
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cluster_runs import at, everything, variants
from kubernetes_validate.utils import schema_contents
from referencing import Registry, Resource

from grace.cluster.manifests import Manifest

VERSIONS = ("1.34", "1.35", "1.36", "1.37")
SCHEMAS = "GRACE_CRD_SCHEMAS"
CUSTOM = "keda.sh/v1alpha1"


@cache
def _distinct() -> tuple[Manifest, ...]:
    """Return all objects of all variants, each once: most setups are alike."""
    objects = [manifest for each in variants() for manifest in everything(each.run)]
    return tuple({json.dumps(manifest): manifest for manifest in objects}.values())


@cache
def _validator(version: str, api_version: str, kind: str) -> jsonschema.Draft202012Validator:
    """Return what `kubernetes_validate.validate` makes anew, from large files, for each object."""
    folder = f"kubernetes-json-schema/v{version}.0-local-strict"
    group, _, written = api_version.rpartition("/")
    file = f"{kind.lower()}-{group.partition('.')[0]}{'-' * bool(group)}{written}.json"
    schema = schema_contents(f"{folder}/{file}", version)
    definitions = schema_contents(f"{folder}/_definitions.json", version)
    registry: Registry = Resource.from_contents(definitions) @ (
        Resource.from_contents(schema) @ Registry()
    )
    return jsonschema.Draft202012Validator(schema, registry=registry)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(version: str) -> None:
    checked = 0
    for manifest in _distinct():
        if manifest["apiVersion"] != CUSTOM:
            _validator(version, str(manifest["apiVersion"]), str(manifest["kind"])).validate(
                manifest
            )
            checked += 1
    assert checked > 200


def test_an_unknown_field_would_be_found() -> None:
    job = next(each for each in everything(variants()[0].run) if each["kind"] == "Job")
    spec = {**at(job, "spec"), "backofLimit": 3}
    validator = _validator(VERSIONS[0], "batch/v1", "Job")
    assert validator.is_valid(job)
    assert not validator.is_valid({**job, "spec": spec})


def test_every_kind_is_among_the_variants() -> None:
    kinds = {manifest["kind"] for manifest in _distinct()}
    assert kinds == {
        *("Namespace", "ResourceQuota", "LimitRange", "ServiceAccount", "Role", "RoleBinding"),
        *("NetworkPolicy", "PersistentVolumeClaim", "ConfigMap", "Job", "StatefulSet", "Service"),
        *("PodDisruptionBudget", "HorizontalPodAutoscaler", "ScaledObject"),
    }


def test_custom_resources_are_valid() -> None:
    folder = os.environ.get(SCHEMAS)
    if not folder:
        pytest.skip(f"needs the schemas of custom resources; {SCHEMAS} names their folder")
    path = Path(folder) / "ScaledObject.keda.sh.v1alpha1.json.gz"
    validator = jsonschema.Draft202012Validator(
        _closed(json.loads(gzip.decompress(path.read_bytes())))
    )
    found = [
        manifest
        for each in variants()
        for manifest in everything(each.run)
        if manifest["apiVersion"] == CUSTOM
    ]
    assert len(found) == 2
    for manifest in found:
        validator.validate(manifest)
    wrong = {**found[0], "spec": {**at(found[0], "spec"), "minReplicas": 1}}
    assert not validator.is_valid(wrong)


def _closed(schema: Any) -> Any:
    """Return a schema in which unknown fields are errors; the API server drops them."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _closed(value) for key, value in schema.items()}
    known = isinstance(schema.get("properties"), dict)
    if (
        known
        and not schema.get("x-kubernetes-preserve-unknown-fields")
        and not _is_metadata(schema)
    ):
        found.setdefault("additionalProperties", False)
    return found


def _is_metadata(schema: dict[str, Any]) -> bool:
    return schema.get("type") == "object" and not schema["properties"]
