"""
Settings of a run, frozen and strict, as its record keeps them.

The names are the same on the command line, in a config file and in
`grace.run(...)`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from grace.errors import UsageError

Experiment = Literal["exp1", "exp2"]

FLAGS = "flags"
"""The source of settings that were given on the command line."""


class RunSettings(BaseModel):
    """
    What to run, and how.

    Attributes:
        study: Keys of built-in studies, or paths of YAML files.

        input: Study key to CSV file; a built-in study without one runs on the
            items that Grace ships.

        experiment: exp1 (responses and extraction), exp2 (probabilities).

        model: Catalogue keys.

        endpoint: URL of a running server; None starts the embedded one.

        server: The endpoint's dialect; `auto` finds out.

        api_key_env: Environment variable that holds the endpoint's key.

        limit: First rows of each study only.

        out: Where run folders go.

        timestamp: Name of the run folder; None takes the unfinished run of the
            same cells, or now.

        seed: The run's seed; each sample's is derived from it.

        replicates: Samples of every row in exp1.

        concurrency: Most queries at a time; None suits the server.

        temperature, top_p, top_k, min_p: Sampling in exp1; the same for all models.

        extractor: Who turns responses into fields: `auto` (rules; then DeepSeek,
            if its key is set, for what they leave open), `rules`, `deepseek`, or
            a catalogue key.

        extractor_endpoint: Where the extractor is served, if not as catalogued.

        scoring: `auto`, `trie` or `sequence`.

        pmi: Score the answers of exp2 after a domain premise as well.

        terminators: Measure in exp2 that an answer ends, as well.

        recheck: Percentage of the distributions of exp2 that are scored again, in
            another order, to see how far the numbers repeat.

        catalogue: The user's own catalogue file, added to the built-in one.

        threads: Compute threads of the embedded server; 0 takes idle cores.

        dry_run: Go through everything with the toy model; its numbers mean nothing.

        new: Start another run even if one is unfinished.

        retry_failed: Ask the failed queries of a finished run again.

        request_seconds: Longest time for one request, until its reply's last byte.

        attempts: How many times a query is sent at most, while the server is
            unavailable.

        patience_seconds: Longest time for all attempts of a query; the one in
            work may end later.

        retry_wait_seconds: First wait before a query is sent again; it doubles
            with each attempt, up to 30 s.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: tuple[str, ...] = ("study1", "study2")
    input: Mapping[str, Path] = Field(default_factory=dict)
    experiment: tuple[Experiment, ...] = ("exp1", "exp2")
    model: tuple[str, ...] = ("smollm2-135m",)
    endpoint: str | None = None
    server: Literal["auto", "llamacpp", "vllm", "tgi", "openai"] = "auto"
    api_key_env: str = "GRACE_API_KEY"
    limit: int | None = Field(default=None, ge=1)
    out: Path = Path("results")
    timestamp: str | None = None
    seed: int = Field(default=1, ge=0, le=2**63 - 1)
    replicates: int = Field(default=1, ge=1, le=10_000)
    concurrency: int | None = Field(default=None, ge=1, le=1024)
    temperature: float = Field(default=0.7, ge=0, le=5)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    min_p: float = Field(default=0.0, ge=0, le=1)
    extractor: str = "auto"
    extractor_endpoint: str | None = None
    scoring: Literal["auto", "trie", "sequence"] = "auto"
    pmi: bool = False
    terminators: bool = False
    recheck: float = Field(default=0.0, ge=0, le=100)
    catalogue: Path | None = None
    threads: int = Field(default=0, ge=0, le=256)
    dry_run: bool = False
    new: bool = False
    retry_failed: bool = False
    request_seconds: float = Field(default=600.0, gt=0, le=86_400)
    attempts: int = Field(default=6, ge=1, le=1_000)
    patience_seconds: float = Field(default=900.0, gt=0, le=86_400)
    retry_wait_seconds: float = Field(default=0.5, ge=0, le=30)


def read_config(path: Path) -> dict[str, object]:
    """
    Read a config file: YAML with the names of `RunSettings`.

    Raises:
        UsageError: The file cannot be read, or is not a mapping.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file; give an existing --config") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    try:
        loaded = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise UsageError(f"{path}: is not YAML: {' '.join(str(error).split())[:300]}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise UsageError(f"{path}: expected a mapping of options, such as `limit: 10`")
    return {str(name).replace("-", "_"): value for name, value in loaded.items()}


def make_settings(values: Mapping[str, object], source: str) -> RunSettings:
    """
    Check settings and return them.

    Args:
        values: By name; lists may be given as one value.

        source: Names the origin in messages.

    Raises:
        UsageError: An unknown name or a bad value; all of them are named.
    """
    several = ("study", "experiment", "model")
    prepared = {
        name: (value,) if name in several and isinstance(value, str) else value
        for name, value in values.items()
    }
    try:
        return RunSettings.model_validate(prepared)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            name = ".".join(str(part) for part in problem["loc"])
            if problem["type"] == "extra_forbidden":
                known = ", ".join(RunSettings.model_fields)
                lines.append(f"{source}: unknown option {name!r}; known are {known}")
            else:
                wanted = problem["msg"].replace("Input should be", "expected")
                flag = "--" + str(problem["loc"][0]).replace("_", "-")
                where = flag if source == FLAGS else f"{source}: {name}"
                lines.append(f"{where} is {problem['input']!r}; {wanted}")
        raise UsageError("\n".join(lines)) from error
