from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cluster_runs import a_run, at, changed

from grace.cluster.manifests import files_objects, step_objects
from grace.cluster.request import ClusterRun
from grace.cluster.steps import StepKind
from grace.errors import UsageError

LOGS = ["--log", "json", "--log-folder", "/grace/logs", "--outcome", "/dev/termination-log"]
CONFIG = ["--config", "/grace/config/run.yaml"]


def job(run: ClusterRun, kind: StepKind, experiment: str | None = None) -> Any:
    """Return the Job of the first step of a kind."""
    step = next(
        step for step in run.steps if step.kind is kind and experiment in {None, step.experiment}
    )
    (found,) = step_objects(run, step)
    return found


def command(run: ClusterRun, kind: StepKind, experiment: str | None = None) -> Sequence[str]:
    found = job(run, kind, experiment)
    return list(at(found, "spec", "template", "spec", "containers", 0, "command"))


def served(key: str, server: str, minutes: str) -> list[str]:
    return ["--endpoint", f"http://model-{key}:8000", "--server", server, "--wait-minutes", minutes]


def test_steps_run_the_command_that_anybody_can_run() -> None:
    run = a_run("nrp", "gpt2", extractor="deepseek", recheck=2.0)
    asked = served("gpt2", "vllm", "60")
    cell = {each: [*CONFIG, "--experiment", each, "--model", "gpt2"] for each in ("exp1", "exp2")}
    assert command(run, StepKind.SMOKE) == [
        *("grace", "stage", "smoke", *CONFIG, "--experiment", "exp1", "--experiment", "exp2"),
        *("--model", "gpt2", *asked, *LOGS),
    ]
    assert command(run, StepKind.RESPOND) == [
        "grace",
        "stage",
        "respond",
        *cell["exp1"],
        *asked,
        *LOGS,
    ]
    assert command(run, StepKind.SCORE) == ["grace", "stage", "score", *cell["exp2"], *asked, *LOGS]
    assert command(run, StepKind.RECHECK) == [
        "grace",
        "stage",
        "recheck",
        *cell["exp2"],
        *asked,
        *LOGS,
    ]
    wait = ("--wait-minutes", "60")
    extract = ["grace", "stage", "extract", *cell["exp1"], *wait, *LOGS]
    assert command(run, StepKind.EXTRACT) == extract
    assert command(run, StepKind.FINISH, "exp2") == [
        *("grace", "stage", "tabulate", "summarise", "validate", *cell["exp2"], *wait, *LOGS),
        "--accept-missing",
    ]


def test_a_served_extractor_is_asked_in_its_own_dialect() -> None:
    run = a_run("local", "gpt2", extractor="smollm2-135m")
    asked = command(run, StepKind.EXTRACT)
    address, dialect = (
        asked[asked.index(flag) + 1] for flag in ("--extractor-endpoint", "--server")
    )
    assert (address, dialect) == ("http://model-smollm2-135m:8000", "llamacpp")


def test_weights_are_pulled_into_the_store_that_the_server_reads() -> None:
    pull = ["grace", "models", "pull"]
    assert command(a_run("nrp", "gpt2"), StepKind.WEIGHTS) == [
        *pull,
        "gpt2",
        "--store",
        "/grace/weights",
    ]
    own = a_run("local", "gemma-3-270m", catalogue=Path("/grace/inputs/mine.yaml"))
    assert command(own, StepKind.WEIGHTS) == [
        *(*pull, "gemma-3-270m", "--store", "/grace/weights"),
        *("--catalogue", "/grace/inputs/mine.yaml"),
    ]
    mounts = at(
        job(own, StepKind.WEIGHTS), "spec", "template", "spec", "containers", 0, "volumeMounts"
    )
    assert [each["mountPath"] for each in mounts] == ["/tmp", "/grace/weights", "/grace/inputs"]  # noqa: S108


def test_an_adapter_is_asked_at_its_bases_server() -> None:
    run = a_run("nrp", "gemma-poet")
    found = command(run, StepKind.RESPOND)
    assert found[found.index("--endpoint") + 1] == "http://model-gemma-2-2b:8000"
    assert found[found.index("--model") + 1] == "gemma-poet"
    assert [step.model for step in run.steps if step.kind is StepKind.WEIGHTS] == [
        *("gemma-2-2b", "gemma-poet")
    ]


def test_a_model_of_ours_that_extracts_is_named_as_such() -> None:
    found = command(a_run("nrp", "gpt2", extractor="gemma-2-2b"), StepKind.EXTRACT)
    assert found[found.index("--extractor-endpoint") + 1] == "http://model-gemma-2-2b:8000"
    assert "--endpoint" not in found
    assert "--wait-minutes" in found


def test_shards_are_the_indexes_of_one_job() -> None:
    run = a_run(changed("nrp", jobs={"shards": 50}), "gpt2")
    found = command(run, StepKind.SCORE)
    assert found[found.index("--shard") + 1] == "$(JOB_COMPLETION_INDEX)/50"
    spec = at(job(run, StepKind.SCORE), "spec")
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (50, 50, "Indexed")
    assert spec["backoffLimitPerIndex"] == 3
    assert "backoffLimit" not in spec
    assert "--shard" not in command(run, StepKind.SMOKE)


def test_pods_that_were_disrupted_or_stopped_are_not_counted_and_usage_is_not_retried() -> None:
    spec = at(job(a_run(), StepKind.RESPOND), "spec")
    assert spec["podFailurePolicy"]["rules"] == [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {
            "action": "Ignore",
            "onExitCodes": {"containerName": "grace", "operator": "In", "values": [3]},
        },
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": "grace", "operator": "In", "values": [2]},
        },
    ]
    assert spec["podReplacementPolicy"] == "Failed"
    assert spec["backoffLimit"] == 3


@pytest.mark.parametrize(("profiles", "runs"), [(15.0, 15.0), (40.5, 15.0), (15.0, 40.5)])
def test_a_pod_has_time_to_drain(profiles: float, runs: float) -> None:
    run = a_run(changed("local", jobs={"drain_seconds": profiles}), drain_seconds=runs)
    seconds = at(
        job(run, StepKind.RESPOND), "spec", "template", "spec", "terminationGracePeriodSeconds"
    )
    assert seconds > max(profiles, runs) + 15


def test_jobs_end_and_stay_as_long_as_the_profile_says() -> None:
    run = a_run(changed("local", jobs={"deadline_hours": 1.5, "keep_hours": 0}))
    spec = at(job(run, StepKind.RESPOND), "spec")
    assert (spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (5400, 0)


def test_pods_that_ask_have_the_query_figure_and_the_others_the_light_one() -> None:
    jobs = {
        "query": {"cpu": 4, "memory_gb": 8, "ephemeral_gb": 2},
        "light": {"cpu": 0.5, "memory_gb": 1, "ephemeral_gb": 1},
    }
    run = a_run(changed("nrp", jobs=jobs), "gpt2")
    asked = {
        kind: at(
            job(run, kind), "spec", "template", "spec", "containers", 0, "resources", "requests"
        )
        for kind in (StepKind.WEIGHTS, StepKind.SMOKE, StepKind.EXTRACT, StepKind.FINISH)
    }
    assert {kind.value: each["cpu"] for kind, each in asked.items()} == {
        **{"weights": "500m", "smoke": "4", "extract": "4", "finish": "500m"}
    }
    assert asked[StepKind.SMOKE]["memory"] == "8G"


def test_weights_are_fetched_without_a_gpu() -> None:
    pod = at(job(a_run("nrp", "gpt2"), StepKind.WEIGHTS), "spec", "template", "spec")
    assert set(pod["containers"][0]["resources"]["requests"]) == {
        *("cpu", "memory", "ephemeral-storage")
    }
    assert "affinity" not in pod


def test_a_hosted_model_without_a_secret_for_its_key_is_refused() -> None:
    run = a_run("local", "deepseek", experiment=("exp1",))
    with pytest.raises(UsageError, match="the profile local names no Secret that holds it"):
        job(run, StepKind.RESPOND)


def test_a_key_is_not_shown_to_another_server_than_its_own() -> None:
    elsewhere = "https://gateway.example.org"
    asking = a_run("local", "deepseek", experiment=("exp1",), endpoint=elsewhere)
    assert "DEEPSEEK_API_KEY" not in str(job(asking, StepKind.RESPOND))
    extracting = a_run("nrp", "gpt2", extractor="deepseek", extractor_endpoint=elsewhere)
    assert "DEEPSEEK_API_KEY" not in str(job(extracting, StepKind.EXTRACT))
    usual = a_run("nrp", "gpt2", extractor="deepseek")
    assert "DEEPSEEK_API_KEY" in str(job(usual, StepKind.EXTRACT))


def test_files_are_handed_over_by_a_pod_that_ends_by_itself() -> None:
    (found,) = files_objects(a_run())
    container = at(found, "spec", "template", "spec", "containers", 0)
    assert container["command"] == ["grace", "files", "keep", "--idle-minutes", "30"]
    assert [each["mountPath"] for each in container["volumeMounts"]] == [
        *("/tmp", "/grace/results", "/grace/logs")  # noqa: S108
    ]
