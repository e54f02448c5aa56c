"""
The catalogue: every model that Grace can run, as data.

`models.yaml` beside this module is the built-in catalogue; a user's file of the
same form adds entries or replaces them. A new model is one entry, no code. Hub
revisions come from a lock file (see `lockfile`), since they cannot be looked up
without the hub.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, JsonValue, ValidationError, model_validator

from grace.catalogue.faults import as_json, did_you_mean, entry_faults, read_yaml, shown
from grace.catalogue.fields import (
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
from grace.catalogue.sources import (
    HubSource,
    PypiSource,
    WeightSource,
    is_commit,
    is_repository,
    parse_file_uri,
    parse_hub_uri,
    parse_pypi_uri,
)
from grace.errors import CatalogueError
from grace.studies.prompts import PromptMode

__all__ = [
    "Catalogue",
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

# A name that is safe in file names and valid for Kubernetes objects (RFC 1123).
_LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_KEY: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_LONGEST_KEY = 63
_BUILT_IN = Path(str(files("grace.catalogue") / "models.yaml"))
_ENVIRONMENT_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ModelSpec(Strict):
    """
    One model: what it is, what may be done with it, and how it is run and prompted.

    A model with an `endpoint` is hosted by somebody else: it has no weights and
    needs no machine. With `lora_base`, the entry is an adapter: repository,
    revision and weights are the adapter's, which is served on top of the entry
    that `lora_base` names.
    """

    key: str
    title: str = Field(min_length=1)
    repository: str | None = None
    """`owner/name` on the hub."""
    revision: str | None = Field(default=None, min_length=1)
    """A commit, once locked; None means that the hub's newest state would be taken."""
    licence: Licence
    gated: bool = False
    """Whether the licence must be accepted on the hub before a download."""
    server: Literal["vllm", "tgi", "llamacpp", "openai"]
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    quantisation: str | None = None
    """How the weights are quantised as they are served: `mxfp4`, `fp8`, `Q4_1`."""
    context_length: int = Field(ge=1)
    gpus: tuple[GpuOption, ...] = ()
    """In order of preference; empty means that a CPU suffices."""
    cpu: int = Field(default=0, ge=0)
    memory_gb: float = Field(default=0, ge=0)
    disk_gb: float = Field(default=0, ge=0)
    prompt_mode: PromptMode
    system_role: bool = False
    """Whether the chat template knows a system role."""
    reasoning: ReasoningTags | None = None
    answer_prefix: str = ""
    """Text after the chat template's header, after which an answer is scored."""
    json_mode: Literal["schema", "object"] = "schema"
    """Whether the server can be held to a JSON schema, or only to some JSON object."""
    request_fields: Mapping[str, JsonValue] = Field(default_factory=dict)
    """Further fields of every request body, such as a switch for thinking."""
    lora_base: str | None = None
    weights: Weights | None = None
    """Where the weights come from; by default the repository on the hub."""
    endpoint: str | None = None
    served_name: str | None = Field(default=None, min_length=1)
    """The model's name on its server; by default the key."""
    api_key_env: str | None = None
    """The environment variable that holds the key to the endpoint."""
    price: Price | None = None
    note: str = ""

    @property
    def hosted(self) -> bool:
        """Whether somebody else serves it."""
        return self.endpoint is not None

    @property
    def name_on_server(self) -> str:
        """What a request calls the model."""
        return self.served_name or self.key

    @property
    def pinned(self) -> bool:
        """Whether the weights are fixed; never so for a hosted model."""
        return self.source is not None and self.source.pinned

    @property
    def gpu_count(self) -> int:
        """How many GPUs the preferred option takes."""
        return self.gpus[0].count if self.gpus else 0

    @property
    def tensor_parallel(self) -> int:
        """Over how many GPUs the preferred option splits the weights; 1 on a CPU."""
        return self.gpus[0].split if self.gpus else 1

    @property
    def source(self) -> WeightSource | None:
        """Where the weights come from, with the locked revision; None if there are none to get."""
        match self.weights:
            case HubWeights(uri=uri, files=patterns):
                found = parse_hub_uri(uri, patterns)
                revision = self.revision or found.revision
                return HubSource(found.repository, revision, found.file, patterns)
            case PypiWeights(parts=uris, sha256=digest, file_name=file_name):
                parts = tuple(parse_pypi_uri(uri) for uri in uris)
                name = file_name or parts[0].member.rsplit("/", 1)[-1]
                return PypiSource(parts, digest or parts[0].sha256, name)
            case FileWeights(uri=uri):
                return parse_file_uri(uri)
            case None:
                if self.hosted or self.repository is None:
                    return None
                return HubSource(self.repository, self.revision)

    @model_validator(mode="after")
    def _names_are_usable(self) -> Self:
        if not _KEY.fullmatch(self.key) or len(self.key) > _LONGEST_KEY:
            raise ValueError(
                f"key is {self.key!r}; expected lower-case letters, digits, '-' and '.', at most "
                f"{_LONGEST_KEY} characters, beginning and ending with a letter or digit"
            )
        if self.repository is not None and not is_repository(self.repository):
            raise ValueError(f"repository is {self.repository!r}; expected owner/name")
        if self.api_key_env is not None and not _ENVIRONMENT_VARIABLE.fullmatch(self.api_key_env):
            # The value is not shown: a key may have been put there by mistake.
            raise ValueError(
                "api_key_env is not the name of an environment variable; expected such a name, "
                "never a key itself"
            )
        return self

    @model_validator(mode="after")
    def _is_hosted_or_served(self) -> Self:
        if self.endpoint is not None:
            parts = urlsplit(self.endpoint)
            if parts.scheme not in {"http", "https"} or not parts.hostname or parts.password:
                raise ValueError(
                    f"endpoint is {self.endpoint!r}; expected a URL such as https://api.example.org"
                )
            if self.server != "openai" or self.weights is not None or self.gpus:
                raise ValueError(
                    "endpoint is set, so the model is hosted; server must be openai, and weights "
                    "and gpus must be left out"
                )
        elif self.server != "openai":
            if self.repository is None and self.weights is None:
                raise ValueError("repository and weights are both missing; add one of them")
            for field in ("cpu", "memory_gb", "disk_gb"):
                if not getattr(self, field):
                    raise ValueError(f"{field} is missing; a server on {self.server} needs some")
        return self

    @model_validator(mode="after")
    def _prompting_is_consistent(self) -> Self:
        for field in ("system_role", "reasoning", "answer_prefix"):
            if self.prompt_mode is PromptMode.COMPLETION and getattr(self, field):
                raise ValueError(f"{field} needs a chat template; prompt_mode is 'completion'")
        return self

    @model_validator(mode="after")
    def _revisions_agree(self) -> Self:
        if isinstance(self.weights, HubWeights):
            written = parse_hub_uri(self.weights.uri).revision
            if written is not None and self.revision not in {None, written}:
                raise ValueError(
                    f"revision is {self.revision!r}, but weights say {written!r}; keep one of them"
                )
        return self


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
    document = read_yaml(path)
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
