import math

import pytest
from hypothesis import given

from grace.inference.client import NextTokenQuestion
from grace.inference.toy import VOCABULARY, ToyClient
from grace.scoring.trie import path_logprobs, token_trie
from strategies import prefix_free

PROMPT = (3, 5, 7)


@given(prefix_free())
async def test_sums_along_the_trie_equal_the_scores_of_whole_sequences(
    sequences: list[tuple[int, ...]],
) -> None:
    toy = ToyClient()
    nodes = token_trie(sequences)
    answers = await toy.next_token_logprobs(
        [NextTokenQuestion(PROMPT + node.path, node.children) for node in nodes]
    )
    edges = {node.path: answer for node, answer in zip(nodes, answers, strict=True)}
    whole = await toy.sequence_logprobs(PROMPT, sequences)
    assert [path_logprobs(ids, edges) for ids in sequences] == whole


@given(prefix_free())
def test_every_edge_of_every_answer_is_asked_once(sequences: list[tuple[int, ...]]) -> None:
    nodes = token_trie(sequences)
    paths = [node.path for node in nodes]
    assert len(set(paths)) == len(paths)
    edges = {(node.path, child) for node in nodes for child in node.children}
    wanted = {(ids[:depth], ids[depth]) for ids in sequences for depth in range(len(ids))}
    assert edges == wanted
    # Parents first; no leaf is asked about.
    assert [len(path) for path in paths] == sorted(len(path) for path in paths)
    assert not set(paths) & set(sequences)


async def test_the_toys_distribution_over_all_tokens_is_one() -> None:
    everything = tuple(range(len(VOCABULARY)))
    (answer,) = await ToyClient().next_token_logprobs([NextTokenQuestion(PROMPT, everything)])
    assert math.fsum(map(math.exp, answer.values())) == pytest.approx(1)


def test_a_missing_edge_is_an_error_and_not_a_number() -> None:
    with pytest.raises(KeyError):
        path_logprobs((1, 2), {(): {1: -1.0}})


def test_the_percentages_share_their_prefixes() -> None:
    # 1, 0, 0, % as tokens of their own: 0%, 10%, 100%.
    nodes = token_trie([(0, 9), (1, 0, 9), (1, 0, 0, 9)])
    assert [(node.path, node.children) for node in nodes] == [
        ((), (0, 1)),
        ((0,), (9,)),
        ((1,), (0,)),
        ((1, 0), (0, 9)),
        ((1, 0, 0), (9,)),
    ]
