"""
The catalogue: every model that Grace can run, as data.

`models.yaml` beside this module is the built-in catalogue; a user's file of the
same form adds entries or replaces them. A new model is one entry, no code. Hub
revisions come from a lock file (see `lockfile`), since they cannot be looked up
without the hub.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError

from grace.catalogue.faults import as_json, did_you_mean, entry_faults, shown
from grace.catalogue.fields import (
    DateInTemplate,
    FileWeights,
    GpuOption,
    HubWeights,
    Licence,
    Price,
    PypiWeights,
    ReasoningTags,
    Strict,
    Weights,
)
from grace.catalogue.lockfile import LockedRevision, default_lock_path, read_lock
from grace.catalogue.model import ModelSpec
from grace.catalogue.sources import (
    HubSource,
    is_commit,
    parse_file_uri,
)
from grace.errors import CatalogueError
from grace.plain_yaml import read_plain_yaml

__all__ = [
    "Catalogue",
    "DateInTemplate",
    "FileWeights",
    "GpuOption",
    "HubWeights",
    "Licence",
    "ModelSpec",
    "Price",
    "PypiWeights",
    "ReasoningTags",
    "Weights",
    "load_catalogue",
]

_BUILT_IN = Path(str(files("grace.catalogue") / "models.yaml"))


class Catalogue(Strict):
    """All models that are known, in the order of their files."""

    models: tuple[ModelSpec, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key, in order."""
        return tuple(spec.key for spec in self.models)

    def get(self, key: str) -> ModelSpec:
        """
        Return the model of that key.

        Raises:
            CatalogueError: There is none; the message names the nearest keys.
        """
        for spec in self.models:
            if spec.key == key:
                return spec
        raise CatalogueError(
            f"there is no model {key!r} in the catalogue{did_you_mean(key, self.keys, 3)}\n"
            "`grace models list` shows all; a file given with --catalogue adds your own"
        )


def load_catalogue(
    extra: Path | None = None, *, lock: Path | None = None, apply_lock: bool = True
) -> Catalogue:
    """
    Read the built-in catalogue, the user's file and the lock file.

    Args:
        extra: The user's file; its entries are added, or replace those of the
            same key.

        lock: The lock file; by default the one in the user's configuration
            folder, if there is one.

        apply_lock: Whether to take locked revisions at all.

    Raises:
        CatalogueError: A file cannot be read or an entry is wrong. All faults
            of a file are named at once.
    """
    entries = dict(_read_built_in())
    if extra is not None:
        entries |= _read_entries(extra)
    specs = tuple(entries.values())
    _check_bases(specs, extra or _BUILT_IN)
    if apply_lock:
        lock_path = lock or default_lock_path()
        locked = read_lock(lock_path, must_exist=lock is not None)
        specs = tuple(_with_lock(spec, locked.get(spec.key), lock_path) for spec in specs)
    return Catalogue(models=specs)


@cache
def _read_built_in() -> Mapping[str, ModelSpec]:
    # Parsed once: pure-Python YAML takes a noticeable part of a second.
    return _read_entries(_BUILT_IN)


def _read_entries(path: Path) -> dict[str, ModelSpec]:
    document = read_plain_yaml(path, CatalogueError)
    if not isinstance(document, dict) or set(document) != {"models"}:
        raise CatalogueError(
            f"{path}: expected one key `models`, with an entry for each model below it; "
            f"found {shown(document)}"
        )
    entries = document["models"]
    if not isinstance(entries, dict) or not entries:
        raise CatalogueError(f"{path}: `models` is {shown(entries)}; expected entries by key")
    specs: dict[str, ModelSpec] = {}
    faults: list[str] = []
    for key, entry in entries.items():
        where = f"{path}: {key}"
        if not isinstance(entry, dict) or not isinstance(key, str):
            faults.append(f"{where}: is {shown(entry)}; expected a text key and fields below it")
            continue
        if "key" in entry:
            faults.append(f"{where}: key is not a field; the entry's name is its key; remove it")
            continue
        try:
            written = {**entry, "key": key, "weights": _spelt_out(entry.get("weights"))}
            spec = ModelSpec.model_validate_json(as_json(written))
        except ValidationError as error:
            faults += entry_faults(error, where, tuple(ModelSpec.model_fields))
        else:
            specs[key] = _located(spec, path.parent)
    if faults:
        raise CatalogueError("\n".join(faults))
    return specs


def _spelt_out(weights: object) -> object:
    """Return weights that are written as one URI in their full form."""
    if not isinstance(weights, str):
        return weights
    scheme = weights.partition(":")[0]
    if scheme == "pypi":
        return {"scheme": scheme, "parts": [weights]}
    return {"scheme": scheme, "uri": weights}


def _located(spec: ModelSpec, folder: Path) -> ModelSpec:
    """Make a relative `file://` absolute: it counts from the file that it is written in."""
    if not isinstance(spec.weights, FileWeights):
        return spec
    source = parse_file_uri(spec.weights.uri, folder)
    suffix = f"?sha256={source.sha256}" if source.sha256 else ""
    weights = FileWeights(scheme="file", uri=f"{source}{suffix}")
    return spec.model_copy(update={"weights": weights})


def _check_bases(specs: tuple[ModelSpec, ...], path: Path) -> None:
    known = {spec.key: spec for spec in specs}
    for spec in specs:
        base = known.get(spec.lora_base) if spec.lora_base is not None else None
        if spec.lora_base is not None and (base is None or base.lora_base or base.hosted):
            raise CatalogueError(
                f"{path}: {spec.key}: lora_base is {spec.lora_base!r}; expected the key of a "
                f"full model that Grace serves{did_you_mean(spec.lora_base, tuple(known))}"
            )


def _with_lock(spec: ModelSpec, locked: LockedRevision | None, path: Path) -> ModelSpec:
    source = spec.source
    if locked is None or not isinstance(source, HubSource) or is_commit(source.revision):
        return spec
    if (locked.repository, locked.requested) != (source.repository, source.revision):
        raise CatalogueError(
            f"{path}: {spec.key}: was locked for {locked.repository} at "
            f"{locked.requested or 'its newest state'}; the catalogue now says {source}; run "
            f"`grace models lock {spec.key}` again"
        )
    weights = spec.weights
    if isinstance(weights, HubWeights):
        # The URI may name the branch that was locked: it gives way to the commit.
        uri = str(HubSource(source.repository, locked.revision, source.file))
        weights = HubWeights(scheme="hf", uri=uri, files=weights.files)
    return spec.model_copy(update={"revision": locked.revision, "weights": weights})
