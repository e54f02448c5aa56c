"""
How patient a run is with its server, and asking outside its journal just as patiently.

A busy server answers 503 now and then; an examination must not end there.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina

from grace.engine.execute import RetryPolicy
from grace.errors import ServerUnavailable
from grace.settings import RunSettings

_T = TypeVar("_T")
_Q = TypeVar("_Q")

_USUAL = RetryPolicy()


def patience_of(settings: RunSettings) -> RetryPolicy:
    """Return how patient a run is."""
    return RetryPolicy(
        attempts=settings.attempts,
        timeout_seconds=settings.patience_seconds,
        wait_seconds=settings.retry_wait_seconds,
    )


async def patiently(
    call: Callable[[_Q], Awaitable[_T]], query: _Q, patience: RetryPolicy = _USUAL
) -> _T:
    """
    Return what *call* makes of a query, asking again while the server is unavailable.

    Raises:
        ServerUnavailable: It still is after all attempts.
    """
    again = stamina.AsyncRetryingCaller(
        attempts=patience.attempts,
        timeout=patience.timeout_seconds,
        wait_initial=patience.wait_seconds,
        wait_max=patience.wait_max_seconds,
        wait_jitter=patience.wait_seconds,
    )
    return await again(ServerUnavailable, call, query)
