"""
Replies of model servers: those of a well-behaved server, changed.

Each dialect's client connects to a fake server once, and everything that goes over
the wire is recorded. Then a single reply is changed, and every question is asked
with that reply for an answer; or the client connects anew and gets it in its turn.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from fake_server import FakeTgi, FakeVllm, serving
from hypothesis import strategies as st
from pydantic import JsonValue

from fake_llamacpp import FakeLlamaCpp
from fuzz.harness import Broken, Target
from fuzz.mutations import json_parts, recipes
from grace.errors import GraceError, InferenceError
from grace.inference.client import (
    Generation,
    GenerationRequest,
    InferenceClient,
    NextTokenQuestion,
    Sampling,
)
from grace.inference.llamacpp import LlamaCppClient
from grace.inference.openai import OpenAiClient
from grace.inference.tgi import TgiClient
from grace.inference.transport import Transport
from grace.inference.vllm import VllmClient
from grace.studies.prompts import Message, Prompt

_CHAT = Prompt(messages=(Message("user", "yes"),))
_TEXT = Prompt(text="yes or no")
_PLAIN = Sampling(temperature=0.7)
DIALECTS = ("llama.cpp", "vLLM", "TGI", "OpenAI")


class Wire(Transport):
    """A transport that replies from a list instead of from a server, or records."""

    def __init__(self, url: str = "http://127.0.0.1:9") -> None:
        super().__init__(url, timeout_seconds=30)
        self.recorded: list[bytes] | None = None
        self.replies: list[bytes] = []
        self.always: bytes = b""

    async def _exchange(
        self, method: str, path: str, payload: Mapping[str, JsonValue] | None
    ) -> bytes:
        if self.recorded is None:
            self.usage.requests += 1
            return self.replies.pop(0) if self.replies else self.always
        body = await super()._exchange(method, path, payload)
        self.recorded.append(body)
        return body


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What a client received: while it connected, and as answers to the questions."""

    connecting: tuple[bytes, ...]
    answers: tuple[bytes, ...]
    prompt: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...]


def reply_targets() -> list[Target]:
    """Return the readers of replies, two for each dialect."""
    makers: Sequence[tuple[str, Callable[[Wire], InferenceClient], Callable[[], object]]] = (
        ("llama.cpp", LlamaCppClient, lambda: FakeLlamaCpp().app()),
        ("vLLM", lambda wire: VllmClient(wire, "tiny"), lambda: FakeVllm().app()),
        ("TGI", TgiClient, lambda: FakeTgi().app()),
        (
            "OpenAI",
            lambda wire: OpenAiClient(wire, "tiny", takes_seed=True),
            lambda: FakeVllm().app(),
        ),
    )
    return [target for name, make, app in makers for target in _dialect(name, make, app)]


def _dialect(
    name: str, make: Callable[[Wire], InferenceClient], app: Callable[[], object]
) -> list[Target]:
    loop = asyncio.new_event_loop()
    recorded = loop.run_until_complete(_record(make, app))
    answering = _Answering(loop, make, recorded)
    wanted = tuple(dict.fromkeys(recorded.answers))
    answers = recipes(
        st.builds(
            lambda content, change: partial(change, content), st.sampled_from(wanted), json_parts()
        )
    )
    turns = st.integers(0, len(recorded.connecting) - 1)
    connecting = recipes(
        st.builds(
            lambda turn, change: partial(_in_turn, recorded.connecting, turn, change),
            turns,
            json_parts(),
        )
    )
    return [
        Target(f"{name} replies", answers, answering.ask, answering.check),
        Target(f"{name} connecting", connecting, answering.connect),
    ]


def _in_turn(replies: Sequence[bytes], turn: int, change: Callable[[bytes], bytes]) -> bytes:
    return b"%d\n" % turn + change(replies[turn])


async def _record(make: Callable[[Wire], InferenceClient], app: Callable[[], object]) -> _Recorded:
    async with serving(app()) as url:  # type: ignore[arg-type]
        wire = Wire(url)
        connecting: list[bytes] = []
        wire.recorded = connecting
        client = make(wire)
        await client.connect()
        answers: list[bytes] = []
        wire.recorded = answers
        prompt: tuple[int, ...] = (5, 6, 7)
        continuations: tuple[tuple[int, ...], ...] = ((8, 9), (10,))
        with contextlib.suppress(GraceError):
            prompt = (await client.render(_TEXT)).token_ids
            joined = [await client.encode(_TEXT.text + more) for more in (" no", " one")]
            continuations = tuple(ids[len(prompt) :] for ids in joined)
        for question in _questions(client, prompt, continuations):
            with contextlib.suppress(GraceError):
                await question()
        await client.aclose()
        return _Recorded(tuple(connecting), tuple(answers), prompt, continuations)


def _questions(
    client: InferenceClient, prompt: tuple[int, ...], continuations: tuple[tuple[int, ...], ...]
) -> list[Callable[[], Awaitable[object]]]:
    asked = tuple(dict.fromkeys(ids[0] for ids in continuations))
    request = partial(GenerationRequest, sampling=_PLAIN, max_tokens=8, seed=1)
    return [
        lambda: client.generate(request(_CHAT)),
        lambda: client.generate(request(_TEXT)),
        lambda: client.next_token_logprobs([NextTokenQuestion(prompt, asked, best_other=True)]),
        lambda: client.sequence_logprobs(prompt, continuations),
        lambda: client.sequence_logprobs(prompt, continuations[:1]),
        lambda: client.render(_CHAT),
        lambda: client.encode("yes"),
        lambda: client.decode(prompt),
    ]


class _Answering:
    """A connected client whose every answer is the same reply."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        make: Callable[[Wire], InferenceClient],
        recorded: _Recorded,
    ) -> None:
        self._loop = loop
        self._make = make
        self._recorded = recorded
        self._wire = Wire()
        self._wire.replies = list(recorded.connecting)
        self._client = make(self._wire)
        loop.run_until_complete(self._client.connect())
        if isinstance(self._client, TgiClient):
            self._remember()

    def _remember(self) -> None:
        # TGI is asked by text: it must have seen the tokens that are asked about.
        self._wire.replies = list(self._recorded.answers[:3])
        with contextlib.suppress(GraceError):
            self._loop.run_until_complete(self._client.render(_TEXT))
            for more in (" no", " one"):
                self._loop.run_until_complete(self._client.encode(_TEXT.text + more))

    def ask(self, content: bytes) -> list[object]:
        """Ask everything; fail with the last refusal if nothing is answered."""
        self._wire.replies, self._wire.always = [], content
        answers: list[object] = []
        refusal: InferenceError | None = None
        recorded = self._recorded
        for question in _questions(self._client, recorded.prompt, recorded.continuations):
            try:
                answers.append(self._loop.run_until_complete(_awaited(question)))
            except InferenceError as error:
                refusal = error
        if not answers and refusal is not None:
            raise refusal
        return answers

    def connect(self, content: bytes) -> object:
        """Connect anew, with one reply changed."""
        first, _, changed = content.partition(b"\n")
        turn = (
            int(first) % len(self._recorded.connecting) if first.isdigit() and len(first) < 9 else 0
        )
        replies = list(self._recorded.connecting)
        replies[turn] = changed
        wire = Wire()
        wire.replies, wire.always = replies, replies[-1]
        return self._loop.run_until_complete(self._make(wire).connect())

    def check(self, content: bytes, read: object) -> None:
        """Check that texts and numbers stand in the reply."""
        strings, numbers = _held(json.loads(content))
        for answer in read if isinstance(read, list) else []:
            if isinstance(answer, Generation):
                if not any(answer.text in text for text in strings):
                    raise Broken(f"the text {answer.text[:60]!r} is not in the reply")
            elif isinstance(answer, list):
                values = [
                    value
                    for one in answer
                    for value in (one.values() if isinstance(one, dict) else one)
                ]
                for value in values:
                    # Rounding may lift a sure token slightly above 0.
                    if value not in numbers and not (value == 0 and any(n > 0 for n in numbers)):
                        raise Broken(f"the number {value} is not in the reply")


async def _awaited(question: Callable[[], Awaitable[object]]) -> object:
    return await question()


def _held(value: JsonValue) -> tuple[list[str], set[float]]:
    """Return all texts and all numbers in a value."""
    strings: list[str] = []
    numbers: set[float] = set()
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            left += part.values()
        elif isinstance(part, list):
            left += part
        elif isinstance(part, str):
            strings.append(part)
        elif isinstance(part, int | float) and not isinstance(part, bool):
            with contextlib.suppress(OverflowError):
                numbers.add(float(part))
    return strings, numbers
