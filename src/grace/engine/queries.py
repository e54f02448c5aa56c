"""
Queries: what is asked once, under which key and which seed.

Keys and seeds are hashes of what is asked, so they are the same on every
machine, before and after an interruption. They never change between versions:
a run that was begun under one is continued under another.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import NewType

from pydantic import JsonValue

from grace.studies.probes import CandidateProbe, ResponseProbe, Turn

QueryKey = NewType("QueryKey", str)


@dataclass(frozen=True, slots=True)
class ResponseQuery:
    """
    One turn of a dialogue, to be answered in free text.

    Attributes:
        key: Identifies the query within its run.

        probe: The response probe.

        turn: The turn's texts, filled.

        seed: 32-bit seed of this sample.
    """

    key: QueryKey
    probe: ResponseProbe
    turn: Turn
    seed: int


@dataclass(frozen=True, slots=True)
class Dialogue:
    """The turns of one sample, in order; each sees the answers to those before it."""

    queries: tuple[ResponseQuery, ...]


@dataclass(frozen=True, slots=True)
class ScoreQuery:
    """
    A distribution over the answers of a probe, for one stimulus.

    Attributes:
        key: Identifies the query within its run.

        probe: The candidate probe, or the one that scores its answers after its premise.

        turn: The turn's texts, filled.
    """

    key: QueryKey
    probe: CandidateProbe
    turn: Turn


def digest(content: list[JsonValue]) -> str:
    """Return a short hash of JSON content, in hexadecimal."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


class Digests:
    """
    The digests of lists that begin alike and end in some numbers.

    What they share is hashed once: it is long, and there may be a million of them.

    Args:
        beginning: What they share.

    >>> Digests(["a", ["b"]]).of(1, 2) == digest(["a", ["b"], 1, 2])
    True
    """

    def __init__(self, beginning: list[JsonValue]) -> None:
        self._begun = hashlib.sha256(json.dumps(beginning)[:-1].encode())

    def of(self, *numbers: int) -> str:
        """Return the digest of the list that ends in these numbers."""
        whole = self._begun.copy()
        whole.update(f"{''.join([f', {number}' for number in numbers])}]".encode())
        return whole.hexdigest()[:32]


def derive_seed(run_seed: int, identity: list[JsonValue]) -> int:
    """
    Return the 32-bit seed of one sample.

    Args:
        run_seed: The run's seed.

        identity: What sets the sample apart: the query's texts, the replicate,
            and how many times the same query came before.
    """
    return seed_of(digest(["seed", run_seed, *identity]))


def seed_of(digested: str) -> int:
    """Return the seed that a digest stands for."""
    # llama.cpp takes the highest 32-bit value for "draw a seed yourself".
    return min(int(digested[:8], 16), 2**32 - 2)


def turn_texts(turn: Turn) -> list[JsonValue]:
    """Return the texts of a turn, as hashes see them."""
    return [turn.context, turn.instruction, turn.question]
