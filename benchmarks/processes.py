"""The processes of a benchmark: the null server, and a tool with its job."""

import json
import subprocess
import sys
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.report import BenchmarkError
from benchmarks.tasks import Job, Result

STOP_SECONDS = 30
LONGEST_SECONDS = 3600
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ToolFailed(BenchmarkError):
    """A tool's process failed; the message ends with what it wrote."""


@contextmanager
def null_server() -> Iterator[str]:
    """Run the null server in a process of its own; yield its address."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.null_server"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process.stdout.readline().strip() if process.stdout is not None else ""
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


def counts_of(url: str) -> Counter[str]:
    """Return what the null server was asked so far."""
    with _OPENER.open(f"{url}/counts") as reply:
        return Counter(json.loads(reply.read()))


def run_tool(job: Job) -> Result:
    """
    Run a tool in a process of its own.

    Raises:
        ToolFailed: It failed; there is no figure.
    """
    with tempfile.TemporaryDirectory() as folder:
        job_path, result_path = Path(folder, "job.json"), Path(folder, "result.json")
        job_path.write_text(job.model_dump_json(), "utf-8")
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "benchmarks.child", str(job_path), str(result_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LONGEST_SECONDS,
            check=False,
        )
        if done.returncode != 0 or not result_path.exists():
            said = done.stdout.decode("utf-8", "replace")[-2000:]
            raise ToolFailed(f"{job.tool} ended with {done.returncode}:\n{said}")
        return Result.model_validate_json(result_path.read_bytes())
