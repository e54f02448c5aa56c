import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from pydantic import JsonValue

from fake_llamacpp import refuse, serving
from grace.engine.events import QuietHook
from grace.engine.execute import Asker, RetryPolicy
from grace.engine.journal import JournalWriter, Record, read_journal
from grace.engine.pace import Pace
from grace.engine.plan import QueryKey
from grace.errors import (
    AccessRefused,
    BadReply,
    GarbledReply,
    GraceError,
    IdentityMismatch,
    QueryRejected,
    ScoringError,
    ServerUnavailable,
)
from grace.inference.transport import Transport

QUICK = RetryPolicy(attempts=4, timeout_seconds=20, wait_seconds=0.001, wait_max_seconds=0.002)
FIXED = Pace(3, adaptive=False)
KEYS = [QueryKey(f"k{number}") for number in range(40)]
Call = Callable[[], Awaitable[Mapping[str, JsonValue]]]


@dataclass
class Listener(QuietHook):
    """Writes down what it hears."""

    heard: list[str] = field(default_factory=list)

    def query_finished(self, name: str, record: Record) -> None:
        self.heard.append(f"{name}: {record.key} {record.status}")

    def query_retried(self, name: str, reason: str, attempt: int) -> None:
        self.heard.append(f"{name}: attempt {attempt} after {reason}")


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[JournalWriter]:
    with JournalWriter(tmp_path / "journal", "respond") as open_writer:
        yield open_writer


def asker(
    writer: JournalWriter,
    finished: Mapping[QueryKey, Record] | None = None,
    hook: QuietHook | None = None,
    policy: RetryPolicy = QUICK,
    give_up_after: int = 3,
    pace: Pace | None = None,
    sign_of_life: Call | None = None,
    confirm: Call | None = None,
) -> Asker:
    return Asker(
        "s",
        "respond",
        finished or {},
        KEYS,
        writer,
        hook or QuietHook(),
        policy,
        pace or FIXED,
        give_up_after,
        sign_of_life=sign_of_life or raises(),
        confirm=confirm or raises(),
    )


def journal(tmp_path: Path) -> Mapping[QueryKey, Record]:
    return read_journal(tmp_path / "journal").records


def raises(*errors: GraceError) -> Call:
    """A call that raises the errors in turn, and then answers."""
    left = list(errors)

    async def call() -> Mapping[str, JsonValue]:
        if left:
            raise left.pop(0)
        return {"text": "3"}

    return call


def always(error: Exception) -> Call:
    async def call() -> Mapping[str, JsonValue]:
        raise error

    return call


@asynccontextmanager
async def replying(*replies: web.Response) -> AsyncIterator[tuple[Transport, list[float]]]:
    """A server that gives the replies in turn, and the moments at which it was asked."""
    left, moments = list(replies), list[float]()

    async def answer(_: web.Request) -> web.Response:
        moments.append(time.monotonic())
        return left.pop(0)

    app = web.Application()
    app.router.add_get("/", answer)
    async with serving(app) as url:
        transport = Transport(url)
        try:
            yield transport, moments
        finally:
            await transport.aclose()


async def test_a_transient_error_is_retried_after_as_long_as_the_server_asks(
    writer: JournalWriter,
) -> None:
    hook = Listener()
    patience = RetryPolicy(attempts=4, timeout_seconds=20, wait_seconds=9, wait_max_seconds=9)
    async with replying(
        refuse(503, {"Retry-After": "0.3"}),
        refuse(429, {"Retry-After": "0"}),
        web.json_response({"text": "3"}),
    ) as (transport, moments):

        async def call() -> Mapping[str, JsonValue]:
            reply = await transport.get("/")
            assert isinstance(reply, dict)
            return reply

        record = await asker(writer, hook=hook, policy=patience).ask(KEYS[0], "prior", call)
    first, second, third = moments
    assert 0.3 <= second - first < 5
    assert third - second < 5
    assert (record.status, record.value, record.attempts) == ("answered", {"text": "3"}, 3)
    assert [line.split(" after ")[0] for line in hook.heard] == [
        "s: attempt 2",
        "s: attempt 3",
        "s: k0 answered",
    ]


@pytest.mark.parametrize(
    "error", [QueryRejected("too long"), BadReply("nonsense"), ScoringError("a seam")]
)
async def test_a_permanent_error_is_not_retried_and_is_recorded_at_once(
    writer: JournalWriter, tmp_path: Path, error: GraceError
) -> None:
    record = await asker(writer).ask(KEYS[0], "prior", always(error))
    assert (record.status, record.attempts, record.value) == ("failed", 1, {})
    assert (record.error_type, record.error) == (type(error).__name__, str(error))
    assert journal(tmp_path) == {KEYS[0]: record}


async def test_an_http_refusal_is_not_retried(writer: JournalWriter) -> None:
    async with replying(refuse(400)) as (transport, moments):

        async def call() -> Mapping[str, JsonValue]:
            await transport.get("/")
            return {}

        record = await asker(writer).ask(KEYS[0], "prior", call)
    assert (record.error_type, len(moments)) == ("QueryRejected", 1)


async def test_a_query_that_recovers_is_an_answer_and_counts_its_attempts(
    writer: JournalWriter, tmp_path: Path
) -> None:
    call = raises(ServerUnavailable("busy"), ServerUnavailable("busy"))
    record = await asker(writer).ask(KEYS[0], "prior", call)
    assert (record.status, record.error_type, record.attempts) == ("answered", "", 3)
    assert journal(tmp_path)[KEYS[0]] == record


async def test_a_query_that_never_recovers_is_recorded_only_when_the_stage_is_over(
    writer: JournalWriter, tmp_path: Path
) -> None:
    one = asker(writer)
    record = await one.ask(KEYS[0], "prior", always(ServerUnavailable("gone")))
    assert (record.status, record.error_type, record.attempts) == (
        "failed",
        "ServerUnavailable",
        4,
    )
    assert journal(tmp_path) == {}
    await one.close()
    assert journal(tmp_path) == {KEYS[0]: record}
    assert (one.counts.answered, one.counts.failed, one.counts.not_asked) == (0, 1, 39)


async def test_after_so_many_lost_queries_in_a_row_the_server_counts_as_lost(
    writer: JournalWriter, tmp_path: Path
) -> None:
    one = asker(writer, give_up_after=3)
    gone = always(ServerUnavailable("gone"))
    for key in KEYS[:2]:
        await one.ask(key, "prior", gone)
    with pytest.raises(ServerUnavailable, match="gone"):
        await one.ask(KEYS[2], "prior", gone)
    # Nothing is recorded: after a restart of the server, all are asked again.
    assert journal(tmp_path) == {}


@pytest.mark.parametrize("error", [QueryRejected("too long"), BadReply("nonsense"), None])
async def test_queries_that_fail_last_are_recorded_if_the_server_still_lives(
    writer: JournalWriter, tmp_path: Path, error: GraceError | None
) -> None:
    one = asker(writer, sign_of_life=raises() if error is None else always(error))
    record = await one.ask(KEYS[0], "prior", always(ServerUnavailable("gone")))
    await one.close()
    assert journal(tmp_path) == {KEYS[0]: record}


async def test_a_server_that_gives_no_sign_of_life_at_the_end_is_lost(
    writer: JournalWriter, tmp_path: Path
) -> None:
    one = asker(writer, sign_of_life=always(ServerUnavailable("still gone")))
    await one.ask(KEYS[0], "prior", always(ServerUnavailable("gone")))
    with pytest.raises(ServerUnavailable, match="still gone"):
        await one.close()
    assert journal(tmp_path) == {}


async def test_no_sign_of_life_is_asked_for_if_the_last_query_was_answered(
    writer: JournalWriter, tmp_path: Path
) -> None:
    one = asker(writer, sign_of_life=always(AssertionError("was asked")))
    await one.ask(KEYS[0], "prior", always(ServerUnavailable("gone")))
    await one.ask(KEYS[1], "prior", raises())
    await one.close()
    assert len(journal(tmp_path)) == 2


@pytest.mark.parametrize("status", [301, 401, 402, 403, 404, 407, 501])
async def test_a_server_that_refuses_whatever_it_is_asked_stops_the_run(
    writer: JournalWriter, tmp_path: Path, status: int
) -> None:
    refused = always(QueryRejected(f"HTTP {status}", status))
    with pytest.raises(AccessRefused, match=f"HTTP {status}"):
        await asker(writer, sign_of_life=refused).ask(KEYS[0], "prior", refused)
    assert journal(tmp_path) == {}


@pytest.mark.parametrize("life", [None, BadReply("odd")])
async def test_a_refusal_of_one_query_is_its_own_if_the_server_still_answers(
    writer: JournalWriter, tmp_path: Path, life: GraceError | None
) -> None:
    one = asker(writer, sign_of_life=always(life) if life else raises())
    record = await one.ask(KEYS[0], "prior", always(QueryRejected("no", 403)))
    assert (record.status, record.error_type) == ("failed", "QueryRejected")
    assert journal(tmp_path) == {KEYS[0]: record}


@pytest.mark.parametrize("status", [None, 400, 413, 422])
async def test_a_query_refused_for_what_it_is_asks_nothing_more(
    writer: JournalWriter, status: int | None
) -> None:
    one = asker(writer, sign_of_life=always(AssertionError("was asked")))
    record = await one.ask(KEYS[0], "prior", always(QueryRejected("too long", status)))
    assert record.status == "failed"


@pytest.mark.parametrize(
    "call", [raises(), always(QueryRejected("no", 404))], ids=["an answer", "a refusal"]
)
async def test_nothing_counts_that_may_come_from_another_server(
    writer: JournalWriter, tmp_path: Path, call: Call
) -> None:
    one = asker(writer, confirm=always(IdentityMismatch("another", ["version: 1 before, 2 now"])))
    with pytest.raises(IdentityMismatch):
        await one.ask(KEYS[0], "prior", call)
    assert journal(tmp_path) == {}


async def test_an_answer_of_a_server_that_cannot_be_told_is_not_kept(
    writer: JournalWriter, tmp_path: Path
) -> None:
    one = asker(writer, confirm=always(ServerUnavailable("who?")))
    record = await one.ask(KEYS[0], "prior", raises())
    assert (record.status, record.value, record.error) == ("failed", {}, "who?")
    await one.close()
    assert journal(tmp_path) == {KEYS[0]: record}


async def test_a_garbled_reply_is_recorded_as_what_may_pass(writer: JournalWriter) -> None:
    record = await asker(writer).ask(KEYS[0], "prior", always(GarbledReply("<html>")))
    assert (record.status, record.error_type, record.attempts) == (
        "failed",
        "ServerUnavailable",
        4,
    )


async def test_an_answer_in_between_shows_that_the_server_lives(writer: JournalWriter) -> None:
    one = asker(writer, give_up_after=3)
    gone = always(ServerUnavailable("gone"))
    for key, call in zip(KEYS[:5], [gone, gone, raises(), gone, gone], strict=True):
        await one.ask(key, "prior", call)
    assert (one.counts.answered, one.counts.failed) == (1, 4)


async def test_a_finished_query_is_not_asked_again(writer: JournalWriter) -> None:
    held = await asker(writer).ask(KEYS[0], "prior", raises())
    failed = await asker(writer).ask(KEYS[1], "prior", always(QueryRejected("no")))
    again = asker(writer, {held.key: held, failed.key: failed})
    assert await again.ask(KEYS[0], "prior", always(BadReply("was asked"))) is held
    assert await again.ask(KEYS[1], "prior", raises()) is failed


async def test_a_query_that_failed_for_a_lost_server_is_asked_again(
    writer: JournalWriter, tmp_path: Path
) -> None:
    one = asker(writer)
    lost = await one.ask(KEYS[0], "prior", always(ServerUnavailable("gone")))
    await one.close()
    again = asker(writer, {lost.key: lost})
    assert again.counts.not_asked == 40
    assert (await again.ask(KEYS[0], "prior", raises())).status == "answered"
    assert journal(tmp_path)[KEYS[0]].status == "answered"


async def test_records_of_other_stages_are_not_counted(writer: JournalWriter) -> None:
    other = await asker(writer).ask(QueryKey("elsewhere"), "prior", raises())
    assert asker(writer, {other.key: other}).counts.answered == 0


async def test_the_same_query_asked_by_two_workers_at_once_is_sent_once(
    writer: JournalWriter, tmp_path: Path
) -> None:
    # At temperature 0, dialogues that differ in their second turn share the first one.
    one, sent = asker(writer), 0

    async def call() -> Mapping[str, JsonValue]:
        nonlocal sent
        sent += 1
        await asyncio.sleep(0.01)
        return {"text": f"answer {sent}"}

    first, second = await asyncio.gather(
        one.ask(KEYS[0], "prior", call), one.ask(KEYS[0], "prior", call)
    )
    assert sent == 1
    assert first is second
    assert read_journal(tmp_path / "journal").lines == 1


async def test_a_bug_is_not_a_failed_query(writer: JournalWriter, tmp_path: Path) -> None:
    async def call() -> Mapping[str, JsonValue]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await asker(writer).ask(KEYS[0], "prior", call)
    assert journal(tmp_path) == {}


async def test_a_refusal_slows_the_pace_and_an_answer_counts(writer: JournalWriter) -> None:
    pace = Pace(8)
    one = asker(writer, pace=pace)
    await one.ask(KEYS[0], "prior", raises(ServerUnavailable("busy")))
    assert (pace.limit, one.retries) == (2, 1)
