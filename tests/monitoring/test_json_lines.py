"""A run as JSON lines: what each says, how often, and that no answer is in it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

import pytest

from grace.engine.events import StageCounts
from grace.engine.journal import Record
from grace.engine.plan import QueryKey
from grace.monitoring.json_lines import PROGRESS_SECONDS, JsonLines

ABOUT = {"run": "20260131T235959Z", "stage": "respond", "model": "toy", "shard": "0/4"}


class Told:
    """Lines that were told, and a clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.seconds = 100.0
        self.lines = JsonLines(
            self.texts.append,
            ABOUT,
            clock=lambda: self.seconds,
            now=lambda: datetime(2026, 1, 31, 12, tzinfo=UTC),
        )

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.texts]


@pytest.fixture
def told() -> Told:
    return Told()


def record(status: Literal["answered", "failed"] = "answered") -> Record:
    return Record(
        key=QueryKey("k"),
        stage="respond",
        probe="speech",
        status=status,
        value={"text": "what the model said"},
        error_type="" if status == "answered" else "QueryRejected",
        error="",
        attempts=1,
        seconds=0.1,
        finished="",
    )


def test_every_line_says_when_and_of_what(told: Told) -> None:
    cell = told.lines.of("exp1", "toy")
    cell.stage_started("study1 responses", 10, 4)
    cell.message("toy: connecting")
    first, second = told.all()
    assert first == {
        "time": "2026-01-31T12:00:00.000+00:00",
        "level": "info",
        "event": "stage_started",
        **ABOUT,
        "experiment": "exp1",
        "study": "study1",
        "planned": 10,
        "done": 4,
        "failed": 0,
    }
    assert second["event"] == "message"
    assert second["text"] == "toy: connecting"
    assert second["stage"] == "respond"


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("study1 responses", "respond"),
        ("my study extraction", "extract"),
        ("study2 probabilities", "score"),
        ("study2 recheck", "recheck"),
    ],
)
def test_a_stage_is_named_as_the_command_line_names_it(told: Told, name: str, stage: str) -> None:
    told.lines.stage_started(name, 1, 0)
    (line,) = told.all()
    assert (line["study"], line["stage"]) == (name.rpartition(" ")[0], stage)


def test_progress_is_told_at_most_every_few_seconds(told: Told) -> None:
    told.lines.stage_started("study1 responses", 1000, 0)
    for number in range(1000):
        told.seconds += 0.02
        told.lines.query_finished(
            "study1 responses", record("failed" if number % 10 == 0 else "answered")
        )
    progress = [line for line in told.all() if line["event"] == "progress"]
    assert len(progress) == 20 / PROGRESS_SECONDS - 1 or len(progress) == 20 / PROGRESS_SECONDS
    assert progress[0]["done"] == pytest.approx(PROGRESS_SECONDS / 0.02, abs=1)
    assert progress[0]["rate"] == pytest.approx(50, rel=0.01)
    assert progress[0]["failed"] == pytest.approx(progress[0]["done"] / 10, abs=1)
    told.lines.stage_finished("study1 responses", StageCounts(1000, 900, 100))
    last = told.all()[-1]
    assert (last["planned"], last["answered"], last["failed"], last["not_asked"]) == (
        1000,
        900,
        100,
        0,
    )
    assert last["seconds"] == pytest.approx(20)
    assert "said" not in "".join(told.texts)


Often = Callable[[JsonLines, int], None]


@pytest.mark.parametrize(
    ("event", "happens"),
    [
        ("retry", lambda lines, n: lines.query_retried("study1 responses", "HTTP 503", n)),
        ("pace", lambda lines, n: lines.pace_changed("study1 responses", n, 1)),
    ],
)
def test_what_happens_all_the_time_is_not_told_each_time(
    told: Told, event: str, happens: Often
) -> None:
    told.lines.stage_started("study1 responses", 10, 0)
    for number in range(100):
        happens(told.lines, number)
    assert [line["event"] for line in told.all()].count(event) == 1
    told.seconds += PROGRESS_SECONDS
    happens(told.lines, 100)
    last = told.all()[-1]
    assert last["event"] == event
    if event == "retry":
        assert last["level"] == "warning"
        assert last["retries"] == 101


def test_an_error_is_one_line_whatever_its_message_holds(told: Told) -> None:
    told.lines.error("first\nsecond \x1b[31m é " + "x" * 10_000, "RunFolderError")
    (text,) = told.texts
    assert "\n" not in text
    assert text.isascii()
    line = json.loads(text)
    assert (line["level"], line["event"]) == ("error", "error")
    assert line["error_type"] == "RunFolderError"
    assert line["text"].startswith("first\nsecond \x1b")
    assert len(line["text"]) <= 2000
