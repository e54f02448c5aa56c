"""Runs on clusters for tests, and everything that is made of them."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import JsonValue

from grace.catalogue.faults import as_json
from grace.catalogue.fields import FileWeights, GpuOption, HubWeights
from grace.catalogue.model import ModelSpec
from grace.catalogue.spec import Catalogue, load_catalogue
from grace.cluster.manifests import (
    Manifest,
    driver_objects,
    files_objects,
    gpu_option,
    server_objects,
    setup_objects,
    step_objects,
    weights_objects,
)
from grace.cluster.profile import Profile, load_profile
from grace.cluster.request import CONFIG_MAP_BYTES, ClusterRun, InputFile
from grace.errors import UsageError
from grace.settings import RunSettings

TIMESTAMP = "20260131T235959Z"
SMALL = InputFile("trials-study1.csv", b"participant_id,answer\r\n1,y\r\n")
LARGE = InputFile("trials-study2.csv", b"1,2,3\n" * (CONFIG_MAP_BYTES // 6 + 1))


@cache
def catalogue() -> Catalogue:
    """Grace's own models, and some that it does not have: adapters, TGI, more ways to quantise."""
    known = load_catalogue(apply_lock=False)
    gemma, gpt2 = known.get("gemma-2-2b"), known.get("gpt2")
    # Ways to run what the catalogue has, each changed from a sound entry.
    further = [
        gemma.model_copy(update={"key": "gemma-poet", "lora_base": "gemma-2-2b", "gated": False}),
        gemma.model_copy(update={"key": "gemma-lawyer", "lora_base": "gemma-2-2b"}),
        gemma.model_copy(update={"key": "gemma-on-tgi", "server": "tgi"}),
        gemma.model_copy(
            update={"key": "gemma-on-tgi.8bit", "server": "tgi", "quantisation": "fp8"}
        ),
        gpt2.model_copy(
            update={
                "key": "gpt2-twice",
                "quantisation": "fp8",
                "gpus": (GpuOption(name="any", count=4, memory_gb=4, tensor_parallel=2),),
            }
        ),
        gpt2.model_copy(
            update={
                "key": "one-file",
                "weights": HubWeights(scheme="hf", uri=f"hf://a/b@{'0' * 40}/c.safetensors"),
            }
        ),
    ]
    return Catalogue(models=(*known.models, *further))


def changed(profile: str | Profile, **parts: Mapping[str, object] | object) -> Profile:
    """Return a profile with other values; mappings replace fields of a part."""
    found = load_profile(profile) if isinstance(profile, str) else profile
    written = found.model_dump(mode="json")
    for name, value in parts.items():
        below = written[name]
        joined = isinstance(below, dict) and isinstance(value, Mapping)
        written[name] = {**below, **value} if joined else value  # type: ignore[dict-item]  # mappings
    return Profile.model_validate_json(as_json(written))


def a_run(
    profile: str | Profile = "local",
    *models: str,
    extractor: str | None = None,
    files: tuple[InputFile, ...] = (SMALL,),
    spot: bool = False,
    **settings: Any,
) -> ClusterRun:
    """Return a run, of the small model unless others are named."""
    found = load_profile(profile) if isinstance(profile, str) else profile
    asked = RunSettings(
        model=models or ("smollm2-135m",),
        timestamp=TIMESTAMP,
        out=Path("/grace/results"),
        **settings,
    )
    return ClusterRun(
        profile=found,
        namespace="grace-experiments",
        timestamp=TIMESTAMP,
        settings=asked,
        catalogue=catalogue(),
        extractor=extractor,
        files=files,
        spot=spot,
    )


def everything(run: ClusterRun) -> list[Manifest]:
    """Return all objects of a run."""
    objects = [*setup_objects(run), *files_objects(run), *driver_objects(run)]
    for server in run.servers:
        for spec in (server.base, *server.adapters):
            objects += weights_objects(run, spec.key)
        objects += server_objects(run, server)
    for step in run.steps:
        objects += step_objects(run, step)
    return objects


def servable(profile: Profile) -> tuple[str, ...]:
    """Return the keys of all models that a site can serve, or that others do."""
    return tuple(spec.key for spec in catalogue().models if _has_gpus(spec, profile))


def _has_gpus(spec: ModelSpec, profile: Profile) -> bool:
    try:
        gpu_option(spec, profile)
    except UsageError:
        return False
    return not isinstance(spec.weights, FileWeights)


class Variant(NamedTuple):
    """A run that is unlike the others, and what it is for."""

    name: str
    run: ClusterRun


@cache
def variants() -> tuple[Variant, ...]:
    """Return runs that together make every kind of object in every form."""
    return tuple(Variant(name, run) for name, run in _variants())


def _variants() -> Iterator[tuple[str, ClusterRun]]:
    scaled = {"controller": "statefulset", "replicas": 2, "max_replicas": 5}
    # Pods on several nodes need a volume that all of them can mount.
    shared = {"weights": {"storage_class": "rook-cephfs", "size_gb": 10, "access": "ReadWriteMany"}}
    nrp = load_profile("nrp")
    yield "local", a_run()
    yield "local, a model that is fetched", a_run("local", "gemma-3-270m")
    yield "nrp", a_run("nrp", "gemma-2-2b", extractor="deepseek", recheck=5.0)
    yield "the whole catalogue", a_run("nrp", *servable(nrp), extractor="deepseek")
    yield (
        "a stateful set",
        a_run(changed("nrp", model_servers={"controller": "statefulset"}), "gpt2"),
    )
    yield (
        "a pod autoscaler",
        a_run(
            changed("nrp", model_servers={**scaled, "autoscaler": "hpa"}, storage=shared), "gpt2"
        ),
    )
    yield (
        "keda",
        a_run(
            changed(
                "nrp",
                model_servers={
                    **scaled,
                    "autoscaler": "keda",
                    "keda_prometheus": "http://prometheus.monitoring:9090",
                },
                storage=shared,
            ),
            *("gpt2", "gemma-on-tgi", "smollm2-135m"),
        ),
    )
    yield "adapters", a_run("nrp", "gemma-2-2b", "gemma-poet", "gemma-lawyer")
    yield "tgi", a_run("nrp", "gemma-on-tgi", "gemma-on-tgi.8bit")
    yield "quantised, split and doubled", a_run("nrp", "gpt2-twice", "gpt-oss-20b", "one-file")
    yield (
        "spot nodes",
        a_run(
            changed(
                "nrp",
                spot={
                    "node_labels": {"example.org/spot": "true"},
                    "tolerations": [{"key": "example.org/spot", "effect": "NoSchedule"}],
                },
                tolerations=[{"key": "shared", "operator": "Equal", "value": "yes"}],
            ),
            "gpt2",
            spot=True,
        ),
    )
    yield "a model of ours extracts", a_run("nrp", "gpt2", extractor="gemma-2-2b")
    yield "somebody else's model is asked", a_run("nrp", "deepseek", experiment=("exp1",))
    yield "large inputs", a_run("nrp", "gpt2", files=(SMALL, LARGE))
    yield (
        "the user's own catalogue",
        a_run("local", "gemma-3-270m", catalogue=Path("/grace/inputs/catalogue.yaml")),
    )
    yield "no files", a_run("local", files=())
    yield "many shards", a_run(changed("nrp", jobs={"shards": 50}), "gpt2")
    yield (
        "all the rest",
        a_run(
            changed(
                "local",
                images={"pull_secret": "registry"},
                network={"monitoring_namespace": "monitoring"},
                pod_security="baseline",
                limits_ratio=1.2,
            )
        ),
    )


def at(manifest: JsonValue | Manifest, *path: str | int) -> Any:
    """Return what lies at a path of an object; it must be there."""
    found: Any = manifest
    for step in path:
        found = found[step]
    return found


def kind_and_name(manifest: Manifest) -> tuple[str, str]:
    """Return how an object is called."""
    return str(manifest["kind"]), str(at(manifest, "metadata", "name"))


def pods_of(objects: list[Manifest]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the templates of all pods, with the name of what makes them."""
    for manifest in objects:
        if manifest["kind"] in {"Job", "StatefulSet"}:
            yield kind_and_name(manifest)[1], at(manifest, "spec", "template")
