"""What a vLLM server says of its own work."""

import re
import urllib.request
from collections import Counter

TOKENS, DRAWN, ANSWERED, REQUESTS = "tokens", "drawn", "answered", "requests"
"""
What is counted: tokens of prompts that were computed, not cached; tokens that were
drawn; prompts that were answered; and HTTP requests.
"""

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_METRIC = re.compile(r"^([a-z_:]+?)_total(?:\{(.*)\})? ([0-9.e+-]+)$", re.MULTILINE)
_PATHS = ('handler="/v1/completions"', 'handler="/tokenize"', 'handler="/detokenize"')


def metrics_of(url: str) -> Counter[str]:
    """Return a server's counters as they stand."""
    with _OPENER.open(f"{url}/metrics") as reply:
        return read_metrics(reply.read().decode())


def computed(asked: Counter[str]) -> int:
    """
    Return how many tokens a server computed.

    The first token that is drawn after a prompt comes with the prompt's last; each
    further one is computed like a prompt's.

    >>> computed(Counter({TOKENS: 142, DRAWN: 5, ANSWERED: 3}))
    144
    """
    return asked[TOKENS] + max(0, asked[DRAWN] - asked[ANSWERED])


def read_metrics(text: str) -> Counter[str]:
    """
    Return what a vLLM server's metrics say of prompts and of requests that concern them.

    >>> line = 'vllm:prompt_tokens_by_source_total{engine="0",source="local_compute"} 12.0'
    >>> read_metrics(line)[TOKENS]
    12
    """
    found: Counter[str] = Counter({TOKENS: 0, DRAWN: 0, ANSWERED: 0, REQUESTS: 0})
    for name, labels, value in _METRIC.findall(text):
        if name == "vllm:prompt_tokens_by_source" and 'source="local_compute"' in labels:
            found[TOKENS] += round(float(value))
        elif name == "vllm:generation_tokens":
            found[DRAWN] += round(float(value))
        elif name == "vllm:request_success":
            found[ANSWERED] += round(float(value))
        elif name == "http_requests" and any(path in labels for path in _PATHS):
            found[REQUESTS] += round(float(value))
    return found
