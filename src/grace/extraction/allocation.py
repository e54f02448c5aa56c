"""
The final allocation of bets that a response states.

A response may reason about bets before it makes them, correct itself, or comment
on a bet afterwards. Statements that follow each other, name no state twice and
lie in one list form a run. After the last correction, the last run that covers
every state and adds up to 100 counts; failing that, the last that adds up to 100;
failing that, the one that says most, as it stands.

One step is arithmetic rather than reading: where the bets of a finished
allocation add up to 100, the states that it does not mention hold 0. An
allocation that the text may go on with is not finished: there they stay open.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from grace.extraction.bet_tokens import TOTAL, prepared
from grace.extraction.bets import Statement, statements

_CORRECTION = re.compile(
    r"\b(?:actually|wait|correction|scratch that|on (?:second thought|reflection)|revis(?:ed|ing)|reconsider\w*|chang(?:ed?|ing) my"
    r"|final (?:answer|bets?|allocation|distribution|division)|let me (?:re|correct|adjust|change)"
    r"|sorry|i meant?|instead)|\bno,"
)
_HYPOTHETICAL = re.compile(r"\bif\b[^.!?\n]{0,120}\b(?:had|were|would have)\b[^.!?\n]{0,120}$")
_PROSE = re.compile(r"[a-z]{2,}[^a-z\n]{1,9}[a-z]{2,}")
_NEXT_LINE = re.compile(r"\n([^\n]{1,40})")
_ITEM = re.compile(r"[^a-z]|(?:option|state|bet|for|on|if|outcome|number|and|all|none|zero)\b")
_CLOSED = re.compile(r"[.!?)\"']$")
_ONLY_AMOUNTS = re.compile(r"(?:\$ ?[0-9]{1,3} ?[,/;\n] ?){2}")


@dataclass(frozen=True, slots=True)
class Allocation:
    """
    The bets of one response.

    Attributes:
        bets: By state, from 0; None where the text states none.

        problems: What is missing or suspect, in sentences.
    """

    bets: tuple[int | None, ...]
    problems: tuple[str, ...]

    @property
    def is_exact(self) -> bool:
        """Whether every bet is stated and they add up to 100."""
        return None not in self.bets and sum(bet or 0 for bet in self.bets) == TOTAL


@dataclass(frozen=True, slots=True)
class _Run:
    """Statements read as one allocation; *is_whole* if the next one is not part of it."""

    statements: tuple[Statement, ...]
    bets: Mapping[int, int | None]
    is_whole: bool

    @property
    def total(self) -> int:
        return sum(bet or 0 for bet in self.bets.values())

    @property
    def is_exact(self) -> bool:
        return self.total == TOTAL and None not in self.bets.values()


def read_allocation(response: str, n_items: int) -> Allocation:
    """
    Read the final allocation of a response.

    Args:
        response: What the model wrote.

        n_items: The highest state; states start at 0.

    >>> read_allocation("$10 on 2 and $90 on 3.", 3).bets
    (0, 0, 10, 90)
    """
    text = prepared(response)
    found = _relevant(text, statements(text, n_items))
    states = range(n_items + 1)
    if not found:
        return Allocation(tuple(None for _ in states), (_nothing_found(text),))
    run, later = _final(text, found, n_items)
    if not _is_about_bets(run, n_items):
        return Allocation(tuple(None for _ in states), (_nothing_found(text),))
    bets = dict(run.bets)
    reasons = {
        state: statement.reason
        for statement in run.statements
        for state in statement.states
        if statement.reason
    }
    problems = [f"bet on {state}: {reason}" for state, reason in sorted(reasons.items())]
    missing = [state for state in states if state not in bets]
    finished = _is_finished(text, run.statements[-1].end)
    if missing and run.is_exact and finished:
        bets |= dict.fromkeys(missing, 0)
    elif missing:
        listed = " and ".join(map(str, missing))
        ending = "none is stated" if finished else "the text ends before one is stated"
        problems.append(f"bet on {listed}: {ending}")
    stated = [bets.get(state) for state in states]
    if None not in stated and sum(bet or 0 for bet in stated) != TOTAL:
        problems.append(f"bets: they add up to {run.total}, not {TOTAL}")
    problems += [
        f"bet on {state}: the text also states {statement.amount}"
        for statement in later
        for state in statement.states
        if statement.amount is not None and bets.get(state) not in (None, statement.amount)
    ]
    return Allocation(tuple(stated), tuple(dict.fromkeys(problems)))


def _is_about_bets(run: _Run, n_items: int) -> bool:
    """Whether bare numbers are an allocation, rather than a sum such as 1 = 1 or a count."""
    marked = any(statement.marked for statement in run.statements)
    return marked or run.is_exact or len(run.bets) >= n_items


def _nothing_found(text: str) -> str:
    if not text:
        return "bets: there is no answer"
    if _ONLY_AMOUNTS.search(text):
        return "bets: the text does not say which amount is bet on which answer"
    return "bets: none is stated"


def _relevant(text: str, found: Sequence[Statement]) -> list[Statement]:
    real = [
        statement
        for statement in found
        if not _HYPOTHETICAL.search(text, max(0, statement.start - 240), statement.start)
    ]
    outside = [statement for statement in real if not statement.in_parentheses]
    return outside or real


def _final(text: str, found: Sequence[Statement], n_items: int) -> tuple[_Run, Sequence[Statement]]:
    """Return the final run, and the statements that follow it."""
    segments: list[list[Statement]] = [[found[0]]]
    for before, statement in pairwise(found):
        if _CORRECTION.search(text, before.end, statement.start):
            segments.append([])
        segments[-1].append(statement)
    every = range(n_items + 1)
    earlier: dict[int, int | None] = {}
    run, end = _best(text, segments[0], every)
    for segment in segments[1:]:
        earlier, changed = {**earlier, **run.bets}, _best(text, segment, every)
        run, end = changed
        overlaid = {**earlier, **run.bets}
        if not run.is_exact and len(run.bets) < len(every) and len(overlaid) > len(run.bets):
            run = replace(run, bets=overlaid)
    return run, segments[-1][end:]


def _best(text: str, segment: Sequence[Statement], every: range) -> tuple[_Run, int]:
    opening = _opening(segment, every) if text[0] in "0123456789$(" else None
    if opening is not None:
        return opening, len(opening.statements)
    wanted: tuple[Callable[[_Run], bool], ...] = (
        lambda run: run.is_exact and len(run.bets) == len(every),
        lambda run: run.is_exact and run.is_whole,
    )
    for is_wanted in wanted:
        for strict in (True, False):
            for end, run in _runs(text, segment, every, strict=strict):
                if is_wanted(run):
                    return run, end
    end, run = max(_runs(text, segment, every, strict=False), key=lambda one: len(one[1].bets))
    return run, end


def _opening(segment: Sequence[Statement], every: range) -> _Run | None:
    """
    Return the full allocation that a text begins with.

    It was not reasoned towards, so what follows it is comment, or what a model
    wrote because nothing stopped it.
    """
    named: set[int] = set()
    for end, statement in enumerate(segment, 1):
        if segment[0].start > 2 or named & set(statement.states):
            return None
        named |= set(statement.states)
        if len(named) == len(every):
            run = _Run(tuple(segment[:end]), _bets(segment[:end], every), is_whole=True)
            return run if run.is_exact else None
    return None


def _runs(
    text: str, segment: Sequence[Statement], every: range, *, strict: bool
) -> Iterator[tuple[int, _Run]]:
    """Return the longest run that ends at each statement, the last one first."""

    def breaks(after: int) -> bool:
        return strict and _is_apart(text, segment[after - 1], segment[after])

    for end in range(len(segment), 0, -1):
        start, named = end, set[int]()
        while start > 0 and not named & set(segment[start - 1].states):
            if start < end and breaks(start):
                break
            start -= 1
            named |= set(segment[start].states)
        is_whole = end == len(segment) or bool(named & set(segment[end].states)) or breaks(end)
        bets = _bets(segment[start:end], every)
        yield end, _Run(tuple(segment[start:end]), bets, is_whole=is_whole)


def _is_apart(text: str, before: Statement, after: Statement) -> bool:
    """Whether prose lies between a list and a statement outside it."""
    return before.begins_line != after.begins_line and bool(
        _PROSE.search(text, before.end, after.start)
    )


def _bets(run: Sequence[Statement], every: range) -> dict[int, int | None]:
    bets: dict[int, int | None] = {
        state: statement.amount for statement in run for state in statement.states
    }
    others = next((statement for statement in run if statement.others), None)
    if others is not None and not others.reason:
        bets |= {state: others.amount for state in every if state not in bets}
    rest = next((statement for statement in run if statement.rest), None)
    if rest is not None:
        known = [bet for state, bet in bets.items() if state not in rest.states]
        left = TOTAL - sum(bet or 0 for bet in known)
        if None not in known and left >= 0:
            bets |= dict.fromkeys(rest.states, left)
    return bets


def _is_finished(text: str, end: int) -> bool:
    """Whether the text does not break off inside the allocation."""
    tail = text[end:].strip(" .,;)|\n")
    if not tail or _CLOSED.search(text):
        return True
    return any(not _ITEM.match(line[1]) for line in _NEXT_LINE.finditer(text, end))
