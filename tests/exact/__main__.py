"""Measure, compare, print; exit with 1 if a difference is over its limit."""

import argparse
import asyncio
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from exact.comparison import exact_figures, quantised_figures, reference_scores, token_figures
from exact.figures import table_of
from exact.materials import CHAT, COMPLETION, Material, default_material
from exact.measure import AS_SHIPPED, IN_FP32, SEQUENCE, TRIE, measure
from exact.reference import Reference
from exact.weights import fp32_copy, quantised_weights
from grace.studies.builtin import BUILTIN_STUDIES


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything; return the exit status."""
    parser = argparse.ArgumentParser(prog="make test-exact", description=__doc__)
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        type=_input,
        metavar="STUDY=CSV",
        help="a file of trials, the first few of which are scored beside the shipped ones",
    )
    options = parser.parse_args(arguments)
    console = Console(width=110, highlight=False)
    started = time.monotonic()

    def lap(what: str) -> None:
        console.print(f"{time.monotonic() - started:5.0f} s ({_cpu_seconds():.0f} s CPU)  {what}")

    material = default_material(dict(options.input))
    quantised = quantised_weights()
    fp32 = fp32_copy(quantised)
    lap(f"has {quantised.path.name}, and the same weights in fp32")
    exact = asyncio.run(measure(fp32, material, (SEQUENCE, TRIE), IN_FP32))
    lap("has the embedded server's scores in fp32")
    shipped = asyncio.run(measure(quantised.path, material, None, AS_SHIPPED))
    lap("has the embedded server's scores with the weights as shipped")
    # From the shipped file, so that the fp32 copy is checked as well.
    reference = Reference(quantised.path)
    truth = {
        mode: reference_scores(reference, exact.rendered[mode], exact.scores[mode, SEQUENCE])
        for mode in (CHAT, COMPLETION)
    }
    figures = [
        *token_figures(reference, material, exact),
        *exact_figures(reference, material, exact, truth),
        *quantised_figures(material, shipped, truth),
    ]
    lap("has the reference's scores")
    console.print()
    console.print(_summary(material))
    console.print(table_of(figures))
    failed = [figure.compared for figure in figures if not figure.passed]
    console.print(f"\nover the limit: {'; '.join(failed)}" if failed else "\nall within the limits")
    return 1 if failed else 0


def _input(text: str) -> tuple[str, Path]:
    study, _, path = text.partition("=")
    if study not in BUILTIN_STUDIES or not path:
        known = " or ".join(f"{key}=CSV" for key in BUILTIN_STUDIES)
        raise argparse.ArgumentTypeError(f"is {text!r}; expected {known}")
    return study, Path(path)


def _cpu_seconds() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


def _summary(material: Material) -> str:
    return (
        f"{len(material.chat)} prompts through the chat template, {len(material.completion)} as "
        "plain text; differences are absolute\n"
    )


if __name__ == "__main__":
    sys.exit(main())
