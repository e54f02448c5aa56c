"""
Where the line of each query stands in a run's journal, in few bytes a query.

A dictionary of keys and places takes 250 bytes a query; this index takes about
35, so that a million queries fit beside everything else. It is a hash table
with the entries in arrays, in the order in which they came, and knows nothing
of files.
"""

import hashlib
import re
from array import array
from collections.abc import Iterator

from grace.engine.queries import QueryKey

_FEWEST_SLOTS = 64
_HALF = 64
_LOW = (1 << _HALF) - 1
_DIGEST = re.compile(r"[0-9a-f]{32}")


class Places:
    """
    A number for each key.

    >>> places = Places()
    >>> places.set(QueryKey("a"), 7)
    >>> places.get(QueryKey("a")), places.get(QueryKey("b")), list(places)
    (7, None, ['a'])
    """

    def __init__(self) -> None:
        # Keys are digests of 128 bits.
        self._high = array("Q")
        self._low = array("Q")
        self._numbers = array("Q")
        # Zero is an empty slot, any other number one more than that of an entry.
        self._slots = array("I", [0] * _FEWEST_SLOTS)
        self._other_keys: dict[int, QueryKey] = {}

    def __len__(self) -> int:
        """Count the keys."""
        return len(self._numbers)

    def __iter__(self) -> Iterator[QueryKey]:
        """Go through the keys, in the order in which they came."""
        for entry, (high, low) in enumerate(zip(self._high, self._low, strict=True)):
            other = self._other_keys.get(entry)
            yield QueryKey(f"{high << _HALF | low:032x}") if other is None else other

    def get(self, key: QueryKey) -> int | None:
        """Return the number of a key, or None."""
        entry = self._find(*_halves(key))[1]
        return None if entry < 0 else self._numbers[entry]

    def set(self, key: QueryKey, number: int) -> None:
        """Set the number of a key: from 0, below 2**64."""
        high, low = _halves(key)
        slot, entry = self._find(high, low)
        if entry >= 0:
            self._numbers[entry] = number
            return
        if not _DIGEST.fullmatch(key):
            self._other_keys[len(self._numbers)] = key
        self._high.append(high)
        self._low.append(low)
        self._numbers.append(number)
        self._slots[slot] = len(self._numbers)
        if 3 * len(self._numbers) > 2 * len(self._slots):
            self._grow()

    def _find(self, high: int, low: int) -> tuple[int, int]:
        """Return the slot of a key and its entry, or the slot for it and -1."""
        slots, lows = self._slots, self._low
        mask = len(slots) - 1
        slot = low & mask
        while held := slots[slot]:
            if lows[held - 1] == low and self._high[held - 1] == high:
                return slot, held - 1
            slot = (slot + 1) & mask
        return slot, -1

    def _grow(self) -> None:
        slots = array("I", bytes(2 * self._slots.itemsize * len(self._slots)))
        mask = len(slots) - 1
        for entry, low in enumerate(self._low, start=1):
            slot = low & mask
            while slots[slot]:
                slot = (slot + 1) & mask
            slots[slot] = entry
        self._slots = slots


def _halves(key: QueryKey) -> tuple[int, int]:
    if not _DIGEST.fullmatch(key):
        # Grace makes no such keys; whoever does gets the digest of them.
        key = QueryKey(hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32])
    whole = int(key, 16)
    return whole >> _HALF, whole & _LOW
