from typing import Any

import pytest

from grace.errors import IdentityMismatch
from grace.runs.identity import InputIdentity, RunIdentity, check_identity, identity_differences

INPUT = InputIdentity(input_sha256="a", rows=3, stimuli=3, definition_sha256="d")
IDENTITY = RunIdentity(
    experiment="exp1",
    model={"key": "m", "revision": "r1", "weights": None},
    studies={"study1": INPUT},
    server={"dialect": "vllm", "version": "1", "dtype": "bfloat16"},
    asking={"sampling": {"temperature": 0.7, "top_p": 1.0}, "seed": 1},
)


def test_the_same_identity_may_go_on() -> None:
    check_identity(IDENTITY, IDENTITY.model_copy(), "folder")
    check_identity(IDENTITY, RunIdentity.model_validate_json(IDENTITY.model_dump_json()), "folder")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"experiment": "exp2"}, "experiment: exp1 -> exp2"),
        ({"model": {**IDENTITY.model, "revision": "r2"}}, "model.revision: r1 -> r2"),
        ({"model": {**IDENTITY.model, "weights": "w"}}, "model.weights: None -> w"),
        ({"server": {**IDENTITY.server, "version": "2"}}, "server.version: 1 -> 2"),
        ({"server": {"dialect": "vllm", "version": "1"}}, "server.dtype: bfloat16 -> (absent)"),
        (
            {"asking": {"sampling": {"temperature": 0.0, "top_p": 1.0}, "seed": 1}},
            "asking.sampling.temperature: 0.7 -> 0.0",
        ),
        (
            {"studies": {"study1": INPUT.model_copy(update={"input_sha256": "b"})}},
            "studies.study1.input_sha256: a -> b",
        ),
        (
            {"studies": {"study1": INPUT.model_copy(update={"definition_sha256": "e"})}},
            "studies.study1.definition_sha256: d -> e",
        ),
    ],
)
def test_each_difference_is_named_with_both_values(change: dict[str, Any], line: str) -> None:
    other = IDENTITY.model_copy(update=change)
    assert identity_differences(IDENTITY, other) == [line]
    with pytest.raises(IdentityMismatch, match="begun under another identity") as caught:
        check_identity(IDENTITY, other, "folder")
    assert caught.value.differences == (line,)
    assert line in str(caught.value)


def test_a_study_more_or_less_is_a_difference() -> None:
    other = IDENTITY.model_copy(update={"studies": {}})
    assert len(identity_differences(IDENTITY, other)) == 4


def test_all_differences_are_named_in_order() -> None:
    other = IDENTITY.model_copy(
        update={"server": {"dialect": "tgi"}, "asking": {"seed": 2}, "experiment": "exp2"}
    )
    names = [line.partition(":")[0] for line in identity_differences(IDENTITY, other)]
    assert names == sorted(names)
    assert {"server.dialect", "asking.seed", "experiment", "server.dtype"} <= set(names)


def test_a_long_or_hidden_value_is_cut_and_shown_in_a_difference() -> None:
    # A run folder may come from anywhere, and a terminal must not obey it.
    other = IDENTITY.model_copy(update={"server": {**IDENTITY.server, "version": "\x1b" * 100_000}})
    (line,) = identity_differences(IDENTITY, other)
    assert len(line) < 300
    assert "\x1b" not in line
    assert "100,000 characters" in line
