"""What the measurements on a real server say: agreement, cost, targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.material import PlanCounts, Workload, fewest_tokens
from benchmarks.report import BenchmarkError, Report, Target
from benchmarks.tasks import Result, Task, largest_difference

BLOCK = 32
"""Tokens in a block of the server's prefix cache: the smallest that vLLM takes on a CPU."""

_EXACT_TOOLS = ("grace", "echo")
_EXACT = 2e-4
_AGREEMENT = "The numbers, against transformers in fp32"
_COST = "What a distribution costs: distinct prompts, the server's cache cold"
_ROWS = "All rows, from the figures above: a tool without a plan asks again for every row"


@dataclass(frozen=True, slots=True)
class Measured:
    """
    What a tool did on the same prompts.

    Attributes:
        tool: Its name.

        result: What its process reported.

        tokens: Tokens of prompts that were computed.

        requests: HTTP requests, as the server counted them.

        prompts: How many distributions.
    """

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


def add_agreement(
    report: Report, workload: Workload, tasks: Sequence[Task], found: Mapping[str, Measured]
) -> None:
    """
    Compare the numbers with those of transformers.

    Raises:
        BenchmarkError: A tool that must be exact is not.
    """
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
        report.add(
            _AGREEMENT,
            {
                "prompts": workload.title,
                "tool": tool,
                "largest difference, nats": difference,
                "equal": "yes" if difference <= _EXACT else "no",
                "why not": note,
            },
        )


def add_costs(report: Report, workload: Workload, measured: Measured, counts: PlanCounts) -> None:
    """Add what a tool took for these prompts, and would take for all rows."""
    result, prompts = measured.result, measured.prompts
    asked = counts.distinct if measured.tool == "grace" else counts.asked
    report.add(
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
    report.add(
        _ROWS,
        {
            "prompts": workload.title,
            "tool": measured.tool,
            "prompts asked": asked,
            "tokens": asked * measured.tokens / prompts,
            "wall s": asked * measured.wall / prompts,
        },
    )


def add_targets(
    report: Report,
    workload: Workload,
    tasks: Sequence[Task],
    found: Mapping[str, Measured],
    counts: PlanCounts,
) -> None:
    """Add what was to be reached on these prompts."""
    grace, lm_eval, loop = found["grace"], found["lm-eval"], found["transformers"]
    states = workload.study == "study1"
    repeats = counts.asked / counts.distinct
    fewer = repeats * lm_eval.tokens / grace.tokens
    faster = lm_eval.wall / grace.wall
    add = report.targets.append
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
