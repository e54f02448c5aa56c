"""
The long table of scores: one line for each row, probe and answer.

Every score of an answer stands beside its joint log-probability. What was not
measured is empty, and `not_measured` says why.
"""

import json
from collections.abc import Iterator, Mapping

from grace.engine.plan import QueryKey, ScorePlan
from grace.runs.csvfile import Table, csv_cells, csv_lines, number_text
from grace.runs.scored import MOST_KNOWN, ScoredQuery
from grace.scoring.measures import per_character, per_token, pmi_dc
from grace.studies.known import Known
from grace.studies.streamed import Streamed

OUTSIDE, PMI, END = "outside", "pmi", "end"
"""What `not_measured` may name: each stands for some columns, see `MEASURED_TOGETHER`."""

MEASURED_TOGETHER: Mapping[str, tuple[str, ...]] = {
    PMI: ("premise_logprob", "pmi"),
    END: ("logprob_with_end", "probability_with_end"),
    OUTSIDE: ("outside_token", "outside_logprob"),
}

SCORE_HEADER = (
    "row",
    "stimulus_id",
    "probe",
    "candidate",
    "n_tokens",
    "logprob",
    "probability",
    "coverage",
    "first_token_logprob",
    "first_token_probability",
    "first_token_shared",
    "logprob_per_token",
    "logprob_per_character",
    *MEASURED_TOGETHER[PMI],
    *MEASURED_TOGETHER[END],
    *MEASURED_TOGETHER[OUTSIDE],
    "outside_leads",
    "not_measured",
    "status",
    "error",
)


_Asked = tuple[str, QueryKey, QueryKey | None]
"""A probe's name, its query, and the query after its premise."""


class ScoreTable:
    """
    The long table of scores: one line for each row, probe and candidate.

    It has many times as many lines as the input has rows, and few that differ in
    more than how they begin: what distinct queries say is formatted once.

    Args:
        plan: The plan.

        scored: What became of its queries.
    """

    def __init__(self, plan: ScorePlan, scored: Mapping[QueryKey, ScoredQuery]) -> None:
        self._plan = plan
        self._scored = scored

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Go through the lines, cell by cell."""
        known = Known(self._cells, MOST_KNOWN)
        for start, asked in self._starts():
            for cells in known[asked]:
                yield (*start, *cells)

    def lines(self) -> Iterator[str]:
        """Go through the lines as a CSV file has them, with their ends, the header first."""
        yield from csv_lines(SCORE_HEADER, ())
        known = Known(self._texts, MOST_KNOWN)
        for start, asked in self._starts():
            begun = csv_cells((*start, ""))
            yield "".join([begun + line for line in known[asked]])

    def _starts(self) -> Iterator[tuple[tuple[str, str], _Asked]]:
        for row in self._plan.rows:
            start = (str(row.trial.row), row.trial.stimulus_id)
            for name, query in row.queries.items():
                premise = row.premises.get(name)
                yield start, (name, query.key, None if premise is None else premise.key)

    def _cells(self, asked: _Asked) -> list[tuple[str, ...]]:
        name, key, premise = asked
        return _lines(self._scored[key], _premise(self._plan, name, premise, self._scored))

    def _texts(self, asked: _Asked) -> list[str]:
        return [csv_cells(cells) + "\n" for cells in self._cells(asked)]


def score_table(plan: ScorePlan, scored: Mapping[QueryKey, ScoredQuery]) -> Table:
    """Return the long table of scores: one line for each row, probe and candidate."""
    return Table(SCORE_HEADER, Streamed(ScoreTable(plan, scored).rows))


def _premise(
    plan: ScorePlan,
    probe: str,
    premise: QueryKey | None,
    scored: Mapping[QueryKey, ScoredQuery],
) -> ScoredQuery | str:
    """Return the outcome after the premise, or why there is none."""
    if not plan.pmi:
        return "not asked (--pmi)"
    if premise is None:
        return f"the study gives no premise for {probe}"
    outcome = scored[premise]
    return outcome if outcome.distribution is not None else f"{outcome.status}: {outcome.error}"


def _lines(scored: ScoredQuery, premise: ScoredQuery | str) -> list[tuple[str, ...]]:
    probe, made = scored.query.probe, scored.distribution
    if made is None:
        blank = [""] * (len(SCORE_HEADER) - 6)
        return [(probe.name, label, *blank, scored.status, scored.error) for label in probe.labels]
    missing = []
    premises: Mapping[str, float] = {}
    if isinstance(premise, str):
        missing.append((PMI, premise))
    elif premise.distribution is not None:
        premises = premise.distribution.by_label()
    ends: dict[str, tuple[float, float]] = {}
    if scored.ended is None:
        missing.append((END, scored.why_not_ended))
    else:
        together = zip(scored.ended.logprobs, scored.ended.probabilities, strict=True)
        ends = dict(zip(made.labels, together, strict=True))
    outside = scored.outside
    if outside.logprob is None:
        missing.append((OUTSIDE, outside.reason))
    last = (
        *(_text(outside.token), _number(outside.logprob)),
        {True: "yes", False: "no", None: ""}[outside.leads],
        "; ".join(f"{name}: {_reason(reason)}" for name, reason in missing),
        scored.status,
        "",
    )
    forms = {answer.label: answer.surface_forms[0] for answer in probe.answers}
    coverage = number_text(made.coverage)
    lines: list[tuple[str, ...]] = []
    for label, logprob, probability in zip(
        made.labels, made.logprobs, made.probabilities, strict=True
    ):
        n_tokens, first = scored.n_tokens[label], scored.first[label]
        before = premises.get(label)
        end = ends.get(label, (None, None))
        lines.append(
            (
                *(probe.name, label, str(n_tokens)),
                *(number_text(logprob), number_text(probability), coverage),
                *(number_text(first.logprob), number_text(first.probability), str(first.shared)),
                number_text(per_token(logprob, n_tokens)),
                number_text(per_character(logprob, forms[label])),
                _number(before),
                "" if before is None else number_text(pmi_dc(logprob, before)),
                *(_number(end[0]), _number(end[1])),
                *last,
            )
        )
    return lines


def _number(value: float | None) -> str:
    return "" if value is None else number_text(value)


def _text(token: str) -> str:
    # A token may be a line break: escapes keep it visible, and a line a line.
    return json.dumps(token, ensure_ascii=False)[1:-1]


def _reason(text: str) -> str:
    # "; " ends a reason.
    return text.replace("; ", ", ")
