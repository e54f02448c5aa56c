import pytest

from benchmarks.material import PlanCounts, Workload
from benchmarks.report import BenchmarkError, Report
from benchmarks.scoring_report import Measured, add_agreement, add_costs, add_targets
from benchmarks.tasks import Form, Result, Task
from benchmarks.vllm_metrics import ANSWERED, DRAWN, REQUESTS, TOKENS, computed, read_metrics

WORKLOAD = Workload(title="Some", study="study1")
TASK = Task(
    key="one",
    context="Well?\n",
    prompt=tuple(range(40)),
    forms=(Form(text="yes", token_ids=(50,)), Form(text="no", token_ids=(51, 52))),
)


def measured(tool: str, *, value: float = -1.0, tokens: int = 100, wall: float = 2.0) -> Measured:
    result = Result(
        scores={"one": {"yes": value, "no": -2.0}},
        cpu_seconds=0.5,
        wall_seconds=wall,
        peak_bytes=10**8,
    )
    return Measured(tool, result, tokens, 3, 1)


def test_a_tool_that_must_be_exact_and_is_not_stops_the_benchmark() -> None:
    truth = measured("transformers")
    with pytest.raises(BenchmarkError, match=r"grace differs from transformers by 0\.5 nats"):
        add_agreement(
            Report("x"),
            WORKLOAD,
            [TASK],
            {"grace": measured("grace", value=-1.5), "transformers": truth},
        )


def test_a_tool_that_scores_something_else_is_shown_with_its_difference() -> None:
    report = Report("x")
    found = {"lm-eval": measured("lm-eval", value=-1.5), "transformers": measured("transformers")}
    add_agreement(report, WORKLOAD, [TASK], found)
    first, second = report.tables["The numbers, against transformers in fp32"]
    assert (first["largest difference, nats"], first["equal"]) == (0.5, "no")
    assert "white space" in str(first["why not"])
    assert (second["equal"], second["why not"]) == ("yes", "")


def test_a_tool_without_a_plan_pays_for_every_row() -> None:
    report = Report("x")
    counts = PlanCounts(distinct=10, asked=80)
    found = {
        "grace": measured("grace", tokens=50, wall=1.0),
        "lm-eval": measured("lm-eval", tokens=500, wall=6.0),
        "transformers": measured("transformers", wall=12.0),
    }
    for one in found.values():
        add_costs(report, WORKLOAD, one, counts)
    rows = next(lines for title, lines in report.tables.items() if title.startswith("All rows"))
    assert [line["tokens"] for line in rows] == [500, 40_000, 8_000]
    add_targets(report, WORKLOAD, [TASK], found, counts)
    # Two nodes: 40 tokens, then 9 behind the first block of 32.
    assert [target.measured for target in report.targets] == [50 / 49, 80, 6, 48, 12]
    assert {target.verdict for target in report.targets} == {"met"}


def test_computed_tokens_and_requests_about_prompts_are_counted() -> None:
    text = """# HELP vllm:prompt_tokens_by_source_total Tokens.
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="local_compute"} 76.0
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="local_cache_hit"} 64.0
vllm:prompt_tokens_by_source_created{engine="0",model_name="m",source="local_compute"} 1.7e+09
vllm:prompt_tokens_total{engine="0",model_name="m"} 140.0
vllm:generation_tokens_total{engine="0",model_name="m"} 9.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="m"} 6.0
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 1.0
http_requests_total{handler="/v1/models",method="GET",status="2xx"} 2.0
http_requests_total{handler="/tokenize",method="POST",status="2xx"} 7.0
http_requests_total{handler="/v1/completions",method="POST",status="2xx"} 13.0
"""
    found = read_metrics(text)
    assert found == {TOKENS: 76, DRAWN: 9, ANSWERED: 7, REQUESTS: 20}
    # Of a prompt's drawn tokens, the first costs nothing.
    assert computed(found) == 78
