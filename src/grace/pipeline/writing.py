"""The stages of a cell that write: tables, summaries, checks, and the manifest last."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from grace.analysis.summary import summarise_probabilities, summarise_structured
from grace.engine.journal import Record
from grace.engine.plan import QueryKey, ResponsePlan
from grace.errors import ValidationFailed
from grace.extraction.extract import extract_rows
from grace.extraction.result import Extraction, Outcome
from grace.pipeline.asking import row_texts
from grace.pipeline.cell import Cell
from grace.pipeline.closing import manifest_of
from grace.runs.csvfile import stream_table, write_lines, write_table, written_whole
from grace.runs.folder import RunFolder, RunRecord
from grace.runs.manifest import (
    RunManifest,
    check_files,
    file_entry,
    read_manifest,
    write_manifest,
)
from grace.runs.score_table import ScoreTable
from grace.runs.scored import score_all
from grace.runs.tables import probability_table, response_table, structured_table
from grace.runs.validate import validate_manifest, validate_tables
from grace.studies.trials import TrialSet


def write_tables(cell: Cell) -> None:
    """Write all tables of a cell from its journal."""
    if cell.experiment == "exp1":
        write_response_tables(cell)
        write_structured_tables(cell)
    else:
        write_probability_tables(cell)


def write_response_tables(cell: Cell) -> None:
    """Write the raw response tables from the journal."""
    records = cell.records()
    for plan in cell.response_plans():
        path = cell.folder.table(plan.trials.study.key, "raw_responses")
        write_table(path, response_table(plan, records, cell.use.key))


def write_structured_tables(cell: Cell) -> None:
    """Write the structured tables and the error log of extraction."""
    records = cell.records()
    with written_whole(cell.folder.extraction_log) as log:
        for plan in cell.response_plans():
            key = plan.trials.study.key
            extractions = _logged(plan, extractions_of(cell, plan, records), log)
            table = structured_table(plan, records, extractions, cell.use.key)
            write_table(cell.folder.table(key, "structured"), table)


def _logged(
    plan: ResponsePlan, extractions: Iterable[Extraction], log: IO[bytes]
) -> Iterator[Extraction]:
    """Pass on extractions, once, and write a line of the log for each that is not complete."""
    for number, (row, one) in enumerate(zip(plan.rows, extractions, strict=True), start=1):
        if one.outcome is not Outcome.OK:
            line = json.dumps(
                {
                    "study": plan.trials.study.key,
                    "row": row.trial.row,
                    "replicate": row.replicate,
                    "table_row": number,
                    "extraction_status": one.status,
                    "extraction_error": one.error,
                }
            )
            log.write(f"{line}\n".encode())
        yield one


def write_probability_tables(cell: Cell) -> None:
    """Write the probability and score tables from the journal."""
    records = cell.records()
    for plan in cell.score_plans():
        key = plan.trials.study.key
        scored = score_all(plan, records)
        write_table(cell.folder.table(key, "probabilities"), probability_table(plan, scored))
        write_lines(cell.folder.table(key, "scores"), ScoreTable(plan, scored).lines())


def write_summaries(folder: RunFolder, inputs: Sequence[TrialSet]) -> list[Path]:
    """Write the per-condition summaries from the tables, and return their paths."""
    written = []
    for trials in inputs:
        key = trials.study.key
        if folder.experiment == "exp1":
            table = summarise_structured(trials, stream_table(folder.table(key, "structured")))
        else:
            table = summarise_probabilities(
                trials,
                stream_table(folder.table(key, "probabilities")),
                stream_table(folder.table(key, "scores")),
            )
        write_table(folder.table(key, "summary"), table)
        written.append(folder.table(key, "summary"))
    return written


def rewrite_summaries(folder: RunFolder, inputs: Sequence[TrialSet]) -> list[Path]:
    """
    Write the summaries of a closed run again, and their hashes into its manifest.

    Raises:
        RunFolderError: The run is not closed, a table was changed since, or another
            process works on it.
    """
    with folder.lock():
        manifest = read_manifest(folder)
        summaries = {folder.table(trials.study.key, "summary").name for trials in inputs}
        check_files(folder, manifest, manifest.files.keys() - summaries)
        written = write_summaries(folder, inputs)
        entries = {path.name: file_entry(path) for path in written}
        if any(manifest.files.get(name) != entry for name, entry in entries.items()):
            write_manifest(
                folder, manifest.model_copy(update={"files": {**manifest.files, **entries}})
            )
    return written


def close(cell: Cell, record: RunRecord) -> RunManifest:
    """
    Validate the tables and write the manifest, last.

    Raises:
        ValidationFailed: The tables break their contract; no manifest is left.
    """
    faults = validate_tables(cell.folder, cell.inputs, cell.settings.replicates)
    if faults:
        raise ValidationFailed(str(cell.folder.path), faults)
    manifest = manifest_of(cell, record, datetime.now(UTC))
    write_manifest(cell.folder, manifest)
    faults = validate_manifest(cell.folder)
    if faults:
        cell.folder.reopen()
        raise ValidationFailed(str(cell.folder.path), faults)
    return manifest


def extractions_of(
    cell: Cell, plan: ResponsePlan, records: Mapping[QueryKey, Record]
) -> Iterator[Extraction]:
    """Yield the extraction of every row of a plan."""
    choice = cell.extractor
    return extract_rows(
        plan.trials.study,
        row_texts(plan, records),
        records,
        choice.name,
        rules_first=choice.rules_first,
    )
