import re
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from grace.cluster.names import (
    LONGEST,
    LONGEST_JOB,
    files_job_name,
    peers_name,
    server_name,
    slug,
    step_job_name,
    step_label,
    weights_name,
)
from grace.cluster.steps import Step, StepKind

RUN = "20260131t235959z"
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
SERVICE = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")

parts = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True)
keys = st.lists(parts, min_size=1, max_size=3).map(".".join).filter(lambda key: len(key) <= 63)


def steps_of(key: str) -> list[Step]:
    """Return every step that a model can have."""
    of_cells = {StepKind.RESPOND: ["exp1"], StepKind.EXTRACT: ["exp1"], StepKind.SCORE: ["exp2"]}
    of_cells |= {StepKind.RECHECK: ["exp2"], StepKind.FINISH: ["exp1", "exp2"]}
    steps = [Step(StepKind.WEIGHTS, key), Step(StepKind.SMOKE, key)]
    for kind, experiments in of_cells.items():
        steps += [Step(kind, key, "exp1" if each == "exp1" else "exp2") for each in experiments]
    return steps


def names_of(key: str) -> list[str]:
    """Return every name that is made from a key."""
    jobs = [step_job_name(RUN, step) for step in steps_of(key)]
    return [server_name(key), peers_name(key), weights_name(key), *jobs]


@given(keys)
def test_names_are_valid_for_any_key(key: str) -> None:
    assert all(NAME.fullmatch(name) and len(name) <= LONGEST for name in names_of(key))
    assert SERVICE.fullmatch(server_name(key))
    assert SERVICE.fullmatch(peers_name(key))
    # A StatefulSet's pods have a label of its name and eleven characters more.
    assert len(server_name(key)) <= LONGEST - 11
    for step in steps_of(key):
        assert len(step_job_name(RUN, step)) <= LONGEST_JOB
        assert LABEL.fullmatch(step_label(step.name))
        assert len(step_label(step.name)) <= LONGEST


@given(st.sets(keys, min_size=2, max_size=6))
def test_different_keys_never_share_a_name(found: set[str]) -> None:
    names = [name for key in found for name in names_of(key)]
    assert len(set(names)) == len(names)


@given(st.sets(keys, min_size=2, max_size=6))
def test_different_steps_never_share_a_label(found: set[str]) -> None:
    labels = [step_label(step.name) for key in found for step in steps_of(key)]
    assert len(set(labels)) == len(labels)


def test_keys_that_look_alike_are_told_apart() -> None:
    stems = ["a", "a.b", "a-b", "a--b", "a-b-2e7336", "x-pods", "x" * 63, "x" * 62 + "y", "exp1-a"]
    keys_ = [f"{stem}{end}" for stem, end in product(stems, ["", "1"]) if len(stem + end) <= 63]
    slugs = [slug(key) for key in keys_]
    assert len(set(slugs)) == len(slugs)
    names = [name for key in keys_ for name in names_of(key)]
    assert len(set(names)) == len(names)


def test_names_are_stable() -> None:
    step = Step(StepKind.RESPOND, "deepseek-v2-lite-chat.next", "exp1")
    assert step_job_name(RUN, step) == "respond-exp1-deepseek-v2-lit-82b2c3-20260131t235959z"
    assert files_job_name(RUN) == "files-20260131t235959z"
