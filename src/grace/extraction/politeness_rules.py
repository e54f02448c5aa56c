"""
Structured answers of Study 2: what the speaker would say.

A candidate is a place that says was or wasn't and one of four words: "It wasn't
that bad". A response may hold several, in thoughts, in alternatives that are
weighed, in a list of options that is echoed. The utterance is, in this order: what
stands alone where the text begins, what the text announces ("she would say:"), what
it begins with, what it quotes last, what it says last. Of several clauses the first
counts, unless it is taken back.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from grace.extraction.parsed import Parsed, Value, own_words, plain

FRAME = "Was/Wasn't"
ASSESSMENT = "Assessment"
TEXT = "response_text"

_ADVERBS = (
    "actually|really|very|so|quite|pretty|truly|just|honestly|simply|absolutely|totally|definitely"
    "|certainly|genuinely|exactly|that|all that|all|particularly|especially|completely|entirely"
    "|rather|fairly|kind of|sort of|a bit|a little|somewhat|extremely|incredibly|utterly|indeed"
    "|also|still|even|well|um|uh|in fact|to be honest|frankly|basically|clearly|overall"
)
_WORD = r"(?P<word>terrible|bad|good|amazing)"
_WAS = r"\bwas(?P<negation> ?n[' ]?t\b| not\b)?"
_FRAME_AND_WORD = re.compile(
    rf"{_WAS}(?P<adverbs>(?:,? (?:{_ADVERBS})\b,?){{0,4}})(?:,|\.{{3}})? (?:(?:an?|the|such a) )?"
    rf"(?:(?:{_ADVERBS}) ){{0,2}}[\"']{{0,2}}{_WORD}\b(?!-)"
)
_FRAME_ONLY = re.compile(rf"{_WAS}(?! (?:n[' ]?t\b|not\b|neither\b|never\b))(?= [\"']?[a-z])")
_PRESENT = re.compile(
    r"(?:\b(?:is|are|isn't|aren't|looks?|looked|tasted?|tastes|sounds?|sounded|seems?|seemed|felt)"
    rf"|'s|'re)(?: not)?(?: (?:{_ADVERBS})){{0,3}} {_WORD}\b(?! [a-z])"
)
_BARE = re.compile(rf"[\"' ]{{0,3}}(?:(?:{_ADVERBS}) )?[\"']{{0,2}}{_WORD}[\"' .!]{{0,5}}")
_MERELY = re.compile(r"\b(?:just|simply|merely)\b")
_SUBJECT = re.compile(
    r"\b(?:it|that|this|he|she|they|(?:the|your|his|her|my|their|[a-z]{2,15}'s)(?: [a-z]{2,15}){1,2})"
    r"[\"']? $"
)
_OTHER_WORD = re.compile(
    r"[\"']{0,2},?(?: ?[\"']?(?:terrible|bad|good|amazing)[\"']?,?){0,3} ?(?:/|\bor\b) ?[\"']?"
    r"(?:terrible|bad|good|amazing)\b"
)
_OTHER_FRAME = re.compile(r"\bwas(?:n't| not)? ?(?:/|or|\|) ?[\"']?$")
_NOT_SAID = re.compile(
    r"\b(?<!\bi )(?:think|thinks|thought|thinking|feels?|felt|believe[sd]?|knows?|knew|found|finds"
    r"|considers?|considered)(?: that)?[ ,:\"']{1,3}$"
    r"|\b(?:because|since|if|whether|although|though|while|given that|fact that|or that|means? that"
    r"|impl(?:y|ies) that|suggest\w* that|indicat\w* that|how)[ ,]{1,2}[\"']?$"
    r"|(?:\b(?:not|never)|n't)(?: [a-z]+){0,2} (?:say|tell|claim|call|think|believe|pretend|admit"
    r"|mean|be)\w*(?: [a-z]+){0,2}[ ,:\"']{0,4}$"
    r"|\bpossible (?:for|that)[^.,]{0,60}$"
    r"|\b(?:instead of|rather than|avoid(?:s|ing)?|without|than)(?: (?:say|tell|admit)\w*)?"
    r"(?: [a-z]+){0,2}[ ,:\"']{1,3}$"
)
_SAYING = r"(?:say|says|respond|reply|answer|tell|state|choose|use|write|go with|respond with)"
_MAYBE = re.compile(
    rf"\b(?:could|might|may|can)(?: [a-z]+){{0,2}} {_SAYING}(?: [a-z]+){{0,3}}[ ,:\"']+$"
)
_ANNOUNCED = re.compile(
    r"(?:\b(?:would|will|should|must|going to|likely to|want to|needs? to|chooses? to|decides? to"
    rf"|best to|i)|'d|'ll)(?: (?:be|most|likely|probably|to|then|simply|just|also|best|instead)){{0,4}}"
    rf" {_SAYING}(?: (?!because\b|since\b)[a-z]+){{0,3}}[ ,:]{{0,3}}(?:that )?[\"']{{0,2}}$"
    r"|\b(?:answer|response|reply|utterance|sentence|choice|option|conclusion|say|says)"
    r"(?: [a-z]+){0,4}(?: is| would be|:),? ?[:\"']{0,4}[ \n]?[\"']{0,2}$"
)
_OPENING = re.compile(r"^(?:[a-z ]{1,20}: ?)?[\"' -]*(?:[a-z']+[ ,!\"']{1,3}){0,4}$")
_LINE_END = re.compile(r"[\"'.!, ]{0,4}(?:\n|$)")
_TAKEN_BACK = re.compile(
    r"^[\"'.!?, -]{0,6}(?:no|actually|wait|i mean|correction|sorry|scratch that|or rather"
    r"|let me rephrase|hmm|on second thought)\b"
)
_TAKEN_BACK_TO = re.compile(rf"{_TAKEN_BACK.pattern}[ ,]{{1,3}}(?:just )?{_WORD}\b")
_LISTED = re.compile(
    r"^[\s\"'.,;/|-]*(?P<or>\bor\b|/)?[\s\"'.,;|-]*(?:and |[0-9a-h][.)] ?)?[\s\"']*$"
)
_QUOTED = re.compile(r"\"[^\"\n]{1,300}\"|(?<![a-z0-9])'[^\n]{1,300}?'(?![a-z0-9])")
_DECORATION = str.maketrans(dict.fromkeys("*_#<>[]{}()\\~"))
_WRAPPED = re.compile(
    r"(?P<open>[\"'\u201c\u2018\u00ab`])(?P<inner>.*)(?P<close>[\"'\u201d\u2019\u00bb`])(?P<stop>[.!?,]?)",
    re.DOTALL,
)
_CLOSING = {
    '"': '"',
    "'": "'",
    "\u201c": "\u201d",
    "\u2018": "\u2019",
    "\u00ab": "\u00bb",
    "`": "`",
}


@dataclass(frozen=True, slots=True)
class _Candidate:
    start: int
    end: int
    frame: str
    word: str
    before: str
    quoted: bool

    @property
    def kind(self) -> tuple[str, str]:
        return self.frame, self.word


def parse(response: str) -> Parsed:
    r"""
    Read Study 2's fields from a response.

    >>> parse('"It wasn\'t that bad," she said.').values["Was/Wasn't"]
    "wasn't"
    """
    text = plain(response).lower().translate(_DECORATION)
    frame, word, problem = _utterance(text)
    problems = []
    if not text:
        problems = [f"{FRAME}, {ASSESSMENT}: there is no answer"]
    elif frame is None or word is None:
        missing = ", ".join(
            name for name, value in ((FRAME, frame), (ASSESSMENT, word)) if value is None
        )
        problems = [f"{missing}: {problem}"]
    values: dict[str, Value] = {FRAME: frame, ASSESSMENT: word, TEXT: _unwrapped(response)}
    return Parsed(values, tuple(problems), None not in values.values())


def _unwrapped(response: str) -> str | None:
    """Return the model's words without the quotation marks around all of them."""
    text = own_words(response).strip()
    match = _WRAPPED.fullmatch(text)
    if match and _CLOSING[match["open"]] == match["close"]:
        inner, close = match["inner"], match["close"]
        if '"' not in inner and "\u201c" not in inner and (close != "'" or "' " not in inner):
            ends = inner.rstrip().endswith((".", "!", "?", ","))
            text = inner.strip() + ("" if ends else match["stop"])
    elif text.count('"') == 1 and (text.startswith('"') or text.endswith('"')):
        text = text.strip('"').strip()
    return text or None


def _utterance(text: str) -> tuple[str | None, str | None, str]:
    """Return was or wasn't, the assessment, and why one is missing."""
    found, listed = _unlisted(text, list(_candidates(text)))
    if found:
        chosen = _chosen(found, text)
        if chosen is None:
            return None, None, "the text quotes several utterances and chooses none"
        return chosen.frame, chosen.word, ""
    if listed:
        return None, None, "the text lists several answers and chooses none"
    present = list(_PRESENT.finditer(text)) or [m for m in [_BARE.fullmatch(text)] if m]
    frames = [match for match in _FRAME_ONLY.finditer(text) if _is_said(text, match.start())]
    if len(present) == 1 and not frames and not _OTHER_WORD.match(text, present[0].end("word")):
        return None, present[0]["word"], "the text states neither was nor wasn't"
    if len(frames) == 1 and _FRAME_AND_WORD.search(text) is None:
        return (
            _frame(frames[0]),
            None,
            "the text states none of terrible, bad, good and amazing after was or wasn't",
        )
    named = _FRAME_AND_WORD.search(text)
    if named is not None:
        return None, None, f"the text names {named.group()!r}, but not as what the speaker says"
    return None, None, "the text states no utterance with was or wasn't"


def _frame(match: re.Match[str]) -> str:
    return "wasn't" if match["negation"] else "was"


def _is_said(text: str, start: int) -> bool:
    """Whether a lone frame belongs to an utterance rather than to a report."""
    before = _before(text, start)
    if before == text[max(0, start - 120) : start]:
        return False
    if _NOT_SAID.search(before) or _OTHER_FRAME.search(text[max(0, start - 20) : start]):
        return False
    opens = start <= 80 and _OPENING.match(before) is not None
    return opens or _ANNOUNCED.search(before) is not None or before.endswith(('"', "'"))


def _before(text: str, start: int) -> str:
    """Return the words before a clause, without its subject."""
    return _SUBJECT.sub("", text[max(0, start - 120) : start])


def _candidates(text: str) -> Iterator[_Candidate]:
    quotes = [match.span() for match in _QUOTED.finditer(text)]
    here = 0
    for match in _FRAME_AND_WORD.finditer(text):
        before = _before(text, match.start())
        while here < len(quotes) and quotes[here][1] < match.end():
            here += 1
        merely = match["negation"] and _MERELY.search(match["adverbs"])
        open_frame = _OTHER_FRAME.search(text, max(0, match.start() - 20), match.start())
        if merely or open_frame or _NOT_SAID.search(before):
            continue
        if _OTHER_WORD.match(text, match.end()):
            continue
        quoted = here < len(quotes) and quotes[here][0] <= match.start()
        yield _Candidate(match.start(), match.end(), _frame(match), match["word"], before, quoted)


def _unlisted(text: str, found: Sequence[_Candidate]) -> tuple[list[_Candidate], bool]:
    """Return the candidates that are not items of a list, and whether there is a list."""
    kept: list[_Candidate] = []
    listed = False
    group: list[_Candidate] = []
    alternatives = False
    for candidate in [*found, None]:
        if group and candidate is not None:
            between = _SUBJECT.sub("", text[group[-1].end : candidate.start])
            link = _LISTED.match(between) if len(between) <= 20 else None
            if link is not None:
                alternatives = alternatives or link["or"] is not None
                group.append(candidate)
                continue
        kinds = {one.kind for one in group}
        if len(kinds) > 2 or (alternatives and len(kinds) > 1):
            listed = True
        else:
            kept += group
        group, alternatives = ([candidate] if candidate is not None else []), False
    return kept, listed


def _chosen(found: Sequence[_Candidate], text: str) -> _Candidate | None:
    firm = [one for one in found if not _MAYBE.search(one.before)] or list(found)
    announced = [one for one in firm if _ANNOUNCED.search(one.before)]
    quoted = [one for one in firm if one.quoted]
    first = firm[0]
    opens = first.start <= 80 and _OPENING.match(first.before) is not None
    if opens and _LINE_END.match(text, first.end):
        chosen = first
    elif announced:
        chosen = announced[-1]
    elif opens and (not first.before.strip(" \"'") or len({one.kind for one in quoted}) < 2):
        chosen = first
    elif len({one.kind for one in quoted}) > 1 and _MAYBE.search(found[0].before) is None:
        return None
    else:
        chosen = (quoted or firm)[-1]
    return _corrected(chosen, found, text)


def _corrected(chosen: _Candidate, found: Sequence[_Candidate], text: str) -> _Candidate:
    """Return what a candidate is taken back to, or the candidate itself."""
    for later in found:
        if later.start <= chosen.end:
            continue
        between = text[chosen.end : later.start]
        if len(between) > 80 or not _TAKEN_BACK.match(between):
            break
        chosen = later
    corrected = _TAKEN_BACK_TO.match(text[chosen.end : chosen.end + 60])
    return replace(chosen, word=corrected["word"]) if corrected else chosen
