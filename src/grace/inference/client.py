"""
What Grace asks of a model server: the client protocol and its value types.

A dialect (one module each) implements the protocol for one kind of server.
Callers look at `Capabilities` instead of at the dialect. All log-probabilities
are natural logarithms of the model's raw distribution: before temperature,
penalties, grammar or any other mask.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from grace.studies.prompts import Prompt


class Sampling(BaseModel):
    """
    How responses are drawn. Every field is sent, since servers differ in defaults.

    Attributes:
        temperature: 0 means greedy.

        top_p: Nucleus mass; 1 switches it off.

        top_k: Number of tokens kept; 0 switches it off.

        min_p: Smallest probability kept, relative to the most probable; 0 is off.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(default=0.7, ge=0, le=5)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    min_p: float = Field(default=0.0, ge=0, le=1)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """
    What a server can do, as probed, not as documented.

    Attributes:
        token_ids: Prompts can be rendered and encoded to token ids, exactly as
            the server itself would. Scoring needs it.

        next_token: `next_token_logprobs` is exact.

        sequence: `sequence_logprobs` is exact.

        json_schema: A JSON schema may be given with a request. Servers differ in
            how far they keep to it; callers validate all the same.

        seed: Sampling honours a seed.

        preferred_scoring: Which of the two exact ways costs this server less.

        questions_together: Next-token questions of several prompts travel in one
            request.
        most_probable: The most probable next token is told with the answer to a
            `NextTokenQuestion` that asks for it.
    """

    token_ids: bool
    next_token: bool
    sequence: bool
    json_schema: bool
    seed: bool
    preferred_scoring: Literal["trie", "sequence"] = "trie"
    questions_together: bool = False
    most_probable: bool = False


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """
    Which server and which model answered; part of a run's identity.

    Attributes:
        dialect: `llamacpp`, `vllm`, `tgi`, `openai` or `toy`.

        version: The server's version, or "" where it does not tell.

        model: The model's name on that server.

        details: What else decides the numbers and can be found out: dtype,
            quantisation, hash of the chat template, cache type, context length,
            logprobs mode. No address, no port, no path, no key.
    """

    dialect: str
    version: str
    model: str
    details: Mapping[str, JsonValue] = field(default_factory=dict)

    def differences_to(self, now: "ServerIdentity") -> list[str]:
        """
        Return one line for each thing in which a server differs from this one.

        Args:
            now: The server, asked again. What it does not tell is not compared:
                whoever connected first may know more.
        """
        pairs: dict[str, tuple[object, object]] = {
            "dialect": (self.dialect, now.dialect),
            "version": (self.version, now.version),
            "model": (self.model, now.model),
            **{name: (self.details.get(name), value) for name, value in now.details.items()},
        }
        return [
            f"{name}: {old!r} before, {new!r} now"
            for name, (old, new) in pairs.items()
            if old != new
        ]

    @property
    def context_length(self) -> int | None:
        """How many tokens prompt and answer may have together, if the server tells."""
        for name in ("context_length", "max_model_len", "max_total_tokens"):
            value = self.details.get(name)
            if isinstance(value, int) and value > 0:
                return value
        return None


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt as the model sees it: the text with special tokens, and its token ids."""

    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """
    One request for text.

    Attributes:
        prompt: Messages or plain text.

        sampling: How to draw.

        max_tokens: Longest response, in tokens.

        seed: 32-bit seed of this sample.

        stop: Strings that end the response; not part of it.

        json_schema: The response must be JSON of this schema. Only for servers
            with that capability; callers validate all the same.

        control_tokens: Special tokens that the response's text must show, since
            they set reasoning and answer apart. Where the server reads them
            itself, it leaves them out.
    """

    prompt: Prompt
    sampling: Sampling
    max_tokens: int
    seed: int
    stop: tuple[str, ...] = ()
    json_schema: Mapping[str, JsonValue] | None = None
    control_tokens: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Generation:
    """
    A response.

    Attributes:
        text: As it came, without stop strings; reasoning is kept apart.

        finish_reason: `stop`, or `length` if max_tokens cut it off.

        prompt_tokens, completion_tokens: As the server counted, or None.

        reasoning: Reasoning that the server or the model's tags set apart.
    """

    text: str
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int | None
    completion_tokens: int | None
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class NextTokenQuestion:
    """
    The log-probabilities of some tokens right after a prefix.

    Attributes:
        prefix: Token ids of prompt and answer so far.

        tokens: The ids asked about; at least one, no repeats.

        best_other: Whether to tell the most probable of all other tokens too,
            where the server lists it for nothing.
    """

    prefix: tuple[int, ...]
    tokens: tuple[int, ...]
    best_other: bool = False


class InferenceClient(Protocol):
    """
    One model on one server.

    Every method raises `ServerUnavailable` for what may pass (retried by the
    engine, never here), `QueryRejected` for what will not, `BadReply` when the
    reply is not what was promised, and `UnsupportedByServer` when a capability
    is missing. A number that is not finite is a `BadReply`. An answer that names
    another model than those before it raises `IdentityMismatch`.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What the server can do; known after `connect`."""
        ...

    async def connect(self) -> ServerIdentity:
        """Reach the server, probe it, and say who it is."""
        ...

    async def identify(self) -> ServerIdentity:
        """Ask again who the server is: what it tells in one or two requests, without probes."""
        ...

    async def render(self, prompt: Prompt) -> Rendered:
        """Apply the chat template, answer prefix included, and encode; BOS at most once."""
        ...

    async def prompt_tokens(self, prompt: Prompt) -> tuple[int, ...]:
        """Return the ids that `render` gives without the answer prefix, and no text: cheaper."""
        ...

    async def encode(self, text: str) -> tuple[int, ...]:
        """Encode a rendered text as `render` would: special tokens parsed, BOS once."""
        ...

    async def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of tokens, special tokens included."""
        ...

    async def generate(self, request: GenerationRequest) -> Generation:
        """Draw one response."""
        ...

    async def next_token_logprobs(
        self, questions: Sequence[NextTokenQuestion]
    ) -> list[dict[int, float]]:
        """
        Return, per question, the log-probability of each token asked about.

        An answer to a question with `best_other` may hold one token more: the
        most probable of those that were not asked about. Servers that list only
        the most probable token of all (`Capabilities.most_probable`) leave it
        out where that one was asked about.
        """
        ...

    async def sequence_logprobs(
        self, prompt: tuple[int, ...], continuations: Sequence[tuple[int, ...]]
    ) -> list[tuple[float, ...]]:
        """Return the log-probability of each token of each continuation of *prompt*."""
        ...

    async def aclose(self) -> None:
        """Release connections; safe to call twice."""
        ...
