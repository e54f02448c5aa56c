"""
What queries will cost a server, before they are sent.

Without a tokenizer the figures are estimates: so many characters are taken for
a token. With a server's own token ids they are counts. Either way, what is
computed is what a server that keeps the beginnings of prompts must compute; one
that forgets computes more. Knows nothing of time.
"""

import math
import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

from grace.engine.plan import Dialogue, ScoreQuery
from grace.inference.pairs import Pairing, pair_places
from grace.scoring.prefix_cost import PrefixCache
from grace.scoring.trie import token_trie
from grace.studies.probes import CandidateProbe
from grace.studies.prompts import Prompt, PromptMode, build_prompt

CHARACTERS_PER_TOKEN = 4
"""Rough, for English prose and vocabularies of today."""

BLOCK_SIZE = 16
"""Tokens in a block of the prefix cache, where the server does not tell: vLLM's default."""

MOST_QUERIES_TOGETHER = 16
"""Most queries in one request: some hundred prompts, after which larger ones gain little."""

# Digits one by one and words as a whole: near enough to what vocabularies do with answers.
_PIECE = re.compile(r" ?[^\W\d_]+|\d|.", re.DOTALL)

Encoded = tuple[Sequence[Hashable], Sequence[Sequence[int]]]
"""A prompt's tokens, and those of each surface form after it."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """
    What queries will cost.

    Attributes:
        queries: How many.

        prompts: Prompts sent: a query's next-token questions (on llama.cpp, its
            forced paths), or a dialogue's turns.

        prompt_tokens: Tokens of those prompts.

        computed_tokens: Those that must be computed if beginnings are kept.

        generated_tokens: Tokens of the responses, at most; of scored prompts, 1 each or
            the forced path.

        requests: HTTP requests, or None where it cannot be told.

        counted: Whether tokens were counted by the server; otherwise they are
            estimated from characters.
    """

    queries: int = 0
    prompts: int = 0
    prompt_tokens: int = 0
    computed_tokens: int = 0
    generated_tokens: int = 0
    requests: int | None = 0
    counted: bool = False


def forecast_scores(
    encoded: Iterable[Encoded], dialect: str, *, block_size: int, counted: bool = False
) -> Forecast:
    """
    Forecast Experiment 2.

    Args:
        encoded: Each query's prompt and answers, in the order in which they are asked.

        dialect: The server's; decides the requests.

        block_size: Tokens in a block of the server's prefix cache.

        counted: Whether the tokens are the server's own.
    """
    cache = PrefixCache(block_size)
    total = Forecast(counted=counted)
    sets: set[tuple[tuple[int, ...], ...]] = set()
    paired = False
    for prompt, forms in encoded:
        sets.add(tuple(map(tuple, forms)))
        if dialect == "llamacpp":
            # The prompt is sent once for each path that is forced; the path is generated.
            forced = forced_paths(forms)
            paths: list[tuple[int, ...]] = [()] * len(forced)
            generated = sum(map(len, forced))
        else:
            places = [node.path for node in token_trie(forms)]
            # The first place is asked for its most probable token too, so none is forced there.
            pairing = pair_places(places, alone=(0,)) if dialect == "vllm" else Pairing()
            answered_with = set(pairing.seconds.values())
            paths = [path for index, path in enumerate(places) if index not in answered_with]
            generated = len(places)
            paired = paired or bool(answered_with)
        total = replace(
            total,
            queries=total.queries + 1,
            prompts=total.prompts + len(paths),
            prompt_tokens=total.prompt_tokens + sum(len(prompt) + len(path) for path in paths),
            computed_tokens=total.computed_tokens + cache.compute(prompt, paths),
            generated_tokens=total.generated_tokens + generated,
        )
    requests: int | None = None
    if dialect == "vllm":
        # Besides, each answer is encoded once, after a prompt that is rendered with its text.
        answers = len({form for forms in sets for form in forms}) + 2 * len(sets)
        # Places that are answered in pairs travel in a request of their own.
        together = (1 + paired) * math.ceil(total.queries / MOST_QUERIES_TOGETHER)
        requests = total.queries + together + answers
    elif dialect == "llamacpp":
        # Each prompt is rendered and encoded first.
        requests = 2 * total.queries + total.prompts
    return replace(total, requests=requests)


def forecast_responses(
    dialogues: Iterable[Dialogue], mode: PromptMode, dialect: str, *, block_size: int
) -> Forecast:
    """
    Estimate Experiment 1.

    The responses are not known yet: they are left out of the prompts of later
    turns, and counted at their longest where they are generated.
    """
    cache = PrefixCache(block_size)
    total = Forecast()
    for dialogue in dialogues:
        for position, query in enumerate(dialogue.queries):
            turns = [earlier.turn for earlier in dialogue.queries[: position + 1]]
            prompt = text_pieces(_text(build_prompt(turns, [""] * position, mode)))
            total = replace(
                total,
                queries=total.queries + 1,
                prompts=total.prompts + 1,
                prompt_tokens=total.prompt_tokens + len(prompt),
                computed_tokens=total.computed_tokens + cache.compute(prompt),
                generated_tokens=total.generated_tokens + query.probe.max_tokens,
            )
    per_query = {"vllm": 1, "openai": 1, "tgi": 1, "llamacpp": 3}.get(dialect)
    return replace(total, requests=per_query and per_query * total.queries)


def estimated(queries: Iterable[ScoreQuery], mode: PromptMode) -> Iterable[Encoded]:
    """Cut prompts and answers into pieces that stand for tokens."""
    pieces: dict[str, int] = {}
    known: dict[CandidateProbe, list[tuple[int, ...]]] = {}
    for query in queries:
        if query.probe not in known:
            known[query.probe] = [
                tuple(pieces.setdefault(piece, len(pieces)) for piece in _PIECE.findall(form))
                for answer in query.probe.answers
                for form in answer.surface_forms
            ]
        yield text_pieces(_text(build_prompt([query.turn], [], mode))), known[query.probe]


def text_pieces(text: str) -> list[str]:
    """
    Cut a text into pieces of as many characters as a token has on average.

    Texts that begin alike have pieces that begin alike.
    """
    size = CHARACTERS_PER_TOKEN
    return [text[start : start + size] for start in range(0, len(text), size)]


def _text(prompt: Prompt) -> str:
    return prompt.text or "".join(message.content for message in prompt.messages)


def forced_paths(forms: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """
    Return the paths that llama.cpp's dialect forces, if each reply lists all siblings on its path.

    >>> forced_paths([(1, 9), (2, 9), (1, 0, 9)])
    [(1, 0, 9), (2, 9)]
    """
    listed: set[tuple[int, ...]] = set()
    forced = []
    for form in sorted(map(tuple, forms), key=lambda ids: (-len(ids), ids)):
        places = {form[:depth] for depth in range(len(form))}
        if not places <= listed:
            forced.append(form)
            listed |= places
    return forced
