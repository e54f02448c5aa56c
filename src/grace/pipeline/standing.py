"""How a run stands: what is done, failed and left, why, how fast it went, and what to do next."""

import itertools
import re
import shlex
import statistics
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from grace.engine.journal import Record, read_journal
from grace.engine.plan import QueryKey, plan_responses, plan_scores
from grace.engine.recheck import plan_recheck
from grace.extraction.result import RULES
from grace.pipeline.closing import extraction_counts, query_counts, response_keys, score_keys
from grace.pipeline.origin import cluster_command
from grace.pipeline.reopen import reopen
from grace.pipeline.stages import Stage
from grace.pipeline.unfinished import blocked_turns, total_counts
from grace.runs.folder import RunFolder, RunRecord
from grace.runs.holder import Holder, lock_holder
from grace.runs.manifest import QueryCounts, RunManifest, read_manifest
from grace.runs.stop import StopNote, read_stop
from grace.studies.trials import TrialSet

MOST_REASONS = 3
_LONGEST_REASON = 160
# The pace is that of the last answers, without the pauses between two processes: those are many
# times longer than what usually passes from one answer to the next.
_PACED = 500
_SHORTEST_PAUSE_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 300.0
_TIMES_USUAL = 20.0


class RunState(StrEnum):
    """How a run stands."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    RUNNING = "running"
    UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class Line:
    """
    The queries of one question, or of one stage.

    Attributes:
        study, stage: Which.

        question: The probe's name, or what is done.

        counts: None if it is not known yet what will be asked.

        blocked: How many of those not asked need an answer that failed.
    """

    study: str
    stage: str
    question: str
    counts: QueryCounts | None
    blocked: int = 0


@dataclass(frozen=True, slots=True)
class Reason:
    """
    Why queries failed.

    Attributes:
        text: One of them, shortened.

        count: How many failed so; numbers in the text may differ.
    """

    text: str
    count: int


@dataclass(frozen=True, slots=True)
class Pace:
    """
    How fast answers came.

    Attributes:
        per_minute: Queries that ended in a minute of work; None if there were too few.

        last: When the last one ended; None if none did.
    """

    per_minute: float | None
    last: datetime | None


@dataclass(frozen=True, slots=True)
class Standing:
    """
    How a run stands.

    Attributes:
        folder: The run.

        state: In a word.

        lines: By study and stage.

        reasons: Why queries failed, the most frequent first.

        other_reasons: How many failed for other reasons than those.

        holder: Who works on it now; None if nobody does.

        pace: How fast it went.

        command: What to type next, or "" if nothing is to be done.

        manifest: Present if the run is closed.

        notes: What could not be found out.

        stop: Which error stopped it; None if none did, or if it goes on.

        collected: Whether it came from a cluster before it was over, and goes on there.
    """

    folder: RunFolder
    state: RunState
    lines: tuple[Line, ...]
    reasons: tuple[Reason, ...]
    other_reasons: int
    holder: Holder | None
    pace: Pace
    command: str
    manifest: RunManifest | None
    notes: tuple[str, ...] = ()
    stop: StopNote | None = None
    collected: bool = False

    def total(self) -> QueryCounts:
        """Return the counts of all lines together, as far as they are known."""
        return total_counts([line.counts for line in self.lines if line.counts is not None])

    @property
    def left(self) -> int:
        """How many queries are asked when the run goes on, as far as they are known."""
        known = [line for line in self.lines if line.counts is not None]
        return self.total().not_asked - sum(line.blocked for line in known)


def standing(folder: RunFolder) -> Standing:
    """
    Look at a run; nothing is changed and nobody is disturbed.

    Raises:
        RunFolderError: The folder, its journal or its inputs cannot be used.
    """
    holder = lock_holder(folder.path / "run.lock")
    if folder.closed:
        manifest = read_manifest(folder)
        lines = tuple(_closed_lines(folder, manifest))
        failed = any(line.counts is not None and line.counts.failed for line in lines)
        ended = _ended(read_journal(folder.journal).records.values() if failed else ())
        state = RunState.COMPLETE if manifest.complete else RunState.INCOMPLETE
        command = "" if manifest.complete and not failed else retry_command(folder)
        return Standing(
            folder=folder,
            state=state,
            lines=lines,
            reasons=ended.reasons,
            other_reasons=ended.other_reasons,
            holder=holder,
            pace=ended.pace,
            command=command,
            manifest=manifest,
        )
    record = folder.read_record()
    reopened = reopen(folder, record)
    records = read_journal(folder.journal).records
    lines = tuple(
        line for trials in reopened.inputs for line in _open_lines(folder, record, trials, records)
    )
    ended = _ended(records.values())
    there = cluster_command(folder, record)
    return Standing(
        folder=folder,
        state=RunState.UNFINISHED if holder is None else RunState.RUNNING,
        lines=lines,
        reasons=ended.reasons,
        other_reasons=ended.other_reasons,
        holder=holder,
        pace=ended.pace,
        command="" if holder is not None else there or resume_command(folder),
        manifest=None,
        notes=reopened.notes,
        stop=None if holder is not None else read_stop(folder),
        collected=bool(there),
    )


def resume_command(folder: RunFolder) -> str:
    """Return what continues a run, and begins what its command had not begun yet."""
    return f"grace resume {shlex.quote(str(folder.path))}"


def retry_command(folder: RunFolder) -> str:
    """Return what asks the failed queries of a run again."""
    return f"{resume_command(folder)} --retry-failed"


def _closed_lines(folder: RunFolder, manifest: RunManifest) -> Iterator[Line]:
    first = Stage.RESPOND if folder.experiment == "exp1" else Stage.SCORE
    for study, report in manifest.studies.items():
        for probe, counts in report.queries.items():
            yield Line(study, first, probe, counts)
        if report.extraction_queries is not None:
            yield Line(study, Stage.EXTRACT, "by a model", report.extraction_queries)
        if report.recheck is not None:
            again = report.recheck
            counts = QueryCounts(
                planned=again.planned,
                answered=again.answered,
                failed=again.failed,
                not_asked=again.not_asked,
            )
            yield Line(study, Stage.RECHECK, "again", counts)


def _open_lines(
    folder: RunFolder,
    record: RunRecord,
    trials: TrialSet,
    records: Mapping[QueryKey, Record],
) -> Iterator[Line]:
    study, settings = trials.study.key, record.request
    if folder.experiment == "exp2":
        scores = plan_scores(trials, pmi=settings.pmi)
        for probe, counts in query_counts(score_keys(scores), records).items():
            yield Line(study, Stage.SCORE, probe, counts)
        if settings.recheck:
            again = plan_recheck(scores, records, percent=settings.recheck, seed=settings.seed)
            keys = [one.query.key for one in again]
            (counts,) = query_counts({"again": keys}, records).values()
            over = all(key in records for key in scores.query_keys)
            yield Line(study, Stage.RECHECK, "again", counts if over else None)
        return
    responses = plan_responses(
        trials,
        seed=settings.seed,
        replicates=settings.replicates,
        deterministic=settings.temperature == 0,
    )
    blocked, over = blocked_turns(responses, records)
    for probe, counts in query_counts(response_keys(responses), records).items():
        yield Line(study, Stage.RESPOND, probe, counts, blocked[probe])
    extractor = str(record.identity.asking["extractor"])
    if extractor != RULES:
        known = extraction_counts(responses, records, extractor) if over else None
        yield Line(study, Stage.EXTRACT, "by a model", known)


@dataclass(frozen=True, slots=True)
class _Ended:
    """What the journal's records tell together; they are looked at once and not kept."""

    reasons: tuple[Reason, ...]
    other_reasons: int
    pace: Pace


def _ended(records: Iterable[Record]) -> _Ended:
    counted: Counter[str] = Counter()
    examples: dict[str, str] = {}
    moments = array("d")
    for record in records:
        if (moment := _moment(record.finished)) is not None:
            moments.append(moment)
        if record.status == "failed":
            text = f"{record.error_type}: {record.error}"
            kind = re.sub(r"\d+", "0", text)[:_LONGEST_REASON]
            counted[kind] += 1
            examples.setdefault(kind, text)
    frequent = counted.most_common(MOST_REASONS)
    reasons = tuple(Reason(_short(examples[kind]), count) for kind, count in frequent)
    others = counted.total() - sum(one.count for one in reasons)
    return _Ended(reasons, others, _pace(moments))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 1] + "…"


def _pace(moments: Sequence[float]) -> Pace:
    last = sorted(moments)[-_PACED:]
    if not last:
        return Pace(None, None)
    gaps = [later - earlier for earlier, later in itertools.pairwise(last)]
    usual = statistics.median(gaps) if gaps else 0.0
    longest = max(_SHORTEST_PAUSE_SECONDS, min(_LONGEST_PAUSE_SECONDS, _TIMES_USUAL * usual))
    worked = [gap for gap in gaps if gap <= longest]
    seconds = sum(worked)
    per_minute = 60 * len(worked) / seconds if seconds > 0 else None
    return Pace(per_minute, datetime.fromtimestamp(last[-1], UTC))


def _moment(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
