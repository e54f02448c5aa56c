"""
From what a user asks to a run on a cluster: checked, complete, and free of local paths.

Everything that can be wrong and can be known without the cluster is found here,
before anything is sent: inputs, studies, models, extractor, namespace. Whether
the site allows it is for `grace.cluster.policies`, and whether there is room for
`grace.cluster.capacity`.
"""

import ipaddress
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError

from grace.catalogue.faults import as_json, entry_faults
from grace.catalogue.spec import Catalogue, ModelSpec, load_catalogue
from grace.cluster.pod_files import (
    catalogue_file,
    is_study_file,
    read_inputs,
    study_file,
    trials_file,
)
from grace.cluster.profile import Profile
from grace.cluster.request import INPUTS, RESULTS, ClusterRun, InputFile
from grace.cluster.servable import model_faults
from grace.errors import UsageError
from grace.extraction.result import RULES
from grace.inference.transport import check_url
from grace.pipeline.extractor import DEEPSEEK
from grace.pipeline.inputs import load_inputs
from grace.runs.folder import check_timestamp, new_timestamp
from grace.settings import RunSettings
from grace.studies.trials import TrialSet

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LOCAL_NAMES = ("localhost", "host.docker.internal")


def adjusted(
    profile: Profile,
    *,
    shards: int | None = None,
    models_at_once: int | None = None,
    deadline_hours: float | None = None,
) -> Profile:
    """
    Return a profile with what a command says otherwise.

    Args:
        profile: The profile.

        shards: Pods that ask for one experiment on one model.

        models_at_once: How many models hold their servers at the same time.

        deadline_hours: After this, servers and jobs are stopped.

    Raises:
        UsageError: A value is out of range.
    """
    changes: dict[str, dict[str, object]] = {"jobs": {}, "model_servers": {}}
    if shards is not None:
        changes["jobs"]["shards"] = shards
    if models_at_once is not None:
        changes["model_servers"]["at_once"] = models_at_once
    if deadline_hours is not None:
        changes["jobs"]["deadline_hours"] = deadline_hours
        changes["model_servers"]["deadline_hours"] = deadline_hours
    written = profile.model_dump(mode="json")
    for part, fields in changes.items():
        written[part] |= fields
    try:
        return Profile.model_validate_json(as_json(written))
    except ValidationError as error:
        faults = entry_faults(error, f"profile {profile.name}", tuple(Profile.model_fields))
        raise UsageError("\n".join(faults)) from error


def prepare_run(
    settings: RunSettings,
    profile: Profile,
    *,
    namespace: str | None = None,
    spot: bool = False,
    timestamp: str | None = None,
) -> ClusterRun:
    """
    Check a run and return it as the cluster will know it; nothing is sent.

    Args:
        settings: What is asked, as for a run on this machine.

        profile: The cluster.

        namespace: Where on it; None takes the profile's.

        spot: Whether pods may run on nodes that can be taken away.

        timestamp: The run's name; None takes that of the settings, or now.

    Raises:
        UsageError: Whatever is wrong with it; faults of several models are
            named together.
    """
    place = _namespace(profile, namespace)
    _check_choices(settings)
    if spot and profile.spot is None:
        raise UsageError(
            f"--spot: the profile {profile.name} does not say which nodes can be taken away; "
            "leave it out, or add `spot` to a profile of your own"
        )
    catalogue = load_catalogue(settings.catalogue)
    extractor = _extractor(settings, catalogue, profile)
    key = _model_of(extractor)
    specs = _specs(catalogue, (*settings.model, *([key] if key is not None else [])))
    _check_addresses(settings, catalogue, key)
    if faults := list(model_faults(settings, specs, catalogue, profile)):
        raise UsageError("\n".join(faults))
    inputs = load_inputs(settings)
    files = read_inputs(settings, inputs)
    entries = catalogue_file(catalogue, [spec.key for spec in specs])
    named = timestamp or settings.timestamp
    run_name = new_timestamp() if named is None else check_timestamp(named)
    return ClusterRun(
        profile=profile,
        namespace=place,
        timestamp=run_name,
        settings=_settings_of_pods(settings, profile, inputs, run_name, extractor).model_copy(
            update={"catalogue": None if entries is None else _path(entries)}
        ),
        catalogue=catalogue,
        extractor=key,
        files=files if entries is None else (*files, entries),
        spot=spot,
    )


def _namespace(profile: Profile, given: str | None) -> str:
    if given is None and profile.namespace.name is None:
        raise UsageError(
            f"the profile {profile.name} names no namespace; give yours: --namespace NAME "
            "(`kubectl config view --minify` shows the one that kubectl uses)"
        )
    name = given if given is not None else str(profile.namespace.name)
    if not _NAMESPACE.fullmatch(name):
        raise UsageError(
            f"--namespace is {name!r}; expected at most 63 lower-case letters, digits and hyphens"
        )
    return name


def _check_choices(settings: RunSettings) -> None:
    for field in ("study", "experiment", "model"):
        chosen: tuple[str, ...] = getattr(settings, field)
        if not chosen:
            raise UsageError("give at least one study, one experiment and one model")
        if len(set(chosen)) != len(chosen):
            raise UsageError(f"--{field}: one is given twice: {', '.join(chosen)}")
    unfit = {
        "dry_run": "a dry run needs no cluster: grace run --dry-run",
        "new": "each run on a cluster is a new one, unless --timestamp names it",
        "retry_failed": "collect the results, then: grace resume FOLDER --retry-failed",
    }
    for name, remedy in unfit.items():
        if getattr(settings, name):
            raise UsageError(f"{name} is not for a cluster; leave it out: {remedy}")


def _extractor(settings: RunSettings, catalogue: Catalogue, profile: Profile) -> str:
    """Return the choice, so that every pod makes the same one, with a key or without."""
    wanted = settings.extractor
    if "exp1" not in settings.experiment:
        return RULES
    if wanted != "auto":
        return wanted
    known = DEEPSEEK in catalogue.keys and profile.secrets.deepseek is not None
    return f"{RULES}+{DEEPSEEK}" if known else RULES


def _model_of(extractor: str) -> str | None:
    return None if extractor == RULES else extractor.removeprefix(f"{RULES}+")


def _specs(catalogue: Catalogue, keys: Iterable[str]) -> tuple[ModelSpec, ...]:
    """Return the models of these keys, and those that they are adapters of."""
    found = [catalogue.get(key) for key in dict.fromkeys(keys)]
    bases = [catalogue.get(spec.lora_base) for spec in found if spec.lora_base is not None]
    return tuple({spec.key: spec for spec in (*found, *bases)}.values())


def _check_addresses(settings: RunSettings, catalogue: Catalogue, extractor: str | None) -> None:
    """Refuse addresses of servers where the cluster's own are asked, or that pods cannot reach."""
    if settings.endpoint is not None:
        check_url(settings.endpoint)
        served = [key for key in settings.model if not catalogue.get(key).hosted]
        if served:
            raise UsageError(
                f"--endpoint: on a cluster Grace serves {', '.join(served)} itself; leave it out"
            )
        if len(settings.model) > 1:
            raise UsageError("--endpoint serves one model; give one --model")
        _check_reachable("--endpoint", settings.endpoint)
    if settings.extractor_endpoint is not None:
        check_url(settings.extractor_endpoint)
        if extractor is None or not catalogue.get(extractor).hosted:
            raise UsageError(
                "--extractor-endpoint: on a cluster Grace serves the extractor itself, unless it "
                "is hosted; leave it out"
            )
        _check_reachable("--extractor-endpoint", settings.extractor_endpoint)


def _check_reachable(flag: str, address: str) -> None:
    host = urlsplit(address).hostname or ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host in _LOCAL_NAMES or host.endswith(".localhost")
    if local:
        raise UsageError(
            f"{flag} is {address!r}, which is this machine; pods cannot reach it: give an address "
            "that the cluster can"
        )


def _settings_of_pods(
    settings: RunSettings,
    profile: Profile,
    inputs: Iterable[TrialSet],
    timestamp: str,
    extractor: str,
) -> RunSettings:
    keys = {name: trials.study.key for name, trials in zip(settings.study, inputs, strict=True)}
    unset = RunSettings()
    return settings.model_copy(
        update={
            "study": tuple(
                str(INPUTS / study_file(key)) if is_study_file(name) else name
                for name, key in keys.items()
            ),
            "input": {
                key: Path(INPUTS / trials_file(key))
                for key in keys.values()
                if key in settings.input
            },
            "out": Path(RESULTS),
            "timestamp": timestamp,
            "concurrency": settings.concurrency or profile.jobs.concurrency,
            "drain_seconds": profile.jobs.drain_seconds,
            # A server that is evicted loads its model again; its queries wait for that.
            "patience_seconds": max(
                settings.patience_seconds, 60.0 * profile.model_servers.startup_minutes
            ),
            "extractor": extractor,
            # The endpoints are the cluster's own servers, started with the catalogue's weights.
            "as_catalogued": settings.endpoint is None,
            # How a server on the user's own machine would be started or opened.
            "threads": unset.threads,
            "server": settings.server if settings.endpoint is not None else unset.server,
            "api_key_env": unset.api_key_env,
        }
    )


def _path(file: InputFile) -> Path:
    return Path(file.path)
