"""
Write the generated pages of `docs/reference`: nothing in them is typed by hand.

What the pages say comes from the code: help texts, studies, table headers,
settings, catalogue and exceptions with their docstrings. Only the columns that
all studies share are described here, and a column without a description stops
the script. `tests/docs` compares the committed pages with what this makes.
"""

# ruff: noqa: ANN401  (the classes of typer's command tree are private)

import ast
import inspect
import itertools
import json
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Final, get_args, get_origin

import typer.main

from grace import errors
from grace.analysis.agreement import agreement_header
from grace.analysis.summary import (
    summarise_probabilities,
    summarise_structured,
    summary_header,
)
from grace.catalogue.fields import DateInTemplate, GpuOption, Licence, Price, ReasoningTags
from grace.catalogue.spec import ModelSpec, load_catalogue
from grace.cli.main import app
from grace.engine.audit import AuditedPrompt
from grace.engine.journal import Record
from grace.pipeline.inputs import load_inputs
from grace.runs.csvfile import Table
from grace.runs.identity import RunIdentity
from grace.runs.manifest import QueryCounts, RecheckReport, RunManifest, StudyReport
from grace.runs.score_table import SCORE_HEADER
from grace.runs.tables import structured_header
from grace.serving.gateway import messages
from grace.serving.gateway.problems import Fault, Kind, Problem, ProblemToken
from grace.settings import RunSettings
from grace.studies.builtin import BUILTIN_STUDIES
from grace.studies.study import AnswerField, Study
from grace.studies.trials import TrialSet

FOLDER: Final = Path(__file__).resolve().parent.parent / "docs" / "reference"
_NOTE: Final = (
    "<!-- Written by scripts/reference.py (`make docs`). Change the code, not this page. -->"
)

_SHARED_COLUMNS: Final = {
    "stimulus_id": "The same for all rows that put the same material before a model.",
    "model": "The model's key in the catalogue; `toy` in a dry run.",
    "replicate": "Number of the sample, from 1 to `--replicates`.",
    "status": "`answered`, `failed` or `not_asked`. `answered` means that every response is there.",
    "error": "Why it is not answered; empty if it is.",
    "extraction_status": "What was found and who found it: `ok`, `incomplete`, `failed` or "
    "`not_attempted`, then a colon and the sources. See [extraction](../how-to/extraction.md).",
    "extraction_error": "What is missing or suspect; empty if nothing is.",
    "row": "Row of the input, from 1; the header is not counted.",
    "probe": "The question: its name in the study.",
    "candidate": "The answer: its label in the study.",
    "n_tokens": "Tokens of the answer's first surface form, after the prompt.",
    "logprob": "Natural logarithm of the answer's probability, before normalising; summed over "
    "its surface forms.",
    "probability": "Probability of the answer, normalised over the answers of the probe.",
    "coverage": "Probability of all answers of the probe together, before normalising.",
    "first_token_logprob": "Natural logarithm of the probability that the next token begins one "
    "of the answer's surface forms.",
    "first_token_probability": "The same as a share of the tokens that begin any answer. Answers "
    "that begin with the same token share it; then the column sums to more than 1.",
    "first_token_shared": "How many answers begin with a first token of this one, itself "
    "included: 1 if its first token tells it apart.",
    "logprob_per_token": "`logprob` by `n_tokens`.",
    "logprob_per_character": "`logprob` by the characters (Unicode code points) of the answer's "
    "first surface form, as the study has it.",
    "premise_logprob": "`logprob` of the same answer after the probe's premise (`--pmi`).",
    "pmi": "PMI-DC: `logprob` - `premise_logprob`.",
    "logprob_with_end": "Natural logarithm of the probability that the answer comes and ends "
    "there (`--terminators`).",
    "probability_with_end": "The same, normalised over the answers of the probe.",
    "outside_token": "The most probable next token after the prompt that begins no answer; line "
    'breaks, tabs and quotation marks as `\\n`, `\\t` and `\\"`.',
    "outside_logprob": "Its log-probability.",
    "outside_leads": "`yes` if it is more probable than every token that begins an answer, else "
    "`no`; empty if the server does not tell.",
    "not_measured": "Why scores of an answered line are empty, as `pmi: REASON; end: REASON; "
    "outside: REASON`; empty if none is.",
    "comparison": "What is compared: `knowledge` and `state` in Study 1, `utterance` in Study 2.",
    "n_unstated": "Rows whose text states none of the answers.",
    "n_tied": "Rows whose text or distribution has no single best answer.",
    "n_unscored": "Rows whose stimulus has no distribution.",
    "agreement": "Proportion of the used rows whose stated answer is the most probable one.",
    "expected_agreement": "Mean probability of the most probable answer: the agreement to expect "
    "if texts were drawn from the distributions.",
    "rows": "`all`, or `included`: without the rows that an exclusion rule sets apart.",
    "measure": "What is summarised; the measures stand above, under each study.",
    "n_rows": "Rows of the condition (in probability summaries: one for each stimulus).",
    "n_stimuli": "Distinct stimuli of the condition.",
    "n_used": "Values behind the mean.",
    "n_excluded": "Rows that were left out by exclusion rules.",
    "n_missing": "Rows that were not left out but have no value for this measure.",
    "mean": "Mean of the values; empty if there are none.",
    "se": "Standard error, clustered by stimulus; empty with fewer than two stimuli.",
    "ci_low": "Lower end of the 95% interval (t distribution, stimuli - 1 degrees of freedom).",
    "ci_high": "Upper end of the 95% interval.",
}


_ENTRY_FIELDS: Final = {
    "title": "The model's name, for people.",
    "licence": "Under which terms it may be used; see below.",
    "server": "What serves it.",
    "dtype": "Number format of the weights on the server.",
    "context_length": "Most tokens of prompt and answer together.",
    "cpu": "Processor cores of its server.",
    "memory_gb": "Main memory of its server.",
    "disk_gb": "Disk space of its weights.",
    "prompt_mode": "`chat` for a model with a chat template, `completion` for a base model.",
    "reasoning": "The tags around a model's reasoning; what stands between them is kept apart "
    "from the response. See below.",
    "lora_base": "Key of the entry that this one is an adapter (LoRA) of.",
    "endpoint": "Address of a model that somebody else serves.",
    "price": "What it costs, if it is hosted; see below.",
    "note": "Remarks.",
    "name": "Full name.",
    "commercial_use": "Whether commercial use is allowed.",
    "count": "How many GPUs.",
    "open": "The opening tag.",
    "close": "The closing tag.",
    "input_usd": "US dollars for a million tokens of prompts.",
    "output_usd": "US dollars for a million tokens of answers.",
    "url": "Where the prices are.",
}


def pages() -> dict[str, str]:
    """Return the text of every generated page, by file name."""
    made = {
        "commands.md": _commands_page(),
        "settings.md": _settings_page(),
        "tables.md": _tables_page(),
        "models.md": _models_page(),
        "errors.md": _errors_page(),
        "gateway.md": _gateway_page(),
    }
    return {name: f"{_NOTE}\n\n{text.strip()}\n" for name, text in made.items()}


def main() -> int:
    """Write all pages and return the exit status."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"docs/reference/{name}\n")
    return 0


def commands() -> dict[str, Any]:
    """Return every command that can be called, by its full name, groups included."""
    return dict(_commands("grace", typer.main.get_command(app)))


def option_names(command: Any) -> frozenset[str]:
    """Return the names of a command's options, such as `--limit`."""
    names = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    return frozenset(name for name in names if name.startswith("-")) | {"--help"}


# --- commands ---------------------------------------------------------------------------------


def _commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for child, inner in getattr(command, "commands", {}).items():
        yield from _commands(f"{name} {child}", inner)


def _commands_page() -> str:
    every = commands()
    leaves = {name: one for name, one in every.items() if not hasattr(one, "commands")}
    overview = [(f"[`{name}`](#{_anchor(name)})", _first(one.help)) for name, one in leaves.items()]
    parts = [
        "# Commands",
        "What `grace COMMAND --help` says, for every command. Options that may be repeated say so. "
        "The meaning of each setting stands in [settings](settings.md).",
        _table(("command", "what it does"), overview),
        "## Exit codes",
        _table(
            ("code", "meaning"),
            [
                ("0", "Complete: every row has every answer."),
                ("1", "Failed: the message says what went wrong and what to do."),
                ("2", "Usage: a flag, a file or a value is wrong. Nothing was sent."),
                ("3", "Finished or stopped with missing answers."),
            ],
        ),
    ]
    # The root is no command, but has options of its own.
    for name, one in {"grace": every["grace"], **leaves}.items():
        parts += [f"## {name}", _paragraphs(one.help), f"```sh\n{_usage(name, one)}\n```"]
        if one.params:
            rows = [(_parameter(p), _cell(p.help or ""), _default(p)) for p in one.params]
            parts.append(_table(("parameter", "meaning", "default"), rows))
    return "\n\n".join(parts)


def _usage(name: str, command: Any) -> str:
    words = [name]
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            shown = _placeholder(parameter)
            words.append(shown if parameter.required else f"[{shown.strip('[]')}]")
        elif parameter.required:
            words.append(f"{parameter.opts[0]} {_placeholder(parameter)}")
    if any(p.param_type_name == "option" and not p.required for p in command.params):
        words.append("[OPTIONS]")
    if hasattr(command, "commands"):
        words.append("COMMAND")
    return " ".join(words)


def _parameter(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_placeholder(parameter)}`" + (" (required)" if parameter.required else "")
    name = ", ".join(parameter.opts)
    value = "" if parameter.is_flag else f" {_placeholder(parameter)}"
    return f"`{name}{value}`" + (" (required)" if parameter.required else "")


def _placeholder(parameter: Any) -> str:
    if parameter.metavar:
        return str(parameter.metavar)
    annotation = parameter.type_descriptor.annotation
    if get_origin(annotation) is list:
        annotation = get_args(annotation)[0]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "|".join(str(member.value) for member in annotation)
    if parameter.param_type_name == "argument":
        return str(parameter.name).upper()
    return {int: "N", float: "X", Path: "PATH"}.get(annotation, "TEXT")


def _default(parameter: Any) -> str:
    if isinstance(parameter.show_default, str):
        return f"`{parameter.show_default}`"
    if parameter.default in (None, False, ()):
        return ""
    return f"`{parameter.default}`"


# --- settings ---------------------------------------------------------------------------------


def _settings_page() -> str:
    meanings = _attributes(RunSettings)
    run = commands()["grace run"]
    flags = {parameter.name.rstrip("_"): parameter.opts[0] for parameter in run.params}
    rows = []
    for name, field in RunSettings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        rows.append(
            (
                f"`{name}`",
                f"`{flags[name]}`" if name in flags else "config file, Python",
                _allowed(field),
                f"`{_shown_default(default)}`",
                _cell(_plain(meanings[name])),
            )
        )
    return "\n\n".join(
        [
            "# Settings",
            "A run's settings have the same names on the command line (with hyphens), in a config "
            "file (`--config run.yaml`) and in `grace.run(...)` (with underscores). Flags win over "
            "the config file, and the config file wins over the defaults. Unknown names are errors. "
            "A setting marked *config file, Python* has no flag.",
            _table(("name", "flag", "allowed", "default", "meaning"), rows),
            "A config file is YAML:",
            "```yaml\nstudy: [study1]\ninput:\n  study1: trials.csv\nmodel: [smollm2-135m]\n"
            "limit: 12\nseed: 7\ntop_p: 0.95\n```",
            "## Environment variables",
            _table(
                ("name", "meaning"),
                [
                    ("`GRACE_API_KEY`", "Key of the server given with `--endpoint`, if it wants "
                     "one. Another variable: `--api-key-env NAME`."),
                    ("`GRACE_EXTRACTOR_API_KEY`", "Key of the server given with "
                     "`--extractor-endpoint`. Without it, `GRACE_API_KEY` is sent there, unless "
                     "`--endpoint` names another server: a key goes to one server only."),
                    ("`DEEPSEEK_API_KEY`", "Key of DeepSeek's hosted interface, for extraction."),
                    ("`HF_TOKEN`", "Token for gated repositories of the hub, if weights come from "
                     "there."),
                    ("`GRACE_CACHE`", "Folder under which model weights are kept."),
                    ("`SSL_CERT_FILE`", "File with the certificates of authorities to trust, for a "
                     "server whose certificate your system does not know."),
                ],
            ),
            "### Keys from files",
            "Every key may be in a file instead, as secrets are often mounted: the variable with "
            "`_FILE` behind its name holds the file's path. This holds for the four keys above, "
            "for `--api-key-env NAME`, for the keys of hosted models of your catalogue, and for "
            "`grace gateway --token-env NAME`. White space around the key is ignored. Both "
            "variables at once are an error, and so is a file that is missing or empty.",
            "```sh\nexport GRACE_API_KEY_FILE=secrets/llm-key\n```",
            "A key is never an option or a setting, and appears in no file, table, message, "
            "metric or log: see [privacy](../explanation/privacy.md).",
        ]
    )  # fmt: skip


def _allowed(field: Any) -> str:
    annotation = field.annotation
    text = str(annotation) if get_origin(annotation) else annotation.__name__
    if "Literal" in text:
        values = re.findall(r"'([a-z0-9]+)'", text)
        return ", ".join(f"`{value}`" for value in values)
    for python, words in (
        ("Mapping", "mapping of text to path"),
        ("tuple", "list of text"),
        ("bool", "`true`, `false`"),
        ("Path", "path"),
        ("int", "whole number"),
        ("float", "number"),
        ("str", "text"),
    ):
        if python in text:
            return words + _bounds(field.metadata)
    return text


def _bounds(metadata: Sequence[Any]) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    found = [
        f"{sign} {getattr(one, name):,}"
        for one in metadata
        for name, sign in signs.items()
        if getattr(one, name, None) is not None
    ]
    return f", {', '.join(found)}" if found else ""


def _shown_default(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(str(one) for one in value)
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or value in ({}, ()):
        return "none"
    return str(value.value) if isinstance(value, Enum) else str(value)


# --- tables -----------------------------------------------------------------------------------


def _tables_page() -> str:
    parts = [
        "# Tables and files",
        "A run folder is `OUT/EXPERIMENT/MODEL/TIMESTAMP`. File names begin with the model's key. "
        "All tables are CSV: UTF-8, comma, line feed, one header line. Rows keep the order of the "
        "input, and the columns of the input keep their bytes and their spelling. A cell that was "
        "not measured is empty. Numbers have 9 significant digits.",
        "In R, read tables with `check.names = FALSE`: some columns are called `0` to `3` and "
        "`Was/Wasn't`. See the [tutorial](../tutorial.md).",
        "## In a spreadsheet",
        "A spreadsheet takes a cell that begins with `=`, `+`, `-`, `@`, a tab or a carriage "
        "return for a formula, and may run it, wherever the cell came from: an input file, or a "
        "model's response. Grace keeps such cells as they are, because tables hold what was said. "
        "`grace studies check` and `grace validate` say how many there are and where the first "
        "one is; the exit code stays the same. Open such a table by importing it, with all "
        "columns as text (in Excel: Data, From Text/CSV, Transform Data; in LibreOffice: leave "
        "*Evaluate formulas* off). Numbers with a sign are not counted.",
    ]
    for study in BUILTIN_STUDIES.values():
        parts += _study_tables(study)
    parts += [
        "## Score tables of every study",
        "`{model}_{study}_scores.csv` (exp2): one line for each row, probe and answer.",
        _table(("column", "meaning"), [(f"`{n}`", _shared(n)) for n in SCORE_HEADER]),
        "The formulas are on the page about [measurement](../explanation/measurement.md"
        "#other-scores-of-an-answer).",
        "## Summary tables of every study",
        "`{model}_{study}_summary.csv`: one line for each condition and measure. The first "
        "columns are the condition, as `condition_NAME`.",
        _table(
            ("column", "meaning"),
            [
                (f"`{name}`", _shared(name))
                for name in summary_header(next(iter(BUILTIN_STUDIES.values())))
                if not name.startswith("condition_")
            ],
        ),
        "## Agreement tables",
        "`OUT/agreement/MODEL/TIMESTAMP/{model}_{study}_agreement.csv`: written by `grace "
        "summarise` where both experiments of a model are finished under the same timestamp. The "
        "first columns are the condition.",
        _table(
            ("column", "meaning"),
            [
                (f"`{name}`", _shared(name))
                for name in agreement_header(next(iter(BUILTIN_STUDIES.values())))
                if not name.startswith("condition_")
            ],
        ),
        "## Tables of a study of your own",
        "The same tables, by these rules. Response columns are `response_{turn}`, or `response` "
        "if there is one turn only. Structured columns have the names of your fields. A probe of "
        "the probability table has the columns `{probe}_prob_{answer}`, `{probe}_mean` and "
        "`{probe}_std` if every answer has a value, and `{probe}_entropy`. In column names, "
        "apostrophes and percent signs of answers vanish and all else that is not a letter or "
        "digit becomes `_`.",
        "## Other files of a run folder",
        _table(
            ("file", "contents"),
            [
                ("`run.json`", "What was asked for and the run's identity; written before the "
                 "first query."),
                ("`extractor.json`", "The identity of the model that extracts, and of its server; "
                 "written before it is first asked."),
                ("`journal/*.jsonl`", "One line for each finished query; see below. All tables "
                 "are made from it."),
                ("`extraction_errors.jsonl`", "One line for each row whose extraction is not "
                 "`ok` (exp1)."),
                ("`manifest.json`", "The record of the closed run; written last. A folder with "
                 "this file is finished."),
                ("`audit/*.jsonl`", "With `--audit`: every prompt as it was sent, once; see below."),
                ("`run.lock`", "Keeps two processes from working on the same run; empty."),
            ],
        ),
        "### Lines of the journal",
        _class_table(Record),
        "### Lines of the audit copy",
        "Only with `--audit`. Records have the same `prompt_sha256` in their `value`, but those of "
        "extractions. The prompts may hold what participants wrote: see "
        "[privacy](../explanation/privacy.md).",
        _class_table(AuditedPrompt),
        "### manifest.json",
        _class_table(RunManifest),
        "`identity` is also in `run.json`. A run is continued under the same identity only:",
        _class_table(RunIdentity),
        "For each study:",
        _class_table(StudyReport),
        "`recheck`:",
        _class_table(RecheckReport),
        "Queries are accounted for as `planned` = `answered` + `failed` + `not_asked`, by probe "
        f"({', '.join(f'`{name}`' for name in QueryCounts.model_fields)}).",
    ]  # fmt: skip
    return "\n\n".join(parts)


def _study_tables(study: Study) -> list[str]:
    given = [(f"`{c.name}`", _input_meaning(c)) for c in study.columns]
    derived = {column.name: column.description for column in study.derived_columns}
    fields = {one.name: one for one in study.fields}
    responses = {study.response_column(probe): probe.name for probe in study.dialogue}
    own = structured_header(study, ())
    split = own.index("error") + 1
    raw = [(f"`{n}`", derived.get(n) or _response(responses, n) or _shared(n)) for n in own[:split]]
    structured = [
        (f"`{n}`", _field_meaning(fields[n]) if n in fields else _shared(n)) for n in own[split:]
    ]
    wide = [(f"`{c.name}`", _cell(c.description)) for c in study.probability_columns]
    key = study.key
    return [
        f"## {study.title} (`{key}`)",
        f"{study.description} {study.citation}",
        "### Input",
        f"{len(given)} columns. They open every table below but scores and summaries.",
        _table(("column", "meaning"), given),
        f"### `{{model}}_{key}_raw_responses.csv` (exp1)",
        f"The {len(given)} input columns, then:",
        _table(("column", "meaning"), raw),
        f"### `{{model}}_{key}_structured.csv` (exp1)",
        f"All {len(given) + len(raw)} columns of the raw responses, then:",
        _table(("column", "meaning"), structured),
        f"### `{{model}}_{key}_probabilities.csv` (exp2)",
        f"{len(given) + len(wide)} columns: the {len(given)} input columns, then:",
        _table(("column", "meaning"), wide),
        f"### `{{model}}_{key}_summary.csv`",
        f"Conditions: {', '.join(f'`condition_{name}`' for name in study.conditions)}.",
        *_exclusion_text(study),
        "Measures in exp1 (`_mean`: mean of a number; `_prop_`, `prop_`: proportion; `excluded_`: "
        "proportion of rows that fall under a rule):",
        _listed(_measures(study, "exp1")),
        "Measures in exp2 (columns of the probability table; for a probe that has none there, "
        "`PROBE_prob_ANSWER`; how far separate likelihoods fit together; the coverage of every "
        "probe; and the proportion of distributions in which `outside_leads` is `yes`):",
        _listed(_measures(study, "exp2")),
    ]


def _exclusion_text(study: Study) -> list[str]:
    if not study.exclusions:
        return ["No exclusion rules: `rows` is always `all`."]
    rules = [(f"`{one.name}`", one.description) for one in study.exclusions]
    return ["Exclusion rules (exp1):", _table(("rule", "a row falls under it if"), rules)]


def _measures(study: Study, experiment: str) -> list[str]:
    """Return the names of a study's summary measures, by summarising an empty row."""
    loaded = load_inputs(RunSettings(study=(study.key,), limit=1))[0]
    trials = TrialSet(study, loaded.source, loaded.header, loaded.trials[:1], loaded.sha256)
    cells = trials.trials[0].cells
    if experiment == "exp1":
        header = structured_header(study, trials.header)
        row = (*cells, *[""] * (len(header) - len(cells)))
        table = summarise_structured(trials, Table(header, (row,)))
    else:
        header = (*trials.header, *(column.name for column in study.probability_columns))
        row = (*cells, *[""] * len(study.probability_columns))
        lines = [
            ("1", "", probe.name, label, *[""] * (len(SCORE_HEADER) - 4))
            for probe in study.candidate_probes
            for label in probe.labels
        ]
        table = summarise_probabilities(
            trials, Table(header, (row,)), Table(SCORE_HEADER, tuple(lines))
        )
    return list(dict.fromkeys(table.column("measure")))


def _input_meaning(column: Any) -> str:
    aliases = f" Also accepted as {', '.join(f'`{a}`' for a in column.aliases)}." * bool(
        column.aliases
    )
    expected = f" Allowed: {', '.join(column.choices)}." if column.choices else ""
    empty = " May be empty." if column.may_be_empty else ""
    return _cell(f"{column.description}{aliases}{expected}{empty}")


def _field_meaning(one: AnswerField) -> str:
    kind = "Text."
    if one.kind == "integer":
        kind = f"Whole number from {one.minimum} to {one.maximum}."
    elif one.kind == "choice":
        kind = f"One of: {', '.join((*one.choices, *(['uncertain'] if one.uncertain else [])))}."
    return _cell(f"{one.description} {kind} Empty if the response does not state it.")


def _response(responses: dict[str, str], name: str) -> str:
    if name not in responses:
        return ""
    return f"Response to the turn `{responses[name]}`, as it came."


def _shared(name: str) -> str:
    return _cell(_SHARED_COLUMNS[name])


def _listed(names: Sequence[str]) -> str:
    return "```text\n" + textwrap.fill(", ".join(names), 96, break_on_hyphens=False) + "\n```"


# --- models -----------------------------------------------------------------------------------


def _models_page() -> str:
    specs = load_catalogue(apply_lock=False).models
    return "\n\n".join(
        [
            "# Models",
            "The built-in catalogue, as `grace models list` and `grace models show KEY` have it. A "
            "model of your own is one more entry: see [a model of your own](../how-to/own-model.md).",
            _table(
                ("key", "model", "licence", "prompt", "server", "GPUs", "context"),
                [_model_row(spec) for spec in specs],
            ),
            "*gated*: the licence must be accepted on the hub before the weights can be fetched. "
            "*chat*: prompts go through the model's chat template. *completion*: plain text, for "
            "base models. Models on `llamacpp` run on this machine without further ado; for `vllm` "
            "models, start the server and give its address with `--endpoint`.",
            "## Machine and licence",
            _table(
                ("key", "CPU cores", "memory", "disk", "dtype", "weights as", "commercial use"),
                [_machine_row(spec) for spec in specs],
            ),
            "## Notes",
            *(f"**{spec.key}** ({spec.title}): {_line(spec.note)}" for spec in specs if spec.note),
            "## Fields of an entry",
            _fields_table(ModelSpec),
            *(
                f"### `{title}`\n\n{_fields_table(cls)}"
                for title, cls in (
                    ("licence", Licence),
                    ("gpus", GpuOption),
                    ("reasoning", ReasoningTags),
                    ("template_date", DateInTemplate),
                    ("price", Price),
                )
            ),
        ]
    )


def _model_row(spec: ModelSpec) -> tuple[str, ...]:
    licence = f"[{spec.licence.name}]({spec.licence.url})"
    return (
        f"`{spec.key}`",
        f"{spec.title}<br>{spec.repository or 'hosted'}",
        licence + (", gated" if spec.gated else ""),
        spec.prompt_mode.value,
        spec.server,
        "<br>or ".join(str(option) for option in spec.gpus) or ("" if spec.hosted else "none"),
        f"{spec.context_length:,}",
    )


def _machine_row(spec: ModelSpec) -> tuple[str, ...]:
    licence = spec.licence
    return (
        f"`{spec.key}`",
        str(spec.cpu or ""),
        f"{spec.memory_gb:g} GB" if spec.memory_gb else "",
        f"{spec.disk_gb:g} GB" if spec.disk_gb else "",
        "" if spec.hosted else spec.dtype,
        spec.quantisation or "",
        _cell(licence.conditions or licence.commercial_use),
    )


def _fields_table(cls: type[Any]) -> str:
    notes = {**_ENTRY_FIELDS, **_field_notes(cls)}
    rows = []
    for name, field in cls.model_fields.items():
        if name == "key":
            continue
        required = field.is_required()
        default = "" if required else _shown_default(field.get_default(call_default_factory=True))
        values = _allowed(field)
        meaning = _plain(notes[name]) + (f" One of: {values}." if values.startswith("`") else "")
        rows.append(
            (
                f"`{name}`" + (" (required)" if required else ""),
                f"`{default}`" if default else "",
                _cell(meaning),
            )
        )
    return _table(("field", "default", "meaning"), rows)


def _field_notes(cls: type[Any]) -> dict[str, str]:
    """Return the docstrings that stand below a class's fields."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef)).body
    notes = {}
    for before, after in itertools.pairwise(body):
        if (
            isinstance(before, ast.AnnAssign)
            and isinstance(before.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            notes[before.target.id] = _line(str(after.value.value))
    return notes


# --- errors -----------------------------------------------------------------------------------


def _errors_page() -> str:
    rows = []
    for cls, depth in _error_tree(errors.GraceError, 0):
        code = 2 if issubclass(cls, errors.UsageError) else 1
        indent = "&nbsp;" * 4 * depth
        rows.append((f"{indent}`{cls.__name__}`", _cell(_first(inspect.getdoc(cls))), str(code)))
    return "\n\n".join(
        [
            "# Errors",
            "Every error that Grace raises on purpose is a `GraceError` from `grace.errors`. The "
            "command line prints its message, which names the thing, the value and the remedy, and "
            "exits with the code below. Indented classes are kinds of the class above them. An "
            "`InferenceError` or `ScoringError` of a single query does not end a run: the row gets "
            "the status `failed` and the message. Any other exception is a fault of Grace: please "
            "report it with its traceback.",
            "What becomes of each fault of a server or a network is on the page "
            "[faults](faults.md).",
            _table(("error", "meaning", "exit code"), rows),
        ]
    )


def _error_tree(cls: type[Exception], depth: int) -> Iterator[tuple[type[Exception], int]]:
    yield cls, depth
    for child in cls.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _error_tree(child, depth + 1)


# --- gateway ----------------------------------------------------------------------------------


def _gateway_page() -> str:
    asked = (messages.CompletionRequest, messages.ChatRequest, messages.ChatMessage)
    asked_more = (messages.Candidate, messages.Options)
    told = (
        messages.DistributionReply,
        messages.CandidateResult,
        messages.FormDetail,
        messages.TokenDetail,
        messages.PromptDetail,
        messages.ModelDetail,
        messages.ServerDetail,
    )
    problems = [(f"`{kind.uri}`", str(kind.status), _cell(kind.title)) for kind in Kind]
    return "\n\n".join(
        [
            "# Gateway",
            "The requests and replies of `grace gateway`. A running gateway shows the same at "
            "`/docs`, and as an OpenAPI document at `/openapi.json`. How it is used: "
            "[the gateway](../how-to/gateway.md).",
            _table(
                ("address", "what it does", "needs the token"),
                [
                    ("`POST /v1/distributions`", "Measures a distribution.", "yes"),
                    ("`GET /v1/model`", "Names model, server and limits.", "yes"),
                    ("`GET /metrics`", "Metrics for Prometheus.", "yes"),
                    ("`GET /health`", "Whether the gateway lives.", "no"),
                    ("`GET /health/ready`", "Whether the model server answers.", "no"),
                    ("`GET /docs`, `GET /openapi.json`", "Documentation.", "no"),
                ],
            ),
            "## Request",
            "A request is a text (CompletionRequest) or a chat (ChatRequest), never both.",
            *(_body_section(cls) for cls in (*asked, *asked_more)),
            "## Reply",
            *(_body_section(cls) for cls in told),
            "## Problems",
            "Every other reply is a problem document (RFC 9457) of the media type "
            "`application/problem+json`.",
            *(_body_section(cls) for cls in (Problem, Fault, ProblemToken)),
            _table(("`type`", "status", "title"), problems),
        ]
    )


def _body_section(cls: type[Any]) -> str:
    header: tuple[str, ...]
    rows: list[tuple[str, ...]] = []
    for name, field in cls.model_fields.items():
        if not field.description:
            raise ValueError(f"{cls.__name__}.{name} has no description")
        default = field.get_default(call_default_factory=True)
        shown = json.dumps(default) if isinstance(default, str | bool) else ""
        needed = " (required)" if field.is_required() and cls in _ASKED else ""
        rows.append((f"`{name}`{needed}", f"`{shown}`" if shown else "", _cell(field.description)))
    title = f"### {cls.__name__}\n\n{_first(inspect.getdoc(cls))}"
    header = ("field", "default", "meaning")
    if not any(row[1] for row in rows):
        header, rows = ("field", "meaning"), [(row[0], row[2]) for row in rows]
    return f"{title}\n\n{_table(header, rows)}"


_ASKED: Final = frozenset(
    {
        messages.CompletionRequest,
        messages.ChatRequest,
        messages.ChatMessage,
        messages.Candidate,
    }
)


# --- text -------------------------------------------------------------------------------------


def _attributes(cls: type[Any]) -> dict[str, str]:
    """Return the `Attributes:` section of a class's docstring, by name."""
    _, _, section = (inspect.getdoc(cls) or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    for entry in re.split(r"\n\n(?=\w)", textwrap.dedent(section).strip("\n")):
        names, _, meaning = entry.partition(":")
        for name in names.split(","):
            found[name.strip()] = _line(meaning)
    return found if section else {}


def _class_table(cls: type[Any]) -> str:
    rows = [(f"`{name}`", _cell(meaning)) for name, meaning in _attributes(cls).items()]
    return _table(("field", "meaning"), rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")


def _line(text: str) -> str:
    return " ".join(text.split())


def _plain(text: str) -> str:
    """Return a sentence about Python's None for people who write YAML."""
    return re.sub(r"\bNone\b", "none", text)


def _first(text: str | None) -> str:
    return _line((text or "").split("\n\n")[0])


def _paragraphs(text: str | None) -> str:
    return "\n\n".join(_line(part) for part in (text or "").split("\n\n"))


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9-]", "", heading.lower().replace(" ", "-"))


if __name__ == "__main__":
    sys.exit(main())
