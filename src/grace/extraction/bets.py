"""
Statements of bets: which states a text ties to which amount.

"$10 on 2 exams", "2: $10", "nothing on 0 or 1", "everything on 3", a row or a
column of a table. A few rules look at each token in turn, the first that applies
reads on from there. Bets are taken as stated and never rescaled, and a bet that
several states share is nobody's. Which of the statements make up the final
allocation is decided in `grace.extraction.allocation`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from grace.extraction.bet_items import PREFIX, ItemReader
from grace.extraction.bet_language import (
    FILLER,
    LINK,
    OPTIONS,
    PREPOSITIONS,
    STAKES,
    BetText,
    Targets,
)
from grace.extraction.bet_tokens import TOTAL, Amount
from grace.extraction.parsed import words

_PLACING = ("bet", "put", "plac", "wager", "allocat", "assign", "stak", "go")
_DIVIDING = ("divid", "distribut", "split", "spread", "allocat")
_WHOLE = frozenset(words("all entire whole full"))
_SHARED_AMONG = PREPOSITIONS | frozenset(words("between among amongst across over"))
_EVENLY = frozenset(
    words("split divided distributed spread the my money bet bets it amounts parts")
)
_NOT_AN_AMOUNT = (OPTIONS - {"bet", "bets"}) | {"the", "of"}
_DENIALS = frozenset({"not", "never", "cannot"})
_RULE_MARKS = frozenset({":", "=", "|", "-", "+", "bet", "bets", "amount", "stake"})
_SEPARATORS = frozenset({",", "|", "and"})


@dataclass(frozen=True, slots=True)
class Statement:
    """
    One place that ties states to an amount.

    Attributes:
        start, end: Its place in the prepared text.

        states: The states that it names.

        amount: The bet on each of them, or None.

        reason: Why the text states no single whole amount for each state.

        others: Whether the bet is on each state that is not named elsewhere.

        rest: Whether the amount is what the other bets leave.

        begins_line: Whether a line of the text begins with it.

        in_parentheses: Whether it stands inside parentheses.

        marked: Whether the amount has a currency sign, a unit, or words of betting.
    """

    start: int
    end: int
    states: tuple[int, ...]
    amount: int | None
    reason: str = ""
    others: bool = False
    rest: bool = False
    begins_line: bool = False
    in_parentheses: bool = False
    marked: bool = True


_Found = tuple[list[Statement], int]


def statements(text: str, n_items: int) -> tuple[Statement, ...]:
    """
    Return what a prepared text says about bets, in its order.

    >>> [(s.states, s.amount) for s in statements("$10 on 2 exams and 90 on all three", 3)]
    [((2,), 10), ((3,), 90)]
    """
    return tuple(_Rules(BetText(text, n_items)).read())


class _Rules:
    def __init__(self, text: BetText) -> None:
        self.text = text
        self.every = tuple(range(text.n_items + 1))
        self.items = ItemReader(text)

    def read(self) -> Iterator[Statement]:
        rules: tuple[Callable[[int], _Found | None], ...] = (
            self._in_parallel,
            self._amount_first,
            self._state_first,
            self._evenly,
            self._in_words,
        )
        here = 0
        while here < self.text.length:
            found = None
            if self.text.at(here).kind in ("money", "number", "word"):
                found = next((made for rule in rules if (made := rule(here)) is not None), None)
            if found is None:
                here += 1
            else:
                yield from found[0]
                here = self.items.read_up_to = max(here + 1, found[1])

    def _made(
        self, first: int, targets: Targets, amount: Amount, after: int, *, rest: bool = False
    ) -> _Found:
        at, value, reason = self.text.at, amount.value, amount.reason
        shared = (len(targets.states) > 1 or targets.others) and not targets.each
        if shared and value != 0 and not reason:
            value, reason = None, f"one bet of {value} is stated for several states together"
        while at(first - 1).text in PREFIX:
            first -= 1
        before = at(first - 2) if at(first - 1).text in {"-", "+", ">", "(", "|"} else at(first - 1)
        statement = Statement(
            start=at(first).start,
            end=at(after - 1).end,
            states=targets.states,
            amount=value,
            reason=reason,
            others=targets.others,
            rest=rest,
            begins_line=before.kind in ("newline", "end"),
            in_parentheses=at(after - 1).depth > 0,
            marked=amount.marked,
        )
        return [statement], after

    def _amounts(self, index: int) -> tuple[list[Amount], int]:
        """Return the amounts of a series, and the index after it."""
        made: list[Amount] = []
        after = index
        while len(made) <= self.text.n_items and (amount := self.text.amount(after)) is not None:
            made.append(amount)
            index, after = (
                amount.after,
                self.text.skip(amount.after, _SEPARATORS, 2),
            )
        return made, index

    def _in_parallel(self, index: int) -> _Found | None:
        """Read as many states as amounts, in the same order."""
        text = self.text
        amounts, after = self._amounts(index)
        if len(amounts) > 1 and text.word(text.skip(after, LINK, 4)) in PREPOSITIONS:
            start = text.skip(text.skip(after, LINK, 4) + 1, FILLER, 7)
            targets = text.states(start, before_amount=False)
            if targets is not None and len(targets.states) == len(amounts):
                return self._paired(index, targets.states, amounts, targets.after)
        here = index
        for state in self.every:
            if (found := text.state(here)) is None or found[0] != state:
                return None
            here = text.skip(found[1], _SEPARATORS, 2)
        stop = here + 60
        while here < stop and (text.at(here).kind == "newline" or text.word(here) in _RULE_MARKS):
            here += 1
        amounts, after = self._amounts(here)
        if len(amounts) != len(self.every) or text.word(after) in (":", "="):
            return None
        return self._paired(index, self.every, amounts, after)

    def _paired(
        self, index: int, states: tuple[int, ...], amounts: list[Amount], after: int
    ) -> _Found:
        return [
            made
            for state, amount in zip(states, amounts, strict=True)
            for made in self._made(index, Targets((state,), after), amount, after)[0]
        ], after

    def _amount_first(self, index: int) -> _Found | None:
        """Read "$10 on 2 exams"."""
        text = self.text
        amount = text.amount(index)
        if amount is None or (not amount.marked and text.word(index - 1) in _NOT_AN_AMOUNT):
            return None
        targets = self.text.bet_on(amount) or self._listed_with(index, amount)
        if targets is None:
            return None
        divided = any(text.word(i).startswith(_DIVIDING) for i in range(index - 4, index))
        if self._is_denied(index) or (divided and len(targets.states) > 1 and amount.value != 0):
            return None
        return self._made(index, targets, amount, targets.after)

    def _is_denied(self, index: int) -> bool:
        """Whether the text says that it does not bet this."""
        before = [self.text.word(i) for i in range(index - 4, index)]
        placing = any(word.startswith(_PLACING) for word in before)
        denied = any(word in _DENIALS or word.endswith("n't") for word in before)
        return (placing and denied) or before[-2:] in (["instead", "of"], ["rather", "than"])

    def _listed_with(self, index: int, amount: Amount) -> Targets | None:
        """Read "$10 - 2 exams" where an item of a list begins with the amount."""
        text = self.text
        before = text.at(index - 2) if text.word(index - 1) in {"-", "|"} else text.at(index - 1)
        if before.kind not in ("newline", "end") and before.text not in {",", ";"}:
            return None
        if not amount.marked or text.word(amount.after) not in {":", "=", "-", "|"}:
            return None
        targets = text.states(amount.after + 1, before_amount=False)
        following = "" if targets is None else text.word(targets.after)
        return None if following in {":", "=", "-", "|"} else targets

    def _state_first(self, index: int) -> _Found | None:
        """Read "2 exams: $10"."""
        item = self.items.item(index)
        if item is None:
            return None
        return self._made(index, item.targets, item.amount, item.amount.after)

    def _evenly(self, index: int) -> _Found | None:
        """Read "split it evenly between 2 and 3"."""
        text = self.text
        halves = text.word(index) == "50" and text.word(index + 2) == "50"
        if not halves and text.word(index) not in ("evenly", "equally", "equal"):
            return None
        link = text.skip(index + (3 if halves else 1), _EVENLY, 4)
        if text.word(link) not in _SHARED_AMONG:
            return None
        targets = text.targets(link + 1)
        if targets is None or len(targets.states) < 2:
            return None
        share, left = divmod(TOTAL, len(targets.states))
        reason = f"{TOTAL} does not divide into {len(targets.states)} equal whole amounts"
        amount = Amount(None if left else share, reason if left else "", targets.after, marked=True)
        targets = Targets(targets.states, targets.after, each=True)
        return self._made(index, targets, amount, targets.after)

    def _in_words(self, index: int) -> _Found | None:
        """Read "everything on 3", "the rest on 2" and "not bet anything on 0"."""
        text = self.text
        word, rest = text.word(index), False
        if word in ("any", "anything"):
            earlier = f"{text.word(index - 2)} "
            if not earlier.endswith(("not ", "n't ", "never ")):
                return None
            value, after = 0, text.skip(index + 1, STAKES, 1)
        elif word in ("rest", "remainder", "remaining"):
            value, rest = 0, True
            after = text.skip(index + 1, STAKES | {"balance", "of", "the", "my"}, 4)
            if word == "remaining" and after == index + 1:
                return None
        elif word in _WHOLE or word == "everything":
            value, after = TOTAL, text.skip(index + 1, frozenset(words("of the my your that")), 2)
            if word in _WHOLE and text.word(index - 1) != "it" and text.word(after) not in STAKES:
                return None
            after = text.skip(after, STAKES, 1)
        else:
            return None
        link = text.skip(after, LINK, 4)
        placed = rest or any(text.word(i).startswith(_PLACING) for i in range(index - 5, link))
        if not placed or text.word(link) not in PREPOSITIONS - {"that", "for"}:
            return None
        targets = text.targets(link + 1)
        if targets is None or ((rest or value) and len(targets.states) != 1):
            return None
        amount = Amount(None if rest else value, "", targets.after, marked=True)
        return self._made(index, targets, amount, targets.after, rest=rest)
