"""
The rules of a site, and those of any careful site, held against objects before they are sent.

Pure: objects as plain data in, findings out. Whether objects follow their
schemas, and what a live cluster would say, is checked elsewhere.
"""

from collections.abc import Sequence

from grace.cluster.policies.finding import Finding, Hit, Rule, Severity, together
from grace.cluster.policies.general_table import GENERAL_RULES
from grace.cluster.policies.reading import Manifest
from grace.cluster.policies.site_table import SITE_RULES, site_words
from grace.cluster.policies.subject import Subject
from grace.cluster.profile import Profile
from grace.cluster.request import ClusterRun

__all__ = [
    "GENERAL_RULES",
    "RULES",
    "SITE_RULES",
    "Finding",
    "Hit",
    "Manifest",
    "Rule",
    "Severity",
    "Subject",
    "lint",
    "refusals",
    "site_words",
    "violations",
]


RULES = (*SITE_RULES, *GENERAL_RULES)
"""All of them."""


def lint(
    objects: Sequence[Manifest], profile: Profile, run: ClusterRun | None = None
) -> tuple[Finding, ...]:
    """
    Return every rule that is broken, violations first; what is said of many objects is said once.

    Args:
        objects: A whole set, in the order in which it would be sent.

        profile: The cluster, with the rules of its site.

        run: What the objects were made from; with it, the namespace, sizes of
            weights, and what is sent at a time are known as well.
    """
    subject = Subject(tuple(objects), profile, run)
    return together(finding for rule in RULES for finding in rule.findings(subject))


def violations(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the rules that are broken."""
    return tuple(it for it in findings if it.severity is Severity.VIOLATION)


def refusals(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return those for which nothing may be sent: violations, and what is not ready yet."""
    return tuple(it for it in findings if it.severity is not Severity.NOTICE)
