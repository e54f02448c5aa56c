"""
What every tool is given, and what it gives back: the same prompts, the same answers.

A task is one distribution: a prompt and the strings that may follow it. Files
carry jobs and results between processes. Nothing here knows any tool.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from grace.scoring.trie import token_trie


class Form(BaseModel):
    """A string that may follow a prompt, and its tokens there."""

    model_config = ConfigDict(frozen=True)

    text: str
    token_ids: tuple[int, ...]


class Task(BaseModel):
    """
    One distribution.

    Attributes:
        key: The query's key in Grace's plan.

        context: The prompt as the model sees it.

        prompt: Its tokens.

        forms: What may follow.
    """

    model_config = ConfigDict(frozen=True)

    key: str
    context: str
    prompt: tuple[int, ...]
    forms: tuple[Form, ...]

    def nodes(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Return the prefixes to ask about and the tokens asked: the trie's inner nodes."""
        tree = token_trie([form.token_ids for form in self.forms])
        return [((*self.prompt, *node.path), node.children) for node in tree]


Scores = dict[str, dict[str, float]]
"""The log-probability of each form's text, by the key of its task."""


class Job(BaseModel):
    """
    What a tool shall do.

    Attributes:
        tool: Its name in `benchmarks.child`.

        url, model: The server; a tool without one leaves the address empty.

        concurrency: Requests at a time.

        tasks: What to score; empty for Grace, which reads the input itself.

        study, experiment, input, rows, probes, out: What Grace runs: an experiment of
            a study on the first rows of a CSV, as far as these probes go, into a
            folder.

        wants_scores: Whether the result shall hold the numbers.

        folder: The model as transformers reads it.

        threads: Compute threads of a tool that computes itself.
    """

    tool: str
    url: str = ""
    model: str = ""
    concurrency: int = 16
    tasks: tuple[Task, ...] = ()
    study: str = ""
    experiment: Literal["exp1", "exp2"] = "exp2"
    input: Path | None = None
    rows: int | None = None
    probes: tuple[str, ...] = ()
    out: Path = Path()
    wants_scores: bool = True
    folder: Path | None = None
    threads: int = 1


class Result(BaseModel):
    """
    What a tool did, as measured in its own process.

    Attributes:
        scores: The log-probabilities.

        cpu_seconds: Of the process, imports not counted.

        wall_seconds: The same by the clock.

        peak_bytes: Most memory that the process held, imports included.

        more: What only this tool tells.
    """

    scores: Scores
    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int
    more: Mapping[str, float] = {}


def largest_difference(one: Scores, other: Scores) -> float:
    """
    Return the largest absolute difference between two tools' log-probabilities.

    Raises:
        KeyError: They did not score the same strings after the same prompts.

    >>> largest_difference({"a": {"yes": -1.0}}, {"a": {"yes": -1.25}})
    0.25
    """
    if one.keys() != other.keys():
        raise KeyError(f"{len(one.keys() ^ other.keys())} prompts were scored by one tool only")
    differences = [0.0]
    for key, forms in one.items():
        if forms.keys() != other[key].keys():
            raise KeyError(f"{sorted(forms.keys() ^ other[key].keys())}: scored by one tool only")
        differences += [abs(value - other[key][text]) for text, value in forms.items()]
    return max(differences)
