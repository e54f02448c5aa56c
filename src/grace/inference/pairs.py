"""
Next-token questions that share one prompt: a place, and the place one token later.

A server that draws a forced token after a prompt tells the log-probabilities
there and, one token later, those behind the forced token. Two questions are then
answered at the price of one prompt and one drawn token. All prompts of a request
draw the same token, so one token is chosen that pairs as many as it can.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

_FEWEST = 4
_FEWEST_SHARE = 4


@dataclass(frozen=True, slots=True)
class Pairing:
    """
    Which questions are answered together.

    Attributes:
        token: The token that is drawn after each first place; None if nothing is paired.

        seconds: For each first question, the one that its drawn token leads to,
            both by position.
    """

    token: int | None = None
    seconds: Mapping[int, int] = field(default_factory=dict)


def pair_places(places: Sequence[tuple[int, ...]], alone: Collection[int] = ()) -> Pairing:
    """
    Return the pairing by the token that pairs most places.

    A few pairs, or less than one for four places, are not worth a request of their own.

    Args:
        places: Token ids up to each place; all different.

        alone: Positions of places after which no token may be forced.

    >>> places = [(7,), *((7, digit) for digit in range(1, 5)), *((7, digit, 0) for digit in range(1, 5))]
    >>> pair_places(places)
    Pairing(token=0, seconds={1: 5, 2: 6, 3: 7, 4: 8})
    """
    positions = {place: position for position, place in enumerate(places)}
    excluded = set(alone)
    steps = Counter(
        place[-1]
        for place in places
        if place and (first := positions.get(place[:-1])) is not None and first not in excluded
    )
    best = Pairing()
    # Ties go to the smallest token, so that the same questions always pair alike.
    for token, count in sorted(steps.items(), key=lambda step: (-step[1], step[0])):
        if count <= len(best.seconds):
            break
        seconds = _seconds(positions, token, excluded)
        if len(seconds) > len(best.seconds):
            best = Pairing(token, seconds)
    enough = max(_FEWEST, len(places) / _FEWEST_SHARE)
    return best if len(best.seconds) >= enough else Pairing()


def _seconds(
    positions: Mapping[tuple[int, ...], int], token: int, excluded: Collection[int]
) -> dict[int, int]:
    found: dict[int, int] = {}
    taken: set[int] = set()
    # From the prompt on: of a place, the next and the one after it, the first two are a pair.
    for place in sorted(positions, key=lambda place: (len(place), place)):
        first, second = positions[place], positions.get((*place, token))
        if second is not None and first not in taken and first not in excluded:
            found[first] = second
            taken.add(second)
    return found
