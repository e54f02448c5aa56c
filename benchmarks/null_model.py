"""
A model without any computation: tokens from a word list that grows, numbers from a hash.

The numbers mean nothing. They are valid and always the same, so that every way
of asking for one must give the same value. It knows nothing of HTTP.
"""

import re
import zlib
from collections.abc import Iterable, Sequence

VOCABULARY = 49_152
"""As many token ids as the small real model has: ids as long as real ones travel."""

FREE_TOKEN = 0
FREE_LOGPROB = -0.7
"""The token that the model would say itself, which servers add to a listed set."""

# About as many tokens as a real tokenizer makes of the studies' prompts.
_PIECE = re.compile(r"<\|[a-z_]+\|>|\d| ?[^\W\d]{1,7}|\s|.")
_HIGHEST = 9.0
_SPREAD = 6000
_FIRST, _SECOND, _THIRD, _TOKEN = 73_856_093, 19_349_663, 83_492_791, 2_654_435_761


class NullModel:
    """A tokenizer and next-token numbers."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._pieces: dict[int, str] = {}

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text."""
        known = self._ids
        return [
            known[piece] if piece in known else self._new(piece) for piece in _PIECE.findall(text)
        ]

    def decode(self, token_ids: Iterable[int]) -> str:
        """Return the text of tokens that `encode` gave."""
        return "".join(self._pieces.get(token, f"<|{token}|>") for token in token_ids)

    def chat(self, messages: Iterable[tuple[str, str]]) -> str:
        r"""
        Render roles and contents in the form of ChatML, ready for an answer.

        >>> NullModel().chat([("user", "Hi")])
        '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n'
        """
        turns = [f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in messages]
        return "".join(turns) + "<|im_start|>assistant\n"

    def _new(self, piece: str) -> int:
        token = zlib.crc32(piece.encode("utf-8", "surrogatepass")) % VOCABULARY
        # Token 0 is the one that the model would say itself.
        while token in self._pieces or token == FREE_TOKEN:
            token = (token + 1) % VOCABULARY
        self._ids[piece] = token
        self._pieces[token] = piece
        return token


def logprob(prefix: Sequence[int], token: int) -> float:
    """
    Return the log-probability of a token after a prefix.

    It depends on the prefix's last three tokens. It lies low enough for any
    list of tokens to stay below a probability of 1.
    """
    return edge_logprob(state_of(prefix), token)


def state_of(prefix: Sequence[int]) -> int:
    """Return what of a prefix decides its next-token numbers."""
    last = (-1, -1, -1, *prefix[-3:])[-3:]
    return (last[0] * _FIRST) ^ (last[1] * _SECOND) ^ (last[2] * _THIRD)


def edge_logprob(state: int, token: int) -> float:
    """Return the log-probability of a token in a state of the model."""
    return -_HIGHEST - ((state ^ token * _TOKEN) >> 7) % _SPREAD / 1000
