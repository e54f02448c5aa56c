"""A journal of 300,000 lines: read in seconds, and its answers stay on the disk."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from grace.engine.events import QuietHook
from grace.engine.execute import Asker, RetryPolicy
from grace.engine.journal import JournalWriter, Record, read_journal
from grace.engine.pace import Pace
from grace.engine.plan import QueryKey

pytestmark = pytest.mark.slow

LINES = 300_000
MOST_MIB = 150
RECORD = Record(
    key=QueryKey(""),
    stage="respond",
    probe="prior",
    status="answered",
    value={"text": "a word or two " * 30, "prompt_sha256": "0" * 64, "seed": 1},
    error_type="",
    error="",
    attempts=1,
    seconds=0.25,
    finished="2026-01-31T23:59:59.000+00:00",
)


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_a_long_run_goes_on_without_its_answers_in_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [QueryKey(f"{number:032x}") for number in range(LINES)]
    with JournalWriter(tmp_path, "respond") as writer:
        for key in keys:
            writer.append(replace(RECORD, key=key))
    size = sum(path.stat().st_size for path in tmp_path.iterdir()) / 2**20
    before, begun = resident_mib(), time.monotonic()
    records = read_journal(tmp_path).records
    with JournalWriter(tmp_path, "respond") as writer:
        asker = Asker(
            *("responses", "respond", records, keys, writer, QuietHook(), RetryPolicy(), Pace(3))
        )
    grown, seconds = resident_mib() - before, time.monotonic() - begun
    with capsys.disabled():
        print(f"\n{LINES:,} lines, {size:.0f} MiB: {seconds:.1f} s, {grown:.0f} MiB")  # noqa: T201
    assert asker.counts.not_asked == 0
    assert grown < MOST_MIB
