"""
One tool in a process of its own: `python -m benchmarks.child JOB RESULT`.

What a tool imports is imported before its clock starts, and counts as memory
only. Timing is the process's own CPU time, threads included: other programs on
the machine do not count.
"""

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.tasks import Job, Result, Scores

Run = Callable[[Job], Result]


def _timed(run: Callable[[Job], Scores], **more: float) -> Run:
    from benchmarks.grace_run import peak_bytes

    def work(job: Job) -> Result:
        cpu, wall = time.process_time(), time.perf_counter()
        scores = run(job)
        return Result(
            scores=scores,
            cpu_seconds=time.process_time() - cpu,
            wall_seconds=time.perf_counter() - wall,
            peak_bytes=peak_bytes(),
            more=more,
        )

    return work


def _grace(_: Job) -> Run:
    from benchmarks.grace_run import run_grace

    return run_grace


def _httpx(_: Job) -> Run:
    import httpx  # noqa: F401

    from benchmarks.plain_clients import run_httpx

    return _timed(run_httpx)


def _aiohttp(_: Job) -> Run:
    from benchmarks.plain_clients import run_aiohttp

    return _timed(run_aiohttp)


def _aiohttp_together(_: Job) -> Run:
    from benchmarks.plain_clients import run_aiohttp_together

    return _timed(run_aiohttp_together)


def _openai(_: Job) -> Run:
    import openai

    # The library loads its parts when they are first named.
    _ = openai.AsyncOpenAI(base_url="http://127.0.0.1:9/v1", api_key="none").completions
    from benchmarks.plain_clients import run_openai

    return _timed(run_openai)


def _echo(_: Job) -> Run:
    from benchmarks.echo_clients import run_echo

    return _timed(run_echo)


def _lm_eval(job: Job) -> Run:
    from benchmarks.echo_clients import LmEval

    return _timed(LmEval(job).run)


def _transformers(job: Job) -> Run:
    from benchmarks.transformers_loop import TransformersLoop

    return _timed(TransformersLoop(job).run)


TOOLS: Mapping[str, Callable[[Job], Run]] = {
    "grace": _grace,
    "httpx": _httpx,
    "aiohttp": _aiohttp,
    "aiohttp, together": _aiohttp_together,
    "openai": _openai,
    "echo": _echo,
    "lm-eval": _lm_eval,
    "transformers": _transformers,
}
"""For each tool, what loads it and returns what runs a job."""


def main(job_path: Path, result_path: Path) -> None:
    """Do a job and write down its result."""
    job = Job.model_validate_json(job_path.read_bytes())
    result = TOOLS[job.tool](job)(job)
    result_path.write_text(result.model_dump_json(), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
