import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.scoring.prefix_cost import PrefixCache, tokens_computed
from grace.scoring.trie import token_trie

TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=14)
# "0%", "10%", ... "100%", digits one by one.
PERCENTAGES = [[*map(int, str(percent)), 99] for percent in range(0, 101, 10)]


def plain(prefixes: Sequence[Sequence[int]], size: int) -> int:
    """The same, said slowly: blocks as sets of whole beginnings."""
    held: set[tuple[int, ...]] = set()
    computed = 0
    for prefix in prefixes:
        shared = 0
        while shared + size < len(prefix) and tuple(prefix[: shared + size]) in held:
            shared += size
        computed += len(prefix) - shared
        held |= {tuple(prefix[:end]) for end in range(size, len(prefix) + 1, size)}
    return computed


def test_it_is_what_a_real_vllm_computed() -> None:
    # Measured on vLLM 0.32, blocks of 32: 142 tokens, 21 inner nodes, from a cold cache and a warm.
    paths = [node.path for node in token_trie(PERCENTAGES)]
    prompt = [1000 + number for number in range(142)]
    cache = PrefixCache(32)
    assert len(paths) == 21
    assert [cache.compute(prompt, paths), cache.compute(prompt, paths)] == [453, 325]


def test_with_blocks_of_one_token_each_token_of_the_trie_is_computed_once() -> None:
    paths = [node.path for node in token_trie(PERCENTAGES)]
    assert tokens_computed([(range(142), paths)], 1) == 142 + 20


@given(
    prompts=st.lists(st.tuples(TOKENS, st.lists(TOKENS, max_size=4)), max_size=4),
    size=st.integers(1, 5),
)
def test_it_is_what_going_through_all_beginnings_gives(
    prompts: list[tuple[list[int], list[list[int]]]], size: int
) -> None:
    asked = [(prompt, [(), *map(tuple, paths)]) for prompt, paths in prompts]
    prefixes = [[*prompt, *path] for prompt, paths in asked for path in sorted(paths, key=len)]
    assert tokens_computed(asked, size) == plain(prefixes, size)


@given(prompts=st.lists(TOKENS, max_size=6), size=st.integers(1, 5))
def test_it_lies_between_one_token_for_each_prompt_and_all_of_them(
    prompts: list[list[int]], size: int
) -> None:
    computed = tokens_computed([(prompt, [()]) for prompt in prompts], size)
    assert len(prompts) <= computed <= sum(map(len, prompts))
    shared = tokens_computed([(prompt, [()]) for prompt in prompts], math.lcm(size, 100))
    assert shared == sum(map(len, prompts))


def test_what_does_not_fit_any_more_is_computed_again() -> None:
    small = PrefixCache(2, most_blocks=2)
    assert [small.compute(range(5)), small.compute(range(5))] == [5, 1]
    small.compute(range(10, 15))
    assert small.compute(range(5)) == 5


def test_a_block_holds_something() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        PrefixCache(0)
