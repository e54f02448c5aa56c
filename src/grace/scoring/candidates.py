"""
Candidate sets: answers as token sequences after a prompt.

A set is scored only if its numbers would be what they claim: every surface
form continues the prompt at a token boundary, adds at least one token, and no
form's tokens begin another's, so that the forms exclude each other and their
summed probability (the coverage) is a probability.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from grace.errors import ScoringError, TokenBoundaryError


@dataclass(frozen=True, slots=True)
class SurfaceForm:
    """
    One string that counts as an answer.

    Attributes:
        label: The answer.

        text: The string, with what separates it from the prompt.

        token_ids: Its tokens after the prompt.
    """

    label: str
    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CandidateSet:
    """
    The surface forms of all answers of a probe, after one prompt.

    Attributes:
        labels: The answers, in order.

        forms: Their surface forms; the first of each label is canonical.

    Raises:
        ScoringError: An answer has no form, a form has no token, or one form's
            tokens begin another's.
    """

    labels: tuple[str, ...]
    forms: tuple[SurfaceForm, ...]

    def __post_init__(self) -> None:
        missing = set(self.labels) - {form.label for form in self.forms}
        if missing:
            raise ScoringError(f"answers without a surface form: {', '.join(sorted(missing))}")
        for form in self.forms:
            if not form.token_ids:
                raise TokenBoundaryError(f"{form.text!r} adds no token of its own to the prompt")
        ordered = sorted(self.forms, key=lambda form: form.token_ids)
        # In lexical order, a sequence that begins another one stands right before
        # some sequence that it begins.
        for shorter, longer in itertools.pairwise(ordered):
            if longer.token_ids[: len(shorter.token_ids)] == shorter.token_ids:
                raise ScoringError(
                    f"the tokens of {shorter.text!r} begin those of {longer.text!r}: the answers "
                    "do not exclude each other; give both an ending, such as % or a full stop"
                )

    def canonical(self, label: str) -> SurfaceForm:
        """Return the first form of an answer."""
        return next(form for form in self.forms if form.label == label)


def continuation_tokens(prompt: Sequence[int], joined: Sequence[int]) -> tuple[int, ...]:
    """
    Return the tokens of *joined* that belong to the continuation.

    Tokenizers may merge characters across the seam, so the tokens of a prompt
    are not always a prefix of the tokens of prompt + continuation. A score
    computed across such a seam would belong to another string. It is refused
    rather than guessed.

    Args:
        prompt: Token ids of the prompt alone.

        joined: Token ids of the prompt and the continuation, tokenized as one
            string.

    Raises:
        TokenBoundaryError: The seam falls inside a token, or the continuation
            adds no token.

    >>> continuation_tokens([5, 8], [5, 8, 13, 21])
    (13, 21)
    """
    if list(joined[: len(prompt)]) != list(prompt):
        raise TokenBoundaryError("the seam falls inside a token")
    if len(joined) == len(prompt):
        raise TokenBoundaryError("the continuation adds no token")
    return tuple(joined[len(prompt) :])
