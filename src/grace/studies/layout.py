"""
The columns of output tables that follow from a study's probes by one rule.

The two built-in studies name their columns as their specification does; a
user's own study gets names made here. Knows nothing of files or rows.
"""

import re

from grace.studies.probes import CandidateProbe
from grace.studies.study import Measure, ProbabilityColumn

RESERVED_COLUMNS = (
    "stimulus_id",
    "model",
    "replicate",
    "status",
    "error",
    "extraction_status",
    "extraction_error",
)
"""Columns that Grace writes beside those of every study."""


def column_word(label: str) -> str:
    """
    Return an answer's label as a part of a column name.

    Letters of any script, digits and `_` stay; apostrophes and percent signs
    vanish; a minus before a digit becomes a word; all else becomes `_`. The
    result is empty if nothing stays.

    >>> [column_word(label) for label in ("wasn't amazing", "10%", "-2", "0.5", "?")]
    ['wasnt_amazing', '10', 'minus_2', '0_5', '']
    """
    words = re.sub(r"(?<!\w)[-\u2212](?=\d)", "minus_", label)
    words = re.sub(r"['\u2019%]", "", words)
    return re.sub(r"[\W_]+", "_", words).strip("_")


def probability_columns(probe: CandidateProbe) -> tuple[ProbabilityColumn, ...]:
    """
    Return the columns of a probe in a probability table.

    `{probe}_prob_{label}` for each answer; `{probe}_mean` and `{probe}_std` if
    every answer has a value; `{probe}_entropy`.

    Raises:
        ValueError: Two answers would share a column, or one has no name.
    """
    words = [column_word(answer.label) for answer in probe.answers]
    if "" in words or len(set(words)) < len(words):
        raise ValueError(f"the answers of {probe.name} do not give distinct columns: {words}")
    probabilities = [
        ProbabilityColumn(
            name=f"{probe.name}_prob_{word}",
            probe=probe.name,
            measure=Measure.PROBABILITY,
            answers=(answer.label,),
            description=f'Probability of the answer "{answer.label}" to {probe.name}.',
        )
        for word, answer in zip(words, probe.answers, strict=True)
    ]
    statistics = {
        Measure.MEAN: "Mean of the answers' values",
        Measure.STD: "Standard deviation (population) of the answers' values",
        Measure.ENTROPY: f"Entropy, in bits, of the {len(words)} answers",
    }
    if any(answer.value is None for answer in probe.answers):
        del statistics[Measure.MEAN], statistics[Measure.STD]
    return (
        *probabilities,
        *(
            ProbabilityColumn(
                name=f"{probe.name}_{measure}",
                probe=probe.name,
                measure=measure,
                description=f"{meaning} to {probe.name}.",
            )
            for measure, meaning in statistics.items()
        ),
    )
