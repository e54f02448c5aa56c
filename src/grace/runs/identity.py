"""
A run's identity: everything that decides its numbers.

It is written before the first query. A resume whose identity differs stops and
names each difference, because numbers of two identities must not share a
table. Addresses, ports, concurrency and retries are not part of it.
"""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, JsonValue

from grace.errors import IdentityMismatch
from grace.hiding import printable

_SHOWN = 200


class InputIdentity(BaseModel):
    """One study's input: hash of the file, rows used, and hash of what is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_sha256: str
    rows: int
    stimuli: int
    definition_sha256: str


class RunIdentity(BaseModel):
    """
    What a run is.

    Attributes:
        experiment: `exp1` or `exp2`.

        model: Key, repository, revision, weights hash, prompt mode, answer prefix.

        studies: By study key.

        server: Dialect, version, model name and details, as probed.

        asking: What else decides the answers: sampling, seed, replicates and
            extractor in Experiment 1; the scoring method in Experiment 2, and
            what is measured beside the answers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    experiment: str
    model: Mapping[str, JsonValue]
    studies: Mapping[str, InputIdentity]
    server: Mapping[str, JsonValue]
    asking: Mapping[str, JsonValue]


class ExtractorIdentity(BaseModel):
    """
    Who turns responses into fields, if a model does.

    It is known only when that model is first needed: after the responses, which
    another server may have given.

    Attributes:
        model: As in `RunIdentity`.

        server: As in `RunIdentity`.

        layout_sha256: Hash of what it is asked, whatever the responses.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Mapping[str, JsonValue]
    server: Mapping[str, JsonValue]
    layout_sha256: str


def check_extractor(recorded: ExtractorIdentity, wanted: ExtractorIdentity, folder: str) -> None:
    """
    Check that an extraction may be continued.

    Raises:
        IdentityMismatch: With one line for each field that differs.
    """
    differences = identity_differences(recorded, wanted)
    if differences:
        raise IdentityMismatch(
            f"{folder}: the extraction was begun by another extractor; serve the one that began "
            "it, or start another run with --new:",
            [f"extractor.{line}" for line in differences],
        )


def check_identity(recorded: RunIdentity, wanted: RunIdentity, folder: str) -> None:
    """
    Check that a run may be continued.

    Raises:
        IdentityMismatch: With one line for each field that differs.
    """
    differences = identity_differences(recorded, wanted)
    if differences:
        raise IdentityMismatch(
            f"{folder}: this unfinished run was begun under another identity; give the command "
            "that began it, or start another run with --new:",
            differences,
        )


def identity_differences(recorded: BaseModel, wanted: BaseModel) -> list[str]:
    """Return one line for each field in which two identities differ."""
    before = _flat(recorded.model_dump(mode="json"))
    after = _flat(wanted.model_dump(mode="json"))
    missing = "(absent)"
    return [
        f"{_shown(name)}: {_shown(before.get(name, missing))} -> {_shown(after.get(name, missing))}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name, missing) != after.get(name, missing)
    ]


def _shown(value: JsonValue) -> str:
    # A file of a run may come from anywhere.
    text = printable(str(value))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text):,} characters)"


def _flat(value: JsonValue, prefix: str = "") -> dict[str, JsonValue]:
    if isinstance(value, dict):
        flat: dict[str, JsonValue] = {}
        for name, inner in value.items():
            flat |= _flat(inner, f"{prefix}.{name}" if prefix else name)
        return flat
    return {prefix: value}
