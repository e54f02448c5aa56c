"""
The dialect of plain OpenAI-style servers, hosted or not; text only, no scores.

DeepSeek's hosted API is one of them. Such servers show neither token ids nor
the log-probability of a chosen token, so nothing is scored here. What they
would ignore or refuse is not sent: a sampling that cannot be honoured is an
error, because a response drawn otherwise would be recorded under a false name.

Written against DeepSeek's API reference as quoted in public threads (it takes
`json_object` only, and may return an empty content), and not run against it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from pydantic import JsonValue

from grace.errors import (
    BadReply,
    GarbledReply,
    QueryRejected,
    ServerUnavailable,
    UnsupportedByServer,
)
from grace.inference.client import (
    Capabilities,
    Generation,
    GenerationRequest,
    NextTokenQuestion,
    Rendered,
    ServerIdentity,
)
from grace.inference.reply import (
    ModelCards,
    SameModel,
    chat_generation,
    choose_model,
    counted,
    parse,
    text_generation,
)
from grace.inference.transport import Transport
from grace.studies.prompts import Prompt, PromptMode

JsonMode = Literal["schema", "object", "none"]
"""
How a server is asked for JSON: constrained to a schema, any object, or not at all.

With `object` the caller puts the schema into the prompt and validates, as it
does anyway; a request's schema then only switches the mode on.
"""


class OpenAiClient:
    """
    One model on an OpenAI-style server.

    Args:
        transport: The server's address and key.

        model: The model's name on the server; None for the only one.

        json_mode: How the server is asked for JSON; `object` for DeepSeek.

        takes_seed: Whether a seed is sent. DeepSeek's reference lists none.

        request_fields: Further fields of every request, as the catalogue has
            them (a switch for thinking).
    """

    def __init__(
        self,
        transport: Transport,
        model: str | None = None,
        *,
        json_mode: JsonMode = "schema",
        takes_seed: bool = False,
        request_fields: Mapping[str, JsonValue] | None = None,
    ) -> None:
        self._transport = transport
        self._asked_model = model
        self._model = model or ""
        self._json_mode = json_mode
        self._takes_seed = takes_seed
        self._request_fields = dict(request_fields or {})
        self._root = "/v1"
        self._same = SameModel()

    @property
    def capabilities(self) -> Capabilities:
        """What the server was said to do: a hosted server is not probed, since queries cost."""
        return Capabilities(
            token_ids=False,
            next_token=False,
            sequence=False,
            json_schema=self._json_mode != "none",
            seed=self._takes_seed,
        )

    async def connect(self) -> ServerIdentity:
        """List the models, which also checks the key, and choose one."""
        served = await self._served_models()
        self._model = choose_model(self._asked_model, served, self._transport.base_url)
        return ServerIdentity(
            dialect="openai",
            version="",
            model=self._model,
            details={"json_mode": self._json_mode, "request_fields": self._request_fields},
        )

    async def identify(self) -> ServerIdentity:
        """See whether the model is still listed; hosted servers tell nothing more."""
        served = await self._served_models()
        model = self._model if self._model in served else next(iter(served), "")
        return ServerIdentity(dialect="openai", version="", model=model)

    async def render(self, prompt: Prompt) -> Rendered:
        """Refuse: the server does not show what its model sees."""
        raise _no_tokens()

    async def prompt_tokens(self, prompt: Prompt) -> tuple[int, ...]:
        """Render without the answer prefix."""
        return (await self.render(replace(prompt, answer_prefix=""))).token_ids

    async def encode(self, text: str) -> tuple[int, ...]:
        """Refuse: the server has no tokenizer to ask."""
        raise _no_tokens()

    async def decode(self, token_ids: Sequence[int]) -> str:
        """Refuse: tokens are unknown here."""
        raise _no_tokens()

    async def generate(self, request: GenerationRequest) -> Generation:
        """
        Draw one response, without the answer prefix.

        Raises:
            ServerUnavailable: The response is empty, which DeepSeek documents
                as an accident that asking again may mend.
        """
        payload = self._payload(request)
        if request.prompt.mode is PromptMode.CHAT:
            path = f"{self._root}/chat/completions"
            payload["messages"] = [
                {"role": message.role, "content": message.content}
                for message in request.prompt.messages
            ]
            generation = chat_generation(await self._answer(path, payload), path)
        else:
            path = f"{self._root}/completions"
            payload["prompt"] = request.prompt.text
            generation = text_generation(await self._answer(path, payload), path)
        counted(generation, self._transport.usage)
        if not generation.text.strip() and generation.finish_reason == "stop":
            raise ServerUnavailable(f"{path}: empty content")
        return generation

    async def next_token_logprobs(
        self, questions: Sequence[NextTokenQuestion]
    ) -> list[dict[int, float]]:
        """Refuse: chosen tokens are not reported."""
        raise _no_tokens()

    async def sequence_logprobs(
        self, prompt: tuple[int, ...], continuations: Sequence[tuple[int, ...]]
    ) -> list[tuple[float, ...]]:
        """Refuse: a prompt's tokens are not reported."""
        raise _no_tokens()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def _answer(self, path: str, payload: Mapping[str, JsonValue]) -> JsonValue:
        reply = await self._transport.post(path, payload)
        self._same.check(reply, path)
        return reply

    async def _served_models(self) -> list[str]:
        """List the models; where they are tells whether paths begin with `/v1`."""
        problems: list[str] = []
        for root in ("/v1", ""):
            path = f"{root}/models"
            try:
                cards = parse(ModelCards, await self._transport.get(path), path).data
            except (QueryRejected, BadReply, GarbledReply) as error:
                problems.append(str(error))
            else:
                self._root = root
                return [card.id for card in cards]
        raise QueryRejected("; ".join(problems))

    def _payload(self, request: GenerationRequest) -> dict[str, JsonValue]:
        sampling = request.sampling
        if sampling.top_k or sampling.min_p:
            raise UnsupportedByServer(
                f"top_k is {sampling.top_k} and min_p is {sampling.min_p}: OpenAI-style servers "
                "take neither; set both to 0"
            )
        payload: dict[str, JsonValue] = {
            **self._request_fields,
            "model": self._model,
            "stream": False,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": request.max_tokens,
        }
        if self._takes_seed:
            payload["seed"] = request.seed
        if request.stop:
            payload["stop"] = list(request.stop)
        if request.json_schema is not None:
            match self._json_mode:
                case "schema":
                    payload["response_format"] = schema_format(request.json_schema)
                case "object":
                    payload["response_format"] = {"type": "json_object"}
                case "none":
                    raise UnsupportedByServer("this server is said to have no JSON mode")
        return payload


def schema_format(schema: Mapping[str, JsonValue]) -> JsonValue:
    """Return the `response_format` that constrains to a JSON schema."""
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": dict(schema), "strict": True},
    }


def _no_tokens() -> UnsupportedByServer:
    return UnsupportedByServer(
        "an OpenAI-style server shows neither token ids nor the probability of a chosen answer; "
        "score with vLLM or llama.cpp"
    )
