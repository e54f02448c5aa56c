"""
Items of lists of bets, where the state comes first: "2 exams: $10", "3 - $90".

An item begins where a line, a clause or a cell begins. Between the state and the
amount stand a few words at most, and a separator unless the amount is marked as
money. Numbers in arithmetic, ratios and counts of other things are no bets.
"""

from dataclasses import dataclass

from grace.extraction.bet_language import FILLER, BetText, Targets
from grace.extraction.bet_tokens import Amount
from grace.extraction.parsed import words

PREFIX = FILLER | frozenset(
    words(
        "betting for on if when amount wager likelihood probability have i i'd would put place my "
        "money stake in dollars confidence $ # ~"
    )
)
"""Words that may stand before the state."""

_SAYING = frozenset(
    words(
        "i i'd we would will should bet put place wager allocate allocated assign stake give about "
        "around approximately roughly only a an my of amount full remaining entire total the all is ~ "
        "just maybe perhaps"
    )
)
_VERBS = frozenset(words("get gets receive receives is are with at would"))
_AFTER_BARE = frozenset(words("and but because since as given so each"))
_STARTS = frozenset(",;:.()|?!") | {"and", "or", "then"}
_CUES = frozenset(words("on for if when"))
_NOT_NOUN = frozenset(words("and or but option options bet bets possibilities outcomes ways"))
_NO_SINGLE_STATE = frozenset(words("of the least most than to or and between up"))


@dataclass(frozen=True, slots=True)
class Item:
    """States, and the amount that follows them."""

    targets: Targets
    amount: Amount


class ItemReader:
    """
    Reads items of a text.

    Args:
        text: The text.
    """

    def __init__(self, text: BetText) -> None:
        self.text = text
        self.read_up_to = 0
        """Index of the token after the last bet that was read."""

    def item(self, index: int) -> Item | None:
        """Return the item whose first state stands at a token."""
        text = self.text
        targets = text.states(index, before_amount=True)
        if targets is None:
            return None
        first = index
        while text.word(first - 1) in PREFIX and index - first < 7:
            first -= 1
        before = text.at(first - 1)
        if not self._begins_item(first) and not self._is_plain_item(index, targets.after):
            return None
        prefix = {text.word(i) for i in range(first, index)}
        gap = self._after_noun(targets.after)
        said = prefix | {text.word(i) for i in range(targets.after, gap)}
        at_line = before.kind in ("newline", "end") or before.text in {"-", "|"}
        start, is_explicit = self._after_separator(gap)
        if not is_explicit and not (said & _CUES or at_line or said & _VERBS):
            return None
        start = text.skip(start, _SAYING, 6)
        amount = text.amount(start) or (self._no_amount(start) if is_explicit else None)
        if amount is None or self.text.bet_on(amount) is not None:
            return None
        if not amount.marked and not (is_explicit and self._stands_alone(amount.after)):
            return None
        each = targets.each or text.word(amount.after) == "each"
        return Item(Targets(targets.states, targets.after, each=each), amount)

    def _no_amount(self, index: int) -> Amount | None:
        """Read "none", or the gap of a template that was echoed."""
        text = self.text
        if text.word(index) == "none" and text.word(index + 1) not in (":", "="):
            return Amount(0, "", index + 1, marked=False)
        gap = index + (text.word(index) == "$")
        is_blank = text.word(gap) == "?" or (gap > index and text.word(gap) == ",")
        return Amount(None, "the text leaves it blank", gap + 1, marked=True) if is_blank else None

    def _after_noun(self, index: int) -> int:
        """Return the index after the words that say what the state counts."""
        text = self.text
        stop = index + 9
        while index < stop:
            after = text.after_remark(index)
            if after > index and not self._is_amount_alone(index + 1):
                index = after
            elif text.at(index).kind == "word" and text.word(index) not in _NOT_NOUN:
                if text.amount(index) is not None:
                    break
                index += 1
            else:
                break
        return index

    def _begins_item(self, index: int) -> bool:
        """Whether an item of a list or a clause can begin at a token."""
        before = self.text.at(index - 1)
        if before.kind in ("newline", "end") or index == self.read_up_to:
            return True
        if before.text == ":" and self.text.is_tight(index - 1):
            # Not in a ratio, as 4:1:2.
            return self.text.at(index - 2).kind != "number" or index - 1 == self.read_up_to
        if before.text in {"-", "+", ">"}:
            # Not in arithmetic, unless what stands before the sign is a bet already read.
            arithmetic = self.text.at(index - 2).kind in ("number", "money", "word")
            return not arithmetic or index - 1 == self.read_up_to
        return before.text in _STARTS

    def _is_plain_item(self, index: int, after: int) -> bool:
        """Whether "2: $10" stands in the middle of a sentence."""
        text = self.text
        return (
            text.word(after) == ":"
            and text.at(after + 1).kind == "money"
            and text.at(index - 1).kind == "word"
            and text.word(index - 1) not in _NO_SINGLE_STATE
        )

    def _is_amount_alone(self, index: int) -> bool:
        amount = self.text.amount(index)
        return amount is not None and self.text.word(amount.after) == ")"

    def _after_separator(self, index: int) -> tuple[int, bool]:
        """Return the index after what stands between state and amount, and if it is explicit."""
        text = self.text
        word, following = text.word(index), text.at(index + 1)
        if word in (":", "=", "|"):
            after = index + 1 + (following.kind == "newline")
            return text.skip(after, frozenset({":", "=", "|", "-", ">"}), 2), True
        if word == "-" and (following.kind == "money" or not text.is_tight(index)):
            return index + 1, True
        if word == "-" and following.kind == "number" and len(following.text) > 1:
            return index + 1, True
        if word == "(" and self._is_amount_alone(index + 1):
            return index + 1, True
        if word in (")", ".") and text.numbered_from_zero:
            return text.skip(index + 1, frozenset({":", "=", "-"}), 1), True
        ends = text.at(index + 2).kind in ("newline", "end")
        if word == "," and following.kind == "number" and ends:
            return index + 1, True
        return index + (word == ","), False

    def _stands_alone(self, index: int) -> bool:
        """Whether a bare number before this token is an amount rather than a count."""
        token = self.text.at(index)
        if token.text == "-":
            return not self.text.is_tight(index) and self.text.at(index + 1).kind != "money"
        return (
            token.kind in ("newline", "end", "money", "number")
            or token.text in _AFTER_BARE
            or token.text in {",", ";", ".", ")", "|", "(", "!"}
        )
