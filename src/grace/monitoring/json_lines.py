"""
A run as JSON lines: for whoever reads the logs of containers, with a program or without.

Each line says when, of which run, stage, experiment, model and shard, and what
happened in numbers. None holds a prompt or a response. What comes often (queries,
retries, changes of pace) is told at most once in some seconds, with how often it
came.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic import JsonValue

from grace.engine.events import StageCounts
from grace.engine.journal import Record
from grace.pipeline.stages import stage_of

PROGRESS_SECONDS = 5.0
"""The least time between two lines of one kind about one stage."""

_MOST_CHARACTERS = 2_000


@dataclass(slots=True)
class _Asked:
    """How a stage stands, and what was told of it last."""

    planned: int
    done: int
    failed: int
    before: int
    started: float
    retries: int = 0
    told: dict[str, float] = field(default_factory=dict)


class JsonLines:
    """
    Tells a run's events as JSON lines.

    Args:
        write: Takes each line, without its end.

        about: What every line says: run, stage, model, shard.

        clock: Seconds, from any fixed moment.

        now: The time of day.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        about: Mapping[str, JsonValue],
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._write = write
        self._about = dict(about)
        self._clock = clock
        self._now = now
        self._stages: dict[str, _Asked] = {}

    def of(self, experiment: str, model: str) -> "JsonLines":
        """Return what tells of one cell of the run."""
        about = {**self._about, "experiment": experiment, "model": model}
        return JsonLines(self._write, about, self._clock, self._now)

    def message(self, text: str) -> None:
        """Tell something that is worth a line."""
        self._tell("message", text=_short(text))

    def error(self, text: str, kind: str) -> None:
        """Tell what ended the work, and which kind of error it is."""
        self._tell("error", level="error", error_type=kind, text=_short(text))

    def stage_started(self, name: str, planned: int, done: int) -> None:
        """Tell that a stage begins."""
        now = self._clock()
        self._stages[name] = _Asked(planned, done, 0, done, now, told={"progress": now})
        self._tell("stage_started", name, planned=planned, done=done, failed=0)

    def query_finished(self, name: str, record: Record) -> None:
        """Tell how a stage stands, now and then."""
        stage = self._stages[name]
        stage.done += 1
        stage.failed += record.status == "failed"
        if self._is_due(stage, "progress"):
            self._tell(
                "progress",
                name,
                planned=stage.planned,
                done=stage.done,
                failed=stage.failed,
                rate=self._rate(stage),
            )

    def query_retried(self, name: str, reason: str, attempt: int) -> None:
        """Tell that queries are sent again, now and then."""
        stage = self._stages[name]
        stage.retries += 1
        if self._is_due(stage, "retry"):
            self._tell(
                "retry",
                name,
                level="warning",
                attempt=attempt,
                retries=stage.retries,
                text=_short(reason),
            )

    def pace_changed(self, name: str, requests: int, queries: int) -> None:
        """Tell how much is sent at a time, now and then."""
        if self._is_due(self._stages[name], "pace"):
            self._tell("pace", name, requests_at_once=requests, queries_per_request=queries)

    def stage_finished(self, name: str, counts: StageCounts) -> None:
        """Tell how a stage ended."""
        stage = self._stages[name]
        self._tell(
            "stage_finished",
            name,
            planned=counts.planned,
            done=counts.answered + counts.failed,
            answered=counts.answered,
            failed=counts.failed,
            not_asked=counts.not_asked,
            retries=stage.retries,
            rate=self._rate(stage),
            seconds=round(self._clock() - stage.started, 3),
        )

    def _rate(self, stage: _Asked) -> float:
        """Return queries a second."""
        passed = self._clock() - stage.started
        return round((stage.done - stage.before) / passed, 3) if passed > 0 else 0.0

    def _is_due(self, stage: _Asked, event: str) -> bool:
        now = self._clock()
        last = stage.told.get(event)
        if last is not None and now - last < PROGRESS_SECONDS:
            return False
        stage.told[event] = now
        return True

    def _tell(self, event: str, name: str = "", level: str = "info", **more: JsonValue) -> None:
        line: dict[str, JsonValue] = {
            "time": self._now().astimezone(UTC).isoformat(timespec="milliseconds"),
            "level": level,
            "event": event,
            **self._about,
        }
        if name:
            study, stage = stage_of(name)
            line["study"] = study
            if stage is not None:
                line["stage"] = stage.value
        self._write(json.dumps({**line, **more}, allow_nan=False))


def _short(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"
