"""
Structured answers of a user's own study, read without knowing what it is about.

An integer is filled when its response states exactly one integer in range, a
choice when exactly one of the choices occurs as a whole word, a text as it is.
Where several integers share a response, each must be introduced by its name.
"""

import re
from collections.abc import Mapping, Sequence

from grace.extraction.parsed import NUMBER_WORDS, Parsed, Value, alternatives, plain
from grace.studies.study import AnswerField, FieldSum

UNCERTAIN = "uncertain"

_INTEGER = re.compile(
    r"(?<![\w.,])(?P<minus>(?<![\w)])-)?(?P<digits>[0-9]++(?:,[0-9]{3}(?![0-9]))*+)"
    r"(?P<fraction>\.[0-9]++)?(?![\w])"
    rf"|\b(?P<word>{alternatives(NUMBER_WORDS)})\b",
    re.IGNORECASE,
)
_DENIAL = re.compile(
    r"(?:\b(?:not|never|no|neither|nor|without)|n't)(?: (?:a|an|the|very|really|so|that|all))?\s$",
    re.IGNORECASE,
)
_INTRODUCTION = r"[*\"'_]{0,3} ?(?:[:=]|\bis\b) ?[*\"'_]{0,3} ?"
_LONGEST = 12


def parse(
    fields: Sequence[AnswerField], sums: Sequence[FieldSum], responses: Mapping[str, str]
) -> Parsed:
    """
    Read the fields of a study from one trial's responses.

    Args:
        fields: The study's answer fields.

        sums: Constraints on its integer fields.

        responses: By name of the response probe; a missing one counts as empty.
    """
    values: dict[str, Value] = {}
    problems: list[str] = []
    for field in fields:
        response = responses.get(field.probe, "")
        shared = sum(f.kind == "integer" and f.probe == field.probe for f in fields) > 1
        value, problem = _read(field, response, is_shared=shared)
        values[field.name] = value
        if problem:
            problems.append(f"{field.name}: {problem}")
    broken = [problem for total in sums if (problem := _broken(total, values))]
    complete = not broken and None not in values.values()
    return Parsed(values, (*problems, *broken), complete)


def _read(field: AnswerField, response: str, *, is_shared: bool) -> tuple[Value, str]:
    match field.kind:
        case "integer":
            return _integer(field, plain(response), is_shared=is_shared)
        case "choice":
            return _choice(field, plain(response))
        case "text":
            return _text(response)


def _text(response: str) -> tuple[Value, str]:
    stripped = response.strip()
    return (stripped, "") if stripped else (None, "the response is empty")


def _integer(field: AnswerField, text: str, *, is_shared: bool) -> tuple[Value, str]:
    if is_shared:
        named = rf"(?<!\w){re.escape(field.name)}(?!\w){_INTRODUCTION}"
        starts = [match.end() for match in re.finditer(named, text, re.IGNORECASE)]
        found = {_number(match) for start in starts if (match := _INTEGER.match(text, start))}
    else:
        found = {_number(match) for match in _INTEGER.finditer(text)}
    stated = {n for n in found if n is not None and field.minimum <= n <= field.maximum}
    if len(stated) == 1:
        return stated.pop(), ""
    bounds = f"from {field.minimum} to {field.maximum}"
    where = f" after {field.name!r}" if is_shared else ""
    if not stated:
        return None, f"the text states no integer {bounds}{where}"
    return None, f"the text states {len(stated)} integers {bounds}{where}"


def _number(match: re.Match[str]) -> int | None:
    if match["word"]:
        return NUMBER_WORDS[match["word"].lower()]
    digits = match["digits"].replace(",", "")
    # Python refuses to convert thousands of digits, and no field is that large.
    if match["fraction"] or len(digits) > _LONGEST:
        return None
    return -int(digits) if match["minus"] else int(digits)


def _choice(field: AnswerField, text: str) -> tuple[Value, str]:
    known = {choice.casefold(): choice for choice in field.choices}
    if field.uncertain:
        known.setdefault(UNCERTAIN, UNCERTAIN)
    plain_forms = {plain(form): choice for form, choice in known.items()}
    pattern = re.compile(rf"(?<!\w)(?:{alternatives(plain_forms)})(?!\w)", re.IGNORECASE)
    matches = list(pattern.finditer(text))
    found = {plain_forms[match.group().casefold()] for match in matches}
    if not found:
        return None, f"the text states none of {', '.join(known.values())}"
    if len(found) > 1:
        return None, f"the text states {' and '.join(sorted(found))}"
    if all(_DENIAL.search(text, max(0, match.start() - 20), match.start()) for match in matches):
        return None, f"the text denies {found.pop()}"
    return found.pop(), ""


def _broken(total: FieldSum, values: Mapping[str, Value]) -> str:
    stated = [value for name in total.fields if isinstance(value := values.get(name), int)]
    if len(stated) < len(total.fields) or sum(stated) == total.total:
        return ""
    return f"{', '.join(total.fields)}: they add up to {sum(stated)}, not {total.total}"
