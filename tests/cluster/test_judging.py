"""Why pods do not run and Jobs fail, in words that say what to do."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.cluster.executor.decide import JobStanding, ServerStanding
from grace.cluster.executor.judging import ServerRules, judge_job, judge_server, pods_by_owner
from grace.cluster.executor.outcome import Counts, Outcome, read_outcome, together
from grace.cluster.executor.reasons import making_trouble, pod_failure, pod_trouble

_GPU = frozenset({"nvidia.com/gpu"})
_NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
_RULES = ServerRules(timedelta(minutes=60), timedelta(hours=24), _GPU)


def pod(phase: str = "Pending", *containers: dict[str, Any], **status: Any) -> dict[str, Any]:
    limits = {"resources": {"limits": {"memory": "2Gi"}}}
    return {
        "metadata": {"name": "p", "ownerReferences": [{"uid": "u", "controller": True}]},
        "spec": {"containers": [{"name": "main", **limits}]},
        "status": {"phase": phase, "containerStatuses": list(containers), **status},
    }


def waiting(reason: str, message: str = "", restarts: int = 0) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"name": "main", "image": "x:1", "state": state, "restartCount": restarts}


def ended(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    terminated = {"exitCode": code, "reason": reason, "message": message}
    return {"name": "main", "state": {"terminated": terminated}, "restartCount": 0}


def unscheduled(message: str) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "message": message}
    return pod(conditions=[condition])


def job(*conditions: tuple[str, str], **metadata: str) -> dict[str, Any]:
    found = [{"type": kind, "status": "True", "reason": reason} for kind, reason in conditions]
    return {"kind": "Job", "metadata": {"uid": "u", **metadata}, "status": {"conditions": found}}


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (unscheduled("0/9 nodes: 9 Insufficient nvidia.com/gpu."), "no fitting GPU is free"),
        (unscheduled("0/9 nodes: 9 Insufficient memory."), "no node has enough memory free"),
        (unscheduled("didn't match Pod's node affinity/selector"), "compare gpus in the profile"),
        (unscheduled("had untolerated taint {x: y}"), "add tolerations to the profile"),
        (unscheduled('persistentvolumeclaim "w" not found'), "kubectl get pvc"),
        (pod("Pending", waiting("ImagePullBackOff", "denied")), "the image x:1 cannot be pulled"),
        (pod("Pending", waiting("ErrImageNeverPull")), "pull_policy is Never"),
        (
            pod("Pending", waiting("CreateContainerConfigError", 'secret "h" not found')),
            'secret "h" not found); a Secret or ConfigMap',
        ),
        (pod("Running", waiting("CrashLoopBackOff", restarts=2)), "ended 2 times"),
        (pod("Failed", reason="Evicted", message="disk pressure"), "evicted: disk pressure"),
    ],
)
def test_a_pod_that_does_not_run_says_why_and_what_to_do(broken: Any, words: str) -> None:
    trouble = pod_trouble(broken, _GPU)
    assert trouble is not None
    assert words in trouble.words
    assert not trouble.lasting


def test_memory_that_ran_out_names_the_limit() -> None:
    last = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    status = {"name": "main", "state": {"running": {}}, "lastState": last, "restartCount": 4}
    trouble = pod_trouble(pod("Running", status), _GPU)
    assert trouble is not None
    assert "ran out of memory" in trouble.words
    assert "2Gi" in trouble.words
    assert trouble.lasting


def test_a_pod_that_runs_has_no_trouble() -> None:
    assert pod_trouble(pod("Running", {"name": "main", "state": {"running": {}}}), _GPU) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["state", "terminated", "reason", "conditions", "name", "phase"]),
                inner,
            )
        ),
    )
)
def test_whatever_a_pod_is_it_can_be_looked_at(odd: Any) -> None:
    for found in ({"status": odd}, {"status": {"containerStatuses": odd, "conditions": odd}}):
        pod_trouble(found, _GPU)
        pod_failure(found)


def test_a_jobs_failure_is_its_pods_word() -> None:
    message = '{"status": "failed", "cells": {}, "error": "the input has no column priorQ"}'
    failed = pod("Failed", ended(1, message=message))
    seen = judge_job(job(("Failed", "BackoffLimitExceeded")), [failed], _GPU)
    assert seen.standing is JobStanding.FAILED
    assert seen.reason == "the input has no column priorQ (failed as often as the profile allows)"


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (ended(137, "OOMKilled"), "out of memory of 2Gi (OOMKilled)"),
        (ended(137), "killed (SIGKILL)"),
        (ended(1, message="Traceback"), "exit code 1: Traceback"),
    ],
)
def test_a_pod_that_failed_says_how(last: dict[str, Any], words: str) -> None:
    assert words in pod_failure(pod("Failed", last))


def test_what_the_cluster_took_away_is_not_the_reason_of_a_failure() -> None:
    disruption = {"type": "DisruptionTarget", "status": "True"}
    taken = pod("Failed", ended(143), conditions=[disruption])
    own = pod("Failed", ended(1, message="boom"))
    for pods in ([taken, own], [own, taken]):
        assert "boom" in judge_job(job(("Failed", "")), pods, _GPU).reason


def test_a_job_goes_from_absent_to_done() -> None:
    assert judge_job(None, [], _GPU).standing is JobStanding.ABSENT
    assert judge_job(job(), [], _GPU, "quota").reason == "quota"
    assert judge_job(job(), [pod("Running")], _GPU, "quota").reason == ""
    leaving = job(("Failed", ""), deletionTimestamp="2026-01-31T00:00:00Z")
    assert judge_job(leaving, [], _GPU).standing is JobStanding.STOPPING
    done = job(("Complete", ""), deletionTimestamp="2026-01-31T00:00:00Z")
    assert judge_job(done, [], _GPU).standing is JobStanding.DONE


def test_what_ended_says_nothing_about_its_successor() -> None:
    evicted = pod("Failed", reason="Evicted", message="disk pressure")
    assert "disk pressure" in judge_job(job(), [evicted], _GPU).reason
    assert judge_job(job(), [evicted, pod("Running")], _GPU).reason == ""


def controller(hours: float = 1, run: str = "r", **more: Any) -> dict[str, Any]:
    made = (_NOW - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
    metadata = {"uid": "u", "creationTimestamp": made, "labels": {"grace/run": run}}
    return {"kind": "StatefulSet", "metadata": metadata, **more}


def started(minutes: float, *conditions: dict[str, Any]) -> dict[str, Any]:
    when = (_NOW - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return pod("Running", startTime=when, conditions=list(conditions))


_READY = {"type": "Ready", "status": "True"}


@pytest.mark.parametrize(
    ("pods", "standing", "words"),
    [
        ([], ServerStanding.STARTING, "its pod is being made"),
        ([pod()], ServerStanding.STARTING, "its pod waits for a node"),
        ([started(5)], ServerStanding.STARTING, "it is loading the model"),
        ([started(5, _READY)], ServerStanding.READY, ""),
        ([started(5), started(5, _READY)], ServerStanding.READY, ""),
    ],
)
def test_a_server_comes_up(pods: list[Any], standing: ServerStanding, words: str) -> None:
    seen = judge_server(controller(), pods, "r", _RULES, _NOW)
    assert (seen.standing, seen.reason, seen.failure) == (standing, words, "")


def test_a_server_that_waits_for_a_node_is_not_too_slow() -> None:
    waits = unscheduled("0/9 nodes: 9 Insufficient nvidia.com/gpu.")
    assert judge_server(controller(hours=23), [waits], "r", _RULES, _NOW).failure == ""


def test_a_server_that_was_started_too_long_ago_is_given_up() -> None:
    assert (
        "within 60 minutes" in judge_server(controller(), [started(61)], "r", _RULES, _NOW).failure
    )
    again = [started(61), started(1)]
    assert judge_server(controller(), again, "r", _RULES, _NOW).failure == ""


def test_a_server_past_its_deadline_is_given_up_though_it_is_ready() -> None:
    seen = judge_server(controller(hours=25), [started(9, _READY)], "r", _RULES, _NOW)
    assert "deadline_hours" in seen.failure


def test_a_server_of_another_run_is_elsewhere() -> None:
    seen = judge_server(controller(run="s"), [started(5, _READY)], "r", _RULES, _NOW)
    assert seen.standing is ServerStanding.ELSEWHERE
    assert "run S holds it" in seen.reason


@pytest.mark.parametrize(("seconds", "gives_up"), [(5, True), (600, False)])
def test_a_servers_job_that_ended_well_is_made_again_unless_it_ended_at_once(
    seconds: int,
    gives_up: bool,  # noqa: FBT001 -- a parameter
) -> None:
    status = {
        "startTime": "2026-01-31T10:00:00Z",
        "completionTime": f"2026-01-31T10:{seconds // 60:02}:{seconds % 60:02}Z",
        "conditions": [{"type": "Complete", "status": "True"}],
    }
    seen = judge_server(controller(hours=1, status=status), [], "r", _RULES, _NOW)
    assert seen.ended
    assert bool(seen.failure) is gives_up


def test_the_latest_warning_says_why_there_is_no_pod() -> None:
    old = {"type": "Warning", "message": "old", "lastTimestamp": "2026-01-31T00:00:00Z"}
    new = {
        "type": "Warning",
        "message": "exceeded quota: q",
        "lastTimestamp": "2026-02-01T00:00:00Z",
    }
    assert "quota is used up (exceeded quota: q)" in making_trouble([new, old])
    assert making_trouble([]) == ""


def test_pods_belong_to_what_controls_them() -> None:
    assert list(pods_by_owner([pod()])) == ["u"]


@given(st.text() | st.binary().map(repr))
def test_whatever_a_container_says_at_its_end_can_be_read(message: str) -> None:
    read_outcome(message)


def test_an_outcome_survives_its_record() -> None:
    outcome = Outcome("incomplete", {"exp1/m": Counts(4, 2, 1, 1)}, "late")
    assert Outcome.of(outcome.as_json()) == outcome
    assert outcome.missing == 2


def test_outcomes_of_shards_add_up_and_the_worst_counts() -> None:
    parts = [
        Outcome("complete", {"exp1/m": Counts(2, 2)}),
        Outcome("incomplete", {"exp1/m": Counts(2, 1, 1)}),
    ]
    for ordered in (parts, parts[::-1]):
        found = together(ordered)
        assert found is not None
        assert found.status == "incomplete"
        assert found.cells["exp1/m"] == Counts(4, 3, 1)
    assert together([]) is None
