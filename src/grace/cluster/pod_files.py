"""
The files that pods of a run read: trials, studies' definitions, and a catalogue.

Their names are made from study keys, so that they are safe and unique whatever
the user's files are called. No path of the user's machine is in any of them.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from grace.catalogue.spec import Catalogue, ModelSpec, load_catalogue
from grace.cluster.request import InputFile
from grace.errors import UsageError
from grace.settings import RunSettings
from grace.studies.loader import parse_study
from grace.studies.trials import TrialSet

CATALOGUE_FILE = "catalogue.yaml"

_YAML_ENDS = (".yaml", ".yml")
# JSON is YAML but for some characters, which YAML takes for line breaks or does not print.
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def trials_file(study: str) -> str:
    """Return what the trials of a study are called where pods read them."""
    return f"trials-{study}.csv"


def study_file(study: str) -> str:
    """Return what the definition of a study is called where pods read it."""
    return f"study-{study}.yaml"


def is_study_file(name: str) -> bool:
    """Whether a study was given as a file, not by its key."""
    return name.lower().endswith(_YAML_ENDS)


def read_inputs(settings: RunSettings, inputs: Sequence[TrialSet]) -> tuple[InputFile, ...]:
    """
    Return the user's files of a run.

    Args:
        settings: The run's settings, with the paths that the user gave.

        inputs: The trials that were read from those files.

    Raises:
        UsageError: A file is gone, or was changed since it was checked.
    """
    files: list[InputFile] = []
    for name, trials in zip(settings.study, inputs, strict=True):
        key = trials.study.key
        if is_study_file(name):
            files.append(_study(Path(name), trials))
        if key in settings.input:
            path = settings.input[key]
            file = _read(path, trials_file(key))
            if file.sha256 != trials.sha256:
                raise _changed(path)
            files.append(file)
    return tuple(files)


def catalogue_file(catalogue: Catalogue, keys: Iterable[str]) -> InputFile | None:
    """
    Return the entries that pods would not find in Grace's own catalogue, as a catalogue.

    Revisions that were locked here are in it: pods have no lock file.

    Args:
        catalogue: All models that are known here.

        keys: Those that the run has to do with.

    Returns:
        The file; None if Grace's own catalogue has the same entries.
    """
    known = {spec.key: spec for spec in load_catalogue(apply_lock=False).models}
    wanted = [catalogue.get(key) for key in dict.fromkeys(keys)]
    entries = {spec.key: _entry(spec) for spec in wanted if known.get(spec.key) != spec}
    if not entries:
        return None
    text = json.dumps({"models": entries}, indent=2, ensure_ascii=False, allow_nan=False)
    escaped = _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return InputFile(CATALOGUE_FILE, f"{escaped}\n".encode())


def _entry(spec: ModelSpec) -> dict[str, object]:
    return spec.model_dump(mode="json", exclude={"key"}, exclude_defaults=True)


def _study(path: Path, trials: TrialSet) -> InputFile:
    # Parsed again from the very bytes that are sent: the file may have changed in between.
    file = _read(path, study_file(trials.study.key))
    again = parse_study(file.content.decode("utf-8-sig"), str(path))
    if again.definition_sha256() != trials.study.definition_sha256():
        raise _changed(path)
    return file


def _read(path: Path, name: str) -> InputFile:
    try:
        return InputFile(name, path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; check the path") from error


def _changed(path: Path) -> UsageError:
    return UsageError(f"{path}: was changed while it was read; give the command again")
