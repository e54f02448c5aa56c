"""
Tables of an examination: how answers are cut, and how probable they are.

Spaces and line breaks inside tokens are drawn, tokens are set apart by a bar, and
special tokens are coloured, so that one sees what the model sees.
"""

import itertools
import math
import re
from collections.abc import Iterable, Sequence

from rich import box
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from grace.cli.screen import out
from grace.pipeline.doctor_report import FormReport, NextTokenReport, ProbeReport, TokenReport
from grace.scoring.overlaps import overlaps

_SPECIAL = re.compile(r"<[^<>\s]+>|\[/?[A-Z]+\]")
_PROBES_BESIDE = 4
_SHOWN_KINDS = 3
_SHOWN_NEXT = 3
_LEAST_MASS = 0.0005


def print_probes(probes: Iterable[ProbeReport]) -> None:
    """Print a table for each probe; probes whose answers are cut alike share one."""
    for group in _alike(probes):
        _print_group(group)


def visible(text: str) -> str:
    r"""
    Return a text with its spaces and line breaks drawn.

    >>> visible(" yes\n")
    '␣yes⏎'
    """
    return text.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")


def percent(probability: float | None) -> str:
    """
    Return a probability for a table.

    >>> [percent(p) for p in (0.123, 0.0042, 2e-7, 0.0, None)]
    ['12%', '0.42%', '2e-07', '0%', '-']
    """
    if probability is None:
        return "-"
    if probability == 0:
        return "0%"
    if probability < 0.00005:
        return f"{probability:.0e}"
    return f"{probability:.0%}" if probability >= 0.0995 else f"{probability * 100:.2g}%"


def _alike(probes: Iterable[ProbeReport]) -> list[tuple[ProbeReport, ...]]:
    """Group neighbours whose answers are cut the same way, so that they share a table."""

    def cut(probe: ProbeReport) -> object:
        forms = [(form.answer, form.text, form.tokens) for form in probe.forms]
        return probe.study, forms, bool(probe.faults)

    groups = []
    for _, group in itertools.groupby(probes, key=cut):
        members = tuple(group)
        groups += [
            members[start : start + _PROBES_BESIDE]
            for start in range(0, len(members), _PROBES_BESIDE)
        ]
    return groups


def _print_group(probes: Sequence[ProbeReport]) -> None:
    first = probes[0]
    out.print()
    out.print(Text(f"{first.study}: {', '.join(probe.probe for probe in probes)}", "bold"))
    out.print(Text(f"  {_counts(probes)}", "dim"))
    if first.prompt_end:
        out.print(Padding(_prompt_end(first.prompt_end), (0, 0, 0, 2)), soft_wrap=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    table.add_column("answer", no_wrap=True)
    table.add_column("tokens", no_wrap=True)
    table.add_column("ids", style="dim", no_wrap=True)
    for probe in probes:
        table.add_column(probe.probe, justify="right", no_wrap=True)
    overlapping = {
        position
        for pair in overlaps([[token.id for token in form.tokens] for form in first.forms])
        for position in pair
    }
    for position, form in enumerate(first.forms):
        again = position and first.forms[position - 1].answer == form.answer
        table.add_row(
            Text("" if again else form.answer),
            _tokens(form),
            " ".join(str(token.id) for token in form.tokens),
            *(percent(probe.forms[position].probability) for probe in probes),
            style="red" if position in overlapping else None,
        )
    if any(probe.coverage for probe in probes):
        table.add_section()
        medians = (None if probe.coverage is None else probe.coverage[1] for probe in probes)
        table.add_row("the set", "[dim]median[/dim]", "", *map(percent, medians), style="bold")
        _add_variants(table, probes)
        _add_next(table, probes)
    out.print(table)


def _counts(probes: Sequence[ProbeReport]) -> str:
    total = sum(probe.prompts for probe in probes)
    inspected = sum(probe.inspected for probe in probes)
    measured = sum(probe.measured for probe in probes)
    lengths = [probe.prompt_tokens for probe in probes if probe.prompt_tokens]
    words = [f"{inspected:,} of {total:,} prompts encoded" if inspected < total else ""]
    if not words[0]:
        words = [f"{total:,} {'prompt' if total == 1 else 'prompts'} encoded"]
    words.append(f"{measured} scored")
    if lengths:
        low, high = min(one[0] for one in lengths), max(one[1] for one in lengths)
        words.append(f"{low} to {high} tokens" if low < high else f"{low} tokens")
    return ", ".join(words)


def _prompt_end(text: str) -> Text:
    begin = "" if _SPECIAL.match(text) else "…"
    shown = Text(begin + text.replace("\n", "⏎"), "dim")
    shown.highlight_regex(_SPECIAL, "not dim cyan")
    shown.append(" ▏answer", "bold")
    return shown


def _tokens(form: FormReport) -> Text:
    if not form.tokens:
        return Text("cannot be scored", "red")
    return Text("│", "dim").join(Text(token_text(token)) for token in form.tokens)


def token_text(token: TokenReport) -> str:
    """Return a token's text, drawn; its number if the server does not tell."""
    return f"#{token.id}" if token.text is None else visible(token.text)


def _add_variants(table: Table, probes: Sequence[ProbeReport]) -> None:
    masses: dict[str, list[float]] = {}
    examples: dict[str, FormReport] = {}
    for column, probe in enumerate(probes):
        for variant in probe.variants:
            mass = masses.setdefault(variant.kind, [0.0] * len(probes))
            mass[column] = math.fsum([mass[column], variant.probability or 0.0])
            best = examples.setdefault(variant.kind, variant)
            if (variant.probability or 0) > (best.probability or 0):
                examples[variant.kind] = variant
    kinds = sorted(masses, key=lambda kind: -max(masses[kind]))[:_SHOWN_KINDS]
    for kind in kinds:
        if max(masses[kind]) >= _LEAST_MASS:
            table.add_row(
                Text("not in it", "dim"),
                _tokens(examples[kind]),
                kind,
                *map(percent, masses[kind]),
            )


def _add_next(table: Table, probes: Sequence[ProbeReport]) -> None:
    ranks = [probe.next_tokens[:_SHOWN_NEXT] for probe in probes]
    if not any(ranks):
        return
    if len(probes) == 1:
        table.add_section()
        for number, token in enumerate(ranks[0]):
            table.add_row(
                "" if number else "next token",
                _coloured(token),
                f"{token.token.id}  {'begins an answer' if token.begins_answer else 'outside'}",
                percent(token.probability),
            )
        return
    table.add_section()
    for number, row in enumerate(itertools.zip_longest(*ranks)):
        cells = []
        for token in row:
            cell = Text()
            if token is not None:
                cell = Text.assemble(_coloured(token), f" {token.probability:.0%}")
            cells.append(cell)
        table.add_row("" if number else "next token", "", "", *cells)


def _coloured(token: NextTokenReport) -> Text:
    return Text(token_text(token.token), "green" if token.begins_answer else "yellow")
