"""
Tables: what journals hold, fanned out to the user's rows.

Pure: the same plan and records give the same bytes. A cell without a
measurement is empty; `status` and `error` say why. Rows are made when they are
gone through, and not kept.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from grace.engine.journal import Record
from grace.engine.plan import QueryKey, ResponsePlan, ResponseRow, ScorePlan
from grace.engine.record import value_text
from grace.extraction.result import Extraction
from grace.runs.csvfile import Table, number_text
from grace.runs.scored import ANSWERED, FAILED, MOST_KNOWN, NOT_ASKED, ScoredQuery
from grace.scoring.distribution import Distribution
from grace.studies.known import Known
from grace.studies.probes import CandidateProbe
from grace.studies.streamed import Streamed
from grace.studies.study import Measure, ProbabilityColumn, Study


@dataclass(frozen=True, slots=True)
class Responses:
    """
    What came back for one row.

    Attributes:
        texts: Response by probe name; only those that were answered.

        status: `answered` if all were, else `failed` or `not_asked`.

        error: Why not; if answered, whether a response is empty text.
    """

    texts: Mapping[str, str]
    status: str
    error: str


def row_responses(row: ResponseRow, records: Mapping[QueryKey, Record]) -> Responses:
    """Collect a row's responses from the journal's records."""
    texts: dict[str, str] = {}
    for query in row.dialogue.queries:
        record = records.get(query.key)
        if record is None:
            return Responses(texts, NOT_ASKED, f"{query.probe.name}: the run ended before")
        if record.status != ANSWERED:
            error = f"{query.probe.name}: {record.error_type}: {record.error}"
            return Responses(texts, FAILED, error)
        texts[query.probe.name] = value_text(record, "text")
    empty = [name for name, text in texts.items() if not text.strip()]
    note = f"{', '.join(empty)}: the model answered with nothing" if empty else ""
    return Responses(texts, ANSWERED, note)


def response_header(study: Study, header: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of a raw response table for an input with that header."""
    return (
        *header,
        *(column.name for column in study.derived_columns),
        "stimulus_id",
        "model",
        "replicate",
        *(study.response_column(probe) for probe in study.dialogue),
        "status",
        "error",
    )


def response_table(plan: ResponsePlan, records: Mapping[QueryKey, Record], model: str) -> Table:
    """Return the raw response table: all rows, in order, by replicate."""
    study = plan.trials.study

    def rows() -> Iterator[tuple[str, ...]]:
        for row in plan.rows:
            yield _response_cells(study, row, row_responses(row, records), model)

    return Table(response_header(study, plan.trials.header), Streamed(rows, len(plan.rows)))


def _response_cells(
    study: Study, row: ResponseRow, responses: Responses, model: str
) -> tuple[str, ...]:
    return (
        *row.trial.cells,
        *(row.trial.variables[column.name] for column in study.derived_columns),
        row.trial.stimulus_id,
        model,
        str(row.replicate),
        *(responses.texts.get(probe.name, "") for probe in study.dialogue),
        responses.status,
        responses.error,
    )


def structured_header(study: Study, header: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of a structured table."""
    return (
        *response_header(study, header),
        *(answer_field.name for answer_field in study.fields),
        "extraction_status",
        "extraction_error",
    )


def structured_table(
    plan: ResponsePlan,
    records: Mapping[QueryKey, Record],
    extractions: Iterable[Extraction],
    model: str,
) -> Table:
    """
    Return the raw response table with the structured answers beside it.

    Args:
        plan: The plan.

        records: The journal's records.

        extractions: Of each row of the plan; each pass through the table goes
            through them once.

        model: The model's key.
    """
    study = plan.trials.study
    raw = response_table(plan, records, model)

    def rows() -> Iterator[tuple[str, ...]]:
        for cells, extraction in zip(raw.rows, extractions, strict=True):
            yield (
                *cells,
                *(_value_text(extraction.values[one.name]) for one in study.fields),
                extraction.status,
                extraction.error,
            )

    return Table(structured_header(study, plan.trials.header), Streamed(rows, len(raw.rows)))


def probability_table(plan: ScorePlan, scored: Mapping[QueryKey, ScoredQuery]) -> Table:
    """Return the wide probability table: the input's columns, then the study's."""
    study = plan.trials.study
    columns = [column.name for column in study.probability_columns]

    def formatted(key: QueryKey) -> Mapping[str, str]:
        return _probability_cells(study, scored[key])

    def rows() -> Iterator[tuple[str, ...]]:
        # Rows share stimuli: what repeats is formatted once.
        cells = Known(formatted, MOST_KNOWN)
        for row in plan.rows:
            values: dict[str, str] = {}
            for query in row.queries.values():
                values |= cells[query.key]
            yield (*row.trial.cells, *[values[name] for name in columns])

    return Table((*plan.trials.header, *columns), Streamed(rows, len(plan.rows)))


def _probability_cells(study: Study, scored: ScoredQuery) -> dict[str, str]:
    columns = [c for c in study.probability_columns if c.probe == scored.query.probe.name]
    made = scored.distribution
    if made is None:
        return {column.name: "" for column in columns}
    return {
        column.name: number_text(_measure(made, column, scored.query.probe)) for column in columns
    }


def _measure(made: Distribution, column: ProbabilityColumn, probe: CandidateProbe) -> float:
    values = [answer.value if answer.value is not None else 0.0 for answer in probe.answers]
    match column.measure:
        case Measure.PROBABILITY:
            return made.probability(column.answers)
        case Measure.MEAN:
            return made.mean(values)
        case Measure.STD:
            return made.std(values)
        case Measure.ENTROPY:
            return made.entropy_bits(column.partition)


def _value_text(value: int | str | None) -> str:
    return "" if value is None else str(value)
