"""
Memory against the number of trials: the same stimuli, many more rows of them.

Real processes, since a process never gives back its peak.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from grace.studies.make import write_trials

pytestmark = pytest.mark.slow

_STATUS = Path("/proc/self/status")
_CODE = """
import sys
from pathlib import Path
from grace.cli.main import invoke
code = invoke(sys.argv[1:])
print(Path("/proc/self/status").read_text())
sys.exit(code)
"""
_GROWN = 1.1


def peak_kilobytes(place: Path, experiment: str, rows: int) -> int:
    """Return the most memory that a run of Study 1 held, which the toy model answers."""
    source = place / f"{rows}.csv"
    write_trials(source, "study1", rows, 1)
    flags = ["--study", "study1", "--input", f"study1={source}", "--experiment", experiment]
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", _CODE, "run", "--dry-run", "--out", str(place / str(rows)), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    found = re.search(r"VmHWM:\s+(\d+) kB", done.stdout)
    assert found is not None, done.stdout
    return int(found[1])


@pytest.mark.skipif(not _STATUS.exists(), reason="this system does not tell a process its peak")
@pytest.mark.parametrize(
    ("experiment", "few", "many"), [("exp1", 100, 1_000), ("exp2", 500, 10_000)]
)
def test_many_rows_take_no_more_memory_than_few(
    tmp_path: Path, experiment: str, few: int, many: int
) -> None:
    before = peak_kilobytes(tmp_path, experiment, few)
    assert peak_kilobytes(tmp_path, experiment, many) <= _GROWN * before
