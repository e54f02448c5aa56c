"""
Asking with retries, and the bookkeeping of answers.

Knows nothing of prompts or scores: whoever works asks queries through
`Asker.ask`, which writes how each of them ended.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import stamina
from pydantic import JsonValue

from grace.engine.events import RunHook, StageCounts
from grace.engine.journal import JournalWriter, Record, is_answered
from grace.engine.pace import Pace
from grace.engine.plan import QueryKey
from grace.errors import (
    AccessRefused,
    InferenceError,
    QueryRejected,
    ScoringError,
    ServerUnavailable,
)

_Call = Callable[[], Awaitable[Mapping[str, JsonValue]]]

TRANSIENT = ServerUnavailable.__name__

# Statuses that refuse a query for what it is; any other may refuse whoever asks.
_ABOUT_THE_QUERY = frozenset({None, 400, 413, 414, 422, 431})


async def nothing() -> None:
    """Ask nothing: a server in this process is always there, and always the same."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """
    How patient a query is with its server.

    Attributes:
        attempts: Most attempts of one query.

        timeout_seconds: Most time for all of them, waiting included.

        wait_seconds: First pause; doubled each time, with jitter.

        wait_max_seconds: Longest pause.
    """

    attempts: int = 6
    timeout_seconds: float = 900.0
    wait_seconds: float = 0.5
    wait_max_seconds: float = 30.0


class Asker:
    """
    Asks queries, once each, and keeps how they ended.

    Args:
        name: The stage, as people see it (`study1 respond`).

        stage: The stage, as the journal has it.

        finished: What earlier processes finished; their transient failures are
            asked again.

        planned: The queries of the stage, each once.

        writer: Where records go.

        hook: Who hears of it.

        policy: Retries.

        pace: Hears how requests end.

        give_up_after: Queries in a row that may exhaust their retries before
            the server counts as lost and the run stops.

        confirm: Makes sure that the server is still the same one, if there is
            reason to doubt it, before an answer or a refusal counts. It raises
            `IdentityMismatch` if it is not.

        sign_of_life: Asks the server for something small and harmless.

        remember: Whether answers are kept in memory, because a query may be asked
            for twice. Otherwise memory stays the same, however many there are.
    """

    def __init__(
        self,
        name: str,
        stage: str,
        finished: Mapping[QueryKey, Record],
        planned: Iterable[QueryKey],
        writer: JournalWriter,
        hook: RunHook,
        policy: RetryPolicy,
        pace: Pace,
        give_up_after: int = 8,
        *,
        confirm: Callable[[], Awaitable[object]] = nothing,
        sign_of_life: Callable[[], Awaitable[object]] = nothing,
        remember: bool = True,
    ) -> None:
        self.name = name
        self.stage = stage
        self._confirm = confirm
        self._sign_of_life = sign_of_life
        self._finished = finished
        self._again: set[QueryKey] = set()
        self.records: dict[QueryKey, Record] = {}
        self._remember = remember
        self._planned = self._answered = self._failed = 0
        for key in planned:
            self._planned += 1
            if is_answered(finished, key):
                self._answered += 1
            elif key in finished:
                if finished[key].error_type == TRANSIENT:
                    self._again.add(key)
                else:
                    self._failed += 1
        self._writer = writer
        self._hook = hook
        self._policy = policy
        self.pace = pace
        self.retries = 0
        self.asked = 0
        self._give_up_after = give_up_after
        self._unavailable: list[Record] = []
        self._unavailable_in_a_row = 0
        self._in_flight: dict[QueryKey, asyncio.Lock] = {}

    @property
    def counts(self) -> StageCounts:
        """How the stage stands."""
        return StageCounts(self._planned, self._answered, self._failed)

    def is_finished(self, key: QueryKey) -> bool:
        """
        Whether a query had its answer, or had failed for good.

        Of those asked by this asker, it knows only what it remembers.
        """
        return key in self.records or (key in self._finished and key not in self._again)

    async def ask(self, key: QueryKey, probe: str, call: _Call) -> Record:
        """
        Return the record of a query, asking it if it was not finished before.

        Args:
            key: The query.

            probe: Its probe's name, for the record.

            call: Sends the query and returns the answer as JSON.

        Raises:
            ServerUnavailable: The server is lost: too many queries in a row
                exhausted their retries. Nothing is recorded for those.

            IdentityMismatch: Another server or model answers than before.

            AccessRefused: The server refuses whatever it is asked.
        """
        # Dialogues may share their first turns: the second one waits for the first one's answer.
        async with self._in_flight.setdefault(key, asyncio.Lock()):
            record = self.records.get(key)
            if record is None and self.is_finished(key):
                record = self._finished[key]
            if record is None:
                record = await self._ask_now(key, probe, call)
                if self._remember:
                    self.records[key] = record
        self._in_flight.pop(key, None)
        return record

    async def close(self) -> None:
        """
        Write down the queries that the server never answered, once the stage is over.

        If the last queries to end were all without an answer, they may be too few
        to show that the server is lost: it is asked for a sign of life.

        Raises:
            ServerUnavailable: The server is lost. Nothing is recorded for the
                queries that it never answered.
        """
        if self._unavailable_in_a_row:
            try:
                await self._sign_of_life()
            except ServerUnavailable:
                raise
            except InferenceError:
                # A refusal or an odd reply is a sign of life: the queries failed on their own.
                pass
        for record in self._unavailable:
            self._writer.append(record)
        self._unavailable.clear()

    async def _ask_now(self, key: QueryKey, probe: str, call: _Call) -> Record:
        started = time.monotonic()
        attempts = 1
        value: Mapping[str, JsonValue] = {}
        failure: InferenceError | ScoringError | None = None
        try:
            # Nearly all queries are answered at once: only the others pay for a retry's machinery.
            value = await self._attempt(call)
        except ServerUnavailable as error:
            attempts, value, failure = await self._ask_again(call, error)
        except (InferenceError, ScoringError) as error:
            failure = error
        if not isinstance(failure, ServerUnavailable):
            failure = await self._vouched_for(failure)
        transient = isinstance(failure, ServerUnavailable)
        record = Record(
            key=key,
            stage=self.stage,
            probe=probe,
            status="answered" if failure is None else "failed",
            value=value if failure is None else {},
            error_type=TRANSIENT if transient else type(failure).__name__ if failure else "",
            error="" if failure is None else str(failure),
            attempts=attempts,
            seconds=round(time.monotonic() - started, 4),
            finished=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        if isinstance(failure, ServerUnavailable):
            self._unavailable.append(record)
            self._unavailable_in_a_row += 1
            if self._unavailable_in_a_row >= self._give_up_after:
                raise failure
        else:
            self._unavailable_in_a_row = 0
            self._writer.append(record)
        self.asked += 1
        self._answered += record.status == "answered"
        self._failed += record.status == "failed"
        self._hook.query_finished(self.name, record)
        return record

    async def _vouched_for(
        self, failure: InferenceError | ScoringError | None
    ) -> InferenceError | ScoringError | None:
        """Return how a query failed, if at all, once it is known that this says something of it."""
        try:
            await self._confirm()
            if isinstance(failure, QueryRejected) and failure.http_status not in _ABOUT_THE_QUERY:
                try:
                    await self._sign_of_life()
                except QueryRejected as error:
                    raise AccessRefused(str(failure)) from error
        except ServerUnavailable as error:
            return error
        except InferenceError:
            # An odd reply is a sign of life: the query was refused on its own.
            pass
        return failure

    async def _attempt(self, call: _Call) -> Mapping[str, JsonValue]:
        sent_at = self.pace.now()
        try:
            value = await call()
        except ServerUnavailable as error:
            self.pace.refused(sent_at, error.retry_after_seconds)
            raise
        self.pace.answered()
        return value

    async def _ask_again(
        self, call: _Call, first: ServerUnavailable
    ) -> tuple[int, Mapping[str, JsonValue], InferenceError | ScoringError | None]:
        """Return how many attempts were made in all, and the answer or why there is none."""
        attempts = 0
        failure: ServerUnavailable = first
        try:
            async for attempt in stamina.retry_context(
                on=_wait_for,
                attempts=self._policy.attempts,
                timeout=self._policy.timeout_seconds,
                wait_initial=self._policy.wait_seconds,
                wait_max=self._policy.wait_max_seconds,
                wait_jitter=self._policy.wait_seconds,
            ):
                with attempt:
                    attempts = attempt.num
                    if attempts == 1:
                        raise first
                    self.retries += 1
                    self._hook.query_retried(self.name, str(failure), attempts)
                    try:
                        return attempts, await self._attempt(call), None
                    except ServerUnavailable as error:
                        failure = error
                        raise
        except (InferenceError, ScoringError) as error:
            return attempts, {}, error
        raise AssertionError("a retry ends with an answer or an error")


def _wait_for(error: Exception) -> bool | float:
    if not isinstance(error, ServerUnavailable):
        return False
    # What the server asks for comes before our own schedule.
    return True if error.retry_after_seconds is None else min(error.retry_after_seconds, 120.0)
