from typing import Any

import pytest

from grace.pipeline.diagnosis import findings_of, verdict_of
from grace.pipeline.doctor_report import (
    FaultReport,
    Finding,
    ForcedReport,
    FormReport,
    NextTokenReport,
    ProbeReport,
    RepeatReport,
    ServerReport,
    TokenReport,
    VariantReport,
    Verdict,
)

TOKEN = TokenReport(id=5, text=" so")


def server(**changes: Any) -> ServerReport:
    values: dict[str, Any] = {
        "dialect": "vllm",
        "version": "1",
        "model": "m",
        "details": {},
        **dict.fromkeys(("token_ids", "next_token", "sequence", "json_schema", "seed"), True),
        "scoring": "trie",
        "context_length": 2048,
        "forced": ForcedReport(token=TOKEN, listed=-4.0, scored=-4.0),
    }
    return ServerReport(**{**values, **changes})


def probe(**changes: Any) -> ProbeReport:
    values: dict[str, Any] = {
        "study": "s",
        "probe": "p",
        "prompts": 4,
        "inspected": 4,
        "scorable": 4,
        "measured": 2,
        "prompt_end": "end",
        "prompt_tokens": (5, 9),
        "forms": (FormReport(answer="yes", text="yes", tokens=(TOKEN,), probability=0.5),),
        "coverage": (0.4, 0.5, 0.6),
    }
    return ProbeReport(**{**values, **changes})


def judged(*probes: ProbeReport, repeat: float = 0.0, **changes: Any) -> list[Finding]:
    repeats = [RepeatReport(ways="asked again", queries=2, largest_nats=repeat, where="p, yes")]
    return list(findings_of(server(**changes), probes, repeats))


def fault(prompts: int) -> FaultReport:
    return FaultReport(kind="merge", prompts=prompts, problem="they merge", remedy="do not")


def test_nothing_wrong_is_sound() -> None:
    assert judged(probe()) == []
    assert verdict_of([]) is Verdict.SOUND


@pytest.mark.parametrize(
    ("nats", "severity"),
    [(0.0, None), (0.001, None), (0.0011, "warning"), (0.5, "warning"), (0.51, "unsound")],
)
def test_scores_that_do_not_repeat(nats: float, severity: str | None) -> None:
    found = judged(probe(), repeat=nats)
    assert [one.severity for one in found] == ([severity] if severity else [])


def test_a_difference_is_told_in_percent_points() -> None:
    (found,) = judged(probe(), repeat=0.1)
    assert "by up to 0.1 nats (p, yes): a probability of 50% may move by 2.5 points" in found.text


@pytest.mark.parametrize(("prompts", "severity"), [(1, "warning"), (3, "warning"), (4, "unsound")])
def test_a_fault_in_all_prompts_is_unsound_and_in_some_a_warning(
    prompts: int, severity: str
) -> None:
    (found,) = judged(probe(faults=(fault(prompts),), scorable=4 - prompts))
    assert found.severity == severity
    assert found.text == f"{prompts} of 4 prompts: they merge"


def test_different_faults_that_leave_no_prompt_are_unsound_together() -> None:
    found = judged(probe(faults=(fault(2), fault(2)), scorable=0))
    assert [one.severity for one in found] == ["unsound", "warning", "warning"]


@pytest.mark.parametrize(
    ("listed", "scored", "severity"),
    [
        (-4.0, -4.0005, None),
        (-4.0, -4.1, "warning"),
        (-4.0, -4.6, "unsound"),
        (-4.0, 0.0, "unsound"),
        (None, -4.0, None),
        (None, -0.0, "unsound"),
    ],
)
def test_an_unlikely_token_must_be_scored_as_it_is_listed(
    listed: float | None, scored: float, severity: str | None
) -> None:
    found = judged(probe(), forced=ForcedReport(token=TOKEN, listed=listed, scored=scored))
    assert [one.severity for one in found] == ([severity] if severity else [])


def test_a_server_that_cannot_score_is_unsound() -> None:
    (found,) = judged(scoring=None, refusal="cannot", forced=None)
    assert (found.severity, found.text) == ("unsound", "cannot")


def test_an_unknown_context_length_is_a_note() -> None:
    found = judged(probe(), context_length=None)
    assert [one.severity for one in found] == ["note"]
    assert verdict_of(found) is Verdict.SOUND


@pytest.mark.parametrize(("median", "warned"), [(0.0999, True), (0.1, False)])
def test_low_coverage_names_what_comes_instead(median: float, *, warned: bool) -> None:
    inside = NextTokenReport(token=TOKEN, probability=0.6, begins_answer=True)
    other = TokenReport(id=7, text="The")
    outside = NextTokenReport(token=other, probability=0.3, begins_answer=False)
    found = judged(probe(coverage=(0.0, median, 1.0), next_tokens=(inside, outside)))
    assert bool(found) is warned
    if warned:
        assert "'The' would come next with 30%" in found[0].text


@pytest.mark.parametrize(("mass", "warned"), [(0.02, False), (0.03, True)])
def test_a_form_outside_the_set_is_named_where_it_matters(mass: float, *, warned: bool) -> None:
    variants = tuple(
        VariantReport(kind="space before", answer=a, text=f" {a}", tokens=(), probability=mass / 2)
        for a in ("yes", "no")
    )
    found = judged(probe(variants=variants))
    assert bool(found) is warned
    if warned:
        assert "(space before, as ' yes'), the answers have 3% beside the set's 50%" in (
            found[0].text
        )


def test_prompts_that_could_not_be_scored() -> None:
    (some,) = judged(probe(failures=("too much",)))
    assert (some.severity, some.text) == (
        "warning",
        "1 of 3 prompts were not scored: too much",
    )
    (none,) = judged(probe(measured=0, coverage=None, failures=("too much",)))
    assert none.severity == "unsound"


def test_the_toys_masses_are_not_judged() -> None:
    found = judged(probe(coverage=(0.0, 0.0, 0.0)), dialect="toy", context_length=None)
    assert [one.severity for one in found] == ["note"]
