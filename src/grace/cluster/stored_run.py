"""
A run as the cluster keeps it: enough to go on from any laptop, and no secret.

An immutable ConfigMap holds settings, profile, models and the hashes of all
inputs. The contents of inputs stay where the pods read them. From ConfigMaps they
are read back and checked; from a volume they are not, since looking at a run,
going on with it and taking it down need only their names, hashes and sizes.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from pydantic import JsonValue

from grace.catalogue.spec import Catalogue
from grace.cluster.client import (
    ClusterClient,
    Manifest,
    at,
    id_of,
    labels_of,
    number,
    parts,
    text,
)
from grace.cluster.profile import Profile
from grace.cluster.request import ClusterRun, InputFile
from grace.errors import ClusterError, IdentityMismatch
from grace.settings import RunSettings

_DATA = "run.json"
_COMPONENT = "run"
_FORMAT = 1
_SHOWN = 80


def stored_run_name(run_id: str) -> str:
    """
    Return the name of the ConfigMap that holds a run.

    >>> stored_run_name("20260131t235959z")
    'run-20260131t235959z'
    """
    return f"run-{run_id}"


def stored_run(run: ClusterRun, setup: Sequence[Manifest] = ()) -> Manifest:
    """
    Return the ConfigMap that holds a run.

    Args:
        run: The run.

        setup: The objects that all steps share; contents of inputs are found in
            their ConfigMaps.
    """
    where = _places(setup)
    used = dict.fromkeys(
        key for spec in run.models for key in (spec.lora_base, spec.key) if key is not None
    )
    document: dict[str, JsonValue] = {
        "format": _FORMAT,
        "grace": version("grace"),
        "namespace": run.namespace,
        "timestamp": run.timestamp,
        "spot": run.spot,
        "extractor": run.extractor,
        "settings": run.settings.model_dump(mode="json"),
        "profile": run.profile.model_dump(mode="json"),
        "models": [run.catalogue.get(key).model_dump(mode="json") for key in used],
        "files": [_entry(file, where.get(file.sha256, {})) for file in run.files],
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": stored_run_name(run.run_id),
            "namespace": run.namespace,
            "labels": {
                "app.kubernetes.io/name": "grace",
                "app.kubernetes.io/managed-by": "grace",
                "app.kubernetes.io/component": _COMPONENT,
                "grace/run": run.run_id,
            },
        },
        "immutable": True,
        "data": {_DATA: json.dumps(document, sort_keys=True, allow_nan=False)},
    }


async def store_run(client: ClusterClient, run: ClusterRun, setup: Sequence[Manifest]) -> None:
    """
    Keep a run on the cluster, unless it is there already.

    Raises:
        IdentityMismatch: Another run has the same timestamp.

        ClusterError: It cannot be kept.
    """
    wanted = stored_run(run, setup)
    found = await client.get("ConfigMap", stored_run_name(run.run_id), run.namespace)
    if found is None:
        await client.apply(wanted)
        return
    here, there = _identity(_document(wanted)), _identity(_document(found))
    differences = [
        f"{name}: {_cut(here[name])} here, {_cut(there[name])} on the cluster"
        for name in sorted(here.keys() & there.keys())
        if here[name] != there[name]
    ]
    if differences:
        raise IdentityMismatch(
            f"{run.namespace} holds another run {run.timestamp}; go on with that one by leaving the "
            "other options out, or begin a new run with another timestamp",
            differences,
        )


async def load_run(
    client: ClusterClient,
    namespace: str,
    run_id: str,
    files: Mapping[str, bytes] | None = None,
    profile: Profile | None = None,
) -> ClusterRun:
    """
    Return a run that the cluster keeps.

    Inputs that are in no ConfigMap come without their bytes, unless these are given.

    Args:
        client: The cluster.

        namespace: Where the run is.

        run_id: Its timestamp, in upper or lower case.

        files: Contents by name, for inputs that are too large for ConfigMaps.

        profile: Instead of the stored one: more memory for what ran out of it,
            other bounds, other GPUs.

    Raises:
        ClusterError: There is no such run, it cannot be read, or a file that was
            given is not its own.
    """
    run_id = run_id.lower()
    found = await client.get("ConfigMap", stored_run_name(run_id), namespace)
    if found is None:
        known = ", ".join(await list_runs(client, namespace)) or "none"
        raise ClusterError(f"there is no run {run_id} in {namespace}; those that it has: {known}")
    document = _document(found)
    if at(document, "format") != _FORMAT:
        raise ClusterError(
            f"run {run_id} in {namespace} was stored by grace {text(document, 'grace')}, whose form "
            "this version does not know; use that version"
        )
    try:
        return ClusterRun(
            profile=profile or Profile.model_validate_json(json.dumps(document["profile"])),
            namespace=text(document, "namespace"),
            timestamp=text(document, "timestamp"),
            settings=RunSettings.model_validate(document["settings"]),
            catalogue=Catalogue.model_validate_json(json.dumps({"models": document["models"]})),
            extractor=text(document, "extractor") or None,
            files=tuple(
                [
                    await _input(client, namespace, file, files or {})
                    for file in parts(document, "files")
                ]
            ),
            spot=at(document, "spot") is True,
        )
    except (ValueError, KeyError) as error:
        raise ClusterError(
            f"run {run_id} in {namespace} was stored by grace {text(document, 'grace')}, and cannot "
            "be read by this version; use that one"
        ) from error


async def list_runs(client: ClusterClient, namespace: str) -> tuple[str, ...]:
    """
    Return the runs that a namespace keeps, the oldest first.

    Raises:
        ClusterError: They cannot be read.
    """
    labels = {"app.kubernetes.io/managed-by": "grace", "app.kubernetes.io/component": _COMPONENT}
    found = await client.list("ConfigMap", namespace, labels=labels)
    return tuple(sorted(labels_of(item).get("grace/run", "") for item in found))


def _identity(document: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """
    Return what makes a run this run, by names that say where a difference is.

    Another version of Grace may go on with it: settings that only one of them has
    are left out by whoever compares. Where inputs are kept does not matter, nor
    does the profile: with how much memory it runs changes no number.
    """
    settings = at(document, "settings")
    found: dict[str, JsonValue] = {}
    if isinstance(settings, dict):
        found |= {f"settings.{name}": value for name, value in settings.items()}
    found |= {
        f"files.{text(file, 'name')}": at(file, "sha256") for file in parts(document, "files")
    }
    found["files"] = ", ".join(sorted(text(file, "name") for file in parts(document, "files")))
    for model in parts(document, "models"):
        found[f"models.{text(model, 'key')}.revision"] = at(model, "revision")
    for name in ("namespace", "timestamp", "spot", "extractor"):
        found[name] = at(document, name)
    return found


def _entry(file: InputFile, place: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {"name": file.name, "sha256": file.sha256, "bytes": file.size, **place}


def _places(setup: Sequence[Manifest]) -> dict[str, dict[str, JsonValue]]:
    """Return in which ConfigMap, and under which key, contents are, by their hashes."""
    places: dict[str, dict[str, JsonValue]] = {}
    for manifest in setup:
        if text(manifest, "kind") == "ConfigMap":
            for key, content in _contents(manifest).items():
                digest = hashlib.sha256(content).hexdigest()
                places[digest] = {"config_map": id_of(manifest).name, "key": key}
    return places


def _contents(config_map: Manifest) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    data, binary = at(config_map, "data"), at(config_map, "binaryData")
    for key, value in data.items() if isinstance(data, dict) else ():
        contents[key] = str(value).encode()
    for key, value in binary.items() if isinstance(binary, dict) else ():
        contents[key] = base64.b64decode(str(value))
    return contents


async def _input(
    client: ClusterClient, namespace: str, entry: Manifest, given: Mapping[str, bytes]
) -> InputFile:
    name, digest = text(entry, "name"), text(entry, "sha256")
    if name in given:
        file = InputFile(name, given[name])
        if file.sha256 != digest:
            raise ClusterError(
                f"input {name} has SHA-256 {file.sha256[:12]}…; the run began with "
                f"{digest[:12]}…: give that file"
            )
        return file
    file = InputFile.elsewhere(name, digest, number(entry, "bytes"))
    place = text(entry, "config_map")
    found = None if not place else await client.get("ConfigMap", place, namespace)
    held = {} if found is None else _contents(found)
    key = text(entry, "key")
    return file.filled({name: held[key]} if key in held else {})


def _document(config_map: Manifest) -> dict[str, JsonValue]:
    try:
        found = json.loads(text(config_map, "data", _DATA))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ClusterError(f"{id_of(config_map)} does not hold a run; choose another timestamp")
    return found


def _cut(value: JsonValue) -> str:
    written = json.dumps(value)
    return written if len(written) <= _SHOWN else written[: _SHOWN - 1] + "…"
