"""
What was made once and may be wanted again, as far as there is room.

Rows repeat: what is made for one serves the next. An input in which hardly any
two rows are alike must not fill the memory, so that it is all forgotten when it
is too much.
"""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Known(Generic[K, V]):
    """
    Values by key, made when they are first wanted.

    Args:
        make: Makes a value; the same for a key every time.

        most: How many are kept at a time.

    >>> squares = Known(lambda n: n * n, most=2)
    >>> [squares[n] for n in (1, 2, 3, 1)], 2 in squares
    ([1, 4, 9, 1], False)
    """

    def __init__(self, make: Callable[[K], V], most: int) -> None:
        self._make = make
        self._most = most
        self._held: dict[K, V] = {}

    def __getitem__(self, key: K) -> V:
        """Return the value of a key."""
        try:
            return self._held[key]
        except KeyError:
            pass
        made = self._make(key)
        if len(self._held) >= self._most:
            self._held.clear()
        self._held[key] = made
        return made

    def __contains__(self, key: K) -> bool:
        """Whether the value of a key is kept."""
        return key in self._held
