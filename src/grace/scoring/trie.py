"""
Token tries: what a candidate set asks about next tokens.

Each inner node of the trie is one question on a prefix that many candidates
share. The log-probability of a candidate is the sum along its path, by the
chain rule; it equals that of whole-sequence scoring.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrieNode:
    """
    An inner node.

    Attributes:
        path: Tokens from the prompt's end to this node.

        children: Tokens that candidates continue with, in ascending order.
    """

    path: tuple[int, ...]
    children: tuple[int, ...]


def token_trie(continuations: Iterable[Sequence[int]]) -> tuple[TrieNode, ...]:
    """
    Return the inner nodes of the trie over token sequences, parents first.

    >>> [(node.path, node.children) for node in token_trie([(1, 2), (1, 3), (4,)])]
    [((), (1, 4)), ((1,), (2, 3))]
    """
    children: dict[tuple[int, ...], set[int]] = {}
    for sequence in continuations:
        for depth, token in enumerate(sequence):
            children.setdefault(tuple(sequence[:depth]), set()).add(token)
    return tuple(
        TrieNode(path, tuple(sorted(children[path])))
        for path in sorted(children, key=lambda path: (len(path), path))
    )


def path_logprobs(
    sequence: Sequence[int], edges: Mapping[tuple[int, ...], Mapping[int, float]]
) -> tuple[float, ...]:
    """
    Return the log-probability of each token of *sequence*.

    Args:
        sequence: Token ids of a candidate.

        edges: For each node's path, the log-probability of each child.

    Raises:
        KeyError: A node or an edge of the path is missing.
    """
    return tuple(edges[tuple(sequence[:depth])][token] for depth, token in enumerate(sequence))
