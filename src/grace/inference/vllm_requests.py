"""
Typed requests to a vLLM server: one method for each way of asking.

Replies are checked for completeness here: every prompt has its answer, every
token its number. Whether a number may be believed is not known here (see
`vllm_probes`), nor what it is for.

Requests name every sampling parameter, since vLLM otherwise takes defaults
from the model's `generation_config.json`.
"""

from collections.abc import Mapping, Sequence

from pydantic import Field, JsonValue

from grace.errors import BadReply
from grace.inference.client import Generation, GenerationRequest
from grace.inference.openai import schema_format
from grace.inference.reply import (
    Reply,
    SameModel,
    TokenCounts,
    chat_generation,
    check_mass,
    checked_logprob,
    counted,
    parse,
    text_generation,
)
from grace.inference.transport import Transport
from grace.studies.prompts import Message, PromptMode

_COMPLETIONS = "/v1/completions"
_CHAT = "/v1/chat/completions"

# No penalty and no filter: greedy, and the reported distribution is the model's.
_PLAIN: Mapping[str, JsonValue] = {
    "n": 1,
    "stream": False,
    "temperature": 0,
    "top_p": 1,
    "top_k": -1,
    "min_p": 0,
    "repetition_penalty": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
}


class _Tokens(Reply):
    tokens: list[int]


class _Text(Reply):
    prompt: str


class _Logprobs(Reply):
    top_logprobs: list[dict[str, float] | None]
    tokens: list[str] = Field(default_factory=list)


class _PromptToken(Reply):
    logprob: float | None


class _Choice(Reply):
    index: int
    text: str
    logprobs: _Logprobs | None = None
    prompt_logprobs: list[dict[str, _PromptToken] | None] | None = None


class _Completion(Reply):
    choices: list[_Choice]
    usage: TokenCounts | None = None


class VllmRequests:
    """
    Requests about one model.

    Args:
        transport: The server's address.

        model: The model's name on the server.
    """

    def __init__(self, transport: Transport, model: str) -> None:
        self._transport = transport
        self._model = model
        self._same = SameModel()

    @property
    def answers_as(self) -> str:
        """The name of the model in the server's replies, which may be another of its names."""
        return self._same.name

    async def chat_tokens(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the tokens of a chat, ready for the assistant's answer."""
        return await self._tokens({"messages": _chat(messages), "add_generation_prompt": True})

    async def tokens(self, text: str, *, add_special_tokens: bool) -> tuple[int, ...]:
        """Return the tokens of a text; special tokens in it are recognised."""
        return await self._tokens({"prompt": text, "add_special_tokens": add_special_tokens})

    async def text(self, token_ids: Sequence[int]) -> str:
        """Return the text of tokens, special tokens included."""
        payload: dict[str, JsonValue] = {"model": self._model, "tokens": list(token_ids)}
        reply = await self._transport.post("/detokenize", payload)
        return parse(_Text, reply, "vLLM /detokenize").prompt

    async def generate(self, request: GenerationRequest) -> Generation:
        """Draw one response; the answer prefix is for scoring, and is not sent."""
        payload = self._drawn(request)
        if request.prompt.mode is PromptMode.CHAT:
            payload["messages"] = _chat(request.prompt.messages)
            reply = await self._answer(_CHAT, payload)
            return counted(chat_generation(reply, f"vLLM {_CHAT}"), self._transport.usage)
        payload["prompt"] = request.prompt.text
        reply = await self._answer(_COMPLETIONS, payload)
        return counted(text_generation(reply, f"vLLM {_COMPLETIONS}"), self._transport.usage)

    async def continue_tokens(
        self, request: GenerationRequest, token_ids: tuple[int, ...]
    ) -> Generation:
        """Draw one response to a prompt that is rendered already."""
        payload = self._drawn(request)
        payload["prompt"] = [list(token_ids)]
        payload["skip_special_tokens"] = not request.control_tokens
        # Without it, vLLM puts a space between special tokens and text of slow tokenizers.
        payload["spaces_between_special_tokens"] = False
        reply = await self._answer(_COMPLETIONS, payload)
        return counted(text_generation(reply, f"vLLM {_COMPLETIONS}"), self._transport.usage)

    def _drawn(self, request: GenerationRequest) -> dict[str, JsonValue]:
        """Return what a request for text says, but for its prompt."""
        sampling = request.sampling
        payload: dict[str, JsonValue] = {
            **_PLAIN,
            "model": self._model,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k or -1,
            "min_p": sampling.min_p,
            "seed": request.seed,
            "max_tokens": request.max_tokens,
            "stop": list(request.stop),
        }
        if request.json_schema is not None:
            payload["response_format"] = schema_format(request.json_schema)
        return payload

    async def texts(
        self, prompt: tuple[int, ...], count: int, max_tokens: int, **more: JsonValue
    ) -> list[str]:
        """Return *count* responses to one prompt, asked in one request."""
        choices = await self._complete([prompt] * count, {"max_tokens": max_tokens, **more})
        return [choice.text for choice in choices]

    async def listed_logprobs(
        self, prefixes: Sequence[tuple[int, ...]], tokens: Sequence[int], **more: JsonValue
    ) -> list[dict[int, float]]:
        """
        Return what the server reports on *tokens* after each prefix.

        The most probable token is in the report as well, asked for or not. A
        value may still be the constant that stands for minus infinity.

        Raises:
            BadReply: A prefix has no answer, a token is missing from one, or
                the tokens are more probable together than 1: these are logits.
        """
        asked = {**_listing(tokens), "max_tokens": 1, **more}
        choices = await self._complete(prefixes, asked)
        return [_listed(choice, tokens, 1)[0] for choice in choices]

    async def forced_logprobs(
        self, prefixes: Sequence[tuple[int, ...]], tokens: Sequence[int], forced: int
    ) -> list[tuple[dict[int, float], dict[int, float]]]:
        """
        Return what the server reports on *tokens* after each prefix, and behind a token after it.

        The reported numbers are those of the model's own distribution only on a
        server whose log-probabilities are raw; see `vllm_probes`.

        Args:
            prefixes: Token ids.

            tokens: What is asked about, at both places.

            forced: The token that is drawn after each prefix.

        Raises:
            BadReply: As `listed_logprobs`, or another token was drawn.
        """
        asked: dict[str, JsonValue] = {
            **_listing(tokens),
            "max_tokens": 2,
            "min_tokens": 2,
            "ignore_eos": True,
            "allowed_token_ids": [forced],
        }
        answers = []
        for choice in await self._complete(prefixes, asked):
            first, second = _listed(choice, tokens, 2)
            drawn = choice.logprobs.tokens if choice.logprobs else []
            if drawn[:1] != [f"token_id:{forced}"]:
                raise BadReply(
                    f"vLLM {_COMPLETIONS}: choice {choice.index} drew {drawn[:1]} where token "
                    f"{forced} alone was allowed"
                )
            answers.append((first, second))
        return answers

    async def top_logprobs(self, prefix: tuple[int, ...], count: int) -> dict[int, float]:
        """
        Return the most probable next tokens, likeliest first.

        Raises:
            BadReply: The reply has none, or they are no log-probabilities.
        """
        asked: dict[str, JsonValue] = {
            "max_tokens": 1,
            "logprobs": count,
            "return_tokens_as_token_ids": True,
        }
        (choice,) = await self._complete([prefix], asked)
        where = f"vLLM {_COMPLETIONS}"
        steps = choice.logprobs.top_logprobs if choice.logprobs else []
        if len(steps) != 1 or not steps[0]:
            raise BadReply(f"{where}: has no log-probabilities")
        check_mass(steps[0].values(), where)
        found = {}
        for name, value in sorted(steps[0].items(), key=lambda item: -item[1]):
            token = name.removeprefix("token_id:")
            if not token.isdigit():
                raise BadReply(f"{where}: {name!r} is not a token id")
            found[int(token)] = checked_logprob(value, where)
        return found

    async def tail_logprobs(
        self, prompt: tuple[int, ...], continuations: Sequence[tuple[int, ...]]
    ) -> list[tuple[float, ...]]:
        """
        Return the log-probabilities of continuations, from `prompt_logprobs`.

        Raises:
            BadReply: The reply is about other tokens, or has a value missing.
        """
        joined = [prompt + ids for ids in continuations]
        choices = await self._complete(joined, {"max_tokens": 1, "prompt_logprobs": 0})
        return [
            _tail(choice, token_ids, len(prompt))
            for choice, token_ids in zip(choices, joined, strict=True)
        ]

    async def _answer(self, path: str, payload: Mapping[str, JsonValue]) -> JsonValue:
        reply = await self._transport.post(path, payload)
        self._same.check(reply, f"vLLM {path}")
        return reply

    async def _tokens(self, asked: Mapping[str, JsonValue]) -> tuple[int, ...]:
        reply = await self._transport.post("/tokenize", {"model": self._model, **asked})
        return tuple(parse(_Tokens, reply, "vLLM /tokenize").tokens)

    async def _complete(
        self, prompts: Sequence[tuple[int, ...]], more: Mapping[str, JsonValue]
    ) -> list[_Choice]:
        payload: dict[str, JsonValue] = {
            **_PLAIN,
            "model": self._model,
            "prompt": [list(prompt) for prompt in prompts],
            **more,
        }
        where = f"vLLM {_COMPLETIONS}"
        reply = parse(_Completion, await self._answer(_COMPLETIONS, payload), where)
        generated = reply.usage.completion_tokens if reply.usage else None
        self._transport.usage.add(
            prompts=len(prompts),
            prompt_tokens=sum(map(len, prompts)),
            generated_tokens=len(prompts) if generated is None else generated,
            cached_tokens=reply.usage.cached_tokens if reply.usage else None,
        )
        choices = sorted(reply.choices, key=lambda choice: choice.index)
        indices = [choice.index for choice in choices]
        if indices != list(range(len(prompts))):
            raise BadReply(f"{where}: {len(prompts)} prompts were sent; answered were {indices}")
        return choices


def _listing(tokens: Sequence[int]) -> dict[str, JsonValue]:
    """Return how the log-probabilities of chosen tokens are asked for."""
    return {
        "logprobs": len(tokens),
        "logprob_token_ids": list(tokens),
        "return_tokens_as_token_ids": True,
    }


def _listed(choice: _Choice, tokens: Sequence[int], places: int) -> list[dict[int, float]]:
    """Return what a choice reports at each place, if it reports on every token."""
    where = f"vLLM {_COMPLETIONS}: choice {choice.index}"
    steps = choice.logprobs.top_logprobs if choice.logprobs else []
    if len(steps) != places:
        raise BadReply(f"{where} has no log-probabilities")
    found = []
    for step in steps:
        if step is None:
            raise BadReply(f"{where} has no log-probabilities")
        check_mass(step.values(), where)
        listed = _by_token(step, where)
        lacking = sorted(set(tokens) - listed.keys())
        if lacking:
            raise BadReply(f"{where} lacks 'token_id:{lacking[0]}' of {len(tokens)} tokens asked")
        found.append(listed)
    return found


def _by_token(listed: Mapping[str, float], where: str) -> dict[int, float]:
    try:
        return {int(name.removeprefix("token_id:")): value for name, value in listed.items()}
    except ValueError as error:
        raise BadReply(f"{where}: tokens are named by text: {error}") from error


def _chat(messages: Sequence[Message]) -> list[JsonValue]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _tail(choice: _Choice, token_ids: tuple[int, ...], start: int) -> tuple[float, ...]:
    where = f"vLLM {_COMPLETIONS}: choice {choice.index}"
    places = choice.prompt_logprobs
    if places is None or len(places) != len(token_ids):
        count = "none" if places is None else len(places)
        raise BadReply(f"{where}: prompt_logprobs of {count} tokens; sent {len(token_ids)}")
    values = []
    for place, token in zip(places[start:], token_ids[start:], strict=True):
        entry = None if place is None else place.get(str(token))
        if entry is None:
            raise BadReply(f"{where}: prompt_logprobs lacks token {token}")
        values.append(checked_logprob(entry.logprob, where))
    return tuple(values)
