"""
The language of bets: amounts, states, and what an amount is bet on.

Every reading looks a bounded number of tokens ahead. An amount that is not one whole number from 0 to 100 is read as
such, with the reason: nothing is rounded. Which amounts belong to which states
is decided by the rules in `grace.extraction.bets`.
"""

import re
from dataclasses import dataclass, replace

from grace.extraction.bet_tokens import END, Amount, Token, tokens, whole_amount
from grace.extraction.parsed import AMOUNT_WORDS, NUMBER_WORDS, words

_FROM_ZERO = re.compile(r"(?:^|[\s(])0[.)] ?[:=-]? ?[$€£0-9]")

PREPOSITIONS = frozenset(words("on onto for to toward towards that"))
OPTIONS = frozenset(
    words(
        "option options possibility possibilities number numbers state states outcome outcomes answer "
        "answers choice choices bet bets scenario scenarios result results"
    )
)
FILLER = OPTIONS | frozenset(
    words(
        "the a an case chance event value hypothesis there being getting having of that it is are "
        "exactly only just both either each '"
    )
)
LINK = frozenset(
    words(
        "each apiece of it my the money total is are goes going would will should be bet placed put "
        "allocated assigned wagered chance probability confidence"
    )
)
STAKES = frozenset(words("money bet bets dollars funds amount budget sum"))
OTHERS = frozenset(words("other others rest remaining"))

_BARE_LINK = frozenset({"each", "apiece"})
_UNITS = frozenset(words("dollar dollars buck bucks percent"))
_QUANTIFIERS = frozenset(words("each every all any of the four 4 possible"))
_DECOYS = OPTIONS | frozenset({"categories", "ways"})
_NOT_NOUNS = frozenset(words("more one longer doubt problem reason matter way need idea"))
_LIMITS = frozenset(words("least most than over under"))
_VAGUE = frozenset(words("more fewer less above below higher lower"))
_NOT_EVERY_ITEM = OTHERS | OPTIONS | STAKES | LINK | frozenset({"in", "on", "four", "i", "we"})
_OWNERS = frozenset(words("of the these those them her his"))
_JOINS = frozenset({",", "and", "&", "or", "/"})
_CONJUNCTIONS = frozenset({"and", "or"})
_NONE: frozenset[str] = frozenset()
_AFTER_OTHERS = OPTIONS | OTHERS | {"else", "two", "three", "2", "3"}
_OPEN = "the text states a range or a limit, not an amount"
_SPANS = frozenset({"-", "to", "through"})


@dataclass(frozen=True, slots=True)
class Targets:
    """
    What an amount is bet on.

    Attributes:
        states: The states named; empty for "the others".

        after: Index of the token after them.

        others: Whether they are those that are not named elsewhere.

        each: Whether the text says that each of them gets the amount.
    """

    states: tuple[int, ...]
    after: int
    others: bool = False
    each: bool = False


_MARGIN = 300


class BetText:
    """
    A prepared text as tokens, with what can be read at each of them.

    Args:
        text: A prepared text.

        n_items: The highest state.
    """

    def __init__(self, text: str, n_items: int) -> None:
        found = list(tokens(text))
        self.length = len(found)
        # The ends stand on both sides: an index below 0 counts from the end of a list.
        self._tokens = [*found, *[END] * _MARGIN]
        self._words = [token.text for token in self._tokens]
        self.n_items = n_items
        # Every rule asks for the amount at a token.
        self._amounts: dict[int, Amount | None] = {}
        # "1) $0, 2) $10" numbers the lines; only a list that counts from 0 counts states.
        beyond = re.search(rf"(?:^|[\s(]){n_items + 1}[.)]", text)
        self.numbered_from_zero = _FROM_ZERO.search(text) is not None and beyond is None
        self._counts = {str(n_items), *(w for w, v in NUMBER_WORDS.items() if v == n_items)}

    def at(self, index: int) -> Token:
        """Return a token; a little beyond either end, `END`."""
        return self._tokens[index]

    def word(self, index: int) -> str:
        """Return a token's text."""
        return self._words[index]

    def skip(self, index: int, words: frozenset[str], limit: int) -> int:
        """Return the index after at most *limit* of some words."""
        stop = index + limit
        found = self._words
        while index < stop and found[index] in words:
            index += 1
        return index

    def is_tight(self, index: int) -> bool:
        """Whether no space surrounds a token."""
        before, here, after = self.at(index - 1), self.at(index), self.at(index + 1)
        return before.end == here.start and here.end == after.start

    def after_remark(self, index: int) -> int:
        """Return the index after a remark in parentheses, or the index itself."""
        if self.word(index) == "(":
            for after in range(index + 1, index + 80):
                if self.at(after).kind in ("newline", "end"):
                    break
                if self.word(after) == ")":
                    return after + 1
        return index

    def amount(self, index: int) -> Amount | None:
        """Return the amount at a token, if there is one."""
        if index not in self._amounts:
            self._amounts[index] = self._read_amount(index)
        return self._amounts[index]

    def _read_amount(self, index: int) -> Amount | None:
        token, unit = self.at(index), self.word(index + 1)
        if token.kind in ("money", "number"):
            value, reason = whole_amount(token.text)
            amount = Amount(value, reason, index + 1, marked=token.kind == "money")
        elif token.text == "no" and unit in STAKES:
            amount = Amount(0, "", index + 2, marked=True)
        elif unit in _UNITS and token.text in AMOUNT_WORDS:
            amount = Amount(AMOUNT_WORDS[token.text], "", index + 2, marked=True)
        elif token.text in ("nothing", "zero"):
            amount = Amount(0, "", index + 1, marked=False)
        else:
            return None
        if self._is_open(index, amount.after):
            return replace(amount, value=None, reason=_OPEN)
        return amount

    def _is_open(self, index: int, after: int) -> bool:
        """Whether an amount is an end of a range, or a limit."""
        kind, before, earlier = self.at(index).kind, self.word(index - 1), self.at(index - 2)
        if before in _LIMITS or (before == "to" and earlier.text == "up"):
            return True
        if before == "between" or (before == "and" and self.word(index - 3) == "between"):
            return True
        if before == "-" and earlier.kind == kind and self.is_tight(index - 1):
            return True
        if before in ("to", "or") and earlier.kind == "money":
            return True
        following = self.at(after + 1).kind
        if self.word(after) == "-" and self.is_tight(after):
            return following in ("money", kind) or (kind == "money" and following == "number")
        return self.word(after) in ("to", "or") and following == "money"

    def state(self, index: int) -> tuple[int, int] | None:
        """Return the state named at a token and the index after it, if one is."""
        token, after = self.at(index), index + 1
        if token.kind == "number" and len(token.text) <= 2 and token.text.isdigit():
            value = int(token.text)
        elif token.text in NUMBER_WORDS and self.word(after) not in _UNITS:
            value = NUMBER_WORDS[token.text]
            if value == 1 and self.word(after) == "of" and self._denominator(after) == after:
                return None
        elif token.text == "none":
            value = 0
        elif token.text == "no" and self.at(after).kind == "word":
            return None if self.word(after) in STAKES | _NOT_NOUNS else (0, after)
        elif token.text == "all" and self.word(index - 1) != "at":
            return self._all(after)
        else:
            return None
        vague = self.word(after) in ("or", "and") and self.word(after + 1) in _VAGUE
        more = self.word(after) == "+" and self.at(after).start == token.end
        if value > self.n_items or vague or more:
            return None
        return value, self._denominator(after)

    def _all(self, index: int) -> tuple[int, int] | None:
        after = self.skip(index, _OWNERS, 2)
        if self.word(after) in self._counts:
            return self.n_items, after + 1
        if self.at(after).kind == "word" and self.word(after) in _NOT_EVERY_ITEM:
            return None
        return self.n_items, after

    def _denominator(self, index: int) -> int:
        """Return the index after "of the 3", or the index itself."""
        of = index + 1 if self.word(index) == "out" else index
        if self.word(of) == "/" and self.is_tight(of) and self.word(of + 1) in self._counts:
            return of + 2
        count = self.skip(of + 1, _OWNERS, 1)
        return count + 1 if self.word(of) == "of" and self.word(count) in self._counts else index

    def states(self, index: int, *, before_amount: bool) -> Targets | None:
        """
        Return the states named from a token on.

        Args:
            index: Where the first one stands.

            before_amount: Whether an amount is to follow them, as in "0, 1: $5".
        """
        first = self.state(index)
        if first is None:
            return None
        states, after, is_span = [first[0]], first[1], False
        while len(states) <= self.n_items:
            join = after
            while join < after + 2 and self.at(join).kind == "word" and not self._joins(join):
                join += 1
            if not self._joins(join) or (join > after and self.word(join) not in ("and", "or")):
                break
            following = self.skip(join + 1, _CONJUNCTIONS if self.word(join) == "," else _NONE, 1)
            following = self.skip(following, OPTIONS, 1)
            found = self.state(following)
            if found is None or self.word(following + 1) in ("on", "onto", "for"):
                break
            if not before_amount and self.word(found[1]) in (":", "="):
                break
            states.append(found[0])
            after = found[1]
            is_span = is_span or self.word(join) in _SPANS
        if is_span:
            states = list(range(min(states), max(states) + 1))
        return Targets(tuple(dict.fromkeys(states)), after)

    def _joins(self, index: int) -> bool:
        word = self.word(index)
        return word in _JOINS or (word in _SPANS and (word != "-" or self.is_tight(index)))

    def targets(self, index: int) -> Targets | None:
        """Return what an amount is bet on: states, every state or the others."""
        start = self.skip(index, _QUANTIFIERS, 5)
        words = {self.word(i) for i in range(index, start)}
        noun, each = self.word(start), bool(words & {"each", "every"})
        anything = noun in ("everything", "anything") and self.word(start + 1) == "else"
        if noun in OTHERS or anything:
            after = self.skip(start + 1, _AFTER_OTHERS, 2)
            return Targets((), after, others=True, each=each)
        whole = noun in OPTIONS or self.word(start - 1) in ("four", "4")
        if words & {"each", "every", "all"} and whole and self.state(start + 1) is None:
            return Targets(tuple(range(self.n_items + 1)), start + 1, each=each)
        start = self.skip(index, FILLER, 7)
        each = any(self.word(i) == "each" for i in range(index, start))
        found = self.states(start, before_amount=False)
        if found is None or self.word(found.after) in _DECOYS:
            return None
        if self.word(start - 1) == "the" and self.at(start).kind == "number":
            return None
        if self.word(found.after) == "each":
            return replace(found, after=found.after + 1, each=True)
        return replace(found, each=each)

    def bet_on(self, amount: Amount) -> Targets | None:
        """Return what an amount is bet on, as in "$10 on 2 exams"."""
        after = self.after_remark(amount.after)
        link = self.skip(after, LINK if amount.marked else _BARE_LINK, 6)
        each = any(self.word(i) in _BARE_LINK for i in range(after, link))
        preposition = self.word(link)
        if preposition not in PREPOSITIONS:
            return None
        if not amount.marked and amount.value != 0 and preposition not in ("on", "onto", "for"):
            return None
        targets = self.targets(link + 1)
        if targets is None:
            return None
        if self.word(targets.after) in (":", "=") and self.amount(targets.after + 1) is not None:
            return None
        each = each or targets.each
        return Targets(targets.states, targets.after, others=targets.others, each=each)
