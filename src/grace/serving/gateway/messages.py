"""
What clients send to the gateway and get back, as the OpenAPI document shows it.

Everything that can be said about one field alone is said here. What needs a
model (merges, overlaps) or several fields at once is checked by the service.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, JsonValue, Tag

MAX_CANDIDATES = 256
MAX_FORMS_EACH = 32
MAX_FORMS = 512
MAX_FORM_CHARACTERS = 1_000
MAX_PROMPT_CHARACTERS = 400_000
MAX_MESSAGES = 64
# Its square, which the variance needs, must still be a float.
_LARGEST_VALUE = 1e100

FormText = Annotated[str, Field(min_length=1, max_length=MAX_FORM_CHARACTERS)]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Candidate(_Body):
    """One answer of the set."""

    label: FormText = Field(description="What the reply calls the answer.", examples=["yes"])
    forms: list[FormText] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_FORMS_EACH,
        description="The strings that count as this answer; their probabilities are summed. "
        "Without them, the label is the only one.",
        examples=[["yes", "Yes"]],
    )
    value: float | None = Field(
        default=None,
        ge=-_LARGEST_VALUE,
        le=_LARGEST_VALUE,
        description="The number that the answer stands for. Give one to every candidate, and the "
        "reply has a mean and a standard deviation.",
        examples=[None],
    )


class Options(_Body):
    """How to ask. The defaults are those of `grace run` on the same model."""

    method: Literal["auto", "trie", "sequence"] = Field(
        default="auto",
        description="`trie` asks one next-token question for each node of the candidates' token "
        "trie, `sequence` for each candidate as a whole. Both are exact; `auto` takes what costs "
        "this server less.",
    )
    answer_prefix: str | None = Field(
        default=None,
        max_length=MAX_FORM_CHARACTERS,
        description="Text after the chat template's header, after which the answers are scored. "
        "Without it, the model's own. Chat only.",
    )
    answer_separator: str | None = Field(
        default=None,
        max_length=MAX_FORM_CHARACTERS,
        description="What stands between the prompt and each answer. Without it, nothing after a "
        "chat and one space after a text.",
    )
    token_detail: bool = Field(
        default=True, description="Whether the reply lists the tokens of each form."
    )


class ChatMessage(_Body):
    """One message of a chat."""

    role: Literal["system", "user", "assistant"] = Field(description="Whose message it is.")
    content: str = Field(
        max_length=MAX_PROMPT_CHARACTERS,
        description="Its text. Control tokens in it are read as such, as they are in a run.",
    )


def _candidate_kind(given: object) -> str:
    return "text" if isinstance(given, str) else "object"


AnyCandidate = Annotated[
    Annotated[FormText, Tag("text")] | Annotated[Candidate, Tag("object")],
    Discriminator(_candidate_kind),
]


class _Question(_Body):
    candidates: list[AnyCandidate] = Field(
        min_length=1,
        max_length=MAX_CANDIDATES,
        description="The answers, as strings or as objects. They must exclude each other: no "
        "answer's tokens may begin another's.",
    )
    options: Options = Field(default_factory=Options, description="How to ask.")


class CompletionRequest(_Question):
    """A distribution over what follows a text, as it is."""

    prompt: str = Field(
        min_length=1,
        max_length=MAX_PROMPT_CHARACTERS,
        description="The text. It goes to the model without a chat template.",
        examples=["The capital of France is"],
    )


class ChatRequest(_Question):
    """A distribution over the beginning of the assistant's answer in a chat."""

    messages: list[ChatMessage] = Field(
        min_length=1,
        max_length=MAX_MESSAGES,
        description="The chat so far; the last message is the user's. The model's own chat "
        "template renders it.",
    )


def _kind(body: object) -> str:
    given = body if isinstance(body, Mapping) else getattr(body, "__dict__", {})
    return "chat" if "messages" in given else "completion"


DistributionRequest = Annotated[
    Annotated[CompletionRequest, Tag("completion")] | Annotated[ChatRequest, Tag("chat")],
    Discriminator(_kind),
]


class TokenDetail(_Body):
    """One token of a form."""

    id: int = Field(description="The token's number in the model's vocabulary.")
    text: str | None = Field(
        description="The token's text, as the server decodes it alone; null if the server cannot."
    )
    logprob: float = Field(description="Natural logarithm, after everything before it.")


class FormDetail(_Body):
    """One surface form of an answer, as it was scored."""

    text: str = Field(description="The form, with what separates it from the prompt.")
    n_tokens: int = Field(ge=1, description="How many tokens it has after the prompt.")
    logprob: float = Field(description="Natural logarithm of its joint probability.")
    tokens: list[TokenDetail] | None = Field(description="Null without `token_detail`.")


class CandidateResult(_Body):
    """One answer's share."""

    label: str = Field(description="As in the request.")
    value: float | None = Field(description="As in the request.")
    logprob: float = Field(
        description="Natural logarithm of the answer's probability, summed over its forms, before "
        "normalising.",
    )
    probability: float = Field(ge=0, le=1, description="Normalised over the candidates.")
    forms: list[FormDetail] = Field(description="Its forms, in the order of the request.")


class PromptDetail(_Body):
    """What was put before every answer."""

    mode: Literal["chat", "completion"] = Field(
        description="Whether it went through the chat template."
    )
    sha256: str = Field(description="Of the rendered text, special tokens included, in UTF-8.")
    content_sha256: str = Field(description="As `prompt_sha256` in the journal of a run.")
    tokens: int = Field(ge=0, description="How many tokens precede an answer.")
    answer_prefix: str = Field(description="What stood at its end, after the template's header.")
    answer_separator: str = Field(description="What every form begins with.")


class ModelDetail(_Body):
    """The model, as Grace knows it."""

    key: str = Field(description="Its key in the catalogue.")
    prompt_mode: Literal["chat", "completion"] = Field(
        description="`completion` for a base model, which has no chat template."
    )
    answer_prefix: str = Field(description="What a request without `answer_prefix` gets.")
    pinned: bool = Field(description="Whether its weights are fixed by a revision or hash.")


class ServerDetail(_Body):
    """The server that computed the numbers, as it was when the gateway connected."""

    dialect: str = Field(description="What kind of server it is.")
    version: str = Field(description='Its version; "" where it does not tell.')
    model: str = Field(description="The model's name on it.")
    details: dict[str, JsonValue] = Field(
        description="What else decides the numbers, such as the number format and the hash of the "
        "chat template."
    )


class DistributionReply(_Body):
    """A distribution over the candidates, in the order of the request."""

    candidates: list[CandidateResult] = Field(description="In the order of the request.")
    coverage: float = Field(
        ge=0, le=1, description="Probability of all candidates together, before normalising."
    )
    entropy_bits: float = Field(ge=0, description="Of the normalised probabilities.")
    mean: float | None = Field(description="Of the candidates' values; null without values.")
    std: float | None = Field(description="Population standard deviation of the same.")
    method: Literal["trie", "sequence"] = Field(description="How the server was asked.")
    prompt: PromptDetail = Field(description="What was put before every answer.")
    model: ModelDetail = Field(description="The model, as Grace knows it.")
    server: ServerDetail = Field(description="The server that computed the numbers.")


class ModelReply(_Body):
    """Who answers here, how, and within which limits."""

    model: ModelDetail = Field(description="The model, as Grace knows it.")
    server: ServerDetail = Field(description="The server behind the gateway.")
    methods: list[Literal["trie", "sequence"]] = Field(description="How it can be asked.")
    limits: dict[str, int | float] = Field(description="What is taken on, by name.")


class HealthReply(_Body):
    """How the gateway is."""

    status: Literal["alive", "ready"] = Field(description="`ready`: the model server answers.")
