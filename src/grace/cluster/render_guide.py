"""The README of a rendered folder: which commands, in which order, for a person."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import assert_never

from grace.cluster.manifests import Manifest, upload_folder
from grace.cluster.names import files_job_name, server_name, step_job_name
from grace.cluster.request import INPUTS, RESULTS, ClusterRun, InputFile
from grace.cluster.waves import Ask, Start, Stop, Wave

UPLOADS = "uploads"
_INLINE = 3


@dataclass(frozen=True, slots=True)
class Part:
    """
    One sub-folder, and what is done with it.

    Attributes:
        name: Of the sub-folder; a server is stopped by the one that started it.

        wave: What it is for; None for the set-up and for handing files over.

        objects: What is in it.
    """

    name: str
    wave: Wave | None
    objects: tuple[Manifest, ...]


def guide(run: ClusterRun, parts: Sequence[Part]) -> str:
    """
    Return the README of a rendered folder.

    Args:
        run: The run.

        parts: Its sub-folders, in order.
    """
    lines = [
        f"# Run {run.timestamp} on {run.profile.title}",
        "",
        f"Namespace `{run.namespace}`. Models: {', '.join(run.settings.model)}.",
        "",
        "Give the commands below in this folder, one after the other; each ends when its part is",
        "over. `grace cluster run` does the same by itself, several things at a time, and stops",
        "each model server as soon as nothing needs it. `--server-side` matters: without it,",
        "kubectl refuses objects with large inputs.",
    ]
    lines += _secrets(run)
    for number, part in enumerate(parts, 1):
        lines += ["", f"## {number}. {_heading(run, part, first=number == 1)}", "", "```sh"]
        lines += _commands(run, part, first=number == 1, last=number == len(parts))
        lines.append("```")
    lines += ["", "## When it goes wrong", "", *_TROUBLE, "", "```sh", *_looks(run), "```"]
    return "\n".join(lines) + "\n"


_TROUBLE = (
    "A `kubectl wait` that does not end waits for a Job that failed, or for a pod that finds no",
    "node. These commands show which, and why. A failed Job is deleted and applied again: no query",
    "that was answered is asked twice. Servers hold GPUs until they are deleted: if you stop in",
    "between, delete them.",
)


def _looks(run: ClusterRun) -> Iterator[str]:
    space = f"-n {run.namespace}"
    yield f"kubectl get jobs,statefulsets,pods {space} -l app.kubernetes.io/name=grace"
    yield f"kubectl describe pods {space} -l app.kubernetes.io/name=grace"
    yield f"kubectl logs {space} job/NAME --all-containers --tail=50"
    yield (f"kubectl delete jobs,statefulsets {space} -l app.kubernetes.io/component=model-server")


def _secrets(run: ClusterRun) -> Iterator[str]:
    secrets = run.profile.secrets
    needed = []
    if secrets.hub_token is not None and any(
        spec.gated and run.fetches(spec) for spec in run.models
    ):
        needed.append(secrets.hub_token)
    if secrets.deepseek is not None and any(spec.api_key_env for spec in run.models):
        needed.append(secrets.deepseek)
    if not needed:
        return
    yield from ("", "Keys are in Secrets, which you make once:", "")
    yield "```sh"
    for secret in needed:
        yield (
            f"kubectl create secret generic {secret.name} -n {run.namespace} "
            f"--from-literal={secret.key}=YOUR_KEY"
        )
    yield "```"


def _heading(run: ClusterRun, part: Part, *, first: bool) -> str:
    match part.wave:
        case None if first:
            return "Set up"
        case None:
            return "Hand files over"
        case Start(server):
            return f"Start the server of {server.base.key}"
        case Stop(server):
            return f"Stop the server of {server.base.key}"
        case Ask(steps):
            kinds = ", ".join(dict.fromkeys(step.kind.value for step in steps))
            models = list(dict.fromkeys(step.model for step in steps))
            shown = ", ".join(models[:_INLINE])
            more = f" and {len(models) - _INLINE} more" if len(models) > _INLINE else ""
            return f"{kinds.capitalize()}: {shown}{more}"
        case _:
            assert_never(part.wave)


def _commands(run: ClusterRun, part: Part, *, first: bool, last: bool) -> Iterator[str]:
    apply = f"kubectl apply --server-side -k {part.name}"
    match part.wave:
        case None if first:
            yield apply
        case None:
            yield apply
            yield from _handing_over(run, inwards=not last)
            yield f"kubectl delete -k {part.name}"
        case Start(server):
            yield apply
            if run.profile.model_servers.controller == "statefulset":
                yield (
                    f"kubectl rollout status statefulset/{server_name(server.base.key)} "
                    f"-n {run.namespace} --timeout={run.profile.model_servers.startup_minutes}m"
                )
        case Stop():
            yield f"kubectl delete -k {part.name}"
        case Ask(steps):
            yield apply
            jobs = [f"job/{step_job_name(run.run_id, step)}" for step in steps]
            hours = run.profile.jobs.deadline_hours
            yield (
                f"kubectl wait -n {run.namespace} --for=condition=complete "
                f"--timeout={round(hours * 60)}m \\"
            )
            yield " \\\n".join(f"  {job}" for job in jobs)
        case _:
            assert_never(part.wave)


def _handing_over(run: ClusterRun, *, inwards: bool) -> Iterator[str]:
    job = files_job_name(run.run_id)
    yield (
        f"kubectl wait -n {run.namespace} --for=condition=ready --timeout=10m "
        f"pod -l batch.kubernetes.io/job-name={job}"
    )
    if inwards:
        for file in run.files:
            yield _upload(run, job, file)
    else:
        yield (
            f"kubectl exec -n {run.namespace} job/{job} -- tar -C {RESULTS} -cf - . > results.tar"
        )


def _upload(run: ClusterRun, job: str, file: InputFile) -> str:
    target = INPUTS / str(upload_folder(run)) / file.name
    return (
        f"kubectl exec -i -n {run.namespace} job/{job} -- grace files receive "
        f"{shlex.quote(str(target))} --size {file.size} --sha256 {file.sha256} < "
        f"{shlex.quote(f'{UPLOADS}/{file.name}')}"
    )
