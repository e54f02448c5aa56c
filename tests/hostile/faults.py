"""
The faults of a hostile server, by name: refusals, garbled bodies, mangled replies.

Those that need the connection itself are made where connections are handled;
here are only their names. `docs/reference/faults.md` says what Grace makes of each.
"""

import gzip
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

WIRE = frozenset(
    {
        "reset", "closed", "reset-in-body", "hang", "hang-in-body", "drip", "slow", "restart",
        "other-version", "other-version-quietly", "other-model", "gone",
    }
)  # fmt: skip
"""Faults of the connection or of the whole server."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What is sent instead."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


_HTML = b"<!DOCTYPE html><html><body><h1>One moment, please</h1></body></html>"
_TOO_LONG = (
    "This model's maximum context length is 8192 tokens. However, you requested 8200 tokens. "
    "Please reduce the length of the prompt."
)


def _refusal(status: int, message: str = "as told", **headers: str) -> Callable[[], Reply]:
    body = json.dumps({"error": {"message": message, "code": status}}).encode()
    return lambda: Reply(status, body, {name.replace("_", "-"): headers[name] for name in headers})


def _until_now() -> Reply:
    return Reply(429, b"{}", {"Retry-After": format_datetime(datetime.now(UTC))})


REFUSALS: Mapping[str, Callable[[], Reply]] = {
    **{
        f"http-{status}": _refusal(status)
        for status in (400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 502, 503, 504)
    },
    "http-429-seconds": _refusal(429, Retry_After="0.01"),
    "http-429-date": _until_now,
    "http-503-seconds": _refusal(503, Retry_After="0.01"),
    "redirect": _refusal(302, Location="/login"),
    "bad-gateway-page": lambda: Reply(502, _HTML, {"Content-Type": "text/html"}),
    "context-too-long": _refusal(400, _TOO_LONG),
}
"""Statuses other than 200."""

GARBLED: Mapping[str, Callable[[bytes], Reply]] = {
    "html": lambda _: Reply(200, _HTML, {"Content-Type": "text/html"}),
    "empty-body": lambda _: Reply(200, b""),
    "truncated-json": lambda body: Reply(200, body[: len(body) * 2 // 3]),
    "wrong-encoding": lambda body: Reply(200, b'{"\xe9": 1, ' + body[1:]),
    "not-gzip": lambda body: Reply(200, body, {"Content-Encoding": "gzip"}),
    "truncated-gzip": lambda body: Reply(
        200, gzip.compress(body)[: -len(body) // 8], {"Content-Encoding": "gzip"}
    ),
}
"""A status of 200 with a body that is not the reply's JSON."""


def _choices(change: Callable[[list[Any]], list[Any]]) -> Callable[[Any, Sequence[int]], None]:
    def mangle(reply: Any, _: Sequence[int]) -> None:
        reply["choices"] = change(reply["choices"])

    return mangle


def _logprobs(value: float | None) -> Callable[[Any, Sequence[int]], None]:
    """Return what changes every log-probability of the marked choices."""

    def mangle(reply: Any, marked: Sequence[int]) -> None:
        if "choices" in reply:
            for index in marked:
                _replace(reply["choices"][index], value)
        else:
            _replace(reply, value)

    return mangle


def _replace(part: Any, value: float | None) -> None:
    if isinstance(part, list):
        for one in part:
            _replace(one, value)
    elif isinstance(part, dict):
        for name, inner in part.items():
            if isinstance(inner, int | float) and (name == "logprob" or ":" in name):
                part[name] = value
            else:
                _replace(inner, value)


def _without_logprobs(reply: Any, marked: Sequence[int]) -> None:
    for index in marked:
        reply["choices"][index].pop("logprobs", None)


def _ended(reason: str) -> Callable[[Any, Sequence[int]], None]:
    def mangle(reply: Any, _: Sequence[int]) -> None:
        if "choices" in reply:
            reply["choices"][0]["finish_reason"] = reason
        else:
            reply["stop_type"] = {"length": "limit"}.get(reason, reason)

    return mangle


def _emptied(reply: Any, _: Sequence[int]) -> None:
    if "choices" in reply:
        reply["choices"][0]["message"]["content"] = ""
    else:
        reply["content"] = ""


def _of_another_model(reply: Any, _: Sequence[int]) -> None:
    reply["model"] = "somebody-else"


def _error_instead(reply: Any, _: Sequence[int]) -> None:
    reply.clear()
    reply["error"] = {"message": "as told", "code": 500}


MANGLED: Mapping[str, Callable[[Any, Sequence[int]], None]] = {
    "missing-choice": _choices(lambda choices: choices[:-1]),
    "no-choices": _choices(lambda _: []),
    "extra-choice": _choices(lambda choices: [*choices, {**choices[-1], "index": len(choices)}]),
    "same-index-twice": _choices(lambda choices: [*choices, choices[0]]),
    "one-index-for-all": _choices(lambda choices: [{**one, "index": 0} for one in choices]),
    "out-of-order": _choices(lambda choices: choices[::-1]),
    "missing-logprobs": _without_logprobs,
    "null-logprob": _logprobs(None),
    "nan": _logprobs(math.nan),
    "minus-infinity": _logprobs(-math.inf),
    "floor": _logprobs(-9999.0),
    "logprob-above-zero": _logprobs(2.5),
    "wrong-model": _of_another_model,
    "error-in-200": _error_instead,
    "cut": _ended("length"),
    "abort": _ended("abort"),
    "unknown-end": _ended("tired"),
    "empty-content": _emptied,
}
"""A reply in JSON that is not what was asked for. NaN and infinities are written as Python does."""

FAULTS = frozenset({*WIRE, *REFUSALS, *GARBLED, *MANGLED})
