import asyncio
import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
from pydantic import JsonValue

from grace.engine.journal import Record
from grace.engine.plan import QueryKey, ScorePlan, plan_scores
from grace.engine.score import Scorer, ScoringMethod
from grace.inference.toy import ToyClient
from grace.pipeline.inputs import load_inputs
from grace.runs.csvfile import Table
from grace.runs.score_table import SCORE_HEADER, score_table
from grace.runs.scored import score_all
from grace.runs.validate_measures import measure_faults
from grace.settings import RunSettings
from grace.studies.prompts import PromptMode
from grace.studies.trials import TrialSet

Records = dict[QueryKey, Record]
Lines = list[dict[str, str]]

LOST = "QueryRejected: too long; give up"


def study(key: str) -> TrialSet:
    return load_inputs(RunSettings(study=(key,), limit=1))[0]


def asked(plan: ScorePlan, *, terminators: bool) -> Records:
    scorer = Scorer(ToyClient(), PromptMode.CHAT, ScoringMethod.TRIE, terminators=terminators)

    async def ask() -> Records:
        return {query.key: record(query.key, await scorer.score(query)) for query in plan.queries}

    return asyncio.run(ask())


def record(key: QueryKey, value: Mapping[str, JsonValue] | None) -> Record:
    kind, _, error = LOST.partition(": ")
    failed = value is None
    return Record(
        key=key,
        stage="score",
        probe="p",
        status="failed" if failed else "answered",
        value=value or {},
        error_type=kind if failed else "",
        error=error if failed else "",
        attempts=1,
        seconds=0.1,
        finished="now",
    )


@pytest.fixture(scope="module")
def full() -> tuple[ScorePlan, Records]:
    """Study 1, one row, with everything that can be asked."""
    plan = plan_scores(study("study1"), pmi=True)
    return plan, asked(plan, terminators=True)


def lines_of(table: Table, probe: str) -> Lines:
    named = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    return [line for line in named if line["probe"] == probe]


def written(plan: ScorePlan, records: Records, probe: str) -> Lines:
    return lines_of(score_table(plan, score_all(plan, records)), probe)


def column(lines: Lines, name: str) -> list[float]:
    return [float(line[name]) for line in lines]


def test_every_score_follows_from_the_journal(full: tuple[ScorePlan, Records]) -> None:
    plan, records = full
    for probe in plan.trials.study.candidate_probes:
        lines = written(plan, records, probe.name)
        assert list(measure_faults(probe, lines)) == []
        assert "" not in {line[name] for line in lines for name in SCORE_HEADER[:19]}
        assert {(line["not_measured"], line["error"]) for line in lines} == {("", "")}
        row = plan.rows[0]
        before = score_all(plan, records)[row.premises[probe.name].key].distribution
        assert before is not None
        assert column(lines, "premise_logprob") == pytest.approx(before.logprobs)
        value = records[row.queries[probe.name].key].value
        ended: dict[str, float] = {}
        for form in value["forms"]:  # type: ignore[union-attr]
            joint = math.fsum(form["logprobs"])  # type: ignore[index, call-overload, arg-type]
            end = math.fsum(map(math.exp, form["end_logprobs"]))  # type: ignore[index, call-overload, arg-type]
            label = str(form["label"])  # type: ignore[index, call-overload]
            ended[label] = ended.get(label, 0.0) + math.exp(joint) * end
        assert [math.exp(one) for one in column(lines, "logprob_with_end")] == pytest.approx(
            list(ended.values())
        )


def test_a_first_token_that_answers_share_is_said_to_be_shared(
    full: tuple[ScorePlan, Records],
) -> None:
    lines = {line["candidate"]: line for line in written(*full, "state0")}
    shared = {label: int(line["first_token_shared"]) for label, line in lines.items()}
    # One character a token: 10% and 100% both begin with 1.
    assert (shared["10%"], shared["100%"], shared["20%"]) == (2, 2, 1)
    assert lines["10%"]["first_token_logprob"] == lines["100%"]["first_token_logprob"]


def test_what_was_not_asked_is_empty_and_says_so() -> None:
    plan = plan_scores(study("study2"))
    for line in written(plan, asked(plan, terminators=False), "utterance"):
        for name in ("premise_logprob", "pmi", "logprob_with_end", "probability_with_end"):
            assert line[name] == ""
        assert line["not_measured"] == "pmi: not asked (--pmi); end: not asked (--terminators)"
        assert (line["status"], line["error"]) == ("answered", "")
        assert line["outside_logprob"]


def test_a_journal_of_an_older_version_is_read_and_what_it_lacks_is_named() -> None:
    plan = plan_scores(study("study2"))
    records = asked(plan, terminators=False)
    old = {
        key: replace(one, value={k: v for k, v in one.value.items() if k != "outside"})
        for key, one in records.items()
    }
    lines = written(plan, old, "utterance")
    assert list(measure_faults(plan.trials.study.candidate_probes[0], lines)) == []
    for new, line in zip(written(plan, records, "utterance"), lines, strict=True):
        assert "outside: the version of Grace that asked did not record it" in line["not_measured"]
        assert (line["outside_token"], line["outside_logprob"], line["outside_leads"]) == ("",) * 3
        assert line["logprob"] == new["logprob"]


def test_a_premise_without_an_answer_leaves_pmi_empty_with_its_reason(
    full: tuple[ScorePlan, Records],
) -> None:
    plan, records = full
    lost = plan.rows[0].premises["direct"].key
    lines = written(plan, {**records, lost: record(lost, None)}, "direct")
    assert list(measure_faults(plan.trials.study.candidate_probe("direct"), lines)) == []
    for line in lines:
        assert (line["premise_logprob"], line["pmi"], line["status"]) == ("", "", "answered")
        # "; " separates reasons.
        assert line["not_measured"] == "pmi: failed: QueryRejected: too long, give up"


def test_a_study_without_premises_says_so() -> None:
    given = study("study2")
    bare = tuple(replace(probe, premise=None) for probe in given.study.candidate_probes)
    plan = plan_scores(replace(given, study=replace(given.study, candidate_probes=bare)), pmi=True)
    line = written(plan, asked(plan, terminators=False), "utterance")[0]
    assert "pmi: the study gives no premise for utterance" in line["not_measured"]


def test_line_breaks_and_quotes_of_a_token_are_shown_as_escapes() -> None:
    plan = plan_scores(study("study2"))
    records = asked(plan, terminators=False)
    odd: JsonValue = {"token_id": 1, "text": '\n"é', "logprob": -0.001}
    records = {k: replace(one, value={**one.value, "outside": odd}) for k, one in records.items()}
    line = written(plan, records, "utterance")[0]
    assert (line["outside_token"], line["outside_leads"]) == ('\\n\\"é', "yes")


@pytest.mark.parametrize("bad", [0.5, math.nan])
def test_an_impossible_number_beside_the_answers_fails_the_distribution(bad: float) -> None:
    plan = plan_scores(study("study2"))
    (key,) = plan.query_keys
    odd: JsonValue = {"token_id": 1, "text": "a", "logprob": bad}
    value = {**asked(plan, terminators=False)[key].value, "outside": odd}
    outcome = score_all(plan, {key: record(key, value)})[key]
    assert (outcome.status, outcome.distribution) == ("failed", None)
    assert "not a log-probability" in outcome.error


def change(lines: Lines, name: str, to: float | str) -> None:
    """Put a text into each of the lines, or add a number to theirs."""
    for line in lines:
        line[name] = to if isinstance(to, str) else f"{float(line[name]) + to:.9g}"


@pytest.mark.parametrize(
    ("name", "to"),
    [
        *((name, 0.01) for name in SCORE_HEADER[8:10]),
        *((name, -0.01) for name in SCORE_HEADER[11:17]),
        ("logprob_with_end", 40.0),
        *((name, "") for name in SCORE_HEADER[8:20]),
        *((name, "much") for name in SCORE_HEADER[8:17]),
        *((name, "nan") for name in ("pmi", "first_token_logprob", "logprob_with_end")),
        *(("first_token_shared", count) for count in ("0", "12")),
        ("outside_token", "another"),
        ("outside_logprob", -0.01),
        ("outside_leads", "maybe"),
        ("not_measured", "pmi: not asked"),
    ],
)
def test_a_wrong_score_on_one_line_is_found(
    full: tuple[ScorePlan, Records], name: str, to: float | str
) -> None:
    lines = written(*full, "state1")
    change(lines[1:2], name, to)
    assert list(measure_faults(full[0].trials.study.candidate_probe("state1"), lines))


@pytest.mark.parametrize(
    ("name", "to"),
    [
        ("outside_logprob", "0.5"),
        ("outside_logprob", "0"),
        ("outside_leads", "maybe"),
        ("outside_leads", "no"),
        ("outside_leads", ""),
        ("not_measured", "pmi: not asked"),
        ("not_measured", "luck: none"),
        ("not_measured", "pmi"),
        ("first_token_logprob", "-30"),
        ("pmi", "0"),
    ],
)
def test_a_wrong_score_on_all_lines_is_found(
    full: tuple[ScorePlan, Records], name: str, to: str
) -> None:
    lines = written(*full, "state1")
    assert lines[0]["outside_leads"] == "yes"
    change(lines, name, to)
    assert list(measure_faults(full[0].trials.study.candidate_probe("state1"), lines))
