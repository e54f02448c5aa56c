"""What a manifest says of a finished cell: accounting, coverage, warnings, files."""

import hashlib
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from pydantic import JsonValue

from grace.engine.audit import audited
from grace.engine.journal import Record, is_answered
from grace.engine.plan import QueryKey, ResponsePlan, ScorePlan
from grace.engine.record import value_digest
from grace.extraction.extract import plan_extraction
from grace.extraction.result import RULES
from grace.pipeline.asking import row_texts
from grace.pipeline.cautions import score_cautions
from grace.pipeline.cell import Cell
from grace.pipeline.connection import NOT_PINNED
from grace.pipeline.spent import spent_on
from grace.runs.csvfile import stream_table
from grace.runs.folder import RunRecord
from grace.runs.identity import RunIdentity
from grace.runs.manifest import (
    QueryCounts,
    RunManifest,
    StudyReport,
    file_entry,
    software_versions,
)
from grace.runs.rechecked import recheck_report
from grace.runs.scored import ANSWERED, score_all
from grace.runs.tables import row_responses
from grace.settings import RunSettings

LOW_COVERAGE = 0.1
"""Below this, a distribution over the set says little about what the model would answer."""


def manifest_of(cell: Cell, record: RunRecord, finished: datetime) -> RunManifest:
    """Assemble the manifest of a cell whose tables are written and valid."""
    records = cell.records()
    if cell.experiment == "exp1":
        studies = {
            plan.trials.study.key: _response_report(cell, plan, records)
            for plan in cell.response_plans()
        }
    else:
        studies = {
            plan.trials.study.key: _score_report(cell, plan, records) for plan in cell.score_plans()
        }
    spent = spent_on(cell)
    return RunManifest(
        started=record.started,
        finished=finished.isoformat(timespec="seconds"),
        seconds=spent.seconds,
        costs=spent.costs,
        complete=all(report.complete for report in studies.values()),
        warnings=tuple(_warnings(cell, studies, records, record.identity)),
        identity=record.identity,
        extractor=cell.folder.read_extractor(),
        request=_published(record.request),
        studies=studies,
        versions=software_versions(),
        files={name: file_entry(cell.folder.path / name) for name in cell.folder.published()},
    )


def _published(settings: RunSettings) -> dict[str, JsonValue]:
    """Return the settings without the folders of the machine that they were given on."""
    shown: dict[str, JsonValue] = settings.model_dump(mode="json", exclude={"out"})
    shown["study"] = [Path(name).name for name in settings.study]
    shown["input"] = {key: path.name for key, path in settings.input.items()}
    shown["catalogue"] = settings.catalogue.name if settings.catalogue else None
    # Only whether there was one: an address may name a private machine.
    shown["endpoint"] = settings.endpoint is not None
    shown["extractor_endpoint"] = settings.extractor_endpoint is not None
    return shown


def query_counts(
    keys: Mapping[str, Iterable[QueryKey]], records: Mapping[QueryKey, Record]
) -> dict[str, QueryCounts]:
    """Return the accounting of queries by probe, from the keys of each, given once."""
    counts = {}
    for probe, planned in keys.items():
        ends: Counter[str] = Counter()
        for key in planned:
            if is_answered(records, key):
                ends["answered"] += 1
            else:
                ends["failed" if key in records else "not_asked"] += 1
        counts[probe] = QueryCounts(
            planned=ends.total(),
            answered=ends["answered"],
            failed=ends["failed"],
            not_asked=ends["not_asked"],
        )
    return counts


def extraction_counts(
    plan: ResponsePlan, records: Mapping[QueryKey, Record], extractor: str
) -> QueryCounts:
    """
    Return the accounting of the extractions that a model is asked for.

    Args:
        plan: The responses.

        records: The journal.

        extractor: As the identity has it: a model's key, perhaps after `rules+`.
    """
    todo = plan_extraction(
        plan.trials.study,
        row_texts(plan, records),
        extractor.removeprefix(f"{RULES}+"),
        rules_first=extractor.startswith(f"{RULES}+"),
    )
    (counts,) = query_counts({"": [one.key for one in todo]}, records).values()
    return counts


def response_keys(plan: ResponsePlan) -> dict[str, Sequence[QueryKey]]:
    """Return the query keys of Experiment 1 by probe, each once."""
    return {
        probe.name: plan.turn_keys(position)
        for position, probe in enumerate(plan.trials.study.dialogue)
    }


def score_keys(plan: ScorePlan) -> dict[str, list[QueryKey]]:
    """Return the query keys of Experiment 2 by probe."""
    keys: dict[str, list[QueryKey]] = {
        probe.name: [] for probe in plan.trials.study.candidate_probes
    }
    # Those after a premise have names of their own.
    for query in plan.queries:
        keys.setdefault(query.probe.name, []).append(query.key)
    return dict(sorted(keys.items(), key=lambda item: item[0].endswith(" premise")))


def _response_report(
    cell: Cell, plan: ResponsePlan, records: Mapping[QueryKey, Record]
) -> StudyReport:
    structured = stream_table(cell.folder.table(plan.trials.study.key, "structured"))
    place = structured.header.index("extraction_status")
    outcomes = Counter(row[place].partition(":")[0] for row in structured.rows)
    return StudyReport(
        rows=len(plan.rows),
        stimuli=plan.trials.stimuli(),
        complete_rows=sum(row_responses(row, records).status == ANSWERED for row in plan.rows),
        queries=query_counts(response_keys(plan), records),
        extraction=dict(sorted(outcomes.items())),
        extraction_queries=(
            extraction_counts(plan, records, cell.extractor.label)
            if cell.extractor.use is not None
            else None
        ),
        prompts_sha256=_prompts_hash(plan.query_keys, records),
    )


def _score_report(cell: Cell, plan: ScorePlan, records: Mapping[QueryKey, Record]) -> StudyReport:
    scored = score_all(plan, records)
    probes = set(plan.trials.study.candidate_probes)
    coverage: dict[str, list[float]] = {}
    for one in scored.values():
        if one.distribution is not None and one.query.probe in probes:
            coverage.setdefault(one.query.probe.name, []).append(one.distribution.coverage)
    return StudyReport(
        rows=len(plan.rows),
        stimuli=plan.trials.stimuli(),
        complete_rows=sum(
            all(scored[query.key].distribution is not None for query in row.queries.values())
            for row in plan.rows
        ),
        queries=query_counts(score_keys(plan), records),
        coverage={
            probe: (min(values), statistics.median(values), max(values))
            for probe, values in coverage.items()
        },
        recheck=recheck_report(
            plan, records, percent=cell.settings.recheck, seed=cell.settings.seed
        ),
        prompts_sha256=_prompts_hash(plan.query_keys, records),
    )


def _prompts_hash(keys: Iterable[QueryKey], records: Mapping[QueryKey, Record]) -> str:
    # As numbers of 32 bytes, by their first byte: there may be one for each of a million queries.
    found = [bytearray() for _ in range(256)]
    for key in keys:
        if is_answered(records, key):
            digest = value_digest(records[key], "prompt_sha256")
            found[digest[0]] += digest
    whole = hashlib.sha256()
    separator = b""
    for held in found:
        distinct = {bytes(held[start : start + 32]) for start in range(0, len(held), 32)}
        for digest in sorted(distinct):
            whole.update(separator + digest.hex().encode())
            separator = b"\n"
    return whole.hexdigest()


def _warnings(
    cell: Cell,
    studies: Mapping[str, StudyReport],
    records: Mapping[QueryKey, Record],
    identity: RunIdentity,
) -> Iterable[str]:
    # As it was when the model was asked: this process may not know where that was.
    model, server = identity.model, identity.server
    if cell.use.key == "toy":
        yield "dry run: the numbers come from a toy model and mean nothing"
    if not cell.use.pinned or model.get("weights") != cell.use.identity.get("weights"):
        yield (
            f"{cell.use.key}: Grace cannot tell which revision of the weights answered; note it "
            "yourself, or pin it with `grace models lock`"
        )
    if server.get("template_date") == NOT_PINNED:
        yield (
            f"{cell.use.key}: its chat template writes the current date into every prompt, and this "
            "server leaves Grace no way to hold it fixed"
        )
    for study, report in studies.items():
        if report.rows != report.stimuli:
            yield f"{study}: {report.rows} rows show {report.stimuli} distinct stimuli"
        missing = report.rows - report.complete_rows
        if missing:
            yield f"{study}: {missing} of {report.rows} rows lack an answer"
        not_ok = sum(n for outcome, n in report.extraction.items() if outcome != "ok")
        if not_ok:
            yield f"{study}: {not_ok} of {report.rows} rows have an incomplete extraction"
        low = [probe for probe, (_, median, _) in report.coverage.items() if median < LOW_COVERAGE]
        if low and cell.use.key != "toy":
            yield (
                f"{study}: median coverage is below {LOW_COVERAGE} for {', '.join(low)}: left to "
                "itself, the model rarely answers from the set"
            )
    yield from _audit_cautions(cell, records)
    yield from score_cautions(cell, studies, records)
    cut = sum(record.value.get("finish_reason") == "length" for record in records.values())
    if cut:
        yield f"{cut} responses were cut off at their longest length"


def _audit_cautions(cell: Cell, records: Mapping[QueryKey, Record]) -> Iterable[str]:
    if not cell.settings.audit and not cell.folder.audit.exists():
        return
    kept = audited(cell.folder.audit)
    sent = {
        str(record.value["prompt_sha256"])
        for record in records.values()
        if "prompt_sha256" in record.value
    }
    if missing := len(sent - kept):
        yield (
            f"{missing} of {len(sent)} prompts are not in the audit copy: they were sent without "
            "--audit"
        )
