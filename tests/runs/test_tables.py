import asyncio
import csv
import io
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import JsonValue

from grace.engine.journal import Record
from grace.engine.plan import QueryKey, ResponsePlan, ScorePlan, plan_responses, plan_scores
from grace.engine.score import Scorer, ScoringMethod
from grace.extraction.result import Extraction, Outcome, not_attempted
from grace.inference.toy import ToyClient
from grace.runs.csvfile import Table, csv_bytes, read_table, write_bytes
from grace.runs.score_table import SCORE_HEADER, ScoreTable, score_table
from grace.runs.scored import score_all
from grace.runs.tables import probability_table, response_table, structured_table
from grace.studies.knowledge import KNOWLEDGE
from grace.studies.make import make_rows
from grace.studies.politeness import POLITENESS
from grace.studies.prompts import PromptMode
from grace.studies.study import Study
from grace.studies.trials import TrialSet, parse_trials

Records = dict[QueryKey, Record]

STUDY1 = (
    *("participant_id", "story_shortname", "story_setup", "priorQ", "speech", "speechQ"),
    *("knowledgeQ", "access", "observe"),
)
STUDY2 = (
    *("Participant_ID", "Domain", "Precontext", "Scenario", "Utterance", "Goal", "State"),
    *("SP_Name", "LS_Name"),
)
STUDY1_RAW = (
    *("stimulus_id", "model", "replicate"),
    *("response_prior", "response_speech", "response_knowledge", "status", "error"),
)
STUDY2_RAW = (
    *("goal", "state", "stimulus_id", "model", "replicate", "response", "status", "error"),
)
STUDY1_FIELDS = (
    *("Prior_A", "0", "1", "2", "3", "Knowledge_A", "extraction_status", "extraction_error"),
)
STUDY2_FIELDS = (
    *("Was/Wasn't", "Assessment", "response_text", "extraction_status", "extraction_error"),
)
STUDY2_PROBABILITIES = (
    *("prob_was_terrible", "prob_was_bad", "prob_was_good", "prob_was_amazing"),
    *("prob_wasnt_terrible", "prob_wasnt_bad", "prob_wasnt_good", "prob_wasnt_amazing"),
    *("prob_was", "prob_wasnt"),
    *("prob_terrible", "prob_bad", "prob_good", "prob_amazing"),
    *("entropy_frame", "entropy_assessment", "entropy_joint"),
)


def trials(study: Study, rows: int = 2, **changed: str) -> TrialSet:
    """Made trials, with some cells of the first row changed."""
    made = make_rows(study.key, rows, 1)
    made[0] |= changed
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(made[0]), quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(made)
    return parse_trials(study, text.getvalue().encode(), "trials.csv")


def record(key: QueryKey, value: Mapping[str, JsonValue] | None = None) -> Record:
    failed = value is None
    return Record(
        key=key,
        stage="respond",
        probe="p",
        status="failed" if failed else "answered",
        value=value or {},
        error_type="BadReply" if failed else "",
        error="nonsense" if failed else "",
        attempts=1,
        seconds=0.1,
        finished="now",
    )


def answered(plan: ResponsePlan, text: str = "3") -> Records:
    return {key: record(key, {"text": text}) for key in plan.query_keys}


def planned(given: TrialSet) -> ResponsePlan:
    return plan_responses(given, seed=1, replicates=1, deterministic=False)


def scored(plan: ScorePlan) -> Records:
    """What the toy model answers."""
    scorer = Scorer(ToyClient(), PromptMode.CHAT, ScoringMethod.TRIE)

    async def ask() -> Records:
        return {query.key: record(query.key, await scorer.score(query)) for query in plan.queries}

    return asyncio.run(ask())


def cells_of(table: Table, row: int) -> dict[str, str]:
    return dict(zip(table.header, table.rows[row], strict=True))


def extractions(plan: ResponsePlan) -> list[Extraction]:
    return [not_attempted(plan.trials.study, "reason") for _ in plan.rows]


def test_study_1_has_exactly_the_columns_of_the_contract() -> None:
    plan = planned(trials(KNOWLEDGE))
    assert response_table(plan, {}, "m").header == (*STUDY1, *STUDY1_RAW)
    structured = structured_table(plan, {}, extractions(plan), "m")
    assert structured.header == (*STUDY1, *STUDY1_RAW, *STUDY1_FIELDS)


def test_study_2_has_exactly_the_columns_of_the_contract() -> None:
    plan = planned(trials(POLITENESS))
    assert response_table(plan, {}, "m").header == (*STUDY2, *STUDY2_RAW)
    structured = structured_table(plan, {}, extractions(plan), "m")
    assert structured.header == (*STUDY2, *STUDY2_RAW, *STUDY2_FIELDS)


def test_the_probabilities_of_study_1_have_exactly_68_columns() -> None:
    plan = plan_scores(trials(KNOWLEDGE))
    header = probability_table(plan, score_all(plan, {})).header
    assert len(header) == 68
    assert header == (
        *STUDY1,
        *(f"state{k}_prob_{p}" for k in range(4) for p in range(0, 101, 10)),
        *(f"state{k}_{name}" for k in range(4) for name in ("mean", "std", "entropy")),
        *("prob_knowledge_yes", "prob_knowledge_no", "entropy_knowledge"),
    )


def test_the_probabilities_of_study_2_have_exactly_the_columns_of_the_contract() -> None:
    plan = plan_scores(trials(POLITENESS))
    assert probability_table(plan, score_all(plan, {})).header == (
        *STUDY2,
        *STUDY2_PROBABILITIES,
    )


def test_the_long_table_has_exactly_the_columns_of_the_contract() -> None:
    assert (
        *("row", "stimulus_id", "probe", "candidate", "n_tokens", "logprob", "probability"),
        *("coverage", "first_token_logprob", "first_token_probability", "first_token_shared"),
        *("logprob_per_token", "logprob_per_character", "premise_logprob", "pmi"),
        *("logprob_with_end", "probability_with_end", "outside_token", "outside_logprob"),
        *("outside_leads", "not_measured", "status", "error"),
    ) == SCORE_HEADER


def test_the_inputs_spelling_of_its_header_is_kept() -> None:
    content = b"participant_id,story_shortname,story_setup,priorQ,speach,speachQ,knowledgeQ,"
    content += b"access,observe\n"
    content += b'1,s,"A<br>b.",How many of the 3 cups do you think are full?,"""Two.""",Now?,K?,2,2'
    given = parse_trials(KNOWLEDGE, content, "t.csv")
    expected = tuple({"speech": "speach", "speechQ": "speachQ"}.get(n, n) for n in STUDY1)
    plan = planned(given)
    assert response_table(plan, {}, "m").header[:9] == expected
    scores = plan_scores(given)
    assert probability_table(scores, score_all(scores, {})).header[:9] == expected


ODD = ' 007, "quoted"\r\nand\rbroken\n\u2028é\U0001f600NA '


def test_the_inputs_cells_are_kept_character_by_character(tmp_path: Path) -> None:
    given = trials(KNOWLEDGE, participant_id=ODD, story_shortname="=1+1")
    plan, scores = planned(given), plan_scores(given)
    for table in (
        response_table(plan, answered(plan), "m"),
        structured_table(plan, answered(plan), extractions(plan), "m"),
        probability_table(scores, score_all(scores, {})),
    ):
        write_bytes(tmp_path / "t.csv", csv_bytes(table.header, table.rows))
        read = read_table(tmp_path / "t.csv")
        assert read == table
        for row, trial in zip(read.rows, given.trials, strict=True):
            assert row[:9] == trial.cells
    assert given.trials[0].cells[0] == ODD


def test_a_response_is_kept_whatever_it_holds() -> None:
    plan = planned(trials(POLITENESS))
    table = response_table(plan, answered(plan, ODD), "m")
    assert cells_of(table, 0)["response"] == ODD
    assert cells_of(table, 0)["status"] == "answered"


def test_a_failed_turn_leaves_its_cell_and_those_after_it_empty_with_a_reason() -> None:
    plan = planned(trials(KNOWLEDGE))
    records = answered(plan)
    prior, speech, knowledge = plan.rows[0].dialogue.queries
    records[speech.key] = record(speech.key)
    del records[knowledge.key]
    table = response_table(plan, records, "m")
    cells = cells_of(table, 0)
    assert [cells[f"response_{name}"] for name in ("prior", "speech", "knowledge")] == ["3", "", ""]
    assert (cells["status"], cells["error"]) == ("failed", "speech: BadReply: nonsense")
    assert cells_of(table, 1)["status"] == "answered"
    assert prior.key in records


def test_a_turn_that_was_not_asked_says_so() -> None:
    plan = planned(trials(POLITENESS))
    cells = cells_of(response_table(plan, {}, "m"), 0)
    assert (cells["response"], cells["status"]) == ("", "not_asked")
    assert cells["error"] == "utterance: the run ended before"


def test_an_empty_response_is_an_answer_that_is_remarked_on() -> None:
    plan = planned(trials(POLITENESS))
    cells = cells_of(response_table(plan, answered(plan, " \n"), "m"), 0)
    assert (cells["response"], cells["status"]) == (" \n", "answered")
    assert "answered with nothing" in cells["error"]


def test_values_that_are_not_stated_are_empty_cells() -> None:
    plan = planned(trials(KNOWLEDGE))
    one = not_attempted(KNOWLEDGE, "")
    zero = replace(one, values={**one.values, "Prior_A": 0, "Knowledge_A": "uncertain"})
    table = structured_table(plan, answered(plan), [zero, one], "m")
    assert cells_of(table, 0)["Prior_A"] == "0"
    assert cells_of(table, 0)["Knowledge_A"] == "uncertain"
    assert cells_of(table, 1)["Prior_A"] == ""
    assert cells_of(table, 1)["extraction_status"] == Outcome.NOT_ATTEMPTED


def test_rows_that_show_the_same_stimulus_share_its_numbers() -> None:
    given = trials(POLITENESS, 1)
    twice = replace(given, trials=(given.trials[0], replace(given.trials[0], row=2)))
    plan = plan_scores(twice)
    assert len(plan.queries) == 1
    wide = probability_table(plan, score_all(plan, scored(plan)))
    assert wide.rows[0] == wide.rows[1]
    long = score_table(plan, score_all(plan, scored(plan)))
    assert [row[0] for row in long.rows] == ["1"] * 8 + ["2"] * 8


def test_the_numbers_are_those_of_the_journal() -> None:
    plan = plan_scores(trials(KNOWLEDGE, 1))
    records = scored(plan)
    outcomes = score_all(plan, records)
    wide = cells_of(probability_table(plan, outcomes), 0)
    long = score_table(plan, outcomes)
    query = plan.rows[0].queries["state1"]
    forms = records[query.key].value["forms"]
    assert isinstance(forms, list)
    joint = [math.fsum(form["logprobs"]) for form in forms]  # type: ignore[index, call-overload, arg-type]
    total = math.fsum(map(math.exp, joint))
    shares = [math.exp(value) / total for value in joint]
    percents = [float(p) for p in range(0, 101, 10)]
    mean = math.fsum(p * share for p, share in zip(percents, shares, strict=True))
    spread = math.fsum((p - mean) ** 2 * share for p, share in zip(percents, shares, strict=True))
    assert [float(wide[f"state1_prob_{p:g}"]) for p in percents] == pytest.approx(shares)
    assert float(wide["state1_mean"]) == pytest.approx(mean)
    assert float(wide["state1_std"]) == pytest.approx(math.sqrt(spread))
    assert float(wide["state1_entropy"]) == pytest.approx(
        -math.fsum(share * math.log2(share) for share in shares)
    )
    lines = [line for line in long.rows if line[2] == "state1"]
    assert [line[3] for line in lines] == [f"{p:g}%" for p in percents]
    assert [float(line[5]) for line in lines] == pytest.approx(joint)
    assert [float(line[7]) for line in lines] == pytest.approx([total] * 11)


def test_a_failed_query_empties_its_cells_in_the_wide_and_in_the_long_table() -> None:
    plan = plan_scores(trials(KNOWLEDGE, 2))
    records = scored(plan)
    failed = plan.rows[0].queries["state2"].key
    missing = plan.rows[0].queries["knowledge"].key
    records[failed] = record(failed)
    del records[missing]
    outcomes = score_all(plan, records)
    wide = probability_table(plan, outcomes)
    empty = {name for name, text in cells_of(wide, 0).items() if not text}
    assert empty == {
        *(f"state2_prob_{p}" for p in range(0, 101, 10)),
        *("state2_mean", "state2_std", "state2_entropy"),
        *("prob_knowledge_yes", "prob_knowledge_no", "entropy_knowledge"),
    }
    assert "" not in cells_of(wide, 1).values()
    for line in score_table(plan, outcomes).rows:
        cells = dict(zip(SCORE_HEADER, line, strict=True))
        numbers = [cells[name] for name in ("n_tokens", "logprob", "probability", "coverage")]
        if cells["row"] == "1" and cells["probe"] == "state2":
            assert (cells["status"], cells["error"]) == ("failed", "BadReply: nonsense")
            assert numbers == ["", "", "", ""]
        elif cells["row"] == "1" and cells["probe"] == "knowledge":
            assert (cells["status"], cells["error"]) == ("not_asked", "the run ended before")
            assert numbers == ["", "", "", ""]
        else:
            assert (cells["status"], cells["error"]) == ("answered", "")
            assert "" not in numbers


@pytest.mark.parametrize("logprob", [0.5, float("-inf"), float("nan")])
def test_a_journal_with_an_impossible_number_gives_a_failed_row_and_no_number(
    logprob: float,
) -> None:
    plan = plan_scores(trials(POLITENESS, 1))
    (query,) = plan.queries
    forms: list[JsonValue] = [
        {"label": label, "text": label, "token_ids": [1], "logprobs": [logprob]}
        for label in query.probe.labels
    ]
    outcome = score_all(plan, {query.key: record(query.key, {"forms": forms})})[query.key]
    assert outcome.status == "failed"
    assert outcome.error.startswith("ScoringError: ")
    assert outcome.distribution is None


def test_a_journal_without_one_answer_gives_a_failed_row() -> None:
    plan = plan_scores(trials(POLITENESS, 1))
    (query,) = plan.queries
    outcome = score_all(plan, {query.key: record(query.key, {"forms": []})})[query.key]
    assert (outcome.status, outcome.distribution) == ("failed", None)


def test_the_long_tables_lines_are_those_of_its_rows() -> None:
    given = trials(KNOWLEDGE, 2)
    plan = plan_scores(given, pmi=True)
    outcomes = score_all(plan, {})
    table = score_table(plan, outcomes)
    written = "".join(ScoreTable(plan, outcomes).lines()).encode()
    assert written == csv_bytes(table.header, table.rows)
    outcomes = score_all(plan, scored(plan))
    table = score_table(plan, outcomes)
    written = "".join(ScoreTable(plan, outcomes).lines()).encode()
    assert written == csv_bytes(table.header, table.rows)
    assert len(table.rows) == 2 * 50
