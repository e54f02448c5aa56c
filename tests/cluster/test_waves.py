import pytest
from cluster_runs import Variant, a_run, changed, variants
from hypothesis import given
from hypothesis import strategies as st

from grace.cluster.request import ClusterRun
from grace.cluster.waves import Ask, Start, Stop, waves

each_variant = pytest.mark.parametrize("variant", variants(), ids=lambda variant: variant.name)


def check(run: ClusterRun) -> None:
    """Follow the waves and fail where one could not be done."""
    done: set[str] = set()
    up: str | None = None
    for wave in waves(run):
        match wave:
            case Start(server):
                assert up is None, "two servers would hold GPUs"
                up = server.base.key
            case Stop(server):
                assert up == server.base.key
                up = None
            case Ask(steps, server):
                assert steps
                assert up == (None if server is None else server.base.key)
                for step in steps:
                    assert step.server == up
                    assert done.issuperset(step.needs)
                assert len(steps) <= (run.profile.jobs.at_once or len(steps))
                assert not done & {step.name for step in steps}
                done |= {step.name for step in steps}
    assert up is None
    assert done == {step.name for step in run.steps}


@each_variant
def test_every_step_is_done_once_after_what_it_needs(variant: Variant) -> None:
    check(variant.run)


MODELS = ("gpt2", "gemma-2-2b", "gemma-poet", "gemma-lawyer", "smollm2-135m", "deepseek")


@given(
    st.lists(st.sampled_from(MODELS), min_size=1, max_size=6, unique=True),
    st.sampled_from([None, *MODELS]),
    st.sampled_from([None, 1, 2]),
    st.booleans(),
)
def test_any_run_has_an_order(
    models: list[str],
    extractor: str | None,
    at_once: int | None,
    recheck: bool,  # noqa: FBT001
) -> None:
    profile = changed("nrp", jobs={"at_once": at_once})
    check(a_run(profile, *models, extractor=extractor, recheck=5.0 * recheck))


def test_a_server_is_up_once_for_all_that_can_be_asked() -> None:
    run = a_run("nrp", "gpt2", "gemma-2-2b", extractor="gemma-2-2b")
    shown = [
        type(wave).__name__.lower()
        if wave.server is None
        else f"{type(wave).__name__.lower()} {wave.server.base.key}"
        for wave in waves(run)
    ]
    # Gemma's server comes last and extracts what GPT-2 said as well: a start each.
    assert shown == [
        "ask",
        *("start gpt2", "ask gpt2", "ask gpt2", "stop gpt2"),
        *("start gemma-2-2b", "ask gemma-2-2b", "ask gemma-2-2b", "ask gemma-2-2b"),
        *("stop gemma-2-2b", "ask"),
    ]
