"""
The same prompts, the same vLLM server: what each tool makes it compute, and how long it takes.

The server runs on the CPU, in fp32, from `tests/real_vllm`. Its own metrics say
how many prompt tokens it computed. Each tool has a process of its own; the
numbers are compared before any time is believed.
"""

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.grace_run import MODEL_KEY
from benchmarks.material import (
    Workload,
    plan_counts,
    tasks_of,
    write_sample,
)
from benchmarks.processes import run_tool
from benchmarks.report import BenchmarkError, Report
from benchmarks.scoring_report import BLOCK, Measured, add_agreement, add_costs, add_targets
from benchmarks.tasks import Job, Task
from benchmarks.vllm_metrics import REQUESTS, computed, metrics_of
from grace.inference.transport import Transport
from grace.inference.vllm import VllmClient
from real_vllm.model_folder import model_folder
from real_vllm.server import VllmSettings, vllm_server

DATA = Path(__file__).parents[2] / "shared" / "data"
SMALL, FULL = 4, 24
STATES = ("state0", "state1", "state2", "state3")
CONCURRENCY = 16
STUDIES = ("study1", "study2")
TOOLS = ("grace", "lm-eval", "echo", "transformers")


@dataclass(frozen=True, slots=True)
class Server:
    """
    Which vLLM is asked.

    Attributes:
        python: The interpreter of an environment with vLLM, to start one.

        url: One that runs already, as this program would start it; nobody else
            may use it, since its metrics count everyone's tokens.

        threads: Compute threads of the server, and of the transformers loop.
    """

    python: Path
    url: str | None = None
    threads: int = max(1, (os.cpu_count() or 1) - 1)


def bench_scoring(
    report: Report,
    server: Server,
    data: Path,
    prompts: int,
    lap: Callable[[str], None],
    studies: Sequence[str] = STUDIES,
) -> None:
    """
    Score some prompts of each study with every tool.

    Args:
        report: Takes the figures, one workload after another.

        server: Which vLLM.

        data: A folder with the trials; if it is missing, Grace's own items are used.

        prompts: How many distinct prompts of a workload.

        lap: Is told what was done.

        studies: Which of them.

    Raises:
        BenchmarkError: There is no vLLM, or a tool's numbers are wrong where they
            should not be.
    """
    folder = model_folder()
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = server.url or stack.enter_context(_started(server, folder, place / "vllm.log"))
        lap("has a vLLM server")
        for workload in _workloads(data):
            if workload.study not in studies:
                continue
            bench = _Bench(report, url, MODEL_KEY, folder, server.threads, place, lap)
            bench.measure(workload, prompts)
    report.notes.append(
        f"vLLM on the CPU in fp32, {server.threads} thread(s), blocks of {BLOCK} tokens; the "
        "transformers loop has as many threads.\nTokens are those that the server computed: prompt tokens of "
        "its metric vllm:prompt_tokens_by_source with the source local_compute, and each token that "
        "was drawn behind the first."
    )


@contextmanager
def _started(server: Server, folder: Path, log: Path) -> Iterator[str]:
    if not server.python.exists():
        raise BenchmarkError(
            f"{server.python}: no such interpreter; `make .venv-vllm/.ready` makes it"
        )
    settings = VllmSettings(
        python=server.python.absolute(), name=MODEL_KEY, block_size=BLOCK, threads=server.threads
    )
    with vllm_server(folder, log, settings) as running:
        yield running.url


def _workloads(data: Path) -> list[Workload]:
    def input_of(study: str) -> Path | None:
        path = data / f"{study}.csv"
        return path if path.exists() else None

    def whose(study: str) -> str:
        return "given trials" if input_of(study) else "items that come with Grace"

    return [
        Workload(
            title=f"Study 1, state probes ({whose('study1')})",
            study="study1",
            probes=STATES,
            input=input_of("study1"),
        ),
        Workload(
            title=f"Study 2, joint ({whose('study2')})", study="study2", input=input_of("study2")
        ),
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
        add_agreement(self.report, workload, tasks, found)
        for measured in found.values():
            add_costs(self.report, workload, measured, counts)
        add_targets(self.report, workload, tasks, found, counts)

    def _run(self, tool: str, workload: Workload, tasks: Sequence[Task]) -> Measured:
        before = metrics_of(self.url)
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
        asked = metrics_of(self.url)
        asked.subtract(before)
        self.lap(f"{workload.title}: {tool}")
        tokens = computed(asked)
        if tool == "transformers":
            tokens = sum(
                len(task.prompt) + len(form.token_ids) for task in tasks for form in task.forms
            )
        return Measured(tool, result, tokens, asked[REQUESTS], len(tasks))

    def _connecting(self) -> int:
        """Return how many tokens the probes of a new client cost, which every run pays once."""

        async def connect() -> None:
            client = VllmClient(Transport(self.url))
            await client.connect()
            await client.aclose()

        before = metrics_of(self.url)
        asyncio.run(connect())
        asked = metrics_of(self.url)
        asked.subtract(before)
        return computed(asked)
