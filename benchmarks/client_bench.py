"""
The client alone: what a scored prompt costs a tool when the server costs nothing.

Compared is CPU time, which other programs on the machine do not change much;
wall time is shown beside it. The tools take turns, and medians are reported.
"""

import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.material import Workload, tasks_of
from benchmarks.null_server import MODEL
from benchmarks.processes import counts_of, null_server, run_tool
from benchmarks.report import BenchmarkError, Line, Report, Target
from benchmarks.tasks import Job, Result, Scores, Task, largest_difference
from grace.studies.make import write_trials

CONCURRENCIES = (16, 64, 256)
TOOLS = ("grace", "aiohttp, together", "aiohttp", "httpx", "openai", "lm-eval")
WORKLOAD = Workload(title="Study 2, items that come with Grace", study="study2")

_TABLE = "The client alone, against a server that answers at once"
_MEMORY = "Grace's memory by the number of trials (Study 1, null server)"
_ROUNDING = 1e-6
_NODES_PER_SECOND = 2500
_SLOWER = 1.1
_GROWN = 1.1


@dataclass(frozen=True, slots=True)
class Size:
    """
    How much is measured.

    Attributes:
        rows: Of Study 2, for Grace and for a client that sends many prompts at once.

        few: Rows for the tools that take longer.

        repetitions: Of every figure.

        trials: Rows of Study 1 in the runs of Experiment 2 whose memory is measured.

        sampled: The same of Experiment 1, which asks three times for each row.
    """

    rows: int
    few: int
    repetitions: int
    trials: tuple[int, ...]
    sampled: tuple[int, ...]


SMALL = Size(rows=300, few=40, repetitions=1, trials=(1_000, 3_000), sampled=(1_000, 3_000))
FULL = Size(
    rows=1_500,
    few=300,
    repetitions=3,
    trials=(10_000, 100_000, 300_000),
    sampled=(10_000, 100_000),
)


@dataclass(frozen=True, slots=True)
class _Measured:
    result: Result
    prompts: int
    requests: int
    distributions: int

    def per_prompt(self, seconds: float) -> float:
        return 1000 * seconds / self.prompts


def bench_client(report: Report, size: Size, lap: Callable[[str], None]) -> None:
    """
    Measure all tools at all concurrencies, and Grace's memory.

    Args:
        report: Takes the figures.

        size: How much is measured.

        lap: Is told what was done.

    Raises:
        BenchmarkError: Two tools did not report the same numbers.
    """
    with tempfile.TemporaryDirectory() as place, null_server() as url:
        trials = Path(place, "study2.csv")
        write_trials(trials, WORKLOAD.study, size.rows, 1)
        workload = WORKLOAD.model_copy(update={"input": trials})
        tasks = tasks_of(workload, url, MODEL)
        truth: Scores = {}
        found: dict[tuple[str, int], list[_Measured]] = {}
        for repetition in range(size.repetitions):
            for concurrency in CONCURRENCIES:
                for tool in TOOLS:
                    few = tool not in TOOLS[:2]
                    job = Job(
                        tool=tool,
                        url=url,
                        model=MODEL,
                        concurrency=concurrency,
                        tasks=() if tool == "grace" else _first(tasks, size.few if few else None),
                        study=WORKLOAD.study,
                        input=trials,
                        out=Path(place, f"{repetition}-{concurrency}"),
                    )
                    measured = _measure(job, url)
                    truth = truth or measured.result.scores
                    _check(tool, measured.result.scores, truth)
                    found.setdefault((tool, concurrency), []).append(measured)
                    lap(f"{tool}, {concurrency} at a time")
        for (tool, concurrency), several in found.items():
            for line in _lines(tool, concurrency, several):
                report.add(_TABLE, line)
        _targets(report, found)
        _memory(report, size, url, Path(place), lap)
    report.notes.append(
        "A prompt is a node of an answer set's trie; for lm-eval, which has no trie, a prompt with "
        "one answer behind it.\nBoth are asked about 8 times for a distribution. `Grace, asking` is "
        "the stage that asks, with its journal; `Grace,\nwhole command` also reads the input, "
        "probes the server, and writes and checks all tables."
    )


def _first(tasks: Sequence[Task], number: int | None) -> tuple[Task, ...]:
    return tuple(tasks[:number])


def _measure(job: Job, url: str) -> _Measured:
    before = counts_of(url)
    result = run_tool(job)
    asked = counts_of(url) - before
    requests = sum(count for name, count in asked.items() if name.startswith("/"))
    return _Measured(result, asked["prompts"], requests, len(result.scores))


def _check(tool: str, scores: Scores, truth: Scores) -> None:
    same = {key: truth[key] for key in scores}
    difference = largest_difference(scores, same)
    if difference > _ROUNDING:
        raise BenchmarkError(f"{tool} differs from the first tool by {difference:.3g} nats")


def _lines(tool: str, concurrency: int, several: Sequence[_Measured]) -> list[Line]:
    first = several[0]
    clocks: dict[str, Callable[[Result], tuple[float, float]]]
    if tool == "grace":
        clocks = {
            "Grace, asking": lambda result: (
                result.more["asking_cpu_seconds"],
                result.more["asking_wall_seconds"],
            ),
            "Grace, whole command": lambda result: (result.cpu_seconds, result.wall_seconds),
        }
    else:
        clocks = {tool: lambda result: (result.cpu_seconds, result.wall_seconds)}
    lines: list[Line] = []
    for name, clock in clocks.items():
        cpu = statistics.median(one.per_prompt(clock(one.result)[0]) for one in several)
        wall = statistics.median(clock(one.result)[1] for one in several)
        lines.append(
            {
                "tool": name,
                "at a time": concurrency,
                "prompts": first.prompts,
                "requests": first.requests,
                "CPU ms/prompt": cpu,
                "prompts/s per core": 1000 / cpu,
                "CPU ms/distribution": cpu * first.prompts / first.distributions,
                "wall s": wall,
                "peak MB": max(one.result.peak_bytes for one in several) / 1e6,
            }
        )
    return lines


def _memory(report: Report, size: Size, url: str, place: Path, lap: Callable[[str], None]) -> None:
    peaks: dict[str, list[int]] = {"exp2": [], "exp1": []}
    wanted = [("exp2", rows) for rows in size.trials] + [("exp1", rows) for rows in size.sampled]
    for experiment, trials in wanted:
        path = place / f"study1-{trials}.csv"
        write_trials(path, "study1", trials, 1, force=True)
        out = place / f"memory-{experiment}-{trials}"
        job = Job(
            tool="grace",
            url=url,
            model=MODEL,
            study="study1",
            experiment="exp1" if experiment == "exp1" else "exp2",
            input=path,
            out=out,
            wants_scores=False,
        )
        measured = run_tool(job)
        peaks[experiment].append(measured.peak_bytes)
        report.add(
            _MEMORY,
            {
                "experiment": experiment,
                "trials": trials,
                "peak MB before asking": measured.more["peak_bytes_before_asking"] / 1e6,
                "peak MB after asking": measured.more["peak_bytes_after_asking"] / 1e6,
                "peak MB of the command": measured.peak_bytes / 1e6,
                "CPU s of the command": measured.cpu_seconds,
            },
        )
        path.unlink()
        # The tables of 300,000 trials take 3 GB.
        shutil.rmtree(out)
        lap(f"{experiment}, {trials:,} trials")
    report.targets.append(
        Target(
            f"memory of {size.trials[-1]:,} trials over that of {size.trials[0]:,}",
            peaks["exp2"][-1] / peaks["exp2"][0],
            _GROWN,
            at_least=False,
            note="Experiment 2",
        )
    )


def _targets(report: Report, found: dict[tuple[str, int], list[_Measured]]) -> None:
    def asking(concurrency: int) -> float:
        return statistics.median(
            one.per_prompt(one.result.more["asking_cpu_seconds"])
            for one in found["grace", concurrency]
        )

    few, many = CONCURRENCIES[0], CONCURRENCIES[-1]
    report.targets += [
        Target(
            "scored node prompts a second per core, journal included",
            1000 / asking(few),
            _NODES_PER_SECOND,
            note=f"{few} at a time",
        ),
        Target(
            f"CPU per prompt at {many} over that at {few}",
            asking(many) / asking(few),
            _SLOWER,
            at_least=False,
        ),
    ]
