"""
Asking a server outside a run's journal, as patiently as a run would.

A busy server answers 503 now and then; an examination must not end there.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina

from grace.engine.execute import RetryPolicy
from grace.errors import ServerUnavailable

_T = TypeVar("_T")
_Q = TypeVar("_Q")

_POLICY = RetryPolicy()
_CALLER = stamina.AsyncRetryingCaller(
    attempts=_POLICY.attempts,
    timeout=_POLICY.timeout_seconds,
    wait_initial=_POLICY.wait_seconds,
    wait_max=_POLICY.wait_max_seconds,
)


async def patiently(call: Callable[[_Q], Awaitable[_T]], query: _Q) -> _T:
    """
    Return what *call* makes of a query, asking again while the server is unavailable.

    Raises:
        ServerUnavailable: It still is after all attempts.
    """
    return await _CALLER(ServerUnavailable, call, query)
