"""What a rule is, and what it finds."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from pydantic import JsonValue

from grace.cluster.policies.secret_text import masked
from grace.cluster.policies.subject import Subject
from grace.cluster.site_rules import SiteRule, SiteRules
from grace.hiding import printable


class Severity(StrEnum):
    """What a finding means."""

    VIOLATION = "violation"
    """A rule is broken: nothing is sent."""
    NOT_READY = "not ready"
    """No rule is broken, but something must be filled in or asked for first: nothing is sent."""
    NOTICE = "notice"
    """A person should know."""


@dataclass(frozen=True, slots=True)
class Hit:
    """
    A place where a rule is broken.

    Attributes:
        object: `Job/name`.

        field: `spec.template.spec.containers[0].image`.

        value: What stands there; None if nothing does.

        detail: What is wrong here, where the rule's own words do not say it.
    """

    object: str
    field: str
    value: JsonValue = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """
    A rule, and how it is checked.

    Attributes:
        id: Its name.

        severity: Of what it finds.

        words: What it demands; for a rule of the site, `{rule.field}` stands for
            the site's figure.

        remedy: What to do.

        check: Yields where it is broken.

        site: The rule of a site's profile that it holds; it is not checked where
            that is None.

        source: The page that says so, for rules of no site.
    """

    id: str
    severity: Severity
    words: str
    remedy: str
    check: Callable[[Subject], Iterator[Hit]]
    site: Callable[[SiteRules], SiteRule | None] | None = None
    source: str = ""

    def findings(self, subject: Subject) -> Iterator["Finding"]:
        """Yield what it finds."""
        words, source = self.words, self.source
        if self.site is not None:
            demanded = self.site(subject.profile.rules)
            if demanded is None:
                return
            words, source = words.format(rule=demanded), demanded.source
        for hit in self.check(subject):
            yield Finding(
                severity=self.severity,
                rule=self.id,
                object=hit.object,
                field=hit.field,
                value=masked(hit.value) if isinstance(hit.value, str) else hit.value,
                detail=masked(hit.detail),
                words=words,
                source=source,
                remedy=self.remedy,
            )


@dataclass(frozen=True, slots=True)
class Finding:
    """
    A rule that an object breaks.

    Attributes:
        severity: Whether anything is sent.

        rule: The rule's id.

        object: `Job/name`.

        field: Where in the object.

        value: What stands there; never a secret's value.

        detail: What is wrong here; may be empty.

        words: What the rule demands.

        source: The page that says so; may be empty.

        remedy: What to do.

        others: Further objects of which the same is said; only of what is no violation.
    """

    severity: Severity
    rule: str
    object: str
    field: str
    value: JsonValue
    detail: str
    words: str
    source: str
    remedy: str
    others: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The object, and how many others."""
        return f"{self.object} and {len(self.others)} more" if self.others else self.object

    def __str__(self) -> str:
        """Return it in one line."""
        shown = "is missing" if self.value is None else f"is {_shown(self.value)}"
        detail = f" ({self.detail})" if self.detail else ""
        source = f" ({self.source})" if self.source else ""
        where = f"{self.where}: {self.field}" if self.field else self.where
        line = f"{where} {shown}{detail}; {self.words}{source}; {self.remedy} [{self.rule}]"
        return printable(line)


def together(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """
    Return findings, worst first, with what is said of many objects said once.

    Each violation stays: each is to be corrected. A notice is about the rule, so
    that there is one for each; what is not ready differs by what was found.
    """
    kept: dict[object, list[Finding]] = {}
    for number, finding in enumerate(findings):
        kept.setdefault(_key(finding, number), []).append(finding)
    said = [
        replace(
            same[0],
            others=tuple(dict.fromkeys(it.object for it in same if it.object != same[0].object)),
        )
        for same in kept.values()
    ]
    return tuple(sorted(said, key=lambda finding: list(Severity).index(finding.severity)))


def _key(finding: Finding, number: int) -> object:
    """Return what findings share that are the same to a reader."""
    match finding.severity:
        case Severity.VIOLATION:
            return number
        case Severity.NOT_READY:
            return finding.rule, str(finding.value), finding.detail
        case Severity.NOTICE:
            return finding.rule


def _shown(value: JsonValue) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"
