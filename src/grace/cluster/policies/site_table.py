"""
The rules of sites, as a table; each is checked where a profile has it.

Their words take figures and sources from the profile, so that a site that
changes one changes its file.
"""

from collections.abc import Mapping

from grace.cluster.policies import commands, controllers, gpu_rules, jobs, resources, storage
from grace.cluster.policies.finding import Rule, Severity
from grace.cluster.site_rules import SiteRules

_VIOLATION, _NOTICE = Severity.VIOLATION, Severity.NOTICE

SITE_RULES = (
    Rule(
        "site-no-sleep",
        _VIOLATION,
        "a Job must not sleep or wait without an end: the site bans whoever runs such a Job",
        "let the command do its work and end; `grace files keep` ends by itself",
        commands.sleeping,
        lambda rules: rules.no_sleep,
    ),
    Rule(
        "site-no-installs",
        _VIOLATION,
        "nothing is installed or cloned when a pod starts: dependencies are in the image",
        "build an image (deploy/) and name it in the profile",
        commands.installing,
        lambda rules: rules.no_installs,
    ),
    Rule(
        "site-bare-pod",
        _VIOLATION,
        "a pod that belongs to no Job or other controller is deleted after {rule.hours:g} hours",
        "make it a Job",
        controllers.bare_pods,
        lambda rules: rules.interactive_pods,
    ),
    Rule(
        "site-bare-pod-size",
        _VIOLATION,
        "a pod that belongs to no Job or other controller may ask for {rule.gpus} GPUs, "
        "{rule.memory_gb:g} GB of memory and {rule.cpu:g} CPUs at most",
        "make it a Job, or ask for less",
        controllers.large_bare_pods,
        lambda rules: rules.interactive_pods,
    ),
    Rule(
        "site-long-running-gpu",
        _VIOLATION,
        "a Deployment or StatefulSet may use GPUs only if it is on the site's exception list",
        "set model_servers.controller: job in the profile, or ask for an exception and list the "
        "model in rules.long_running.exceptions",
        controllers.long_running_gpus,
        lambda rules: rules.long_running,
    ),
    Rule(
        "site-long-running",
        _NOTICE,
        "the site deletes Deployments and StatefulSets after {rule.days:g} days, and wants them to "
        "ask for little",
        "stop it when its stage is done: `grace cluster run` does, `grace cluster down` as well",
        controllers.long_running,
        lambda rules: rules.long_running,
    ),
    Rule(
        "site-jobs-at-once",
        _VIOLATION,
        "no more than {rule.at_most} Jobs are submitted at once",
        "set jobs.at_once in the profile and let `grace cluster run` send them",
        jobs.too_many_jobs,
        lambda rules: rules.jobs_at_once,
    ),
    Rule(
        "site-jobs-applied",
        _NOTICE,
        "no more than {rule.at_most} Jobs are submitted at once",
        "nothing, if you use `grace cluster run`: it sends a few at a time; do not `kubectl apply` "
        "the whole folder",
        jobs.many_jobs_applied,
        lambda rules: rules.jobs_at_once,
    ),
    Rule(
        "site-failed-jobs",
        _VIOLATION,
        "a Job that fails must not go on making pods: it is tried again {rule.backoff_at_most} times "
        "at most, and removed some time after its end",
        "set backoffLimit and ttlSecondsAfterFinished (jobs.backoff_limit, jobs.keep_hours)",
        jobs.endless_failures,
        lambda rules: rules.failed_jobs,
    ),
    Rule(
        "site-limits-ratio",
        _VIOLATION,
        "a container's limits are at most {rule.at_most:g} times what it requests",
        "lower limits_ratio in the profile",
        resources.limits_over_ratio,
        lambda rules: rules.limits_ratio,
    ),
    Rule(
        "site-many-pods",
        _VIOLATION,
        "with more than {rule.more_than} pods or Jobs, a container's limits are what it requests",
        "set limits_ratio: 1 in the profile, or run fewer pods",
        resources.limits_of_many,
        lambda rules: rules.many_pods,
    ),
    Rule(
        "site-utilisation",
        _NOTICE,
        "a pod must make use of what it asks for: at least {rule.gpu_at_least:.0%} of its GPUs, "
        "{rule.cpu_at_least:.0%} to {rule.cpu_at_most:.0%} of its CPUs and "
        "{rule.memory_at_least:.0%} to {rule.memory_at_most:.0%} of its memory; each user may have "
        "up to {rule.violating_pods} pods that do not, and pods that ask for {rule.exempt_cpu:g} CPU "
        "and {rule.exempt_memory_gb:g} GB at most, and no GPU, are not counted",
        "look at the forecast of `grace cluster plan`; if it is low, give the run more rows or a "
        "smaller GPU; you may go ahead as long as no more of your pods are low than the site allows",
        resources.not_exempt,
        lambda rules: rules.utilisation,
    ),
    Rule(
        "site-utilisation-many",
        _VIOLATION,
        "each user may have up to {rule.violating_pods} pods that use less than they ask for; pods "
        "that wait for a model server use little, and are not counted only if they ask for "
        "{rule.exempt_cpu:g} CPU and {rule.exempt_memory_gb:g} GB at most",
        "lower jobs.query in the profile, or jobs.shards",
        resources.many_not_exempt,
        lambda rules: rules.utilisation,
    ),
    Rule(
        "site-gpus-at-once",
        _VIOLATION,
        "whoever wants more than {rule.more_than} GPUs at the same time shows the site's admins a "
        "plan first {rule.contact}",
        "serve fewer models at once (model_servers.at_once, gpus_at_once); once the admins have "
        "agreed, raise rules.gpus_at_once.more_than in a profile of your own",
        gpu_rules.gpus_at_once,
        lambda rules: rules.gpus_at_once,
    ),
    Rule(
        "site-storage-class",
        _VIOLATION,
        "a volume claim names one of the site's storage classes",
        "set storage in the profile",
        storage.unknown_classes,
        lambda rules: rules.storage_classes,
    ),
    Rule(
        "site-storage-forbidden",
        _VIOLATION,
        "this storage class is not for data that must last",
        "set storage in the profile to another class",
        storage.forbidden_classes,
        lambda rules: rules.storage_classes,
    ),
    Rule(
        "site-storage-access",
        _VIOLATION,
        "volumes of this storage class can be used on one node at a time",
        "ask for ReadWriteOnce, or name a class of a shared file system",
        storage.unshareable,
        lambda rules: rules.storage_classes,
    ),
    Rule(
        "site-one-writer",
        _VIOLATION,
        "no two pods write to the same file of a shared volume",
        "give the Job's command `--shard $(JOB_COMPLETION_INDEX)/N`, or mount the volume read-only",
        jobs.many_writers,
        lambda rules: rules.one_writer,
    ),
)
"""Checked where the profile has such a rule."""


def site_words(rules: SiteRules) -> Mapping[str, tuple[str, ...]]:
    """Return what each rule of a site demands, in words, by its name in the profile."""
    found: dict[str, tuple[str, ...]] = {}
    for name in type(rules).model_fields:
        written = getattr(rules, name)
        if written is None:
            continue
        held = [rule for rule in SITE_RULES if rule.site and rule.site(rules) is written]
        found[name] = tuple(dict.fromkeys(rule.words.format(rule=written) for rule in held))
    if rules.long_running is not None:
        listed = ", ".join(rules.long_running.exceptions) or "nothing yet"
        found["long_running"] += (f"on the exception list: {listed}",)
    if rules.storage_classes is not None:
        classes = rules.storage_classes
        found["storage_classes"] = (
            f"a volume claim names one of these classes: {', '.join(classes.allowed)}",
            *(f"never {name}: {reason}" for name, reason in classes.forbidden.items()),
        )
        if classes.one_node:
            found["storage_classes"] += (
                f"volumes of these can be used on one node at a time: {', '.join(classes.one_node)}",
            )
    if rules.archive is not None:
        found["archive"] = (
            f"volumes that nothing used for {rules.archive.months:g} months may be deleted without "
            "notice",
        )
    return found
