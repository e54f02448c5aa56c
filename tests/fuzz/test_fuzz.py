"""A small version of `make fuzz`: every parser, the same few hundred inputs each time."""

from pathlib import Path

import pytest
from hypothesis import strategies as st

from fuzz.csv_inputs import cells_of
from fuzz.harness import Report, Target, attack
from fuzz.mutations import Recipe
from fuzz.parsers import FAMILIES, PARSERS
from fuzz.sent import read_report, sent
from grace.errors import UsageError

# Run folders take tens of milliseconds an input, replies less than one.
_FEW = {"run.json": 25, "manifest.json": 25, "run tables": 25}
_INPUTS = 80
_MOST_BYTES = 20_000

_MADE: dict[str, Target] = {}


@pytest.fixture
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Target:
    """A parser; those of one family are made once."""
    name: str = request.param
    if name not in _MADE:
        make = next(make for names, make in FAMILIES if name in names)
        _MADE.update({one.name: one for one in make(tmp_path_factory.mktemp("fuzz"))})
    return _MADE[name]


@pytest.mark.parametrize("target", PARSERS, indirect=True)
def test_a_parser_accepts_or_refuses_whatever_comes(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fuzz.mutations.MOST_BYTES", _MOST_BYTES)
    report = attack(target, _FEW.get(target.name, _INPUTS))
    assert [fault.what for fault in report.faults] == []
    assert report.inputs == report.accepted + report.refused


def _simple(read: object) -> Target:
    inputs = st.just(Recipe(lambda: b"input", ())) | st.just(Recipe(lambda: b"other", ()))
    return Target("simple", inputs, read)  # type: ignore[arg-type]


def _raise(error: Exception) -> object:
    def read(_content: bytes) -> None:
        raise error

    return read


@pytest.mark.parametrize(
    ("read", "problem"),
    [
        (_raise(KeyError("text")), "KeyError: 'text'"),
        (_raise(UsageError("\x1b[31m")), "the message holds '\\x1b'"),
        (_raise(UsageError("x" * 200_000)), "the message has 200,000 characters"),
        (_raise(MemoryError()), "of memory"),
        (lambda _content: bytearray(40 << 20), "MiB of memory"),
    ],
)
def test_the_fuzzer_finds_what_it_looks_for(
    read: object, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fuzz.harness.MOST_BYTES", 20 << 20)
    report = attack(_simple(read), 3)
    assert report.n_faults
    assert problem in report.faults[0].what
    assert report.faults[0].content in (b"input", b"other")


def test_a_parser_without_end_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz.harness.MOST_SECONDS", 0.05)
    monkeypatch.setattr("fuzz.harness._HANGING_SECONDS", 0.05)

    def without_end(_content: bytes) -> None:
        while True:
            pass

    assert attack(_simple(without_end), 1).faults[0].what == "no end"


def test_a_report_survives_the_way_to_another_process() -> None:
    report = attack(_simple(_raise(KeyError("x"))), 2)
    came = read_report(sent(report))
    assert isinstance(came, Report)
    assert came.faults == report.faults
    assert came.inputs == report.inputs


def test_the_same_seed_gives_the_same_inputs(tmp_path: Path) -> None:
    make = next(make for names, make in FAMILIES if "config file" in names)
    target = next(one for one in make(tmp_path) if one.name == "config file")
    seen: list[list[bytes]] = []
    for _ in range(2):
        tried: list[bytes] = []
        attack(Target("same", target.inputs, tried.append), 20, 5)
        seen.append(tried)
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("a,b\n1,2\n", [["a", "b"], ["1", "2"]]),
        ('"a ""x""","b\r\n"\r1,\r\n', [['a "x"', "b\r\n"], ["1", ""]]),
        ('a\n\n""\nb', [["a"], [""], ["b"]]),
    ],
)
def test_the_reader_of_cells_that_others_are_held_against(text: str, cells: object) -> None:
    assert cells_of(text) == cells
