"""
What a deterministic parser finds in a response, and how it reads text at all.

Models write curly quotes, no-break spaces, full-width digits, Markdown, their
reasoning and, when nothing stops them, the other side's next turn. `plain`
brings that into one form. It knows nothing of any study.

A parser never fills in what the text does not say: a field is stated or None.
All patterns here and in the parsers have bounded repetition, so that reading
takes time in proportion to the text.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Value = int | str | None


def words(text: str) -> tuple[str, ...]:
    """Return the words of a line."""
    return tuple(text.split())


_UNITS = words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty"
)
_TENS = {word: 10 * n for n, word in enumerate(words("twenty thirty forty fifty"), 2)}
_TENS |= {word: 10 * n for n, word in enumerate(words("sixty seventy eighty ninety"), 6)}

NUMBER_WORDS: Mapping[str, int] = {word: value for value, word in enumerate(_UNITS)}
"""The number words from zero to twenty."""

AMOUNT_WORDS: Mapping[str, int] = {
    **NUMBER_WORDS,
    **_TENS,
    **{
        f"{tens}-{_UNITS[unit]}": value + unit
        for tens, value in _TENS.items()
        for unit in range(1, 10)
    },
    "hundred": 100,
    "a hundred": 100,
    "one hundred": 100,
}
"""The number words from zero to one hundred."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """
    The structured answers found in a trial's responses.

    Attributes:
        values: Every field of the study is a key; None where the text states
            no value.

        problems: Why a field is None or suspect, one sentence each.

        complete: Whether every field is stated and every constraint met.
    """

    values: Mapping[str, Value]
    problems: tuple[str, ...]
    complete: bool


_CHARACTERS = str.maketrans(
    {
        # The full-width forms of ASCII.
        **{chr(code + 0xFEE0): chr(code) for code in range(0x21, 0x7F)},
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u02bc\u00b4`", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe63", "-"),
        **dict.fromkeys("\u2022\u25cf\u25e6\u25aa\u2023\u2219\u00b7", "-"),
        **dict.fromkeys("\u2192\u21d2\u2794\u279c\u27f6", "="),
        # Fractions stay fractions: 33 and a third must not turn into 33.
        **{"\u00bd": ".5", "\u00bc": ".25", "\u00be": ".75", "\u2153": ".333", "\u2154": ".667"},
        **{"\u2026": "...", "\u3002": ".", "\ufe69": "$", "\uffe5": "$"},
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad\0", None),
    }
)
_BREAK = re.compile(r"<br ?/?>", re.IGNORECASE)
_REASONING_END = re.compile(r"</(?:think|thinking|reasoning)>|<\|channel\|>final<\|message\|>")
_REASONING_START = re.compile(r"<(?:think|thinking|reasoning)>|<\|channel\|>analysis")
_TURN_END = re.compile(
    r"<\|(?:im_end|eot_id|end|endoftext|return)\|>|<end_of_turn>|</s>|<(?:eos|\|eos\|)>"
    r"|\n(?:user|human|q|question|\[inst\]|<start_of_turn>user|<\|im_start\|>user)\b ?[:\n]"
    # A question that the model asks itself after its answer.
    r"|\n[^\n]{0,500}\?[ \t]{0,3}\n\s{0,5}(?:answer|a) ?:",
    re.IGNORECASE,
)


def own_words(response: str) -> str:
    """
    Return what the model itself answers, as it wrote it.

    Reasoning before the answer and turns after it are left out. A response that
    is still reasoning where it ends holds no answer.

    >>> own_words("<think>Maybe 2.</think> It is 3.<|im_end|>")
    'It is 3.'
    """
    text = response
    ends = list(_REASONING_END.finditer(text))
    if ends:
        text = text[ends[-1].end() :]
    elif start := _REASONING_START.search(text):
        text = text[: start.start()]
    text = text.strip()
    end = _TURN_END.search(text, 1)
    return text[: end.start()].rstrip() if end else text


def plain(response: str) -> str:
    r"""
    Return the model's own words in plain characters, with single spaces.

    >>> plain("It wasn\u2019t  bad.\nUser: And this?")
    "It wasn't bad."
    """
    text = _BREAK.sub("\n", own_words(response).translate(_CHARACTERS))
    return "\n".join(" ".join(line.split()) for line in text.splitlines()).strip()


def alternatives(words: Iterable[str]) -> str:
    """Return a pattern for any of the words, the longest first."""
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
