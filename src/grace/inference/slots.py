"""
Slots of a llama.cpp server: which one to use for which prompt.

A slot keeps the keys and values of its last prompt, and only what follows the
shared beginning is computed again. Choosing the free slot whose last prompt
shares most with the next one is what makes related prompts cheap.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager


def shared_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """
    Count the leading tokens that two sequences share.

    >>> shared_prefix([1, 2, 3], [1, 2, 4])
    2
    """
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    return sum(1 for _ in pairs)


class SlotPool:
    """
    Free slots and what they hold.

    Args:
        size: How many slots the server has.
    """

    def __init__(self, size: int) -> None:
        self._held: dict[int, tuple[int, ...]] = dict.fromkeys(range(size), ())
        self._free = set(range(size))
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def slot_for(self, prompt: tuple[int, ...]) -> AsyncIterator[int]:
        """Hold the best free slot for *prompt*, waiting for one if need be."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._free))
            # The tie-break by what would be lost keeps a long prompt's slot for its kin.
            best = max(
                self._free,
                key=lambda slot: (
                    shared_prefix(self._held[slot], prompt),
                    -len(self._held[slot]),
                    -slot,
                ),
            )
            self._free.remove(best)
        self._held[best] = prompt
        try:
            yield best
        finally:
            async with self._changed:
                self._free.add(best)
                self._changed.notify()
