"""Hostile servers, started once, and rows whose prompts can be told apart."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from grace.studies.make import make_rows
from hostile.process import Hostile, hostile_server


@pytest.fixture(scope="session")
def hostile_vllm() -> Iterator[Hostile]:
    """A hostile server that speaks vLLM's dialect."""
    with hostile_server("vllm") as server:
        yield server


@pytest.fixture(scope="session")
def hostile_llamacpp() -> Iterator[Hostile]:
    """A hostile server that speaks llama.cpp's dialect."""
    with hostile_server("llamacpp") as server:
        yield server


@pytest.fixture(scope="session")
def three_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rows of Study 2 about three people; the second one is called Zelda."""
    rows = make_rows("study2", 60, 1)
    distinct = {row["Scenario"]: row for row in rows}
    chosen = [dict(row) for row in list(distinct.values())[:3]]
    name = chosen[1]["SP_Name"]
    chosen[1] = {column: cell.replace(name, "Zelda") for column, cell in chosen[1].items()}
    path = tmp_path_factory.mktemp("hostile") / "study2.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(chosen[0]))
        writer.writeheader()
        writer.writerows(chosen)
    return path
