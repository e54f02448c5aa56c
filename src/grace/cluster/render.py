"""
A run as a folder of YAML files, for people who would rather use kubectl themselves.

The folder has a numbered sub-folder for each thing to be done, in an order that
works: model servers come up one after the other, each is asked everything while
it is up, and is deleted before the next. A README says every command. Nothing
here talks to a cluster.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import assert_never

from grace.cluster.manifests import (
    Manifest,
    files_objects,
    server_objects,
    setup_objects,
    step_objects,
    upload_folder,
    weights_objects,
)
from grace.cluster.names import joined, slug
from grace.cluster.render_guide import UPLOADS, Part, guide
from grace.cluster.request import ClusterRun
from grace.cluster.steps import Step, StepKind
from grace.cluster.waves import Ask, Start, Stop, Wave, waves
from grace.cluster.yaml_text import yaml_text
from grace.errors import UsageError

KUSTOMIZATION = "kustomization.yaml"
MARKER = ".grace-render"
"""Says that a folder is ours, and what was in it."""


def render_folder(run: ClusterRun, folder: Path) -> tuple[Path, ...]:
    """
    Write a run's folder, whole or not at all.

    Args:
        run: The run.

        folder: Where; what was rendered there before is replaced.

    Returns:
        The files that were written, relative to the folder, in order.

    Raises:
        UsageError: The folder holds something else, or what was rendered there
            was changed since; or it cannot be written.
    """
    contents = rendered(run)
    target = folder.resolve()
    _check_replaceable(target)
    draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
    try:
        _write(draft, contents)
        _put(draft, target)
    except OSError as error:
        raise UsageError(
            f"{error.filename or target}: cannot be written: {error.strerror}; choose another "
            "folder"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return tuple(contents)


def rendered(run: ClusterRun) -> dict[Path, bytes]:
    """Return the files of a run's folder by their paths in it, in order; pure."""
    parts = list(_numbered(run))
    files: dict[Path, bytes] = {Path("README.md"): guide(run, parts).encode()}
    for part in parts:
        files |= {
            Path(part.name) / path: content
            for path, content in _kustomized(part.objects).items()
            # A server is stopped by what started it.
            if not isinstance(part.wave, Stop)
        }
    if upload_folder(run) is not None:
        files |= {Path(UPLOADS) / file.name: file.content for file in run.files}
    return files


def _numbered(run: ClusterRun) -> Iterator[Part]:
    """Yield what is to be done, each under the name of its sub-folder."""
    found: list[tuple[str, Wave | None, Sequence[Manifest]]] = [("setup", None, setup_objects(run))]
    if upload_folder(run) is not None:
        found.append(("files", None, files_objects(run)))
    found += [(_title(wave), wave, _objects(run, wave)) for wave in waves(run)]
    found.append(("collect", None, files_objects(run)))
    width = len(str(len(found)))
    started: dict[str, str] = {}
    for number, (title, wave, objects) in enumerate(found, 1):
        name = f"{number:0{width}}-{title}"
        if isinstance(wave, Start):
            started[wave.server.base.key] = name
        if isinstance(wave, Stop):
            name = started[wave.server.base.key]
        yield Part(name, wave, tuple(objects))


def _title(wave: Wave) -> str:
    match wave:
        case Start() | Stop():
            return joined("serve", slug(wave.server.base.key))
        case Ask():
            kinds = dict.fromkeys(step.kind.value for step in wave.steps)
            asked = "" if wave.server is None else slug(wave.server.base.key)
            return joined(*kinds, asked)
        case _:
            assert_never(wave)


def _objects(run: ClusterRun, wave: Wave) -> tuple[Manifest, ...]:
    match wave:
        case Start() | Stop():
            return server_objects(run, wave.server)
        case Ask():
            return tuple(_of_steps(run, wave.steps))
        case _:
            assert_never(wave)


def _of_steps(run: ClusterRun, steps: Iterable[Step]) -> Iterator[Manifest]:
    for step in steps:
        if step.kind is StepKind.WEIGHTS:
            yield from weights_objects(run, step.model)
        yield from step_objects(run, step)


def _kustomized(objects: Sequence[Manifest]) -> dict[Path, bytes]:
    """Return one file for each object, and the list that kubectl reads."""
    files = {Path(_file_name(each)): yaml_text(each).encode() for each in objects}
    listing = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [path.name for path in files],
    }
    return {Path(KUSTOMIZATION): yaml_text(listing).encode(), **files}


def _file_name(manifest: Manifest) -> str:
    metadata = manifest["metadata"]
    name = metadata["name"] if isinstance(metadata, dict) else ""
    return f"{str(manifest['kind']).lower()}-{name}.yaml"


def _check_replaceable(target: Path) -> None:
    """
    Refuse a folder with anything in it that would be lost.

    Raises:
        UsageError: There is something.
    """
    if target.is_dir():
        if not any(target.iterdir()):
            return
        try:
            written = (target / MARKER).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise UsageError(
                f"{target}: holds files that Grace did not render; choose an empty or a new folder"
            ) from None
        if written != _digest(_found(target)):
            raise UsageError(
                f"{target}: was changed after it was rendered; keep it and choose another folder, "
                "or remove it"
            )
    elif target.exists() or target.is_symlink():
        raise UsageError(f"{target}: is not a folder; choose another name")


def _found(target: Path) -> dict[Path, bytes]:
    return {
        path.relative_to(target): path.read_bytes()
        for path in target.rglob("*")
        if not path.is_dir() and path != target / MARKER
    }


def _write(draft: Path, contents: Mapping[Path, bytes]) -> None:
    for path, content in contents.items():
        file = draft / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (draft / MARKER).write_text(f"{_digest(contents)}\n", "utf-8")


def _put(draft: Path, target: Path) -> None:
    """Give a draft its name; what had the name before goes only then."""
    old = draft.with_suffix(".old")
    if target.exists():
        target.rename(old)
    try:
        draft.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _digest(contents: Mapping[Path, bytes]) -> str:
    digest = hashlib.sha256()
    for path in sorted(contents):
        digest.update(f"{hashlib.sha256(contents[path]).hexdigest()}  {path}\n".encode())
    return digest.hexdigest()
