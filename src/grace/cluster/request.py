"""
A run on a cluster, checked and complete: everything that manifests are made from.

What is read from files (inputs, studies, catalogue) is read once, here; all that
follows is pure. The same run always gives the same objects.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import PurePosixPath
from typing import Self

from pydantic import JsonValue

from grace.catalogue.model import ModelSpec
from grace.catalogue.spec import Catalogue
from grace.cluster.profile import Profile
from grace.cluster.steps import Served, Step, plan_steps
from grace.errors import UsageError
from grace.pipeline.origin import POD_RESULTS
from grace.settings import RunSettings

INPUTS = PurePosixPath("/grace/inputs")
CONFIG = PurePosixPath("/grace/config/run.yaml")
WEIGHTS = PurePosixPath("/grace/weights")
RESULTS = POD_RESULTS
LOGS = PurePosixPath("/grace/logs")
PORT = 8000

CONFIG_MAP_BYTES = 1_000_000
"""What of file contents fits in one ConfigMap; etcd takes 1 MiB with everything around it."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """
    A file that pods read: trials, a study's definition, or a catalogue.

    Its bytes need not be here: pods have them, and its name, hash and size say
    which they are. Two files with the same ones are equal, wherever their bytes are.

    Attributes:
        name: In the folder of inputs, where the pods find it.

        held: Its bytes; None if they are kept elsewhere.

        sha256: The hash of its bytes, hexadecimal.

        size: How many bytes it has.
    """

    name: str
    held: bytes | None = field(repr=False, compare=False)
    sha256: str = ""
    size: int = 0

    def __post_init__(self) -> None:
        """Take hash and size from the bytes, if they are here."""
        if self.held is not None:
            object.__setattr__(self, "sha256", hashlib.sha256(self.held).hexdigest())
            object.__setattr__(self, "size", len(self.held))
        elif not self.sha256:
            raise ValueError(f"input {self.name} has neither bytes nor a hash")

    @classmethod
    def elsewhere(cls, name: str, sha256: str, size: int) -> Self:
        """Return a file whose bytes are kept elsewhere."""
        return cls(name, None, sha256, size)

    @property
    def content(self) -> bytes:
        """
        Its bytes.

        Raises:
            UsageError: They are kept elsewhere.
        """
        if self.held is None:
            raise UsageError(
                f"input {self.name} ({self.size:,} bytes, SHA-256 {self.sha256[:12]}…) is not here, "
                "and has to be sent to the cluster; give the file with --input STUDY=CSV, or go on "
                "from the machine on which the run was begun"
            )
        return self.held

    def filled(self, contents: Mapping[str, bytes]) -> Self:
        """Return the file with its bytes, if they are among these contents by name."""
        if self.held is not None or self.name not in contents:
            return self
        found = type(self)(self.name, contents[self.name])
        return found if found == self else self

    @property
    def path(self) -> PurePosixPath:
        """Where pods read it."""
        return INPUTS / self.name


@dataclass(frozen=True, slots=True)
class ServerModels:
    """
    What one model server serves.

    Attributes:
        base: The model that it is started with.

        adapters: LoRA adapters on it that the run asks for.
    """

    base: ModelSpec
    adapters: tuple[ModelSpec, ...] = ()


@dataclass(frozen=True)
class ClusterRun:
    """
    One run on a cluster.

    Attributes:
        profile: The cluster.

        namespace: Where it runs.

        timestamp: The name of its run folders, `20260131T235959Z`, which is its
            name on the cluster as well.

        settings: The run's settings as pods see them: paths are those in the
            containers, and neither endpoint nor timestamp is left open.

        catalogue: All models that are known.

        extractor: The catalogue key of the model that extracts; None if rules
            alone do.

        files: What pods read.

        spot: Whether pods may run on nodes that can be taken away.
    """

    profile: Profile
    namespace: str
    timestamp: str
    settings: RunSettings
    catalogue: Catalogue
    extractor: str | None
    files: tuple[InputFile, ...]
    spot: bool = False

    def filled(self, contents: Mapping[str, bytes]) -> Self:
        """Return the run with the bytes of its files, as far as these contents by name are them."""
        return replace(self, files=tuple(file.filled(contents) for file in self.files))

    @property
    def run_id(self) -> str:
        """The run's name in labels and object names: `20260131t235959z`."""
        return self.timestamp.lower()

    @cached_property
    def models(self) -> tuple[ModelSpec, ...]:
        """The models of the run, then the one that extracts if it is another."""
        keys = dict.fromkeys(self.settings.model)
        if self.extractor is not None and "exp1" in self.settings.experiment:
            keys[self.extractor] = None
        return tuple(self.catalogue.get(key) for key in keys)

    @cached_property
    def servers(self) -> tuple["ServerModels", ...]:
        """The servers on the cluster, in the order in which they are first needed."""
        adapters: dict[str, list[ModelSpec]] = {}
        for spec in self.models:
            if not spec.hosted:
                found = adapters.setdefault(spec.lora_base or spec.key, [])
                if spec.lora_base is not None:
                    found.append(spec)
        return tuple(
            ServerModels(self.catalogue.get(key), tuple(found)) for key, found in adapters.items()
        )

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """What is to be done, in an order that works."""
        extractor = None if self.extractor is None else self.catalogue.get(self.extractor)
        return plan_steps(
            [self._served(self.catalogue.get(key)) for key in self.settings.model],
            self.settings.experiment,
            extractor=None if extractor is None else self._served(extractor),
            shards=self.profile.jobs.shards,
            rechecked=self.settings.recheck > 0,
        )

    def _served(self, spec: ModelSpec) -> Served:
        if spec.hosted:
            return Served(spec.key, None)
        keys = [spec.lora_base, spec.key] if spec.lora_base is not None else [spec.key]
        fetched = tuple(key for key in keys if self.fetches(self.catalogue.get(key)))
        return Served(spec.key, keys[0], fetched)

    def fetches(self, spec: ModelSpec) -> bool:
        """Whether a model's weights have to be fetched into a claim of its own."""
        baked = spec.server == "llamacpp" and spec.key in self.profile.images.baked_weights
        return not spec.hosted and not baked

    @cached_property
    def config(self) -> dict[str, JsonValue]:
        """The config file that all pods of the run share: `grace stage … --config`."""
        return self.settings.model_dump(mode="json", exclude_defaults=True)
