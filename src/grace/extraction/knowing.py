"""
Whether a response says that the speaker knows.

"yes" and "no" are said outright ("Yes, ...", "so the answer is no") or by a
statement about the speaker ("Laura does not know exactly how many"). "uncertain"
is a statement too: that it cannot be said. Questions, conditions and what only
follows from the text are no statements: a response that merely says how many
items were looked at gives no answer.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

Stance = Literal["yes", "no", "uncertain"]

_GAP = r"(?: [a-z'-]{1,20}){0,8}?"
_FEW = r"(?: [a-z'-]{1,20}){0,4}?"
_KNOW = r" know(?:s|n|ing)?\b"
_LABEL = re.compile(r"^(?:(?:response|answer|a|assistant|final answer|model)\s?:\s?){1,3}")
_ECHO = re.compile(r"^(?:[^.!?\n]{1,300}\?\s?){1,3}")
_NOT_A_NO = (
    r"(?!,? ?(?:and|or|/) ?(?:yes|no)\b| or\b| (?:one|doubt|information|evidence|indication|mention"
    r"|further|more|other|specific|explicit|way|need|matter|problem|idea|clear|direct)\b)"
)
_YES_OR_NO = rf"(?P<word>yes|yeah|yep|no|nope)\b{_NOT_A_NO}"
_LEAD = re.compile(
    r"^(?:(?:well|so|hmm|okay|ok|(?:based on|given|according to|since|as|because) [^,.\n]{0,160}"
    r"|i(?:'d| would)? (?:think|say|believe|answer)|my answer is|in (?:this|that) case|therefore"
    rf"|thus|the answer is),? ){{0,2}}{_YES_OR_NO}"
    r"(?!,? i(?:'m| am)? (?:will not|won't|cannot|can't|can not|not able|unable|refuse))"
)
_OUTRIGHT = re.compile(
    r"\b(?:answer(?: to (?:the|this|that) question)?(?: is| would be| must be)? ?:?(?: likely)?"
    r"|so|therefore|thus|hence|overall|conclusion|i(?:'d| would)? (?:say|answer|conclude))"
    rf"[ ,:]{{1,3}}{_YES_OR_NO}"
)
_LATER = re.compile(r"[.!?\n]\s?(?P<word>yes|no)(?=[.!,\n]|$)")
_SHORT = {
    "yes": re.compile(
        r"(?:most )?(?:definitely|certainly|absolutely|of course|indeed|correct|affirmative|sure"
        r"|probably|likely|true|right|i (?:think|believe) so|i (?:think|believe) [a-z]{2,20} do(?:es)?"
        r"|(?!it\b|this\b|that\b|what\b|who\b)[a-z]{2,20} (?:probably |certainly )?do(?:es)?)"
    ),
    "no": re.compile(
        r"not (?:really|exactly|yet|at all|quite|likely|possible)|(?:most )?(?:probably|definitely"
        r"|certainly|absolutely|of course|likely) not|unlikely|negative|false|impossible"
        r"|i (?:don't|do not) (?:think|believe) (?:so|[a-z]{2,20} do(?:es)?)"
        r"|(?!it\b|this\b|that\b|i\b|we\b)[a-z]{2,20} (?:does not|doesn't|do not|don't|can't|cannot)"
    ),
    "uncertain": re.compile(
        r"i (?:don't|do not) (?:really )?know|(?:i'm |i am )?not sure|uncertain|unsure|unclear"
        r"|unknown|maybe|perhaps|(?:possibly|maybe|perhaps) not|not necessarily|hard to (?:say|tell)"
        r"|it(?:'s| is) (?:unclear|uncertain|unknown|not clear|(?:impossible|hard) to (?:say|tell))"
        r"|(?:it |that )?can(?:'t|not) (?:be (?:determined|said|known)|say|tell)"
    ),
}
_UNSAYABLE = re.compile(
    rf"\b(?:uncertain|unclear|unknown|unsure|questionable|not{_FEW} (?:certain|clear|sure|known"
    rf"|evident|obvious|definite|guaranteed|confirmed|stated|specified)){_FEW},? "
    rf"(?:if|whether|that|how){_GAP}{_KNOW}"
    r"|(?:(?<!he )(?<!she )\b(?:cannot|can't|can not|could not|couldn't|do not|don't)|\b(?:unable"
    r"|not able|impossible|difficult|hard|not possible|no way|not enough information"
    rf"|insufficient information) to){_FEW} (?:say|said|tell|told|know|determine\w*|ascertain\w*"
    rf"|conclude\w*|confirm\w*|infer\w*|assume\w*|judge\w*|sure|certain){_FEW} "
    rf"(?:if|whether|that){_GAP}{_KNOW}"
    rf"|\bno (?:indication|evidence|information|mention|confirmation|guarantee){_FEW} "
    rf"(?:that|if|whether|about){_GAP}{_KNOW}"
    r"|\b(?:not|n't) (?:necessarily )?(?:say|state|mention|specify|indicate|imply|mean|guarantee"
    rf"|confirm|suggest|clarify){_FEW} (?:if|whether|that){_GAP}{_KNOW}"
    rf"|\bpossible (?:that|for){_GAP}{_KNOW}"
    rf"|\b(?:may|might)(?: or (?:may|might) not| not)?{_FEW}{_KNOW}|\bcould{_KNOW}"
    rf"|(?:\bnot|n't) necessarily{_KNOW}"
    rf"|\bwhether{_GAP}{_KNOW}(?: [a-z0-9'-]{{1,20}}){{0,14}} (?:is|remains) "
    r"(?:uncertain|unclear|unknown|not (?:clear|certain|known))"
)
_IMPROBABLE = re.compile(
    rf"\b(?:unlikely|not{_FEW} likely|doubtful|improbable|(?<!no )doubt|impossible|not possible"
    r"|not the case|no way|(?:don't|do not|wouldn't|would not) (?:think|believe|say|expect))"
    rf"(?: that| for)?{_GAP}{_KNOW}"
)
_NEGATED = re.compile(
    r"(?:\b(?:not|cannot|unable|never|neither)|[a-z]n't)(?: (?!only\b|if\b|whether\b|that\b|but\b)"
    rf"[a-z'-]{{1,20}}){{0,5}}?{_KNOW}"
    r"|\b(?:unaware|not(?: [a-z]{1,12})? aware|no way of knowing|no knowledge|(?<!it )(?:is|remains)"
    r"(?: [a-z]{1,12})? (?:not (?:certain|sure)|uncertain|unsure)(?= (?:of |about )?(?:exactly"
    r"|how many|the exact)))\b"
)
_WRITER = re.compile(
    r"\b(?:i|we|you|one)(?! (?:think|believe|guess|suppose|suspect|assume|(?:would|'d) say)\b)"
    r"(?: [a-z]{1,12}){0,2} ?$"
)
_ONLY = re.compile(rf"\bonly{_FEW}{_KNOW}|{_KNOW} only\b|\bnot only{_KNOW}")
_NEUTRAL = re.compile(
    rf"\b(?:if|whether|unless|until|once|for|in order|without|before|how|what){_GAP}{_KNOW}"
)
_KNOWS = re.compile(
    rf"(?:{_KNOW}|\b(?:is|are)(?: (?:fully|well|likely|certainly))? (?:aware|certain|sure)"
    r"(?: of| about)?(?= (?:exactly|how many|the exact)))"
)
_REALLY_TO = re.compile(r"\b(?:seems?|appears?|likely|believed|said|able|expected|assumed) to$")
_OBJECT = re.compile(
    r"(?:,? (?:for (?:sure|certain|a fact)|with certainty))?,? ?(?:exactly|precisely|definitively"
    r"|how many|the (?:exact|precise|total|actual|correct|full|final|number|answer)|all\b|this\b"
    r"|that yet|(?:because|since|as|due|after|yet|and|based)\b|[.,;!]|$)"
)
_CONDITION = re.compile(r"\b(?:if|once|when|after|unless|would need to|had)\b")
_MODAL = re.compile(r"\b(?:will|would|could|'d|'ll)(?: [a-z]{1,12}){0,3}$")
_CORRECTION = re.compile(r"\b(?:actually|wait|correction|sorry|on second thought|scratch that)\b")
_SENTENCE = re.compile(r"[^\n.!?]+[.!?]*")
_ABOUT_KNOWING = re.compile(r"know|aware|certain|sure")
_REST_OF_LINE = re.compile(r"[.,!*\"' ]{0,3}(?:\n|$)")
_HEAD = re.compile(r"[,.;!?\n]| - ")


@dataclass(frozen=True, slots=True)
class _Statement:
    stance: Stance
    start: int
    exact: bool


def read_knowledge(text: str) -> tuple[Stance | None, str]:
    """
    Return what a prepared text says, or None and why.

    >>> read_knowledge("she only saw 2, so she can't know exactly how many.")
    ('no', '')
    """
    text = _LABEL.sub("", _ECHO.sub("", text.lstrip("-(> "))).lstrip("-(> ")
    if not text:
        return None, "there is no answer"
    said = list(_statements(text))
    exact = [statement for statement in said if statement.exact]
    outright = [*_OUTRIGHT.finditer(text), *_LATER.finditer(text)]
    outright.sort(key=lambda match: match.start())
    lead = _LEAD.match(text)
    alone = lead is not None and _REST_OF_LINE.match(text, lead.end()) is not None
    if outright and not alone and (lead is None or outright[-1].start() > lead.end()):
        later = [statement for statement in exact if statement.start > outright[-1].end()]
        return _led(_yes_or_no(outright[-1]), later, text)
    if lead is not None:
        return _led(_yes_or_no(lead), exact, text)
    head = _HEAD.split(text, maxsplit=1)[0].strip()
    for stance in ("uncertain", "no", "yes"):
        if _SHORT[stance].fullmatch(head):
            return _led(stance, exact, text)
    if said:
        return (exact or said)[-1].stance, ""
    return None, "the text does not say whether the speaker knows"


def _yes_or_no(match: re.Match[str]) -> Stance:
    return "yes" if match["word"].startswith("y") else "no"


def _led(lead: Stance, exact: list[_Statement], text: str) -> tuple[Stance | None, str]:
    """Weigh the answer that a text begins with against what it goes on to say."""
    stances = {statement.stance for statement in exact}
    if not exact or lead in stances:
        last = exact[-1] if exact else None
        if last and last.stance != lead and _CORRECTION.search(text, 0, last.start):
            return last.stance, ""
        return lead, ""
    if stances == {"uncertain"} or lead == "uncertain":
        return exact[-1].stance, ""
    if _CORRECTION.search(text, 0, exact[-1].start):
        return exact[-1].stance, ""
    return None, f"the text answers {lead} and says the opposite"


def _statements(text: str) -> Iterator[_Statement]:
    for match in _SENTENCE.finditer(text):
        sentence = match.group()
        if sentence.endswith("?") or not _ABOUT_KNOWING.search(sentence):
            continue
        reader = _SentenceReader(sentence)
        found = [*reader.doubts(), *reader.denials(), *reader.assertions()]
        for one in sorted(found, key=lambda statement: statement.start):
            yield replace(one, start=one.start + match.start())


class _SentenceReader:
    """Reads a sentence once: what one pattern has read, no later one reads again."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
        self.unread = sentence

    def _take(self, pattern: re.Pattern[str]) -> list[re.Match[str]]:
        matches = list(pattern.finditer(self.unread))
        self.unread = pattern.sub(lambda match: "#" * len(match.group()), self.unread)
        return matches

    def _made(self, stance: Stance, match: re.Match[str]) -> _Statement:
        exact = _OBJECT.match(self.sentence, match.end()) is not None
        return _Statement(stance, match.start(), exact)

    def _before(self, match: re.Match[str]) -> str:
        return self.sentence[max(0, match.start() - 60) : match.start()]

    def doubts(self) -> list[_Statement]:
        return [self._made("uncertain", match) for match in self._take(_UNSAYABLE)]

    def denials(self) -> list[_Statement]:
        found = [self._made("no", match) for match in self._take(_IMPROBABLE)]
        negated = self._take(_NEGATED)
        if not _CONDITION.match(self.sentence.lstrip()):
            found += [self._made("no", m) for m in negated if not _WRITER.search(self._before(m))]
        only = [match for match in self._take(_ONLY) if not match.group().startswith("not")]
        return [*found, *(_Statement("no", match.start(), exact=False) for match in only)]

    def assertions(self) -> Iterator[_Statement]:
        conditional = _CONDITION.search(self.sentence) is not None
        self._take(_NEUTRAL)
        for match in self._take(_KNOWS):
            before = self._before(match)
            if before.endswith(" to") and not _REALLY_TO.search(before):
                continue
            hypothetical = conditional and _MODAL.search(before)
            made = self._made("yes", match)
            if made.exact and not hypothetical and not _WRITER.search(before):
                yield made
