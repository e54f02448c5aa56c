"""How far pods are, as their logs say it."""

import json

from hypothesis import given
from hypothesis import strategies as st

from grace.cluster.executor.progress import read_progress


def line(study: str, planned: int, done: int, rate: float = 1.0, event: str = "progress") -> str:
    entry = {"event": event, "stage": "score", "study": study, "planned": planned, "done": done}
    return json.dumps({**entry, "failed": 0, "rate": rate})


def test_the_studies_of_a_step_count_together_at_the_speed_of_the_present_one() -> None:
    lines = [
        line("study1", 24, 3),
        line("study1", 24, 24, 0.5, "stage_finished"),
        line("study2", 8, 0, 0, "stage_started"),
        line("study2", 8, 2, 0.25),
    ]
    found = read_progress(lines)
    assert found is not None
    assert (found.planned, found.done, found.per_second) == (32, 26, 0.25)


@given(st.dictionaries(st.text(min_size=1), st.integers(0, 1000), min_size=1, max_size=5))
def test_no_study_is_counted_twice_or_left_out(planned: dict[str, int]) -> None:
    lines = [line(study, count, done) for study, count in planned.items() for done in (0, count)]
    found = read_progress(lines)
    assert found is not None
    assert found.planned == found.done == sum(planned.values())
