"""
The next-token questions of several queries, asked in few requests.

Queries that are worked on together ask through one `Gathering`. Their first
questions wait for each other and travel together; after a failure, whoever
comes back takes along those who wait by then. A query that is refused in
company is asked again alone, so that one bad query never fails its neighbours.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from grace.errors import InferenceError, ServerUnavailable
from grace.inference.client import InferenceClient, NextTokenQuestion

Answers = list[dict[int, float]]
AskNextTokens = Callable[[Sequence[NextTokenQuestion]], Awaitable[Answers]]

# One query may be what takes the server down: after so many failures in company, it goes alone.
_FAILURES_IN_COMPANY = 2


@dataclass(slots=True, eq=False)
class _Waiting:
    """A query's questions, and what came of them."""

    member: int
    questions: Sequence[NextTokenQuestion]
    answers: Answers = field(default_factory=list)
    error: InferenceError | None = None
    done: bool = False


class Gathering:
    """
    Questions of several queries on their way to one server.

    Args:
        client: The model.

        members: How many queries take part.

        on_too_large: Hears that a request of so many queries was refused, which
            were all answered alone.
    """

    def __init__(
        self,
        client: InferenceClient,
        members: int,
        on_too_large: Callable[[int], None] | None = None,
    ) -> None:
        self._client = client
        self._on_too_large = on_too_large
        self._missing = set(range(members))
        self._complete = asyncio.Event()
        self._turn = asyncio.Lock()
        self._waiting: list[_Waiting] = []
        self._failures: Counter[int] = Counter()

    def questions_of(self, member: int) -> AskNextTokens:
        """Return a function that asks for a member, as `InferenceClient.next_token_logprobs`."""

        async def ask(questions: Sequence[NextTokenQuestion]) -> Answers:
            return await self._ask(member, questions)

        return ask

    def leave(self, member: int) -> None:
        """Note that a member asks nothing for now: nobody waits for its first question."""
        self._missing.discard(member)
        if not self._missing:
            self._complete.set()

    async def _ask(self, member: int, questions: Sequence[NextTokenQuestion]) -> Answers:
        mine = _Waiting(member, questions)
        self._waiting.append(mine)
        self.leave(member)
        await self._complete.wait()
        async with self._turn:
            # Whoever had the turn before may have taken these questions along.
            if not mine.done:
                await self._send(mine)
        if mine.error is not None:
            raise mine.error
        return mine.answers

    async def _send(self, mine: _Waiting) -> None:
        if self._failures[mine.member] >= _FAILURES_IN_COMPANY:
            together = [mine]
        else:
            together = [
                one for one in self._waiting if self._failures[one.member] < _FAILURES_IN_COMPANY
            ]
        self._waiting = [one for one in self._waiting if one not in together]
        try:
            await self._request(together)
        except ServerUnavailable as error:
            for one in together:
                self._failures[one.member] += 1
                one.error, one.done = error, True
        except InferenceError as error:
            if len(together) == 1:
                mine.error, mine.done = error, True
                return
            for one in together:
                try:
                    await self._request([one])
                except InferenceError as own:
                    one.error, one.done = own, True
            if self._on_too_large is not None and not any(one.error for one in together):
                self._on_too_large(len(together))

    async def _request(self, together: Sequence[_Waiting]) -> None:
        answers = await self._client.next_token_logprobs(
            [question for one in together for question in one.questions]
        )
        start = 0
        for one in together:
            one.answers = answers[start : start + len(one.questions)]
            one.done = True
            start += len(one.questions)
