from grace.engine.journal import Record
from grace.engine.plan import QueryKey, ScorePlan, plan_scores
from grace.engine.recheck import plan_recheck, recheck_key
from grace.pipeline.inputs import load_inputs
from grace.runs.rechecked import RECHECK_LIMIT, recheck_report
from grace.settings import RunSettings


def planned() -> ScorePlan:
    return plan_scores(load_inputs(RunSettings(study=("study2",), limit=12))[0])


def record(key: QueryKey, shift: float = 0.0, status: str = "answered") -> Record:
    labels = [a.label for a in planned().trials.study.candidate_probes[0].answers]
    forms = [
        {"label": label, "text": label, "token_ids": [n], "logprobs": [-3.0 - n + shift]}
        for n, label in enumerate(labels)
    ]
    answered = status == "answered"
    return Record(
        key=key,
        stage="score",
        probe="utterance",
        status="answered" if answered else "failed",
        value={"forms": forms} if answered else {},  # type: ignore[dict-item]
        error_type="" if answered else "QueryRejected",
        error="" if answered else "no",
        attempts=1,
        seconds=0.0,
        finished="",
    )


def test_the_sample_is_the_same_every_time_and_in_another_order() -> None:
    plan = planned()
    records = {key: record(key) for key in plan.query_keys}
    again = plan_recheck(plan, records, percent=50, seed=1)
    assert len(again) == 6
    assert again == plan_recheck(plan, dict(reversed(records.items())), percent=50, seed=1)
    assert again != plan_recheck(plan, records, percent=50, seed=2)
    everything = [one.first for one in plan_recheck(plan, records, percent=100, seed=1)]
    assert sorted(everything) == sorted(plan.query_keys)
    assert everything != list(plan.query_keys)
    # A larger share takes the same ones first.
    assert everything[:6] == [one.first for one in again]


def test_a_second_measurement_has_a_key_of_its_own() -> None:
    plan = planned()
    records = {key: record(key) for key in plan.query_keys}
    for one in plan_recheck(plan, records, percent=100, seed=1):
        assert one.query.key == recheck_key(one.first)
        assert one.query.key not in records


def test_only_answered_queries_are_scored_again() -> None:
    plan = planned()
    keys = plan.query_keys
    records = {key: record(key) for key in keys[:4]} | {keys[4]: record(keys[4], status="failed")}
    assert {one.first for one in plan_recheck(plan, records, percent=100, seed=1)} == set(keys[:4])


def test_what_was_scored_again_before_stays_in_the_report() -> None:
    plan = planned()
    records = {key: record(key) for key in plan.query_keys}
    for one in plan_recheck(plan, records, percent=25, seed=1):
        records[one.query.key] = record(one.query.key)
    assert len(plan_recheck(plan, records, percent=0, seed=1)) == 3


def test_the_report_counts_and_names_the_largest_change() -> None:
    plan = planned()
    records = {key: record(key) for key in plan.query_keys}
    assert recheck_report(plan, records, percent=0, seed=1) is None
    shifts = {0: 0.0, 1: 0.004, 2: -0.02}
    again = plan_recheck(plan, records, percent=50, seed=1)
    for place, one in enumerate(again[:4]):
        failed = place not in shifts
        again_record = record(one.query.key, shifts.get(place, 0.0))
        records[one.query.key] = record(one.query.key, status="failed") if failed else again_record
    report = recheck_report(plan, records, percent=50, seed=1)
    assert report is not None
    assert (report.planned, report.answered, report.failed, report.not_asked) == (6, 3, 1, 2)
    assert report.largest_change is not None
    assert abs(report.largest_change - 0.02) < 1e-12
    assert (report.probe, report.candidate) == ("utterance", "was terrible")
    assert report.limit == RECHECK_LIMIT


def test_without_a_second_answer_there_is_no_change_to_report() -> None:
    plan = planned()
    records = {key: record(key) for key in plan.query_keys}
    report = recheck_report(plan, records, percent=100, seed=1)
    assert report is not None
    assert (report.largest_change, report.not_asked) == (None, 12)
