"""The studies that come with Grace, by key."""

from collections.abc import Mapping
from types import MappingProxyType

from grace.studies.knowledge import KNOWLEDGE
from grace.studies.politeness import POLITENESS
from grace.studies.study import Study

BUILTIN_STUDIES: Mapping[str, Study] = MappingProxyType(
    {study.key: study for study in (KNOWLEDGE, POLITENESS)}
)
