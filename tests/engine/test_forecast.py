import itertools
from dataclasses import replace

from grace.engine.forecast import (
    MOST_QUERIES_TOGETHER,
    estimated,
    forecast_responses,
    forecast_scores,
)
from grace.engine.plan import plan_responses, plan_scores
from grace.pipeline.inputs import load_inputs
from grace.settings import RunSettings
from grace.studies.prompts import PromptMode
from grace.studies.trials import TrialSet

CHAT = PromptMode.CHAT
PERCENTAGES = [(*map(int, str(percent)), 99) for percent in range(0, 101, 10)]
PROMPT = tuple(range(1000, 1142))


def trials_of(study: str) -> TrialSet:
    (trials,) = load_inputs(RunSettings(study=(study,), limit=6))
    return trials


def test_a_set_costs_its_tries_nodes_and_one_prompt() -> None:
    # As measured on a real server: facts of its cache, 21 nodes on 142 tokens, blocks of 32.
    found = forecast_scores([(PROMPT, PERCENTAGES)], "tgi", block_size=32, counted=True)
    assert (found.queries, found.prompts, found.prompt_tokens) == (1, 21, 21 * 142 + 31)
    assert (found.computed_tokens, found.generated_tokens) == (453, 21)
    assert found.counted


def test_places_that_vllm_answers_in_pairs_cost_one_prompt() -> None:
    found = forecast_scores([(PROMPT, PERCENTAGES)], "vllm", block_size=32, counted=True)
    # Of 21 places 9 are reached by drawing a 0: 12 prompts, 1 of them 2 tokens longer.
    assert (found.prompts, found.prompt_tokens) == (12, 12 * 142 + 10 + 3)
    assert (found.computed_tokens, found.generated_tokens) == (142 + 10 * 15 + 17, 21)
    assert found.requests == 1 + 2 + 11 + 2


def test_a_set_on_llama_cpp_costs_its_forced_paths() -> None:
    found = forecast_scores([(PROMPT, PERCENTAGES)], "llamacpp", block_size=1)
    # 100% lists the first digits and 10%; the other ten are forced, and render and encode.
    assert (found.prompts, found.requests) == (10, 12)
    assert found.prompt_tokens == 10 * 142
    assert found.computed_tokens == 142 + 9


def test_what_is_not_known_of_a_server_is_not_told() -> None:
    assert forecast_scores([(PROMPT, PERCENTAGES)], "tgi", block_size=16).requests is None


def test_many_queries_share_requests() -> None:
    many = [(PROMPT, PERCENTAGES)] * (3 * MOST_QUERIES_TOGETHER)
    assert forecast_scores(many, "vllm", block_size=16).requests == (
        3 * MOST_QUERIES_TOGETHER + 2 * 3 + 11 + 2
    )


def test_queries_with_the_same_story_are_neighbours() -> None:
    for study in ("study1", "study2"):
        contexts = [query.turn.context for query in plan_scores(trials_of(study)).queries]
        seams = sum(one != other for one, other in itertools.pairwise(contexts))
        assert seams == len(set(contexts)) - 1


def test_estimates_grow_with_the_text_and_are_marked() -> None:
    queries = plan_scores(trials_of("study1")).queries
    longer = [
        replace(query, turn=replace(query.turn, question=query.turn.question + " Really?"))
        for query in queries
    ]
    short = forecast_scores(estimated(queries, CHAT), "vllm", block_size=16)
    long = forecast_scores(estimated(longer, CHAT), "vllm", block_size=16)
    assert short.prompt_tokens < long.prompt_tokens
    assert not short.counted


def test_later_turns_are_sent_with_all_that_came_before() -> None:
    plan = plan_responses(trials_of("study1"), seed=1, replicates=1, deterministic=False)
    found = forecast_responses(plan.dialogues, CHAT, "vllm", block_size=1)
    assert found.queries == found.prompts == found.requests == 18
    assert found.generated_tokens == 6 * (64 + 160 + 64)
    assert found.computed_tokens < found.prompt_tokens / 2
