"""
Settings of a run, frozen and strict, as its record keeps them.

The names are the same on the command line, in a config file and in
`grace.run(...)`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError, field_validator

from grace.errors import UsageError
from grace.keys import is_variable
from grace.plain_yaml import read_plain_yaml

Experiment = Literal["exp1", "exp2"]

# `seed: true` is no seed, and `pmi: "no"` is no flag: nothing is turned into something else.
_Whole = Annotated[int, Strict()]
_Number = Annotated[float, Strict()]
_Flag = Annotated[bool, Strict()]

_SHOWN = 100
_MOST_FAULTS = 20

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

        as_catalogued: The endpoint was started from the model's catalogue entry, so
            that its revision and weights are those of the entry, and part of the
            run's identity. On a cluster, Grace has done so.

        api_key_env: Environment variable that holds the endpoint's key, or, with
            `_FILE` behind its name, names a file that does.

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

        drain_seconds: After SIGTERM, how long queries in flight may take to finish;
            ten seconds later at most, the process has ended.

        dry_run: Go through everything with the toy model; its numbers mean nothing.

        new: Start another run even if one is unfinished.

        retry_failed: Ask the failed queries of a finished run again.

        audit: Keep every prompt as it was sent, in the run folder's `audit`.

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
    as_catalogued: _Flag = False
    api_key_env: str = "GRACE_API_KEY"
    limit: _Whole | None = Field(default=None, ge=1)
    out: Path = Path("results")
    timestamp: str | None = None
    seed: _Whole = Field(default=1, ge=0, le=2**63 - 1)
    replicates: _Whole = Field(default=1, ge=1, le=10_000)
    concurrency: _Whole | None = Field(default=None, ge=1, le=1024)
    temperature: _Number = Field(default=0.7, ge=0, le=5)
    top_p: _Number = Field(default=1.0, gt=0, le=1)
    top_k: _Whole = Field(default=0, ge=0)
    min_p: _Number = Field(default=0.0, ge=0, le=1)
    extractor: str = "auto"
    extractor_endpoint: str | None = None
    scoring: Literal["auto", "trie", "sequence"] = "auto"
    pmi: _Flag = False
    terminators: _Flag = False
    recheck: _Number = Field(default=0.0, ge=0, le=100)
    catalogue: Path | None = None
    threads: _Whole = Field(default=0, ge=0, le=256)
    drain_seconds: _Number = Field(default=15.0, ge=0, le=3600)
    dry_run: _Flag = False
    new: _Flag = False
    retry_failed: _Flag = False
    audit: _Flag = False
    request_seconds: _Number = Field(default=600.0, gt=0, le=86_400)
    attempts: _Whole = Field(default=6, ge=1, le=1_000)
    patience_seconds: _Number = Field(default=900.0, gt=0, le=86_400)
    retry_wait_seconds: _Number = Field(default=0.5, ge=0, le=30)

    @field_validator("api_key_env")
    @classmethod
    def _names_a_variable(cls, value: str) -> str:
        if not is_variable(value):
            raise ValueError("expected the name of an environment variable, never a key itself")
        return value


def read_config(path: Path) -> dict[str, object]:
    """
    Read a config file: YAML with the names of `RunSettings`.

    Raises:
        UsageError: The file cannot be read, or is not a mapping.
    """
    loaded = read_plain_yaml(path, UsageError)
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise UsageError(f"{path}: expected a mapping of options, such as `limit: 10`")
    values: dict[str, object] = {}
    for written, value in loaded.items():
        name = str(written).replace("-", "_")
        if name in values:
            raise UsageError(
                f"{path}: {_shown(name)} is given twice; - and _ are the same in a name"
            )
        values[name] = value
    return values


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
            name = ".".join(str(part)[:_SHOWN] for part in problem["loc"])
            if problem["type"] == "extra_forbidden":
                known = ", ".join(RunSettings.model_fields)
                lines.append(f"{source}: unknown option {_shown(name)}; known are {known}")
            else:
                wanted = problem["msg"].replace("Input should be", "expected")
                flag = "--" + str(problem["loc"][0]).replace("_", "-")
                where = flag if source == FLAGS else f"{source}: {name}"
                if problem["loc"][0] == "api_key_env":
                    # The value is not shown: it may be a key.
                    lines.append(f"{where}: {wanted.removeprefix('Value error, ')}")
                    continue
                lines.append(f"{where} is {_shown(problem['input'])}; {wanted}")
        if len(lines) > _MOST_FAULTS:
            lines = [*lines[:_MOST_FAULTS], f"... and {len(lines) - _MOST_FAULTS} more faults"]
        raise UsageError("\n".join(lines)) from error


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
