"""
What prompts cost a server that keeps the beginnings of earlier ones.

Such a server cuts a prompt into blocks of a fixed number of tokens, keeps full
blocks only, and always computes a prompt's last token, since that is what it is
asked about. Pure: knows nothing of servers, and nothing of time.
"""

from collections.abc import Hashable, Iterable, Sequence

MOST_BLOCKS = 1 << 18
"""How many blocks are remembered; the oldest are forgotten first, as servers do."""


class PrefixCache:
    """
    The blocks that a server would hold.

    Args:
        block_size: Tokens in a block; 1 for a server that shares any beginning.

        most_blocks: How many it holds.

    Raises:
        ValueError: A block holds no token.
    """

    def __init__(self, block_size: int, most_blocks: int = MOST_BLOCKS) -> None:
        if block_size < 1:
            raise ValueError(f"a block of {block_size} tokens; at least 1 is needed")
        self._block_size = block_size
        self._most_blocks = most_blocks
        self._held: dict[int, None] = {}

    def compute(
        self, prompt: Sequence[Hashable], paths: Iterable[Sequence[Hashable]] = ((),)
    ) -> int:
        """
        Ask about a prompt, and return how many tokens are computed.

        Args:
            prompt: Token ids, or whatever stands for tokens.

            paths: What is asked about follows the prompt and each of these, such
                as the paths to a trie's inner nodes.
        """
        size = self._block_size
        full = len(prompt) // size * size
        state, known = 0, 0
        for start in range(0, full, size):
            state = hash((state, tuple(prompt[start : start + size])))
            if self._meet(state) and known == start:
                known = start + size
        computed = 0
        # Shorter ones first: what they compute, the longer ones share.
        for path in sorted(paths, key=len):
            rest = (*prompt[full:], *path)
            length = full + len(rest)
            end, shared = state, min(known, (length - 1) // size * size)
            for start in range(0, len(rest) // size * size, size):
                end = hash((end, rest[start : start + size]))
                met = self._meet(end)
                if met and shared == full + start and shared + size < length:
                    shared += size
            computed += length - shared
            # The first path has computed all of the prompt's own blocks.
            known = full
        return computed

    def _meet(self, block: int) -> bool:
        """Return whether a block is held; it is from now on."""
        held = block in self._held
        if held:
            del self._held[block]
        elif len(self._held) >= self._most_blocks:
            del self._held[next(iter(self._held))]
        self._held[block] = None
        return held


def tokens_computed(
    prompts: Iterable[tuple[Sequence[Hashable], Iterable[Sequence[Hashable]]]], block_size: int
) -> int:
    """
    Return the fewest tokens that answer questions after prompts, asked in order.

    Args:
        prompts: Each with the paths asked about after it; the empty path is the
            prompt itself.

        block_size: Tokens in a block of the server's cache.

    >>> tokens_computed([(range(10), [(), (5,), (5, 6)])], block_size=4)
    17
    """
    cache = PrefixCache(block_size)
    return sum(cache.compute(prompt, paths) for prompt, paths in prompts)
