"""The deterministic parsers, chosen by study."""

from collections.abc import Mapping

from grace.extraction import generic_rules, knowledge_rules, politeness_rules
from grace.extraction.parsed import Parsed
from grace.studies.knowledge import KNOWLEDGE
from grace.studies.politeness import POLITENESS
from grace.studies.study import Study

MOST_CHARACTERS = 50_000
"""A longer response is left unread: `max_tokens` allows no response near it."""


def parse_by_rules(study: Study, responses: Mapping[str, str]) -> Parsed:
    """
    Read the fields of a study from a trial's responses.

    Args:
        study: Decides the parser; a user's study gets the generic one.

        responses: By response probe; all of them.
    """
    problems = tuple(
        f"the response to {name} has {len(text):,} characters; rules read at most "
        f"{MOST_CHARACTERS:,}"
        for name, text in responses.items()
        if len(text) > MOST_CHARACTERS
    )
    if problems:
        return Parsed({field.name: None for field in study.fields}, problems, complete=False)
    if study.key == KNOWLEDGE.key:
        return knowledge_rules.parse(responses)
    if study.key == POLITENESS.key:
        return politeness_rules.parse(responses[POLITENESS.dialogue[0].name])
    return generic_rules.parse(study.fields, study.sums, responses)
