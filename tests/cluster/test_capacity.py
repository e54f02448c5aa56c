import pytest
from capacity_runs import a_run, hours_of_work, profile_with
from cluster_runs import a_run as on_cluster
from cluster_runs import changed, everything
from hypothesis import given
from hypothesis import strategies as st

from grace.catalogue.spec import load_catalogue
from grace.cluster.capacity import CapacityPlan, Demand, choose_gpus, plan_capacity
from grace.cluster.gpus import must_ask
from grace.cluster.policies import lint, refusals
from grace.cluster.profile import load_profile
from grace.cluster.request import CONFIG_MAP_BYTES, InputFile

GPT2 = ("gpt2", "gpt2-medium", "gpt2-large")


def held(plan: CapacityPlan) -> list[tuple[str, ...]]:
    """Return which servers are up at each moment."""
    return [moment.servers for moment in plan.moments]


def test_models_are_served_one_after_another_by_default() -> None:
    plan = plan_capacity(a_run(load_profile("nrp"), *GPT2))
    assert max(map(len, held(plan))) == 1
    assert list(dict.fromkeys(key for servers in held(plan) for key in servers)) == list(GPT2)
    assert plan.peak.gpus == 1


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_no_more_models_are_served_at_once_than_the_profile_says(at_once: int) -> None:
    profile = profile_with("nrp", model_servers={"at_once": at_once})
    plan = plan_capacity(a_run(profile, *GPT2))
    assert max(map(len, held(plan))) == at_once
    assert plan.peak.gpus == at_once


def test_the_bound_on_gpus_holds_whatever_may_be_served_at_once() -> None:
    profile = profile_with("nrp", model_servers={"at_once": 3, "gpus_at_once": 2})
    plan = plan_capacity(a_run(profile, *GPT2))
    assert plan.peak.gpus == 2
    assert not plan.problems


def test_a_model_beyond_the_bound_on_gpus_is_a_problem_and_the_rest_is_planned() -> None:
    profile = profile_with("nrp", model_servers={"gpus_at_once": 1})
    plan = plan_capacity(a_run(profile, "gemma-2-27b", "gpt2"))
    assert any("gemma-2-27b: needs 2 GPUs" in problem for problem in plan.problems)
    assert ("gpt2",) in held(plan)
    assert ("gemma-2-27b",) not in held(plan)


@given(
    at_once=st.integers(1, 4),
    jobs=st.none() | st.integers(1, 6),
    shards=st.integers(1, 5),
    models=st.lists(st.sampled_from([*GPT2, "smollm2-135m"]), min_size=1, unique=True),
)
def test_every_step_is_done_once_after_what_it_needs_and_within_the_bounds(
    at_once: int, jobs: int | None, shards: int, models: list[str]
) -> None:
    profile = profile_with(
        "nrp",
        model_servers={"at_once": at_once},
        jobs={"at_once": jobs, "shards": shards},
    )
    run = a_run(profile, *models)
    plan = plan_capacity(run)
    by_name = {step.name: step for step in run.steps}
    done: set[str] = set()
    for moment in plan.moments:
        assert len(moment.servers) <= at_once
        assert jobs is None or len(moment.steps) <= jobs
        for name in moment.steps:
            assert name not in done
            assert done.issuperset(by_name[name].needs)
            assert by_name[name].server in {None, *moment.servers}
        # No server is held when no step needs it.
        assert {by_name[name].server for name in moment.steps} >= set(moment.servers) or jobs
        done |= set(moment.steps)
        assert moment.demand.largest(plan.peak) == plan.peak
    assert done == set(by_name)


def test_the_peak_counts_servers_and_pods_with_what_they_ask_for() -> None:
    profile = profile_with(
        "local",
        jobs={"shards": 3, "query": {"cpu": 0.1, "memory_gb": 0.5, "ephemeral_gb": 0.25}},
    )
    plan = plan_capacity(a_run(profile, "smollm2-135m", experiment=("exp2",)))
    scoring = next(it for it in plan.moments if any("score" in name for name in it.steps))
    assert scoring.demand == Demand(0, 0.8, 3.0, 1.25, 4, 1)


def test_a_job_that_is_a_server_counts_as_a_job() -> None:
    plan = plan_capacity(a_run(load_profile("nrp"), "gpt2", experiment=("exp2",)))
    scoring = next(it for it in plan.moments if any("score" in name for name in it.steps))
    assert scoring.demand.jobs == 2


def test_replicas_that_an_autoscaler_may_add_are_counted() -> None:
    servers = {"controller": "statefulset", "autoscaler": "hpa", "max_replicas": 4}
    plan = plan_capacity(a_run(profile_with("nrp", model_servers=servers), "gpt2"))
    assert plan.peak.gpus == 4


def test_hours_are_not_known_without_a_forecast_or_a_speed_and_the_reason_is_kept() -> None:
    run = a_run(load_profile("nrp"), "gpt2")
    for plan in (
        plan_capacity(run),
        plan_capacity(run, [hours_of_work("gpt2")]),
        plan_capacity(run, tokens_per_second=1000),
    ):
        (model,) = plan.models
        assert model.hours is None
        assert model.gpu_hours is None
        assert plan.gpu_hours is None
        assert plan.hours is None
        assert "not known" in model.assumed or "no speed is known" in model.assumed


def test_gpu_hours_are_tokens_over_the_speed_times_gpus() -> None:
    run = a_run(load_profile("nrp"), "gemma-2-27b", "gpt2")
    forecasts = [hours_of_work("gemma-2-27b", 1, 2), hours_of_work("gpt2", 0.5, 0.5)]
    plan = plan_capacity(run, forecasts, tokens_per_second=1000)
    hours = {model.key: (model.hours, model.gpu_hours) for model in plan.models}
    assert hours == {"gemma-2-27b": (3.0, 6.0), "gpt2": (1.0, 1.0)}
    assert plan.gpu_hours == 7.0
    assert plan.hours == 4.0
    assert plan.models[0].assumed == "1000 tokens a second, as given"


def test_the_profiles_speed_is_of_a_model_on_a_product_and_the_users_own_wins() -> None:
    products = {
        "NVIDIA-L40": {"memory_gb": 48, "tokens_per_second": {"gpt2": 500, "*": 100}},
    }
    run = a_run(profile_with("nrp", gpus={"products": products}), "gpt2", "gpt2-xl")
    forecasts = [hours_of_work("gpt2"), hours_of_work("gpt2-xl")]
    plan = plan_capacity(run, forecasts)
    assert [model.hours for model in plan.models] == [2.0, 10.0]
    assert "500 tokens a second on NVIDIA-L40, from the profile" in plan.models[0].assumed
    own = plan_capacity(run, forecasts, tokens_per_second=1000)
    assert [model.hours for model in own.models] == [1.0, 1.0]


def test_no_built_in_profile_assumes_a_speed() -> None:
    for name in ("local", "nrp"):
        for product in load_profile(name).gpus.products.values():
            assert not product.tokens_per_second


def test_a_model_that_extracts_has_unknown_hours_because_nobody_forecast_them() -> None:
    run = a_run(load_profile("nrp"), "gpt2", extractor="gpt2-xl")
    plan = plan_capacity(run, [hours_of_work("gpt2")], tokens_per_second=1000)
    hours = {model.key: model.hours for model in plan.models}
    assert hours == {"gpt2": 1.0, "gpt2-xl": None}
    assert plan.gpu_hours is None


def test_an_adapter_is_served_by_its_base_and_holds_no_gpu_of_its_own() -> None:
    base = load_catalogue(apply_lock=False).get("gpt2")
    adapter = base.model_copy(update={"key": "gpt2-poet", "lora_base": "gpt2"})
    run = a_run(load_profile("nrp"), "gpt2-poet", adapters=(adapter,))
    plan = plan_capacity(run, [hours_of_work("gpt2-poet")], tokens_per_second=1000)
    by_key = {model.key: model for model in plan.models}
    assert by_key["gpt2-poet"].gpus == 0
    assert by_key["gpt2-poet"].served_by == "gpt2"
    assert by_key["gpt2"].hours == 1.0
    assert plan.peak.gpus == 1
    assert plan.gpu_hours == 1.0


def test_a_hosted_model_takes_no_gpu_and_no_claim() -> None:
    plan = plan_capacity(a_run(load_profile("nrp"), "deepseek", experiment=("exp1",)))
    (model,) = plan.models
    assert model.served_by is None
    assert (model.gpus, model.claim_gb) == (0, None)
    assert all(not moment.servers for moment in plan.moments)


def test_a_quota_of_zero_is_a_problem_that_says_where_to_ask() -> None:
    plan = plan_capacity(a_run(load_profile("nrp"), "deepseek-v2-chat"))
    (problem,) = plan.problems
    assert "a namespace may use 0 of them until it asks, and 8 are needed" in problem
    assert "https://nrp.ai/reservations" in problem
    assert "NVIDIA-A100-80GB-PCIe" in problem


def test_a_model_that_fits_no_product_of_the_site_is_a_problem() -> None:
    plan = plan_capacity(a_run(load_profile("nrp"), "deepseek-v3"))
    assert any("deepseek-v3: needs 8 × NVIDIA-H200" in problem for problem in plan.problems)  # noqa: RUF001 (a multiplication sign is meant)
    assert any(
        "local has no GPUs" in it
        for it in plan_capacity(a_run(load_profile("local"), "gpt2")).problems
    )


def test_gated_models_name_licence_and_secret() -> None:
    plan = plan_capacity(a_run(load_profile("nrp"), "llama-3-8b"))
    (model,) = plan.models
    assert model.gated
    assert model.secret is not None
    assert model.secret.name == "grace-hub"
    assert any("llama-3-8b: accept the licence" in notice for notice in plan.notices)
    without = profile_with("nrp", secrets={"hub_token": None})
    problems = plan_capacity(a_run(without, "llama-3-8b")).problems
    assert any("names no Secret" in problem for problem in problems)


def test_claims_hold_the_weights_and_the_sum_is_right() -> None:
    plan = plan_capacity(a_run(load_profile("nrp"), "gpt2", "llama-3-70b"))
    sizes = {model.key: model.claim_gb for model in plan.models}
    assert sizes == {"gpt2": 10, "llama-3-70b": 150}
    weights = next(volume for volume in plan.volumes if volume.purpose == "weights")
    assert (weights.count, weights.total_gb) == (2, 160)
    assert plan.storage_gb == 160 + 50 + 10


def test_baked_weights_take_no_claim_and_small_inputs_neither() -> None:
    run = a_run(load_profile("local"), "smollm2-135m", files=(InputFile("a.csv", b"x"),))
    assert [volume.purpose for volume in plan_capacity(run).volumes] == ["output", "logs"]
    large = InputFile("a.csv", b"x" * (CONFIG_MAP_BYTES + 1))
    run = a_run(load_profile("local"), "smollm2-135m", files=(large,))
    assert [volume.purpose for volume in plan_capacity(run).volumes] == ["inputs", "output", "logs"]


def test_our_own_quota_is_compared_with_the_peak() -> None:
    quota = {"quota": {"pods": "2", "requests.memory": "1Gi", "requests.cpu": "100"}}
    profile = profile_with("local", namespace=quota, jobs={"shards": 2})
    problems = plan_capacity(a_run(profile, "smollm2-135m")).problems
    assert any("allows 2 of pods" in problem for problem in problems)
    assert any("allows 1Gi of requests.memory" in problem for problem in problems)
    assert not any("cpu" in problem for problem in problems)


def test_more_gpus_than_may_be_without_asking_are_a_problem() -> None:
    profile = profile_with(
        "nrp",
        model_servers={"controller": "statefulset", "replicas": 51, "max_replicas": 51},
    )
    problems = plan_capacity(a_run(profile, "gpt2")).problems
    assert any("51 GPUs are held at the peak" in problem for problem in problems)
    assert any("https://nrp.ai/contact" in problem for problem in problems)


def test_utilisation_is_forecast_from_work_and_start() -> None:
    profile = profile_with("nrp", model_servers={"startup_minutes": 60})
    run = a_run(profile, "gpt2")
    plan = plan_capacity(run, [hours_of_work("gpt2", 0.25, 0.25)], tokens_per_second=1000)
    gpu = next(it for it in plan.utilisation if it.what == "gpt2: GPU")
    assert gpu.forecast == pytest.approx(1 / 3, abs=1e-3)
    assert gpu.breaks
    assert "a low forecast does not stop this run" in plan.notices[0]
    assert "up to 4 pods that use too little, and up to 1 model server runs" in plan.notices[0]
    longer = plan_capacity(run, [hours_of_work("gpt2", 2, 2)], tokens_per_second=1000)
    assert not next(it for it in longer.utilisation if it.what == "gpt2: GPU").breaks
    assert not any("a low forecast" in notice for notice in longer.notices)


def test_small_query_pods_are_exempt_and_large_ones_are_not() -> None:
    run = a_run(load_profile("nrp"), "gpt2")
    forecast = [hours_of_work("gpt2")]
    plan = plan_capacity(run, forecast, tokens_per_second=1000)
    clients = [it for it in plan.utilisation if it.what.startswith("query pods")]
    assert all(it.exempt and not it.breaks for it in clients)
    large = {"query": {"cpu": 4, "memory_gb": 8, "ephemeral_gb": 1}}
    plan = plan_capacity(
        a_run(profile_with("nrp", jobs=large), "gpt2"), forecast, tokens_per_second=1000
    )
    cpu = next(it for it in plan.utilisation if it.what == "query pods: CPU")
    assert cpu.forecast == pytest.approx(3000 * 0.0004 / (3600 * 4), rel=0.1)
    assert cpu.breaks


def test_a_site_without_such_a_rule_gets_no_forecast() -> None:
    assert not plan_capacity(a_run(load_profile("local"), "smollm2-135m")).utilisation


def test_the_local_profile_fits_a_node_of_two_cpus() -> None:
    plan = plan_capacity(a_run(load_profile("local"), "smollm2-135m"))
    # An idle cluster takes 20% of a core and 1.7 GB; a node keeps some for itself.
    assert plan.peak.cpu <= 1.0
    assert plan.peak.memory_gb <= 2.5
    assert not plan.problems


def test_the_first_option_within_the_quota_is_taken() -> None:
    spec = load_catalogue(apply_lock=False).get("llama-3-70b")
    profile = load_profile("nrp")
    assert choose_gpus(spec, profile).count == 4
    products = {
        name: {**product.model_dump(mode="json"), "quota": 2}
        for name, product in profile.gpus.products.items()
    }
    choice = choose_gpus(spec, profile_with("nrp", gpus={"products": products}))
    assert (choice.count, choice.resource) == (2, "nvidia.com/a100")


@pytest.mark.parametrize(
    ("key", "products"),
    [
        ("gemma-2-2b", {"NVIDIA-GeForce-RTX-3090", "NVIDIA-L40"}),
        ("llama-3-8b", {"NVIDIA-GeForce-RTX-3090", "NVIDIA-L40"}),
        ("gemma-2-9b", {"NVIDIA-L40"}),
        ("llama-3-70b", {"NVIDIA-L40"}),
        # Nothing else is large enough.
        ("deepseek-v2-chat", {"NVIDIA-A100-80GB-PCIe", "NVIDIA-A100-SXM4-80GB"}),
    ],
)
def test_gpus_that_nobody_needs_to_ask_for_are_taken_where_they_do(
    key: str, products: set[str]
) -> None:
    profile = load_profile("nrp")
    choice = choose_gpus(load_catalogue(apply_lock=False).get(key), profile)
    assert set(choice.products) == products
    assert bool(must_ask(profile.gpus, choice.products, choice.count)) == (
        key == "deepseek-v2-chat"
    )


def test_of_gpus_that_fit_the_smallest_are_taken() -> None:
    spec = load_catalogue(apply_lock=False).get("gpt2")
    sizes = {"LARGE": (80, "a/large"), "SMALL": (24, "a/small"), "MIDDLE": (48, "a/small")}
    products = {name: {"memory_gb": gb, "resource": it} for name, (gb, it) in sizes.items()}
    choice = choose_gpus(spec, profile_with("local", gpus={"products": products}))
    assert (choice.products, choice.resource) == (("SMALL", "MIDDLE"), "a/small")


def test_limited_gpus_are_not_mixed_with_others_of_the_same_name() -> None:
    spec = load_catalogue(apply_lock=False).get("gpt2")
    products = {"A": {"memory_gb": 24, "quota": 0}, "B": {"memory_gb": 48}}
    choice = choose_gpus(spec, profile_with("local", gpus={"products": products}))
    assert choice.products == ("B",)


@pytest.mark.parametrize("key", ["gpt2", "gemma-2-2b", "gpt-oss-120b", "deepseek-v2-chat"])
@pytest.mark.parametrize("quota", [0, 4, 8, None])
def test_the_plan_and_the_linter_agree_about_gpus_that_must_be_asked_for(
    key: str, quota: int | None
) -> None:
    products = {
        name: {**product.model_dump(mode="json"), "quota": quota}
        for name, product in load_profile("nrp").gpus.products.items()
    }
    run = on_cluster(changed("nrp", gpus={"products": products}), key)
    found = {it.rule for it in refusals(lint(everything(run), run.profile, run))}
    problems = plan_capacity(run).problems
    assert ("gpu-quota" in found) == any("until it asks" in problem for problem in problems)


def test_a_choice_has_one_resource() -> None:
    spec = load_catalogue(apply_lock=False).get("gpt2")
    choice = choose_gpus(spec, load_profile("nrp"))
    assert choice.resource == "nvidia.com/gpu"
    assert set(choice.products) == {"NVIDIA-GeForce-RTX-3090", "NVIDIA-L40"}
