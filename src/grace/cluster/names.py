"""
Names of Kubernetes objects, made from catalogue keys and timestamps.

A name is a DNS label: at most 63 lower-case letters, digits and hyphens. Keys
may be longer and may hold dots; what has to be changed or cut gets a digest of
the whole behind it, so that different keys never share a name, and a key always
has the same one.
"""

import hashlib
import re

LONGEST = 63
_DIGEST = 6
_OTHER = re.compile(r"[^a-z0-9]+")
# What ends like this may be the slug of something else.
_DIGESTED = re.compile(rf".*-[0-9a-f]{{{_DIGEST}}}")


def slug(text: str, longest: int = 24) -> str:
    """
    Return *text* as part of a name.

    Args:
        text: Any text: a catalogue key, a study's key, the hash of an input.

        longest: The most characters that the result may have; at least 8.

    >>> slug("gemma-2-2b"), slug("a.b"), slug("a-b")
    ('gemma-2-2b', 'a-b-2e7336', 'a-b')
    """
    plain = _OTHER.sub("-", text.lower()).strip("-")
    if plain == text and len(plain) <= longest and not _DIGESTED.fullmatch(plain):
        return plain
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]
    kept = plain[: longest - _DIGEST - 1].rstrip("-") or "x"
    return f"{kept}-{digest}"


def joined(*parts: str, longest: int = LONGEST) -> str:
    """
    Return the parts as one name.

    Raises:
        ValueError: The name is longer than *longest*: a programming mistake,
            since the parts are bounded.
    """
    name = "-".join(part for part in parts if part)
    if len(name) > longest:
        raise ValueError(f"{name!r} has {len(name)} characters; expected {longest} at most")
    return name
