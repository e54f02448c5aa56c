"""
What a vLLM server counts and tells about itself in `/metrics`.

The counters are the whole server's: while others use it, their work is in them.
A server may keep its metrics to itself; then nothing is known, and nothing is
guessed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from grace.errors import InferenceError
from grace.inference.transport import Transport

_SAMPLE = re.compile(r"^(vllm:\w+?)(?:_total)?(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class ServerMetrics:
    """
    A server's metrics at one moment.

    Attributes:
        block_size: Tokens in a block of its prefix cache; None if it does not
            tell, or keeps no prefixes.

        prompt_tokens: Prompt tokens of all requests so far, or None.

        cached_tokens: Those of them that came from its prefix cache, or None.
    """

    block_size: int | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None


def parse_metrics(text: str) -> ServerMetrics:
    """
    Read the text of `/metrics`.

    >>> parse_metrics('vllm:prompt_tokens_total{engine="0"} 12.0').prompt_tokens
    12
    """
    block_size = None
    for labels, _ in _samples(text, "vllm:cache_config_info"):
        found = dict(_LABEL.findall(labels))
        if found.get("block_size", "").isdigit() and found.get("enable_prefix_caching") != "False":
            block_size = int(found["block_size"])
    return ServerMetrics(
        block_size=block_size,
        prompt_tokens=_total(text, "vllm:prompt_tokens"),
        cached_tokens=_total(text, "vllm:prefix_cache_hits"),
    )


async def read_metrics(transport: Transport) -> ServerMetrics:
    """Fetch `/metrics`; everything is None where the server does not show it."""
    try:
        return parse_metrics(await transport.get_text("/metrics"))
    except InferenceError:
        return ServerMetrics()


def _total(text: str, name: str) -> int | None:
    # One sample for each engine of the server.
    values = [value for _, value in _samples(text, name)]
    try:
        return round(sum(map(float, values))) if values else None
    except (ValueError, OverflowError):
        return None


def _samples(text: str, name: str) -> Iterator[tuple[str, str]]:
    for match in _SAMPLE.finditer(text):
        if match.group(1) == name:
            yield match.group(2) or "", match.group(3)
