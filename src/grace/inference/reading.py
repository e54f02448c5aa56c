"""
Reading a model's vocabulary: the text of a token, and what it would say next.

Scoring does not need it; people do, to see how answers are cut and what a model
would say instead. Some servers cannot do it, so it is apart from the client
protocol: ask with `isinstance(client, TokenReader)`.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class TokenReader(Protocol):
    """A client that can show tokens; it raises as `InferenceClient` does."""

    async def token_texts(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        """Return the text of each token by itself; half a character is shown as U+FFFD."""
        ...

    async def likeliest(self, prefix: tuple[int, ...], count: int) -> Mapping[int, float]:
        """Return the most probable next tokens with their log-probabilities, likeliest first."""
        ...
