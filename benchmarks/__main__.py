"""Measure, print tables, write JSON: `python -m benchmarks client` or `scoring`."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import client_bench, scoring_bench
from benchmarks.report import Report
from grace.errors import GraceError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that were asked for; 1 if a target was missed, 2 if a part failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("part", nargs="*", choices=["client", "scoring", []], default=[])
    parser.add_argument(
        "--small", action="store_true", help="a few prompts: minutes on two cores, rougher figures"
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=scoring_bench.DATA,
        metavar="FOLDER",
        help="folder with study1.csv and study2.csv; without it, the items that come with Grace",
    )
    parser.add_argument(
        "--vllm-python",
        type=Path,
        default=Path(".venv-vllm/bin/python"),
        metavar="PATH",
        help="the interpreter of an environment with vLLM",
    )
    parser.add_argument(
        "--endpoint",
        metavar="URL",
        help="a vLLM that runs already, with this model and blocks of 32 tokens, and is idle",
    )
    parser.add_argument(
        "--prompts", type=int, metavar="N", help="distinct prompts of a workload (scoring)"
    )
    parser.add_argument(
        "--study",
        action="append",
        choices=scoring_bench.STUDIES,
        help="only this study (scoring); both unless given",
    )
    options = parser.parse_args(arguments)
    parts = options.part or ["client", "scoring"]
    console = Console(width=132, highlight=False)
    started = time.monotonic()

    def lap(what: str) -> None:
        console.print(f"{time.monotonic() - started:6.0f} s  {what}", style="dim", markup=False)

    failed = missed = False
    for part in parts:
        report = Report(part)
        try:
            if part == "client":
                size = client_bench.SMALL if options.small else client_bench.FULL
                client_bench.bench_client(report, size, lap)
            else:
                prompts = options.prompts or (
                    scoring_bench.SMALL if options.small else scoring_bench.FULL
                )
                server = scoring_bench.Server(options.vllm_python, options.endpoint)
                scoring_bench.bench_scoring(
                    report,
                    server,
                    options.data,
                    prompts,
                    lap,
                    studies=options.study or scoring_bench.STUDIES,
                )
        except GraceError as error:
            # What was measured before is shown all the same.
            console.print(f"error: {error}", style="red", markup=False)
            failed = True
        report.show(console)
        console.print(f"\nwritten to {report.write().relative_to(Path.cwd())}", markup=False)
        missed |= any(target.verdict == "missed" for target in report.targets)
    return 2 if failed else int(missed)


if __name__ == "__main__":
    sys.exit(main())
