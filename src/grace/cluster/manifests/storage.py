"""
Claims, and what pods read: inputs and the config, as immutable ConfigMaps named by content.

Inputs that do not fit go into the input claim, all of a run's files together, in
a folder named by their content; so no run ever sees another's files, and the
same files are sent once.
"""

import base64
import hashlib
import re
from pathlib import PurePosixPath

from kubernetes.client import (
    V1ConfigMap,
    V1ConfigMapProjection,
    V1KeyToPath,
    V1PersistentVolumeClaim,
    V1PersistentVolumeClaimSpec,
    V1PersistentVolumeClaimVolumeSource,
    V1ProjectedVolumeSource,
    V1Volume,
    V1VolumeMount,
    V1VolumeProjection,
    V1VolumeResourceRequirements,
)

from grace.catalogue.model import ModelSpec
from grace.cluster.manifests.labels import Component, labelled, metadata
from grace.cluster.manifests.quantities import gigabytes
from grace.cluster.names import joined, slug, weights_name
from grace.cluster.profile import ClaimSettings
from grace.cluster.request import CONFIG, CONFIG_MAP_BYTES, INPUTS, ClusterRun, InputFile
from grace.cluster.yaml_text import yaml_text

OUTPUT_CLAIM = "grace-output"
LOGS_CLAIM = "grace-logs"
INPUTS_CLAIM = "grace-inputs"

_DIGITS = 12
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
# What YAML and JSON carry through every tool as it is; all else travels as base64.
_PLAIN = re.compile(
    "[\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]*"
)


def shared_claims(run: ClusterRun) -> tuple[V1PersistentVolumeClaim, ...]:
    """Return the claims that runs share: output, logs, and inputs if they need one."""
    storage = run.profile.storage
    claims = [
        _claim(run, OUTPUT_CLAIM, Component.RESULTS, storage.output),
        _claim(run, LOGS_CLAIM, Component.RESULTS, storage.logs),
    ]
    if upload_folder(run) is not None:
        claims.append(_claim(run, INPUTS_CLAIM, Component.SETUP, storage.inputs))
    return tuple(claims)


def weights_claim(run: ClusterRun, spec: ModelSpec) -> V1PersistentVolumeClaim:
    """Return the claim for a model's weights, which stays for the next run."""
    settings = run.profile.storage.weights
    size_gb = max(spec.disk_gb, settings.size_gb)
    return _claim(
        run,
        weights_name(spec.key),
        Component.WEIGHTS,
        settings.model_copy(update={"size_gb": size_gb}),
        spec.key,
    )


def upload_folder(run: ClusterRun) -> PurePosixPath | None:
    """
    Return the folder below the input claim's root to which the run's files must be sent.

    None if they fit in ConfigMaps, so that nothing has to be sent.
    """
    if all(file.size <= CONFIG_MAP_BYTES for file in run.files):
        return None
    digest = hashlib.sha256()
    for file in sorted(run.files, key=lambda file: file.name):
        digest.update(f"{file.sha256}  {file.name}\n".encode())
    return PurePosixPath(digest.hexdigest()[:_DIGITS])


def input_maps(run: ClusterRun) -> tuple[V1ConfigMap, ...]:
    """Return the ConfigMaps of the run's files; none if they are in the claim."""
    if upload_folder(run) is not None:
        return ()
    return tuple(_input_map(run, file) for file in run.files)


def config_map(run: ClusterRun) -> V1ConfigMap:
    """Return the ConfigMap of the config file that all pods of the run share."""
    text = yaml_text(run.config)
    return V1ConfigMap(
        api_version="v1",
        kind="ConfigMap",
        metadata=metadata(run, _config_name(text), labelled(Component.SETUP, run=run)),
        immutable=True,
        data={CONFIG.name: text},
    )


def config_volume(run: ClusterRun) -> V1Volume:
    """Return the volume with the config file."""
    source = V1ConfigMapProjection(
        name=_config_name(yaml_text(run.config)),
        items=[V1KeyToPath(key=CONFIG.name, path=CONFIG.name)],
    )
    return _projected("config", [source])


def inputs_volume(run: ClusterRun) -> V1Volume | None:
    """Return the volume with the run's files; None if there are none."""
    if not run.files:
        return None
    if upload_folder(run) is not None:
        return claim_volume("inputs", INPUTS_CLAIM)
    sources = [
        V1ConfigMapProjection(
            name=_input_name(file), items=[V1KeyToPath(key=_key(file), path=file.name)]
        )
        for file in run.files
    ]
    return _projected("inputs", sources)


def inputs_mount(run: ClusterRun) -> V1VolumeMount:
    """Return where pods find that volume."""
    folder = upload_folder(run)
    return V1VolumeMount(
        name="inputs",
        mount_path=str(INPUTS),
        read_only=True,
        sub_path=None if folder is None else str(folder),
    )


def claim_volume(name: str, claim: str) -> V1Volume:
    """Return a volume that is a claim."""
    return V1Volume(
        name=name, persistent_volume_claim=V1PersistentVolumeClaimVolumeSource(claim_name=claim)
    )


def _projected(name: str, sources: list[V1ConfigMapProjection]) -> V1Volume:
    projections = [V1VolumeProjection(config_map=source) for source in sources]
    return V1Volume(name=name, projected=V1ProjectedVolumeSource(sources=projections))


def _claim(
    run: ClusterRun,
    name: str,
    component: Component,
    settings: ClaimSettings,
    model: str | None = None,
) -> V1PersistentVolumeClaim:
    return V1PersistentVolumeClaim(
        api_version="v1",
        kind="PersistentVolumeClaim",
        metadata=metadata(run, name, labelled(component, model=model)),
        spec=V1PersistentVolumeClaimSpec(
            access_modes=[settings.access],
            storage_class_name=settings.storage_class,
            resources=V1VolumeResourceRequirements(
                requests={"storage": gigabytes(settings.size_gb)}
            ),
        ),
    )


def _input_map(run: ClusterRun, file: InputFile) -> V1ConfigMap:
    text = _text(file.content)
    encoded = base64.b64encode(file.content).decode()
    return V1ConfigMap(
        api_version="v1",
        kind="ConfigMap",
        # Without a run: the same file of another run is the same object.
        metadata=metadata(run, _input_name(file), labelled(Component.SETUP)),
        immutable=True,
        data=None if text is None else {_key(file): text},
        binary_data={_key(file): encoded} if text is None else None,
    )


def _text(content: bytes) -> str | None:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    return text if _PLAIN.fullmatch(text) else None


def _key(file: InputFile) -> str:
    usable = _KEY.fullmatch(file.name) and not file.name.startswith("..")
    return file.name if usable and file.name != "." else "content"


def _input_name(file: InputFile) -> str:
    return joined("input", slug(file.name), file.sha256[:_DIGITS])


def _config_name(text: str) -> str:
    return joined("config", hashlib.sha256(text.encode()).hexdigest()[:_DIGITS])
