"""
Other ways to write an answer, which a model may prefer to the one in the set.

A distribution counts the surface forms of its set and nothing else. The variants
here are what else is worth a look; how probable each one is has to be measured.
Pure.
"""

from collections.abc import Iterable
from dataclasses import dataclass

_NUMBER_WORDS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
]


@dataclass(frozen=True, slots=True)
class Variant:
    """
    One way to write an answer.

    Attributes:
        kind: What is different, in words.

        label: The answer.

        text: The string.
    """

    kind: str
    label: str
    text: str


def variants_of(label: str, forms: Iterable[str]) -> tuple[Variant, ...]:
    r"""
    Return other ways to write an answer; none of them is one of its forms.

    Args:
        label: The answer.

        forms: Its surface forms; the first is the canonical one.

    >>> [one.text for one in variants_of("yes", ("yes", "Yes"))]
    [' yes', '\nyes', '"yes', '**yes', 'yes.']
    """
    given = tuple(forms)
    found: dict[str, Variant] = {}
    for kind, text in _spellings(given[0]):
        if text not in given:
            found.setdefault(text, Variant(kind, label, text))
    return tuple(found.values())


def _spellings(text: str) -> Iterable[tuple[str, str]]:
    yield "space before", f" {text}"
    yield "line break before", f"\n{text}"
    yield "capital", text[:1].upper() + text[1:]
    yield "small letter", text[:1].lower() + text[1:]
    yield "quotation mark", f'"{text}'
    yield "bold", f"**{text}"
    if not text.endswith((".", "%")):
        # Counted already, unless the tokenizer merges the full stop with the answer's end.
        yield "full stop", f"{text}."
    if text.isascii() and text.isdigit() and int(text) < len(_NUMBER_WORDS):
        word = _NUMBER_WORDS[int(text)]
        yield "number word", word
        yield "number word", word.capitalize()
