"""Options that several commands share, and how flags and a config file meet."""

from pathlib import Path
from typing import Annotated

import typer

from grace.errors import UsageError
from grace.settings import FLAGS, RunSettings, make_settings, read_config

Study = Annotated[
    list[str] | None,
    typer.Option("--study", help="study1, study2, or a YAML file of your own. Repeatable."),
]
Input = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="STUDY=CSV",
        help="Trials of a study; without it, the items shipped with Grace. Repeatable.",
    ),
]
ExperimentOption = Annotated[
    list[str] | None,
    typer.Option("--experiment", help="exp1 (responses), exp2 (probabilities). Repeatable."),
]
Model = Annotated[
    list[str] | None,
    typer.Option("--model", help="A key of `grace models list`. Repeatable."),
]
Endpoint = Annotated[
    str | None,
    typer.Option(help="Address of a running model server; without it, one is started here."),
]
Server = Annotated[
    str | None,
    typer.Option(help="What the endpoint is: auto, llamacpp, vllm, tgi or openai."),
]
ApiKeyEnv = Annotated[
    str | None,
    typer.Option(
        help="Environment variable with the endpoint's key, or, with _FILE behind its name, with "
        "the path of a file that holds it. Default: GRACE_API_KEY."
    ),
]
Limit = Annotated[int | None, typer.Option(help="Only the first N rows of each study.")]
Out = Annotated[Path | None, typer.Option(help="Where run folders go. Default: results.")]
Timestamp = Annotated[
    str | None,
    typer.Option(help="Name of the run folder, as 20260131T235959Z; default: now, in UTC."),
]
Seed = Annotated[int | None, typer.Option(help="Seed of the run. Default: 1.")]
Replicates = Annotated[int | None, typer.Option(help="Samples of every row in exp1. Default: 1.")]
Concurrency = Annotated[
    int | None,
    typer.Option(
        help="Most requests at a time, 10 to 50 for a large server; fewer are sent while that is "
        "faster. Default: 16 to an endpoint, 1 to the embedded server."
    ),
]
Measure = Annotated[
    bool,
    typer.Option(
        "--measure",
        help="Count tokens on the model's server, started here unless --endpoint is given, and "
        "time a few queries.",
    ),
]
TokensPerSecond = Annotated[
    float | None,
    typer.Option(min=0.001, help="Speed of the server, if you know it, to forecast the time."),
]
Temperature = Annotated[
    float | None,
    typer.Option(help="Sampling temperature of exp1; 0 is greedy. Default: 0.7."),
]
Extractor = Annotated[
    str | None,
    typer.Option(
        help="Who turns responses into fields: rules, deepseek, a model's key, or rules+KEY "
        "(the model reads what the rules leave open). auto: rules+deepseek if DEEPSEEK_API_KEY "
        "is set, else rules. Default: auto.",
    ),
]
ExtractorEndpoint = Annotated[
    str | None, typer.Option(help="Address of the extractor's server, if not as catalogued.")
]
Scoring = Annotated[
    str | None,
    typer.Option(help="How exp2 asks: auto, trie or sequence; the numbers are the same."),
]
Pmi = Annotated[
    bool,
    typer.Option("--pmi", help="exp2: score the answers after a domain premise too (PMI-DC)."),
]
Terminators = Annotated[
    bool,
    typer.Option(
        "--terminators", help="exp2: measure also that an answer ends; one question more a form."
    ),
]
Recheck = Annotated[
    float | None,
    typer.Option(
        metavar="PERCENT",
        help="exp2: score this share of the distributions again, in another order, and report "
        "the largest change. Default: 0.",
    ),
]
CatalogueFile = Annotated[
    Path | None, typer.Option("--catalogue", help="A catalogue file of your own.")
]
Threads = Annotated[
    int | None,
    typer.Option(help="Compute threads of the embedded server; default: the idle cores."),
]
DrainSeconds = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="After SIGTERM: how long queries in flight may take to finish. Default: 15.",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(help="YAML file with the same names as these options; flags win over it."),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Go through everything with a toy model, in seconds."),
]
New = Annotated[bool, typer.Option("--new", help="Start another run, even if one is unfinished.")]
Audit = Annotated[
    bool,
    typer.Option(
        "--audit",
        help="Keep every prompt as it was sent, in the run folder's audit; it may hold what "
        "participants wrote.",
    ),
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Ask failed queries again.")]


def parse_inputs(pairs: list[str] | None) -> dict[str, str] | None:
    """
    Split STUDY=CSV pairs.

    Raises:
        UsageError: A pair is not of that form, or a study is given twice.
    """
    if pairs is None:
        return None
    inputs: dict[str, str] = {}
    for pair in pairs:
        study, equals, path = pair.partition("=")
        if not equals or not study or not path:
            raise UsageError(f"--input is {pair!r}; expected STUDY=CSV, such as study1=trials.csv")
        if study in inputs:
            raise UsageError(f"--input gives {study} twice")
        inputs[study] = path
    return inputs


def merge_settings(config: Path | None, flags: dict[str, object]) -> RunSettings:
    """
    Return the settings of a command: defaults, then the config file, then flags.

    Args:
        config: The config file, if one is given.

        flags: By setting; None or False means that the flag was not given.

    Raises:
        UsageError: An option is unknown or its value is wrong.
    """
    given = {
        name: value for name, value in flags.items() if value is not None and value is not False
    }
    from_file = read_config(config) if config is not None else {}
    # Only the file can hold unknown names; checking it alone names it in the message.
    make_settings(from_file, str(config) if config is not None else "config")
    return make_settings({**from_file, **given}, FLAGS)


def settings_of(context: typer.Context) -> RunSettings:
    """
    Return the settings that a command line asks for.

    Args:
        context: The command's context; its parameters are named as the
            settings are, with `input_` for `input`.

    Raises:
        UsageError: See `parse_inputs` and `merge_settings`.
    """
    given = {name.rstrip("_"): value for name, value in context.params.items()}
    # The context holds an empty list for a repeatable option that was not given.
    flags = {
        name: value
        for name, value in given.items()
        if name in RunSettings.model_fields and value not in ([], ())
    }
    return merge_settings(given["config"], {**flags, "input": parse_inputs(given["input"] or None)})
