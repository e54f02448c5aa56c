"""Rules about Jobs: how many, how often, how long, and who writes what."""

import re
from collections.abc import Iterator

from pydantic import JsonValue

from grace.cluster.policies.finding import Hit
from grace.cluster.policies.pods import Container, Pod
from grace.cluster.policies.reading import LONG_RUNNING, at, items, mapping, name_of, text, title
from grace.cluster.policies.subject import Subject

_LONGEST_GRACE_SECONDS = 900
_LONGEST_DEADLINE_SECONDS = 14 * 24 * 3600
_DEFAULT_GRACE_SECONDS = 30
_LAST_WORDS_SECONDS = 10
"""After draining, what a pod may take to write its tables and its outcome."""
_SHARD = re.compile(r"^(?:\$\(JOB_COMPLETION_INDEX\)|env|[0-9]+)/([0-9]+)$")


def too_many_jobs(subject: Subject) -> Iterator[Hit]:
    """Yield that more Jobs would be sent at once than may be."""
    if not _bounded(subject):
        yield from _beyond(subject)


def many_jobs_applied(subject: Subject) -> Iterator[Hit]:
    """Yield that there are more Jobs than may be sent by hand, at once."""
    if _bounded(subject):
        yield from _beyond(subject)


def _bounded(subject: Subject) -> bool:
    """Whether Grace sends them a few at a time."""
    rule, at_once = subject.profile.rules.jobs_at_once, subject.profile.jobs.at_once
    # A Job of a model server may stand beside each.
    servers = subject.profile.model_servers.at_once
    sent_by_us = rule is not None and at_once is not None and at_once + servers <= rule.at_most
    return subject.run is not None and sent_by_us


def _beyond(subject: Subject) -> Iterator[Hit]:
    rule = subject.profile.rules.jobs_at_once
    jobs = [job for job in subject.of_kind("Job") if at(job, "spec.suspend") is not True]
    if rule is not None and len(jobs) > rule.at_most:
        yield Hit(title(jobs[rule.at_most]), "kind", "Job", f"{len(jobs)} Jobs")


def endless_failures(subject: Subject) -> Iterator[Hit]:
    """Yield Jobs that retry too often, or never go away."""
    rule = subject.profile.rules.failed_jobs
    if rule is None:
        return
    for pod in subject.jobs:
        fields = ("backoffLimit", "backoffLimitPerIndex")
        written = {field: pod.job[field] for field in fields if pod.job.get(field) is not None}
        if not written:
            yield Hit(pod.title, pod.in_job("backoffLimit"))
        for field, value in written.items():
            if field == "backoffLimit" and len(written) > 1:
                # Where each index has a limit of its own, the other one is their sum at most.
                continue
            if not isinstance(value, int) or value > rule.backoff_at_most:
                yield Hit(pod.title, pod.in_job(field), value)
        if pod.kind == "CronJob":
            yield from _piling_up(pod)
        elif not isinstance(pod.job.get("ttlSecondsAfterFinished"), int):
            field = "ttlSecondsAfterFinished"
            yield Hit(pod.title, pod.in_job(field), pod.job.get(field))


def _piling_up(pod: Pod) -> Iterator[Hit]:
    """Yield that a CronJob begins Jobs beside those that have not ended; it removes old ones."""
    policy = at(pod.owner, "spec.concurrencyPolicy")
    if policy not in ("Forbid", "Replace"):
        yield Hit(pod.title, "spec.concurrencyPolicy", policy, "expected Forbid or Replace")


def bad_restarts(subject: Subject) -> Iterator[Hit]:
    """Yield restart policies that do not go with the kind."""
    for pod in subject.pods:
        policy = pod.spec.get("restartPolicy")
        field = pod.where("restartPolicy")
        if pod.kind in {"Job", "CronJob"}:
            if policy not in ("Never", "OnFailure"):
                yield Hit(pod.title, field, policy, "expected Never or OnFailure")
            elif policy != "Never" and pod.job.get("podFailurePolicy") is not None:
                yield Hit(pod.title, field, policy, "a podFailurePolicy needs Never")
        elif pod.kind in LONG_RUNNING and policy not in (None, "Always"):
            yield Hit(pod.title, field, policy, "expected Always")


def without_deadline(subject: Subject) -> Iterator[Hit]:
    """Yield Jobs that may run for ever."""
    for pod in subject.jobs:
        seconds = pod.job.get("activeDeadlineSeconds")
        if not isinstance(seconds, int) or not 0 < seconds <= _LONGEST_DEADLINE_SECONDS:
            yield Hit(pod.title, pod.in_job("activeDeadlineSeconds"), seconds)


def bad_grace(subject: Subject) -> Iterator[Hit]:
    """Yield pods that are given too much time to end, or less than they need."""
    drain = subject.profile.jobs.drain_seconds
    for pod in subject.pods:
        field = pod.where("terminationGracePeriodSeconds")
        written = pod.spec.get("terminationGracePeriodSeconds")
        seconds = _DEFAULT_GRACE_SECONDS if written is None else written
        if not isinstance(seconds, int) or not 0 <= seconds <= _LONGEST_GRACE_SECONDS:
            yield Hit(pod.title, field, written, f"expected 0 to {_LONGEST_GRACE_SECONDS} seconds")
        elif _runs_stages(pod) and seconds < drain + _LAST_WORDS_SECONDS:
            yield Hit(
                pod.title,
                field,
                written,
                f"queries are drained for {drain:g} s, and {_LAST_WORDS_SECONDS} s more are needed",
            )


def _runs_stages(pod: Pod) -> bool:
    return any("stage" in container.words[:4] for container in pod.containers)


def many_writers(subject: Subject) -> Iterator[Hit]:
    """Yield objects whose pods would write the same files."""
    for pod in subject.pods:
        several = pod.at_once > 1 or _completions(pod) > 1
        if not several:
            continue
        for container in pod.containers:
            mounted = _written_claim(subject, pod, container)
            if mounted and not _shard(container):
                field = f"{container.path}.{'args' if container.spec.get('args') else 'command'}"
                detail = f"{max(pod.at_once, _completions(pod))} pods write to {mounted}"
                yield Hit(pod.title, field, " ".join(container.words), detail)


def _completions(pod: Pod) -> int:
    completions = pod.job.get("completions")
    return completions if isinstance(completions, int) else 1


def _written_claim(subject: Subject, pod: Pod, container: Container) -> str:
    """Return the name of a claim that all pods of an object may write to."""
    for mount in items(container.spec.get("volumeMounts")):
        volume = pod.volumes.get(text(mapping(mount).get("name")), {})
        source = mapping(volume.get("persistentVolumeClaim"))
        read_only = mapping(mount).get("readOnly") is True or source.get("readOnly") is True
        if source and not read_only:
            return text(source.get("claimName"))
    return ""


def _shard(container: Container) -> str:
    """Return what follows `--shard`."""
    words = container.words
    for number, word in enumerate(words):
        if word == "--shard":
            return words[number + 1] if number + 1 < len(words) else ""
        if word.startswith("--shard="):
            return word.removeprefix("--shard=")
    return ""


def bad_shards(subject: Subject) -> Iterator[Hit]:
    """Yield shards that are not those of the Job: some queries would never be asked."""
    for pod, container in subject.containers:
        shard = _shard(container)
        if not pod.job or not shard:
            continue
        field = f"{container.path}.{'args' if container.spec.get('args') else 'command'}"
        found = _SHARD.match(shard)
        completions = pod.job.get("completions")
        if found is None:
            yield Hit(pod.title, field, shard, "expected $(JOB_COMPLETION_INDEX)/N")
        elif pod.job.get("completionMode") != "Indexed":
            yield Hit(
                pod.title,
                pod.in_job("completionMode"),
                pod.job.get("completionMode"),
                "only the pods of an Indexed Job know which of them they are",
            )
        elif completions != int(found[1]):
            yield Hit(pod.title, pod.in_job("completions"), completions, f"--shard says {found[1]}")
        elif shard[0].isdigit() and int(found[1]) > 1:
            yield Hit(pod.title, field, shard, "all pods would ask the same shard")


def bad_indexes(subject: Subject) -> Iterator[Hit]:
    """Yield Jobs whose numbers do not go together."""
    for pod in subject.jobs:
        indexed = pod.job.get("completionMode") == "Indexed"
        completions = pod.job.get("completions")
        if indexed and not isinstance(completions, int):
            yield Hit(
                pod.title, pod.in_job("completions"), completions, "an Indexed Job needs them"
            )
        for field in ("backoffLimitPerIndex", "maxFailedIndexes"):
            value = pod.job.get(field)
            if value is not None and not indexed:
                yield Hit(pod.title, pod.in_job(field), value, "only for an Indexed Job")
        for field in ("completions", "parallelism"):
            value = pod.job.get(field)
            if value is not None and (not isinstance(value, int) or value < 1):
                yield Hit(pod.title, pod.in_job(field), value, "expected 1 or more")


def bad_scalers(subject: Subject) -> Iterator[Hit]:
    """Yield autoscalers whose bounds are none."""
    for scaler in subject.of_kind("HorizontalPodAutoscaler"):
        yield from _bounds(title(scaler), scaler, "spec.minReplicas", "spec.maxReplicas")
    for scaler in subject.of_kind("ScaledObject"):
        yield from _bounds(title(scaler), scaler, "spec.minReplicaCount", "spec.maxReplicaCount")
    for budget in subject.of_kind("PodDisruptionBudget"):
        spec = mapping(budget.get("spec"))
        if ("minAvailable" in spec) == ("maxUnavailable" in spec):
            value: JsonValue = spec.get("minAvailable")
            detail = "expected exactly one of minAvailable and maxUnavailable"
            yield Hit(f"PodDisruptionBudget/{name_of(budget)}", "spec", value, detail)


def _bounds(what: str, scaler: object, least_field: str, most_field: str) -> Iterator[Hit]:
    least, most = at(scaler, least_field), at(scaler, most_field)
    if not isinstance(most, int) or most < 1:
        yield Hit(what, most_field, most, "expected 1 or more")
    elif isinstance(least, int) and not 0 <= least <= most:
        yield Hit(what, least_field, least, f"expected 0 to {most}")
