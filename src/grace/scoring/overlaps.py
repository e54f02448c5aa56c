"""
Token sequences that do not exclude each other.

If one answer's tokens begin another's, the first one's probability contains the
second's, and their sum is no probability. Pure.
"""

from collections.abc import Sequence


def begins(shorter: Sequence[int], longer: Sequence[int]) -> bool:
    """
    Whether the tokens of *shorter* begin those of *longer*, or are the same.

    >>> begins((1,), (1, 0)), begins((1, 0), (1,))
    (True, False)
    """
    return tuple(longer[: len(shorter)]) == tuple(shorter)


def overlaps(sequences: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """
    Return every pair (i, j) of positions where sequence i begins sequence j.

    Two equal sequences are one pair. Empty sequences are left out: they begin
    everything.

    >>> overlaps([(1,), (1, 0), (2,), (2,)])
    [(0, 1), (2, 3)]
    """
    return [
        (i, j)
        for i, one in enumerate(sequences)
        for j, other in enumerate(sequences)
        if i != j and one and begins(one, other) and (len(one) < len(other) or i < j)
    ]


def excluded_by(wanted: Sequence[Sequence[int]], known: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """
    Return the positions of *wanted* that exclude all of *known* and each other.

    The earlier of two that overlap is kept, so that the probabilities of what is
    returned may be added to each other and to those of *known*.

    >>> excluded_by([(1, 5), (2,), (2, 7)], [(1,)])
    (1,)
    """
    kept: list[int] = []
    taken = list(known)
    for position, sequence in enumerate(wanted):
        if sequence and not any(begins(sequence, one) or begins(one, sequence) for one in taken):
            kept.append(position)
            taken.append(sequence)
    return tuple(kept)
