"""
Sequences that are made again each time they are gone through.

A run may have a million rows; each is looked at a few times, always in order,
and never needed beside the others. So rows are not kept: what is kept is how to
make them. Knows nothing of what the items are.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar, overload

T = TypeVar("T", covariant=True)


class Streamed(Sequence[T]):
    """
    A sequence that holds none of its items.

    Going through it is cheap in memory, and so is any part that begins early;
    an item by its number costs all those before it.

    Args:
        produce: Begins a new pass: the same items in the same order, every time.

        length: How many there are; None counts them when it is asked for.

    >>> squares = Streamed(lambda: (n * n for n in range(4)))
    >>> len(squares), squares[-1], squares[1:3] == (1, 4)
    (4, 9, True)
    """

    def __init__(self, produce: Callable[[], Iterator[T]], length: int | None = None) -> None:
        self._produce = produce
        self._length = length

    def __iter__(self) -> Iterator[T]:
        """Begin a new pass."""
        return self._produce()

    def __len__(self) -> int:
        """Return how many items there are."""
        if self._length is None:
            self._length = sum(1 for _ in self._produce())
        return self._length

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        """Return an item, or a part; a part is streamed as well, unless it goes backwards."""
        if isinstance(index, int):
            place = range(len(self))[index]
            return next(islice(self._produce(), place, None))
        start, stop, step = index.indices(len(self))
        if step < 0:
            return tuple(self)[index]
        return Streamed(
            lambda: islice(self._produce(), start, stop, step), len(range(start, stop, step))
        )

    def __reversed__(self) -> Iterator[T]:
        """Go backwards, which takes all items into memory."""
        return reversed(tuple(self))

    def __eq__(self, other: object) -> bool:
        """Whether another sequence, of any type, has the same items."""
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(
            one == two for one, two in zip(self, other, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]
