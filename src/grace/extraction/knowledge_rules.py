"""
Structured answers of Study 1: the number before the speech, the bets, the knowledge.

Bets are read in `grace.extraction.allocation`, the other two here. A number
counts if the text gives it as the answer: "all 3 have won", "2 of the 3", "3".
The size of the set ("Joe bought 3 tickets"), ranges, limits and what the text
says it cannot say do not count. Knowledge is read from an explicit yes or no, or
from what the text says about the speaker: the last such statement counts.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from grace.extraction.allocation import read_allocation
from grace.extraction.bet_tokens import prepared
from grace.extraction.knowing import read_knowledge
from grace.extraction.parsed import NUMBER_WORDS, Parsed, Value, alternatives

PRIOR = "Prior_A"
KNOWLEDGE = "Knowledge_A"

_SENTENCE = re.compile(r"[^\n.!?]*(?:[.!?](?![\s]|$)[^\n.!?]*)*[.!?]*")
_CUES = (
    "that|think|believe|say|guess|estimate|expect|predict|assume|answer|likely|probably"
    "|about|around|approximately|roughly|exactly|maybe|perhaps|possibly|so|then|therefore|only|just"
    "|would|all"
)
_CUE = re.compile(rf"(?:^|[:=]|- |\b(?:{_CUES})) ?$")
_HOW_MANY = re.compile(
    r"\b(?:it|that|this|answer|number|guess|estimate|prediction|count|result|expectation)\b"
    r"[^.]{0,60}(?:\b(?:is|be|are)|'s) $"
)
_DENIED = re.compile(
    r"(?: [a-z'-]{1,20}){0,5}? (?:(?:do|does|did|have|has|had|are|is|were|was|will|would) (?:not|no)"
    r"|[a-z]{2,6}n't)\b"
)
_THERE = re.compile(r"\bthere (?:are|is|were|was)(?: only| exactly| just| a total of)? $")
_WITH_PROPERTY = re.compile(r"(?: [a-z]+){1,3} (?:with|containing|inside)\b")
_PREDICATE = re.compile(
    r"(?: [a-z']+){1,5} (?:have|has|had|will|would|should|won|passed|sprouted|contain\w*)\b"
    r"(?! (?:no|not)\b)"
)
_CONDITIONAL = re.compile(r"if (?!i\b|we\b|you\b|asked\b|had to\b)")
_ALONE = re.compile(r"(?: [a-z]+){0,4} ?[.!)$]{0,3}$")
_NOT_A_COUNT = re.compile(r" ?(?:%|percent|dollars|days?\b|hours?\b|times\b|in total|total)")
_FAVOUR = re.compile(
    r"\b(?:likely|probably|probable|best (?:guess|estimate)|expect|estimate|guess|answer|"
    r"i (?:would |'d )?(?:say|think|believe)|i'd (?:say|think|guess))\b[^,;]{0,60}$"
)
_LIKELIEST = re.compile(r"\bmost (?:likely|probable|probably)\b[^,;]{0,60}$")
_ANSWER = re.compile(
    r"\banswer(?: (?:is|would be|should be))? ?:? ?(?:that )?(?:about |approximately |exactly )?$"
)
_UNSAID = re.compile(
    r"\b(?:if (?!i\b|we\b|you\b|asked\b|had to\b)|whether |unless |which |how )"
    r"|(?:\b(?:cannot|can not|could not|impossible|hard|difficult|unable|not|no)|n't)\b"
    r".{0,60}\b(?:that|say|said|mean|guarantee\w*|certain\w*|assume|know|sure|think|believe)\b"
)
_CLAUSE = re.compile(r"[,;:]|\b(?:but|however|although|though|yet)\b")
_CONCLUSION = re.compile(r"\b(?:so|therefore|thus|hence|overall|in conclusion|in short)\b")


def parse(responses: Mapping[str, str], n_items: int = 3) -> Parsed:
    """
    Read Study 1's fields from the three turns of a trial.

    Args:
        responses: By response probe: `prior`, `speech` and `knowledge`; a
            missing one counts as empty.

        n_items: How many items the story has.

    >>> turns = {"prior": "All 3.", "speech": "1: $90, 2: $10", "knowledge": "No, he doesn't."}
    >>> parse(turns).values
    {'Prior_A': 3, '0': 0, '1': 90, '2': 10, '3': 0, 'Knowledge_A': 'no'}
    """
    prior, prior_problem = _prior(prepared(responses.get("prior", "")), n_items)
    allocation = read_allocation(responses.get("speech", ""), n_items)
    stance, knowledge_problem = read_knowledge(prepared(responses.get("knowledge", "")))
    values: dict[str, Value] = {
        PRIOR: prior,
        **{str(state): bet for state, bet in enumerate(allocation.bets)},
        KNOWLEDGE: stance,
    }
    problems = (
        *([f"{PRIOR}: {prior_problem}"] if prior_problem else []),
        *allocation.problems,
        *([f"{KNOWLEDGE}: {knowledge_problem}"] if knowledge_problem else []),
    )
    complete = None not in values.values() and allocation.is_exact
    return Parsed(values, problems, complete)


@lru_cache(maxsize=8)
def _mention(n_items: int) -> re.Pattern[str]:
    all_words = alternatives(
        [str(n_items), *(word for word, value in NUMBER_WORDS.items() if value == n_items)]
    )
    k = rf"(?:[0-9]{{1,4}}|{alternatives(NUMBER_WORDS)})(?![0-9\w]|[.,/][0-9]|-[a-z])"
    perhaps = r"(?:(?:maybe|perhaps|possibly|even|just|only|at least) ){0,2}"
    fewer = r"(?:fewer|less|more|most|some|none|not)\b"
    whole = rf"all (?:of )?(?:the |his |her |their |these |those )?(?:{all_words})\b"
    owner = r"(?:the|these|those|his|her|their|[a-z]{2,20}'s)"
    return re.compile(
        rf"(?P<vague>\b(?:at least|at most|(?:no )?(?:more|fewer|less) than|up to|minimum of"
        rf"|maximum of) (?:{k})(?: (?:out )?of (?:the )?(?:{all_words})\b)?"
        rf"|\b(?:{whole}|{k}),? or {perhaps}{fewer}"
        rf"|\b(?:(?:between|from|either) )?{k}(?:(?:, ?(?:or |and )?|,? (?:or|to) {perhaps}"
        rf"| and | ?- ?){k})+"
        rf"|\b(?:most of|(?:a |the )?majority|some of|several|a few|many of|not (?:necessarily )?"
        r"(?:all|every\w*))\b)"
        rf"|(?P<all>\b{whole}|\ball of (?:them|{owner})\b|\ball (?:the )?(?!in\b|we\b|i\b|things\b"
        r"|information\b|this\b|that\b|possib|other|the\b|of\b|else\b|likely|right\b|options\b)"
        r"[a-z]{3,20}s\b(?! of)|\bevery (?:single )?one\b|^all[.!]?$)"
        rf"|(?P<of>\b{k} (?:out )?of (?:{owner} )?(?:them\b|(?:{all_words})\b|[a-z]{{3,20}}s\b)"
        rf"|\b[0-9]{{1,4}} ?/ ?{n_items}\b)"
        rf"|(?P<none>\bnone\b|\bnot (?:a single|any) (?:one|of)\b)|\b(?P<k>{k})"
    )


@dataclass(frozen=True, slots=True)
class _Mention:
    """A number of items that a text names, or a range (None), and the words before it."""

    value: int | None
    before: str


def _mentions(text: str, n_items: int) -> Iterator[_Mention]:
    for sentence in _SENTENCE.finditer(text):
        said = sentence.group().strip()
        if not said or said.endswith("?") or _CONDITIONAL.match(said):
            continue
        for match in _mention(n_items).finditer(said):
            before = said[max(0, match.start() - 100) : match.start()]
            if match["vague"]:
                yield _Mention(None, before)
                continue
            value = _counted(match, said, n_items)
            if value is not None and not _UNSAID.search(_CLAUSE.split(before)[-1]):
                yield _Mention(value, before)


def _prior(text: str, n_items: int) -> tuple[int | None, str]:
    """Return the number that a response gives as its answer, or why there is none."""
    if not text:
        return None, "there is no answer"
    mentions = list(_mentions(text, n_items))
    counts = [(one.value, one.before) for one in mentions if one.value is not None]
    is_open = len(counts) < len(mentions)

    def introduced(pattern: re.Pattern[str]) -> list[int]:
        return [value for value, before in counts if pattern.search(before)]

    first = _mention(n_items).match(text)
    if first and first["k"] and _ALONE.match(text.partition("\n")[0], first.end()):
        return _in_range([_value(first["k"])], n_items)
    answers = introduced(_ANSWER)
    if answers:
        return _in_range(answers[-1:], n_items)
    stated = [value for value, _ in counts]
    preferred = (introduced(_LIKELIEST), introduced(_FAVOUR))
    # Where a range is named too, only a number that is called likely is the answer.
    for values in preferred if is_open else (stated, *preferred, introduced(_CONCLUSION)):
        if len(set(values)) == 1:
            return _in_range(values, n_items)
    if not stated:
        return None, "the text names a range or a limit" if is_open else "no number is stated"
    listed = " and ".join(str(value) for value in sorted(set(stated)))
    return None, f"the text names {listed}{' and a range' if is_open else ''}, none as its answer"


def _in_range(values: list[int], n_items: int) -> tuple[int | None, str]:
    if values[0] <= n_items:
        return values[0], ""
    return None, f"the number given is {values[0]}, not 0 to {n_items}"


def _counted(match: re.Match[str], sentence: str, n_items: int) -> int | None:
    """Return the number that a mention gives as a count of the items with the property."""
    after = sentence[match.end() : match.end() + 120]
    if match["none"]:
        return 0
    if _DENIED.match(after):
        return None
    if match["all"]:
        return n_items
    value = _value((match["of"] or match["k"]).split()[0].split("/")[0])
    if match["of"]:
        return value
    before = sentence[max(0, match.start() - 100) : match.start()]
    if _NOT_A_COUNT.match(after):
        return None
    begins = before == ""
    if _THERE.search(before):
        return value if _WITH_PROPERTY.match(after) else None
    if before == "the " and value == n_items:
        return value if _PREDICATE.match(after) else None
    if _HOW_MANY.search(before):
        return value
    if _CUE.search(before) and (not begins or _ALONE.match(after) or _PREDICATE.match(after)):
        return value
    return value if before.endswith(", ") and _PREDICATE.match(after) else None


def _value(word: str) -> int:
    return NUMBER_WORDS[word] if word in NUMBER_WORDS else int(word)
