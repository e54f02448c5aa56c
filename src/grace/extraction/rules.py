"""The deterministic parsers, chosen by study."""

from collections.abc import Mapping

from grace.extraction import generic_rules, knowledge_rules, politeness_rules
from grace.extraction.parsed import Parsed
from grace.studies.knowledge import KNOWLEDGE
from grace.studies.politeness import POLITENESS
from grace.studies.study import Study


def parse_by_rules(study: Study, responses: Mapping[str, str]) -> Parsed:
    """
    Read the fields of a study from a trial's responses.

    Args:
        study: Decides the parser; a user's study gets the generic one.

        responses: By response probe; all of them.
    """
    if study.key == KNOWLEDGE.key:
        return knowledge_rules.parse(responses)
    if study.key == POLITENESS.key:
        return politeness_rules.parse(responses[POLITENESS.dialogue[0].name])
    return generic_rules.parse(study.fields, study.sums, responses)
