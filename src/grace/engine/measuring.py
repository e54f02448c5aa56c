"""
Asking for the log-probabilities of answers, one way or the other.

By trie, everything is a question about next tokens: the inner nodes, the best
token that begins no answer, and the ends. By sequence, only the forms are; the
rest is asked as next tokens where the server can, and otherwise as longer
sequences or not at all. It knows nothing of prompts, studies or scores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grace.engine.gathering import AskNextTokens
from grace.inference.client import InferenceClient, NextTokenQuestion
from grace.scoring.candidates import CandidateSet, SurfaceForm
from grace.scoring.trie import path_logprobs, token_trie

_Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """
    What was measured after one prompt.

    Attributes:
        logprobs: The log-probability of each token of each form, by its ids.

        ends: That of each token that ends a form, by the form's ids.

        first: Those of the tokens right after the prompt that begin a form, and
            of the most probable other one where the server tells it.
    """

    logprobs: Mapping[_Ids, tuple[float, ...]]
    ends: Mapping[_Ids, tuple[float, ...]]
    first: Mapping[int, float]


async def measure(
    client: InferenceClient,
    ask: AskNextTokens,
    prompt: _Ids,
    candidates: CandidateSet,
    ends: Mapping[SurfaceForm, _Ids],
    *,
    by_trie: bool,
) -> Measured:
    """
    Measure the forms of a set after a prompt.

    Args:
        client: The model.

        ask: How next-token questions are sent.

        prompt: Token ids of the prompt.

        candidates: The forms.

        ends: The tokens that end each form; empty if that is not asked.

        by_trie: Whether the forms are asked by their trie, or as sequences.

    Raises:
        InferenceError: The server did not answer.
    """
    forms = [form.token_ids for form in candidates.forms]
    closed = {form.token_ids: tokens for form, tokens in ends.items()}
    nodes = token_trie(forms)
    root = NextTokenQuestion(prompt, nodes[0].children, best_other=True)
    leaves = [NextTokenQuestion((*prompt, *ids), tokens) for ids, tokens in closed.items()]
    if by_trie:
        inner = [NextTokenQuestion((*prompt, *node.path), node.children) for node in nodes[1:]]
        answers = await ask([root, *inner, *leaves])
        asked = zip(nodes, answers[: len(nodes)], strict=True)
        edges = {node.path: answer for node, answer in asked}
        logprobs = {ids: path_logprobs(ids, edges) for ids in forms}
        return Measured(logprobs, _by_form(closed, answers[len(nodes) :]), answers[0])
    if client.capabilities.next_token:
        scored = await client.sequence_logprobs(prompt, forms)
        first, *found = await ask([root, *leaves])
        return Measured(dict(zip(forms, scored, strict=True)), _by_form(closed, found), first)
    return await _sequences_only(client, prompt, forms, closed)


async def _sequences_only(
    client: InferenceClient, prompt: _Ids, forms: Sequence[_Ids], closed: Mapping[_Ids, _Ids]
) -> Measured:
    sequences = [(*ids, end) for ids in forms for end in closed.get(ids, ())]
    sequences += [ids for ids in forms if ids not in closed]
    scored = await client.sequence_logprobs(prompt, sequences)
    values = dict(zip(sequences, scored, strict=True))
    return Measured(
        logprobs={
            ids: values[*ids, closed[ids][0]][:-1] if ids in closed else values[ids]
            for ids in forms
        },
        ends={
            ids: tuple(values[*ids, end][-1] for end in tokens) for ids, tokens in closed.items()
        },
        first={},
    )


def _by_form(
    closed: Mapping[_Ids, _Ids], answers: Sequence[Mapping[int, float]]
) -> dict[_Ids, tuple[float, ...]]:
    pairs = zip(closed.items(), answers, strict=True)
    return {ids: tuple(answer[end] for end in tokens) for (ids, tokens), answer in pairs}
