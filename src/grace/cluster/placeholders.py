"""Names of images that only show where somebody's own name goes."""

import re

_NOT_A_HOST = re.compile(r"(?:.+\.)?(?:example\.(?:com|net|org)|example|invalid|test)")
"""Hosts that never are anybody's: RFC 2606."""


def is_placeholder(image: str) -> bool:
    """
    Return whether an image's registry is one that does not exist.

    >>> is_placeholder("registry.example.org/lab/runner:1"), is_placeholder("ghcr.io/lab/a:1")
    (True, False)
    """
    registry, slash, _ = image.partition("/")
    return bool(slash) and _NOT_A_HOST.fullmatch(registry.partition(":")[0]) is not None
