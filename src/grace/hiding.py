"""
Taking out of a text what must not be shown: keys, and what participants wrote.

Servers repeat what they were sent, and not always letter by letter: escaped for
JSON or HTML, percent-encoded, in base64, cut off, or broken over lines. So runs
of letters and digits are compared, and everything between them is ignored.
Pure; it does not know where the texts come from.
"""

import base64
import binascii
import html
import re
from collections.abc import Iterable, Iterator, Sequence

_ESCAPED = re.compile(
    r"(?P<unicode>(?:\\+u[0-9a-fA-F]{4})+)"
    r"|(?P<bytes>(?:\\+x[0-9a-fA-F]{2})+)"
    r"|(?P<percent>(?:%[0-9a-fA-F]{2})+)"
    r"|\\+(?P<space>[nrtbf])"
    r"""|\\+(?P<mark>["'/])"""
    r"|(?P<entity>&(?:#[0-9]+|#[xX][0-9a-fA-F]+|[a-zA-Z]+);)"
)
# Escapes are escaped again when an error is wrapped into another one.
_TIMES_ESCAPED = 3
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{12,}")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){8,}")
# The same few letters may stand in many places of a long text.
_MOST_PLACES = 50


def letters(text: str) -> str:
    """
    Return the letters and digits of a text, in one case: what runs are compared by.

    >>> letters("Ann's $100")
    'anns100'
    """
    return "".join(filter(str.isalnum, text.casefold()))


def printable(text: str) -> str:
    r"""
    Return a text with marks for what cannot be printed: nobody else moves a terminal's cursor.

    >>> printable("red: \x1b[31m")
    'red: \ufffd[31m'
    """
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def unescaped(text: str) -> str:
    r"""
    Return a text without escapes of JSON, Python, URLs and HTML.

    >>> unescaped(r"\u00e9t\u00e9%21\n&lt;")
    'été! <'
    """
    for _ in range(_TIMES_ESCAPED):
        plain = _ESCAPED.sub(_plain, text)
        if plain == text:
            break
        text = plain
    return text


def without(text: str, runs_of: Iterable[str], mark: str, shortest: int) -> str:
    """
    Return a text without the longer runs that it shares with other texts.

    If nothing is taken out, the text comes back as it is; otherwise with its
    escapes resolved.

    Args:
        text: What will be shown.

        runs_of: What must not be, as `letters` returns it.

        mark: What stands in its place.

        shortest: Letters and digits of the shortest run that is taken out.

    >>> without("invalid: The sky is blue today", ["theskyisbluetoday"], "[prompt]", 12)
    'invalid: [prompt]'
    """
    sources = [source for source in runs_of if len(source) >= shortest]
    if not sources:
        return text
    plain = unescaped(text)
    kept, places = _letters_with_places(plain)
    spans = [
        (places[start], places[end - 1] + 1) for start, end in _shared(kept, sources, shortest)
    ]
    spans += _encoded(plain, sources, shortest)
    if not spans:
        return text
    pieces = []
    end_of_last = 0
    for start, end in _joined(plain, spans):
        pieces += [plain[end_of_last:start], mark]
        end_of_last = end
    return "".join([*pieces, plain[end_of_last:]])


def encodings(secret: str) -> tuple[bytes, ...]:
    """Return the byte strings by which a secret is found quickly in a long body."""
    raw = secret.encode()
    percent = "".join(f"%{byte:02X}" if not chr(byte).isalnum() else chr(byte) for byte in raw)
    escaped = secret.replace("\\", "\\\\").replace('"', '\\"')
    found = [
        raw,
        raw.hex().encode(),
        raw.hex().upper().encode(),
        escaped.encode(),
        escaped.replace("/", "\\/").encode(),
        percent.encode(),
        percent.lower().encode() if percent.lower() != secret.lower() else raw,
    ]
    for offset in range(3):
        # Base64 of a text that holds the secret: only what no neighbour has a part in.
        coded = base64.b64encode(bytes(offset) + raw)
        core = coded[-(-offset * 8 // 6) : (offset + len(raw)) * 8 // 6]
        found += [core, core.translate(bytes.maketrans(b"+/", b"-_"))]
    return tuple(dict.fromkeys(found))


def _plain(match: re.Match[str]) -> str:
    found = match.group()
    match match.lastgroup:
        case "unicode":
            units = [int(digits, 16).to_bytes(2, "big") for digits in _hex_digits(found, "u", 4)]
            return b"".join(units).decode("utf-16-be", "replace")
        case "bytes":
            return bytes.fromhex("".join(_hex_digits(found, "x", 2))).decode("utf-8", "replace")
        case "percent":
            return bytes.fromhex(found.replace("%", "")).decode("utf-8", "replace")
        case "space":
            return " "
        case "mark":
            return found[-1]
        case _:
            return html.unescape(found)


def _hex_digits(text: str, letter: str, count: int) -> Iterator[str]:
    for part in text.split(letter)[1:]:
        yield part[:count]


def _letters_with_places(text: str) -> tuple[str, list[int]]:
    kept: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        for folded in character.casefold():
            if folded.isalnum():
                kept.append(folded)
                places.append(place)
    return "".join(kept), places


def _shared(kept: str, sources: Sequence[str], shortest: int) -> list[tuple[int, int]]:
    """Return where a text has runs in common with sources."""
    # A run of 2n - 1 letters holds a whole block of n, wherever blocks of n begin.
    size = (shortest + 1) // 2
    # Lines do not hold line breaks: no run goes from one source into the next.
    everything = "\n".join(sources)
    spans: list[tuple[int, int]] = []
    for begin in range(0, len(kept) - size + 1, size):
        if spans and spans[-1][1] >= begin + size:
            continue
        first, last = _around(kept, begin, everything, size, shortest)
        if last > first:
            spans.append((first, last))
    return spans


def _around(kept: str, begin: int, everything: str, size: int, shortest: int) -> tuple[int, int]:
    """Return what of a text, around a block, stands in the sources too; nothing if too little."""
    first, last = begin, begin
    block = kept[begin : begin + size]
    place = everything.find(block)
    for _ in range(_MOST_PLACES):
        if place < 0:
            return first, last
        start, end = _extended(kept, begin, everything, place, size)
        if end - start >= shortest:
            first, last = min(first, start), max(last, end)
        place = everything.find(block, place + 1)
    # A common word: whole runs around it are looked for as well.
    for start in range(max(0, begin + size - shortest), begin + 1):
        place = everything.find(kept[start : start + shortest])
        if place >= 0 and start + shortest <= len(kept):
            low, high = _extended(kept, start, everything, place, shortest)
            first, last = min(first, low), max(last, high)
    return first, last


def _extended(kept: str, begin: int, source: str, place: int, size: int) -> tuple[int, int]:
    back = 0
    while back < min(begin, place) and kept[begin - back - 1] == source[place - back - 1]:
        back += 1
    end = size
    most = min(len(kept) - begin, len(source) - place)
    while end < most and kept[begin + end] == source[place + end]:
        end += 1
    return begin - back, begin + end


def _encoded(text: str, sources: Sequence[str], shortest: int) -> list[tuple[int, int]]:
    """Return where base64 or hexadecimal digits hide a run."""
    spans = []
    for pattern, decodings in ((_BASE64, _from_base64), (_HEX, _from_hex)):
        for match in pattern.finditer(text):
            for decoded in decodings(match.group()):
                if _shared(letters(unescaped(decoded)), sources, shortest):
                    spans.append(match.span())
                    break
    return spans


def _from_base64(text: str) -> Iterator[str]:
    plain = text.replace("-", "+").replace("_", "/")
    for offset in range(4):
        part = plain[offset:]
        try:
            yield base64.b64decode(part[: len(part) // 4 * 4]).decode("utf-8", "ignore")
        except binascii.Error:
            continue


def _from_hex(text: str) -> Iterator[str]:
    for part in (text, text[1:-1]):
        yield bytes.fromhex(part[: len(part) // 2 * 2]).decode("utf-8", "ignore")


def _joined(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return spans in order; those with next to nothing between them become one."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and len(letters(text[joined[-1][1] : start])) <= 2:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
