import pytest
from pydantic import JsonValue

from grace.engine.journal import Record
from grace.engine.plan import QueryKey
from grace.extraction.extract import RowText, extract_rows, plan_extraction
from grace.extraction.model_extractor import extraction_key
from grace.extraction.result import Extraction, Outcome, extraction, not_attempted
from grace.studies.knowledge import KNOWLEDGE
from grace.studies.politeness import POLITENESS
from grace.studies.study import Study

MODEL = "deepseek"
CLEAR = RowText({"utterance": "It wasn't bad."})
VAGUE = RowText({"utterance": "Hm."})
NOTHING = RowText({}, "no response: utterance: QueryRejected: too long")
BETS = RowText(
    {"prior": "3", "speech": "0: $0, 1: $10, 2: $30, 3: $60", "knowledge": "I am not sure."}
)


def record(
    study: Study, row: RowText, values: dict[str, JsonValue] | None, *, failed: bool = False
) -> dict[QueryKey, Record]:
    key = extraction_key(study, MODEL, row.responses)
    value: dict[str, JsonValue] = {
        "raw": ["..."],
        "repaired": False,
        "values": {**values} if values is not None else None,
        "problem": "" if values is not None else "there is no JSON object",
    }
    return {
        key: Record(
            key=key,
            stage="extract",
            probe="extraction",
            status="failed" if failed else "answered",
            value={} if failed else value,
            error_type="QueryRejected" if failed else "",
            error="too long" if failed else "",
            attempts=1,
            seconds=0.1,
            finished="now",
        )
    }


def politeness(
    row: RowText,
    records: dict[QueryKey, Record] | None = None,
    extractor: str = MODEL,
    *,
    rules_first: bool = True,
) -> Extraction:
    (one,) = extract_rows(POLITENESS, [row], records or {}, extractor, rules_first=rules_first)
    return one


SAID: dict[str, JsonValue] = {"Was/Wasn't": "was", "Assessment": "good", "response_text": "Hm."}


def test_only_what_the_rules_leave_open_goes_to_a_model_and_only_once() -> None:
    rows = [CLEAR, VAGUE, VAGUE, NOTHING, RowText({"utterance": "Well."})]
    todo = plan_extraction(POLITENESS, rows, MODEL, rules_first=True)
    assert {one.responses["utterance"] for one in todo} == {"Hm.", "Well."}
    assert len(todo) == 2
    assert [one.key for one in todo] == sorted(one.key for one in todo)
    everything = plan_extraction(POLITENESS, rows, MODEL, rules_first=False)
    assert len(everything) == 3


def test_a_key_depends_on_study_extractor_and_responses() -> None:
    keys = {
        extraction_key(POLITENESS, MODEL, {"utterance": "Hm."}),
        extraction_key(POLITENESS, "other", {"utterance": "Hm."}),
        extraction_key(POLITENESS, MODEL, {"utterance": "Hm"}),
        extraction_key(KNOWLEDGE, MODEL, {"utterance": "Hm."}),
    }
    assert len(keys) == 4


def test_what_the_rules_read_stays_theirs() -> None:
    one = politeness(CLEAR, record(POLITENESS, CLEAR, SAID))
    assert (one.status, one.error, one.outcome) == ("ok:rules", "", Outcome.OK)
    assert (one.values["Was/Wasn't"], one.values["Assessment"]) == ("wasn't", "bad")


def test_the_rules_alone_leave_the_rest_open_with_a_reason() -> None:
    one = politeness(VAGUE, extractor="rules")
    assert one.outcome in {Outcome.INCOMPLETE, Outcome.FAILED}
    assert one.status.endswith(":rules")
    assert one.values["Assessment"] is None
    assert one.error


def test_a_model_fills_what_is_open_and_is_named_for_it() -> None:
    one = politeness(VAGUE, record(POLITENESS, VAGUE, SAID))
    assert one.outcome is Outcome.OK
    assert MODEL in one.status
    assert (one.values["Was/Wasn't"], one.values["Assessment"]) == ("was", "good")
    assert one.error == ""


def test_a_model_alone_is_the_only_source() -> None:
    one = politeness(CLEAR, record(POLITENESS, CLEAR, SAID), rules_first=False)
    assert (one.status, one.values["Assessment"]) == ("ok:deepseek", "good")


def test_what_the_model_does_not_state_either_stays_open() -> None:
    one = politeness(VAGUE, record(POLITENESS, VAGUE, {**SAID, "Assessment": None}))
    assert one.outcome is Outcome.INCOMPLETE
    assert "not stated: Assessment" in one.error


@pytest.mark.parametrize(
    ("values", "failed", "reason"),
    [
        (None, False, "deepseek gave no valid JSON: there is no JSON object"),
        (None, True, "deepseek: QueryRejected: too long"),
    ],
)
def test_a_model_that_gave_nothing_is_the_reason(
    values: dict[str, JsonValue] | None,
    *,
    failed: bool,
    reason: str,
) -> None:
    one = politeness(VAGUE, record(POLITENESS, VAGUE, values, failed=failed), rules_first=False)
    assert (one.status, one.outcome) == ("failed:deepseek", Outcome.FAILED)
    assert reason in one.error
    assert set(one.values.values()) == {None}


def test_a_model_that_was_not_asked_is_the_reason() -> None:
    one = politeness(VAGUE, rules_first=False)
    assert "deepseek was not asked: the run ended before" in one.error


def test_a_row_without_responses_is_not_attempted() -> None:
    one = politeness(NOTHING)
    assert (one.status, one.error) == ("not_attempted", NOTHING.reason)
    assert set(one.values.values()) == {None}
    assert not_attempted(KNOWLEDGE, "why").outcome is Outcome.NOT_ATTEMPTED


def test_every_row_has_its_extraction_in_order() -> None:
    rows = [VAGUE, CLEAR, NOTHING, VAGUE]
    outcomes = [
        one.outcome for one in extract_rows(POLITENESS, rows, {}, "rules", rules_first=True)
    ]
    assert outcomes[1] is Outcome.OK
    assert outcomes[2] is Outcome.NOT_ATTEMPTED
    assert outcomes[0] == outcomes[3] != Outcome.OK


def test_bets_that_do_not_sum_up_are_never_complete_whoever_read_them() -> None:
    values: dict[str, JsonValue] = {
        "Prior_A": 3,
        **{str(n): v for n, v in enumerate([10, 10, 30, 60])},
        "Knowledge_A": "yes",
    }
    row = RowText({**BETS.responses, "speech": "10, 10, 30 and 60"})
    (one,) = extract_rows(
        KNOWLEDGE, [row], record(KNOWLEDGE, row, values), MODEL, rules_first=False
    )
    assert one.outcome is Outcome.INCOMPLETE
    assert "add up to 110, not 100" in one.error


def test_a_number_that_the_response_does_not_state_is_left_out() -> None:
    values: dict[str, JsonValue] = {
        "Prior_A": 2,
        **{str(n): v for n, v in enumerate([0, 10, 30, 60])},
        "Knowledge_A": "uncertain",
    }
    (one,) = extract_rows(
        KNOWLEDGE, [BETS], record(KNOWLEDGE, BETS, values), MODEL, rules_first=False
    )
    assert one.values["Prior_A"] is None
    assert one.values["3"] == 60
    assert one.values["Knowledge_A"] == "uncertain"
    assert "the model says 2, which the response does not state" in one.error


@pytest.mark.parametrize(
    ("made_by", "status"),
    [
        ({"Was/Wasn't": "rules", "Assessment": "rules"}, "ok:rules"),
        ({"Was/Wasn't": "m", "Assessment": "m"}, "ok:m"),
        ({"Was/Wasn't": "rules", "Assessment": "m"}, "ok:rules+m(Assessment)"),
    ],
)
def test_a_status_names_who_made_what(made_by: dict[str, str], status: str) -> None:
    values = {"Was/Wasn't": "was", "Assessment": "good", "response_text": "x"}
    assert extraction(POLITENESS, values, made_by, (), complete=True).status == status
