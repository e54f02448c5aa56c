"""
The same prompts, the same vLLM server: what each tool makes it compute, and how long it takes.

The server runs on the CPU, in fp32, from `tests/real_vllm`. Its own metrics say
how many prompt tokens it computed. Each tool has a process of its own; the
numbers are compared before any time is believed.
"""

import asyncio
import os
import re
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.material import (
    PlanCounts,
    Workload,
    fewest_tokens,
    plan_counts,
    tasks_of,
    write_sample,
)
from benchmarks.processes import run_tool
from benchmarks.report import BenchmarkError, Report, Target
from benchmarks.tasks import Job, Result, Task, largest_difference
from grace.inference.transport import Transport
from grace.inference.vllm import VllmClient
from real_vllm.model_folder import model_folder
from real_vllm.server import VllmSettings, vllm_server

DATA = Path(__file__).parents[2] / "shared" / "data"
SMALL, FULL = 4, 24
BLOCK = 32
"""Tokens in a block of the server's prefix cache: the smallest that vLLM takes on a CPU."""

STATES = ("state0", "state1", "state2", "state3")
CONCURRENCY = 16

TOOLS = ("grace", "lm-eval", "echo", "transformers")
PROMPT_TOKENS, CACHE_HITS, REQUESTS = "vllm:prompt_tokens", "vllm:prefix_cache_hits", "requests"

_EXACT_TOOLS = ("grace", "echo")
_EXACT = 2e-4
_AGREEMENT = "The numbers, against transformers in fp32"
_COST = "What a distribution costs: distinct prompts, the server's cache cold"
_ROWS = "All rows, from the figures above: a tool without a plan asks again for every row"
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_METRIC = re.compile(r"^([a-z_:]+?)(?:_total)?(?:\{(.*)\})? ([0-9.e+-]+)$", re.MULTILINE)
_PATHS = ('handler="/v1/completions"', 'handler="/tokenize"', 'handler="/detokenize"')


@dataclass(frozen=True, slots=True)
class _Measured:
    tool: str
    result: Result
    tokens: int
    requests: int
    prompts: int

    @property
    def wall(self) -> float:
        """Seconds by the clock; for Grace, of the stage that asks."""
        return self.result.more.get("asking_wall_seconds", self.result.wall_seconds)

    @property
    def cpu(self) -> float:
        """Seconds of the processor; for Grace, of the stage that asks."""
        return self.result.more.get("asking_cpu_seconds", self.result.cpu_seconds)


def bench_scoring(
    vllm_python: Path, data: Path, prompts: int, lap: Callable[[str], None]
) -> Report:
    """
    Score some prompts of each study with every tool.

    Args:
        vllm_python: The interpreter of an environment with vLLM.

        data: A folder with the trials; if it is missing, Grace's own items are used.

        prompts: How many distinct prompts of a workload.

        lap: Is told what was done.

    Raises:
        BenchmarkError: There is no vLLM, or a tool's numbers are wrong where they
            should not be.
    """
    if not vllm_python.exists():
        raise BenchmarkError(
            f"{vllm_python}: no such interpreter; `make .venv-vllm/.ready` makes it"
        )
    folder = model_folder()
    threads = max(1, (os.cpu_count() or 1) - 1)
    settings = VllmSettings(python=vllm_python.absolute(), block_size=BLOCK, threads=threads)
    report = Report("scoring")
    with (
        tempfile.TemporaryDirectory() as place,
        vllm_server(folder, Path(place, "vllm.log"), settings) as server,
    ):
        lap("has a vLLM server")
        for workload in _workloads(data):
            bench = _Bench(report, server.url, settings.name, folder, threads, Path(place), lap)
            bench.measure(workload, prompts)
    report.notes.append(
        f"vLLM on the CPU in fp32, {threads} thread(s), blocks of {BLOCK} tokens; the transformers "
        f"loop has as many threads.\nTokens are prompt tokens that the server computed: those of "
        "its metric vllm:prompt_tokens less vllm:prefix_cache_hits."
    )
    return report


def _workloads(data: Path) -> list[Workload]:
    def input_of(study: str) -> Path | None:
        path = data / f"{study}.csv"
        return path if path.exists() else None

    whose = "the user's rows" if input_of("study1") else "items that come with Grace"
    return [
        Workload(
            title=f"Study 1, state probes ({whose})",
            study="study1",
            probes=STATES,
            input=input_of("study1"),
        ),
        Workload(title=f"Study 2, joint ({whose})", study="study2", input=input_of("study2")),
    ]


@dataclass(frozen=True, slots=True)
class _Bench:
    report: Report
    url: str
    model: str
    folder: Path
    threads: int
    place: Path
    lap: Callable[[str], None]

    def measure(self, workload: Workload, prompts: int) -> None:
        """Measure one workload with every tool, and add what was found to the report."""
        counts = plan_counts(workload)
        stimuli = max(1, prompts // max(1, len(workload.probes)))
        chosen = write_sample(workload, stimuli, self.place / f"{workload.study}.csv")
        tasks = tasks_of(chosen, self.url, self.model)
        connecting = self._connecting()
        found = {tool: self._run(tool, chosen, tasks) for tool in TOOLS}
        grace = found["grace"]
        found["grace"] = replace(grace, tokens=grace.tokens - connecting)
        self._agreement(workload, tasks, found)
        for measured in found.values():
            self._lines(workload, measured, counts)
        self._targets(workload, tasks, found, counts)

    def _run(self, tool: str, workload: Workload, tasks: Sequence[Task]) -> _Measured:
        before = self._metrics()
        result = run_tool(
            Job(
                tool=tool,
                url=self.url,
                model=self.model,
                concurrency=CONCURRENCY,
                tasks=() if tool == "grace" else tuple(tasks),
                study=workload.study,
                input=workload.input,
                probes=workload.probes,
                out=self.place / workload.study,
                folder=self.folder,
                threads=self.threads,
            )
        )
        asked = self._metrics()
        asked.subtract(before)
        self.lap(f"{workload.title}: {tool}")
        tokens = asked[PROMPT_TOKENS] - asked[CACHE_HITS]
        if tool == "transformers":
            tokens = sum(
                len(task.prompt) + len(form.token_ids) for task in tasks for form in task.forms
            )
        return _Measured(tool, result, tokens, asked[REQUESTS], len(tasks))

    def _connecting(self) -> int:
        """Return how many tokens the probes of a new client cost, which every run pays once."""

        async def connect() -> None:
            client = VllmClient(Transport(self.url))
            await client.connect()
            await client.aclose()

        before = self._metrics()
        asyncio.run(connect())
        asked = self._metrics()
        asked.subtract(before)
        return asked[PROMPT_TOKENS] - asked[CACHE_HITS]

    def _metrics(self) -> Counter[str]:
        with _OPENER.open(f"{self.url}/metrics") as reply:
            return read_metrics(reply.read().decode())

    def _agreement(
        self, workload: Workload, tasks: Sequence[Task], found: Mapping[str, _Measured]
    ) -> None:
        truth = found["transformers"].result.scores
        for tool, measured in found.items():
            difference = largest_difference(measured.result.scores, truth)
            if tool in _EXACT_TOOLS and difference > _EXACT:
                raise BenchmarkError(
                    f"{workload.title}: {tool} differs from transformers by {difference:.3g} nats; "
                    f"expected at most {_EXACT:g}"
                )
            moved = sum(task.context != task.context.rstrip() for task in tasks)
            note = (
                f"moves the white space at the end of {moved} of {len(tasks)} prompts into the "
                "answer, and scores it as well"
                if tool == "lm-eval" and moved and difference > _EXACT
                else ""
            )
            self.report.add(
                _AGREEMENT,
                {
                    "prompts": workload.title,
                    "tool": tool,
                    "largest difference, nats": difference,
                    "equal": "yes" if difference <= _EXACT else "no",
                    "why not": note,
                },
            )

    def _lines(self, workload: Workload, measured: _Measured, counts: PlanCounts) -> None:
        result, prompts = measured.result, measured.prompts
        asked = counts.distinct if measured.tool == "grace" else counts.asked
        self.report.add(
            _COST,
            {
                "prompts": workload.title,
                "tool": measured.tool,
                "n": prompts,
                "tokens computed": measured.tokens,
                "per prompt": measured.tokens / prompts,
                "requests": measured.requests,
                "wall s": measured.wall,
                "client CPU ms/prompt": 1000 * measured.cpu / prompts,
                "peak MB": result.peak_bytes / 1e6,
            },
        )
        self.report.add(
            _ROWS,
            {
                "prompts": workload.title,
                "tool": measured.tool,
                "prompts asked": asked,
                "tokens": asked * measured.tokens / prompts,
                "wall s": asked * measured.wall / prompts,
            },
        )

    def _targets(
        self,
        workload: Workload,
        tasks: Sequence[Task],
        found: Mapping[str, _Measured],
        counts: PlanCounts,
    ) -> None:
        grace, lm_eval, loop = found["grace"], found["lm-eval"], found["transformers"]
        states = workload.study == "study1"
        repeats = counts.asked / counts.distinct
        fewer = repeats * lm_eval.tokens / grace.tokens
        faster = lm_eval.wall / grace.wall
        add = self.report.targets.append
        if states:
            least = fewest_tokens([prefix for task in tasks for prefix, _ in task.nodes()], BLOCK)
            add(
                Target(
                    f"{workload.title}: tokens computed over the least possible",
                    grace.tokens / least,
                    1.25,
                    at_least=False,
                    note=f"least: {least:,} tokens in blocks of {BLOCK}",
                )
            )
        add(
            Target(
                f"{workload.title}: times fewer tokens than lm-eval on all rows",
                fewer,
                20 if states else 6,
                note=f"{repeats:.1f} rows a prompt; extrapolated from {len(tasks)} prompts",
            )
        )
        if states:
            add(Target(f"{workload.title}: times faster than lm-eval, distinct prompts", faster, 5))
            add(
                Target(
                    f"{workload.title}: times faster than lm-eval on all rows",
                    repeats * faster,
                    30,
                    note=f"extrapolated from {len(tasks)} prompts",
                )
            )
        add(
            Target(
                f"{workload.title}: times faster than the transformers loop, distinct prompts",
                loop.wall / grace.wall,
                10,
            )
        )


def read_metrics(text: str) -> Counter[str]:
    """
    Return what a vLLM server's metrics say of prompts and of requests that concern them.

    >>> read_metrics('vllm:prompt_tokens_total{engine="0"} 12.0')
    Counter({'vllm:prompt_tokens': 12})
    """
    found: Counter[str] = Counter()
    for name, labels, value in _METRIC.findall(text):
        if name in {PROMPT_TOKENS, CACHE_HITS}:
            found[name] += round(float(value))
        elif name == "http_requests" and any(path in labels for path in _PATHS):
            found[REQUESTS] += round(float(value))
    return found
