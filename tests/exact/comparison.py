"""What is compared with what, and how far it may differ."""

from collections.abc import Mapping, Sequence

from exact.figures import (
    Figure,
    coverage_differences,
    distribution_pairs,
    favourite_differences,
    form_differences,
    mean_differences,
    probability_differences,
    query_differences,
    sibling_differences,
)
from exact.materials import CHAT, COMPLETION, Material
from exact.measure import AS_SHIPPED, SEQUENCE, TRIE, Measured, Scores, prompt_of
from exact.reference import Reference
from grace.engine.plan import QueryKey
from grace.inference.client import Rendered
from grace.studies.prompts import PromptMode

# In nats. Exact means equal up to the rounding of fp32, which adds up over layers and tokens:
# the reference differs from itself by 1e-5, with and without a cache. What the server adds is
# an error of its softmax's denominator, the same for all tokens after a prefix.
REFERENCE_LIMIT = 1e-3
METHOD_LIMIT = 1e-4
REPEAT_LIMIT = 5e-5
# Only to see that it is still the same model.
QUANTISED_LIMIT = 1.0

Truth = Mapping[PromptMode, Scores]


def reference_scores(
    reference: Reference, rendered: Mapping[QueryKey, Rendered], scores: Scores
) -> Scores:
    """Score the very same token ids with the reference."""
    truth = {}
    for key, forms in scores.items():
        values = reference.score(rendered[key].token_ids, [form.token_ids for form in forms])
        truth[key] = tuple(
            form.model_copy(update={"logprobs": logprobs})
            for form, logprobs in zip(forms, values, strict=True)
        )
    return truth


def token_figures(reference: Reference, material: Material, exact: Measured) -> list[Figure]:
    """Return how many token ids differ between the server and transformers: none may."""
    prompts = [
        _differing(
            exact.rendered[CHAT][query.key].token_ids,
            reference.chat_ids(prompt_of(query, CHAT).messages),
        )
        for query in material.chat
    ]
    answered = [
        _differing(
            (*exact.rendered[mode][key].token_ids, *form.token_ids),
            reference.text_ids(exact.rendered[mode][key].text + form.text),
        )
        for mode in (CHAT, COMPLETION)
        for key, forms in exact.scores[mode, SEQUENCE].items()
        for form in forms
    ]
    return [
        Figure("prompts: chat template and tokens, server and transformers", prompts, "ids", 1),
        Figure("prompts with answer: tokens, server and transformers", answered, "ids", 1),
    ]


def exact_figures(
    reference: Reference, material: Material, exact: Measured, truth: Truth
) -> list[Figure]:
    """Return the differences of the server in fp32 from the reference and from itself."""
    pairs = distribution_pairs(material.chat, exact.scores[CHAT, SEQUENCE], truth[CHAT])
    return [
        *(
            Figure(
                f"fp32 and reference: answers, {mode}, {method}",
                form_differences(scores, truth[mode]),
                limit=REFERENCE_LIMIT,
            )
            for (mode, method), scores in exact.scores.items()
        ),
        Figure(
            "fp32 and reference: tokens after the same tokens",
            sibling_differences(exact.scores[CHAT, SEQUENCE], truth[CHAT]),
            limit=METHOD_LIMIT,
        ),
        Figure("fp32 and reference: probabilities", probability_differences(pairs), "points"),
        Figure("fp32 and reference: mean percentages", mean_differences(pairs), "points"),
        *(
            Figure(
                f"fp32: trie and sequence, {mode}",
                form_differences(exact.scores[mode, TRIE], exact.scores[mode, SEQUENCE]),
                limit=METHOD_LIMIT,
            )
            for mode in (CHAT, COMPLETION)
        ),
        *_repeat_figures("fp32", exact, REPEAT_LIMIT),
        Figure(
            "reference: with and without a cache",
            _cache_differences(reference, material, exact, truth),
            limit=METHOD_LIMIT,
        ),
    ]


def quantised_figures(material: Material, shipped: Measured, truth: Truth) -> list[Figure]:
    """Return the differences of the server with the shipped weights; nearly all only reported."""
    pairs = distribution_pairs(material.chat, shipped.scores[CHAT, shipped.preferred], truth[CHAT])
    return [
        *(
            Figure(
                f"as shipped and reference: answers, {mode}",
                form_differences(shipped.scores[mode, shipped.preferred], truth[mode]),
                limit=QUANTISED_LIMIT,
            )
            for mode in (CHAT, COMPLETION)
        ),
        Figure("as shipped and reference: probabilities", probability_differences(pairs), "points"),
        Figure("as shipped and reference: mean percentages", mean_differences(pairs), "points"),
        Figure("as shipped and reference: coverage", coverage_differences(pairs), "points"),
        Figure("as shipped and reference: favourite", favourite_differences(pairs), "is other"),
        *_repeat_figures("as shipped", shipped, 1e-12),
        Figure(
            "as shipped: queries over 0.01 nats apart, one and 4 at once",
            query_differences(*_one_and_together(shipped)),
            "queries",
        ),
    ]


def _repeat_figures(name: str, measured: Measured, limit: float | None) -> list[Figure]:
    return [
        Figure(
            f"{name}: nothing and everything cached",
            form_differences(measured.cold, measured.warm),
            limit=limit,
        ),
        Figure(
            f"{name}: one and {AS_SHIPPED.slots} at once",
            form_differences(*_one_and_together(measured)),
            limit=limit,
        ),
    ]


def _one_and_together(measured: Measured) -> tuple[Scores, Scores]:
    alone = measured.scores[CHAT, measured.preferred]
    return {key: alone[key] for key in measured.together}, measured.together


def _cache_differences(
    reference: Reference, material: Material, exact: Measured, truth: Truth
) -> list[float]:
    # One form of a few queries: a pass for each of them costs time.
    queries = {CHAT: material.repeated, COMPLETION: material.completion}
    return [
        abs(form.logprob - sum(reference.whole(prompt, form.token_ids)))
        for mode, asked in queries.items()
        for query in asked
        for prompt in [exact.rendered[mode][query.key].token_ids]
        for form in truth[mode][query.key][-1:]
    ]


def _differing(first: Sequence[int], second: Sequence[int]) -> float:
    pairs = zip(first, second, strict=False)
    return float(sum(one != other for one, other in pairs) + abs(len(first) - len(second)))
