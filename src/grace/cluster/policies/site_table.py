"""
The rules of sites, as a table; each is checked where a profile has it.

Their words take figures and sources from the profile, so that a site that
changes one changes its file.
"""

from grace.cluster.policies import commands, controllers, gpu_rules, jobs, resources, storage
from grace.cluster.policies.finding import Rule, Severity

_VIOLATION, _NOTICE = Severity.VIOLATION, Severity.NOTICE

SITE_RULES = (
    Rule(
        "site-no-sleep",
        _VIOLATION,
        "a Job's command must not sleep, nor end in a sleep or an endless wait: whoever runs one "
        "is banned from the cluster",
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
        "a pod without a controller is interactive, and destroyed after {rule.hours:g} hours",
        "make it a Job",
        controllers.bare_pods,
        lambda rules: rules.interactive_pods,
    ),
    Rule(
        "site-bare-pod-size",
        _VIOLATION,
        "a pod without a controller has {rule.gpus} GPUs, {rule.memory_gb:g} GB and {rule.cpu:g} "
        "cores at most",
        "make it a Job, or ask for less",
        controllers.large_bare_pods,
        lambda rules: rules.interactive_pods,
    ),
    Rule(
        "site-long-running-gpu",
        _VIOLATION,
        "a Deployment or StatefulSet may hold no GPU unless it is on the site's exception list",
        "set model_servers.controller: job in the profile, or ask for an exception and list the "
        "model in rules.long_running.exceptions",
        controllers.long_running_gpus,
        lambda rules: rules.long_running,
    ),
    Rule(
        "site-long-running",
        _NOTICE,
        "Deployments and StatefulSets are deleted after {rule.days:g} days, and should ask for "
        "little (Burstable)",
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
        "`grace cluster run` sends a few at a time; do not `kubectl apply` the whole folder",
        jobs.many_jobs_applied,
        lambda rules: rules.jobs_at_once,
    ),
    Rule(
        "site-failed-jobs",
        _VIOLATION,
        "a failed Job must not go on making pods: at most {rule.backoff_at_most} retries, and "
        "ttlSecondsAfterFinished",
        "set backoffLimit and ttlSecondsAfterFinished (jobs.backoff_limit, jobs.keep_hours)",
        jobs.endless_failures,
        lambda rules: rules.failed_jobs,
    ),
    Rule(
        "site-limits-ratio",
        _VIOLATION,
        "limits are at most {rule.at_most:g} times the requests",
        "lower limits_ratio in the profile",
        resources.limits_over_ratio,
        lambda rules: rules.limits_ratio,
    ),
    Rule(
        "site-many-pods",
        _VIOLATION,
        "with more than {rule.more_than} pods or Jobs, limits are the requests",
        "set limits_ratio: 1 in the profile, or run fewer pods",
        resources.limits_of_many,
        lambda rules: rules.many_pods,
    ),
    Rule(
        "site-utilisation",
        _NOTICE,
        "pods that ask for more than {rule.exempt_cpu:g} CPU and {rule.exempt_memory_gb:g} GB must "
        "use at least {rule.gpu_at_least:.0%} of their GPUs, {rule.cpu_at_least:.0%} to "
        "{rule.cpu_at_most:.0%} of their CPUs and {rule.memory_at_least:.0%} to "
        "{rule.memory_at_most:.0%} of their memory; {rule.violating_pods} pods of a user may not",
        "look at the forecast of `grace cluster plan` first",
        resources.not_exempt,
        lambda rules: rules.utilisation,
    ),
    Rule(
        "site-utilisation-many",
        _VIOLATION,
        "no more than {rule.violating_pods} pods of a user may use less than they ask for; pods "
        "that wait for a server do, unless they ask for {rule.exempt_cpu:g} CPU and "
        "{rule.exempt_memory_gb:g} GB at most",
        "lower jobs.query in the profile, or jobs.shards",
        resources.many_not_exempt,
        lambda rules: rules.utilisation,
    ),
    Rule(
        "site-gpus-at-once",
        _VIOLATION,
        "a plan with more than {rule.more_than} GPUs at once is shown to the admins first "
        "{rule.contact}",
        "serve fewer models at once (model_servers.at_once, gpus_at_once); once the admins have "
        "agreed, raise rules.gpus_at_once.more_than in a profile of your own",
        gpu_rules.gpus_at_once,
        lambda rules: rules.gpus_at_once,
    ),
    Rule(
        "site-storage-class",
        _VIOLATION,
        "a claim names one of the site's storage classes",
        "set storage in the profile",
        storage.unknown_classes,
        lambda rules: rules.storage_classes,
    ),
    Rule(
        "site-storage-forbidden",
        _VIOLATION,
        "this storage class is not for data that must stay",
        "set storage in the profile to another class",
        storage.forbidden_classes,
        lambda rules: rules.storage_classes,
    ),
    Rule(
        "site-storage-access",
        _VIOLATION,
        "a volume of this class is mounted by one node at a time",
        "ask for ReadWriteOnce, or for a class of a shared file system",
        storage.unshareable,
        lambda rules: rules.storage_classes,
    ),
    Rule(
        "site-one-writer",
        _VIOLATION,
        "no two clients write to the same file of a shared volume",
        "give the Job's command `--shard $(JOB_COMPLETION_INDEX)/N`, or mount the volume read-only",
        jobs.many_writers,
        lambda rules: rules.one_writer,
    ),
)
"""Checked where the profile has such a rule."""
